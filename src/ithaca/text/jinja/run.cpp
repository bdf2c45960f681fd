#include "ithaca/text/jinja/run.h"

#include <algorithm>

#include "ithaca/base/error.h"

namespace ithaca::jinja {

Values bind_arguments(std::string_view what, const Arguments& arguments,
                      std::initializer_list<std::string_view> parameters, std::size_t required) {
  if (arguments.positional.size() > parameters.size())
    throw Failure(str(what, " takes at most ", parameters.size(), " argument(s), ",
                      arguments.positional.size(), " were given"));
  Values bound = arguments.positional;
  bound.resize(parameters.size());
  for (const auto& [name, value] : arguments.named) {
    const auto at = std::find(parameters.begin(), parameters.end(), name);
    if (at == parameters.end()) throw Failure(str(what, " has no argument \"", name, "\""));
    const auto place = static_cast<std::size_t>(at - parameters.begin());
    if (place < arguments.positional.size())
      throw Failure(str(what, " is given its argument \"", name, "\" twice"));
    bound[place] = value;
  }
  for (std::size_t i = 0; i < required; ++i)
    if (!given(bound[i])) throw Failure(str(what, " lacks its argument \"", parameters.begin()[i], "\""));
  return bound;
}

std::int64_t integer_argument(std::string_view what, const Value& argument, std::int64_t fallback) {
  if (!given(argument)) return fallback;
  if (!argument.is_integral())
    throw Failure(str(what, " needs an integer, found a value of type ", type_name(argument)));
  return argument.as_integer();
}

const std::string& text_argument(std::string_view what, const Value& argument) {
  if (!argument.is_text())
    throw Failure(str(what, " needs a string, found a value of type ", type_name(argument)));
  return argument.text();
}

}  // namespace ithaca::jinja
