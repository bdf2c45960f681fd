#include <array>
#include <ctime>

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/format.h"
#include "ithaca/text/jinja/operators.h"

namespace ithaca::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100'000;  // Jinja's own bound in its sandbox

Value make_range(Run&, const Function&, const Arguments& arguments) {
  const std::size_t count = arguments.positional.size();
  if (!arguments.named.empty() || count < 1 || count > 3)
    throw Failure("range() takes one to three integers");
  std::array<std::int64_t, 3> numbers{0, 0, 1};
  for (std::size_t i = 0; i < count; ++i) {
    require_defined(arguments.positional[i]);
    numbers[count == 1 ? 1 : i] = integer_argument("range()", arguments.positional[i], 0);
  }
  const auto [start, stop, step] = numbers;
  if (step == 0) throw Failure("range(): the step is zero");
  const __int128 distance = static_cast<__int128>(stop) - start;
  const __int128 size =
      (distance > 0) == (step > 0) && distance != 0 ? (distance + step + (step > 0 ? -1 : 1)) / step : 0;
  if (size > kMaxRange) throw Failure(str("range() is longer than the bound of ", kMaxRange, " numbers"));
  auto range = std::make_shared<Range>();
  range->start = start;
  range->stop = stop;
  range->step = step;
  range->size = static_cast<std::int64_t>(size);
  return Value::object(Kind::kRange, std::move(range));
}

std::vector<Dict::Entry> entries_of(Run& run, std::string_view what, const Arguments& arguments) {
  if (arguments.positional.size() > 1) throw Failure(str(what, " takes at most one argument without a name"));
  std::vector<Dict::Entry> entries;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is(Kind::kDict)) {
      run.budget.values(source.as<Dict>().size());
      entries = source.as<Dict>().entries();
    } else {
      for (const Value& pair : list_of(source, run.budget)) {
        const Values parts = list_of(pair, run.budget);
        if (parts.size() != 2) throw Failure(str(what, " needs pairs, found ", parts.size(), " values"));
        entries.emplace_back(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) entries.emplace_back(Value::string(name), value);
  for (const Dict::Entry& entry : entries)
    if (entry.first.is_text()) run.budget.text(entry.first.text().size());
  return entries;
}

Value make_dict(Run& run, const Function&, const Arguments& arguments) {
  return Value::dict(entries_of(run, "dict()", arguments));
}

Value make_namespace(Run& run, const Function&, const Arguments& arguments) {
  auto owned = std::make_unique<Namespace>();
  for (auto& [name, value] : entries_of(run, "namespace()", arguments)) {
    if (name.is_text() && name.text().starts_with("_"))
      throw Failure(str("a namespace cannot hold an attribute named \"", name.text(), "\" (_)"));
    owned->attributes.set(name, value);
  }
  // The value does not own it: the run does, as namespaces may hold one another.
  const std::shared_ptr<Object> borrowed(std::shared_ptr<Object>(), owned.get());
  run.budget.values(1);
  run.namespaces.push_back(std::move(owned));
  return Value::object(Kind::kNamespace, borrowed);
}

Value raise_exception(Run& run, const Function&, const Arguments& arguments) {
  const Values bound = bind_arguments("raise_exception()", arguments, {"message"}, 1);
  throw Raised(str_of(bound[0], run.budget));
}

Value strftime_now(Run& run, const Function&, const Arguments& arguments) {
  const Values bound = bind_arguments("strftime_now()", arguments, {"format"}, 1);
  const std::string& format = text_argument("strftime_now()", bound[0]);
  constexpr std::size_t kMaxFormat = 256, kMaxResult = 32 * kMaxFormat;
  if (format.size() > kMaxFormat) throw Failure(str("strftime_now(): a format above ", kMaxFormat, " bytes"));
  static constexpr std::string_view kDirectives = "aAbBcdeDFgGhHIjklmMnpPrRsStTuUVwWxXyYC%";
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] == '\0') throw Failure("strftime_now(): a zero byte in the format");
    if (format[i] != '%') continue;
    ++i;
    const bool unpadded = i < format.size() && format[i] == '-';  // %-d
    if (unpadded) ++i;
    if (i >= format.size() || kDirectives.find(format[i]) == std::string_view::npos)
      throw Failure(str("strftime_now(): the directive \"%", format.substr(i, 1), "\" is not supported"));
  }
  run.budget.text(kMaxResult);
  std::string text(kMaxResult, '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &run.now));
  return Value::string(std::move(text));
}

Value not_supported(Run&, const Function& self, const Arguments&) {
  throw Failure(str("the function \"", self.name, "\" is not supported"));
}

constexpr std::array<std::pair<std::string_view, decltype(Function::call)>, 9> kFunctions{{
    {"range", &make_range},
    {"dict", &make_dict},
    {"namespace", &make_namespace},
    {"raise_exception", &raise_exception},
    {"strftime_now", &strftime_now},
    {"cycler", &not_supported},
    {"joiner", &not_supported},
    {"lipsum", &not_supported},
    {"self", &not_supported},
}};

}  // namespace

void add_functions(Context& context) {
  for (const auto& [name, call] : kFunctions) {
    auto function = std::make_shared<Function>();
    function->name = name;
    function->call = call;
    context.emplace(std::string(name), Value::object(Kind::kFunction, std::move(function)));
  }
}

}  // namespace ithaca::jinja
