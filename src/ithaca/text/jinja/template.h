// A Jinja template, parsed once and rendered often. It reaches nothing but the values it is given.
#pragma once
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/text/jinja/budget.h"
#include "ithaca/text/jinja/run.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

struct ParsedTemplate;

struct Rendered {
  std::string text;
  std::vector<Span> generation;  // the parts of {% generation %}, in bytes of `text`
};

class Template {
 public:
  // UserError, naming `source` and the line, if the text is not a template or uses what is not supported.
  Template(std::string_view text, std::string source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // `variables` are what the template sees; `now` is the time of strftime_now. UserError, naming the source
  // and the line, where Jinja raises, where the template calls raise_exception (with its message) and beyond
  // the limits. Safe to call from several threads at once.
  Rendered render(Context variables, const std::tm& now, const Limits& limits = {}) const;

 private:
  std::string source_;
  std::unique_ptr<const ParsedTemplate> parsed_;
};

}  // namespace ithaca::jinja
