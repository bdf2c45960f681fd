#include "ithaca/text/jinja/template.h"

#include <algorithm>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/parser.h"
#include "ithaca/text/unicode.h"

namespace ithaca::jinja {

Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Template::Template(std::string_view text, std::string source) : source_(std::move(source)) {
  constexpr std::size_t kMaxBytes = std::size_t{1} << 20;
  if (text.size() > kMaxBytes)
    throw UserError(str(source_, ": a template of ", text.size(), " bytes; the bound is ", kMaxBytes));
  if (!is_valid_utf8(text)) throw UserError(source_ + ": the template is not UTF-8");
  try {
    parsed_ = std::make_unique<ParsedTemplate>(parse_template(text));
  } catch (const Failure& failure) {
    throw UserError(str(source_, ": ", failure.what()));
  }
}

Rendered Template::render(Context variables, const std::tm& now, const Limits& limits) const {
  add_functions(variables);
  Run run(limits, variables, now);
  const auto frame = std::make_shared<Frame>(parsed_->slot_count, nullptr);
  try {
    enter_scope(parsed_->loads, run, *frame);
    parsed_->body.run(run, *frame);
  } catch (const Raised& raised) {
    throw UserError(
        str(source_, ": line ", run.line, ": the template refuses the conversation: ", raised.what()));
  } catch (const Failure& failure) {
    throw UserError(str(source_, ": line ", run.line, ": ", failure.what()));
  }
  // Marks within a macro or a block that is not printed are counted from a place that may lie at the end.
  for (Span& span : run.generation) span.end = std::min(span.end, run.result.size());
  for (Span& span : run.generation) span.begin = std::min(span.begin, span.end);
  return {std::move(run.result), std::move(run.generation)};
}

}  // namespace ithaca::jinja
