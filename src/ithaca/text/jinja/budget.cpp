#include "ithaca/text/jinja/budget.h"

#include "ithaca/base/error.h"

namespace ithaca::jinja {

void Budget::out_of_steps() const {
  throw Failure(str("the template takes more than the bound of ", limits_.steps, " steps"));
}

void Budget::too_many_bytes() const {
  throw Failure(
      str("the template makes more than the bound of ", limits_.total_bytes, " bytes of texts and values"));
}

void Budget::text_too_long() const {
  throw Failure(str("the text grows above the bound of ", limits_.text_bytes, " bytes"));
}

void Budget::too_deep() const {
  throw Failure(
      str("the template's macros and expressions nest deeper than the bound of ", limits_.depth, " levels"));
}

}  // namespace ithaca::jinja
