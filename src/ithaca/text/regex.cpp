#include "ithaca/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "ithaca/base/error.h"
#include "ithaca/text/unicode.h"

namespace ithaca {
namespace {

constexpr std::size_t kMaxPatternBytes = 16384;  // DeepSeek's longest is near 1,500
constexpr std::uint32_t kMaxNesting = 50;
constexpr std::uint32_t kMaxSteps = 2'000'000;  // of one match
constexpr std::uint32_t kMaxHeapKib = 64 * 1024;
constexpr std::size_t kJitStackStart = 64 * 1024, kJitStackMax = 4 * 1024 * 1024;

template <auto destroy>
struct Destroy {
  template <class T>
  void operator()(T* object) const {
    destroy(object);
  }
};
template <class T, auto destroy>
using Owned = std::unique_ptr<T, Destroy<destroy>>;

}  // namespace

struct RegexScratch::State {
  Owned<pcre2_match_data, pcre2_match_data_free> data{pcre2_match_data_create(1, nullptr)};
  Owned<pcre2_match_context, pcre2_match_context_free> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack, pcre2_jit_stack_free> stack{
      pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr)};
};

RegexScratch::RegexScratch(std::size_t max_text_bytes)
    : state_(std::make_unique<State>()), max_text_bytes_(max_text_bytes) {
  pcre2_set_match_limit(state_->context.get(), kMaxSteps);
  pcre2_set_heap_limit(state_->context.get(), kMaxHeapKib);
  if (state_->stack) pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
}
RegexScratch::~RegexScratch() = default;

void RegexScratch::check_growth(std::size_t text_bytes) const {
  if (text_bytes > max_text_bytes_)
    throw UserError(
        str("tokenizer.json: its rules blow the text up to more than ", max_text_bytes_,
            " bytes; check its normalizer and pre_tokenizer for Replace or ByteLevel rules that repeat"));
}

struct Regex::Compiled {
  Owned<pcre2_code, pcre2_code_free> code;
  bool jit = false;
  std::string where;
};

Regex::Regex(const std::string& oniguruma, std::string where) : compiled_(std::make_unique<Compiled>()) {
  if (oniguruma.size() > kMaxPatternBytes)
    throw UserError(str(where, ": the regular expression has ", oniguruma.size(), " bytes; at most ",
                        kMaxPatternBytes, " are accepted"));
  const std::string pattern = rewrite_for_pcre2(oniguruma, where);
  Owned<pcre2_compile_context, pcre2_compile_context_free> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
  int error = 0;
  std::size_t offset = 0;
  compiled_->code.reset(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                    &error, &offset, context.get()));
  if (!compiled_->code) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof message);
    throw UserError(str(where,
                        ": not a regular expression this program can run: ", reinterpret_cast<char*>(message),
                        " (at byte ", offset, " of ", pattern.substr(0, 200), ")"));
  }
  // Without a JIT (a hardened kernel, say) the interpreter gives the same matches, slower.
  compiled_->jit = pcre2_jit_compile(compiled_->code.get(), PCRE2_JIT_COMPLETE) == 0;
  compiled_->where = std::move(where);
}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

int Regex::match_at(std::string_view text, std::size_t start, RegexScratch& scratch) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  auto* data = scratch.state_->data.get();
  auto* context = scratch.state_->context.get();
  if (compiled_->jit) {
    const int result = pcre2_jit_match(compiled_->code.get(), subject, text.size(), start, 0, data, context);
    if (result != PCRE2_ERROR_JIT_STACKLIMIT) return result;
  }
  return pcre2_match(compiled_->code.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                     data, context);
}

void Regex::find_all(std::string_view text, RegexScratch& scratch, std::vector<Span>& matches) const {
  const std::size_t* bounds = pcre2_get_ovector_pointer(scratch.state_->data.get());
  std::size_t start = 0, last_end = std::string_view::npos;
  while (start <= text.size()) {
    const int result = match_at(text, start, scratch);
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0)
      throw UserError(str(compiled_->where,
                          ": the regular expression takes too many steps on this text (PCRE2 error ", result,
                          "); use a simpler pattern"));
    const Span match{bounds[0], bounds[1]};
    if (match.begin >= match.end &&
        match.end == last_end) {  // an empty match right behind the last one is none
      if (start == text.size()) return;
      next_code_point(text, start);
      continue;
    }
    if (match.end < match.begin || match.begin < start)  // \K in a lookaround can do this
      throw UserError(str(compiled_->where, ": a match of the regular expression ends before it starts"));
    start = last_end = match.end;
    matches.push_back(match);
    scratch.tick();
  }
}

}  // namespace ithaca
