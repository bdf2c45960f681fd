// What Python's operators do to values. Failure where Python raises.
#pragma once
#include <memory>
#include <optional>
#include <string_view>

#include "ithaca/text/jinja/budget.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

// Failure with the reason if the value is undefined; `what` is not done to it.
void require_defined(const Value& value);

bool truthy(const Value& value);
bool equal(const Value& a, const Value& b, Budget& budget);
bool less(const Value& a, const Value& b, Budget& budget);
bool contains(const Value& container, const Value& item, Budget& budget);

enum class Arithmetic : char { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
Value arithmetic(Arithmetic operation, const Value& a, const Value& b, Budget& budget);
Value negate(const Value& value);
Value plus(const Value& value);

std::optional<std::size_t> length_of(const Value& value);  // nothing where Python's len() raises
bool is_iterable(const Value& value);
std::shared_ptr<Iterator> iterate(const Value& value);
Values list_of(const Value& iterable, Budget& budget);

// container[index] as Jinja has it: undefined where Python raises. Keys, positions: no attributes.
std::optional<Value> element(const Value& container, const Value& index);
// Absent bounds are given as none.
Value slice(const Value& container, const Value& start, const Value& stop, const Value& step, Budget& budget);

}  // namespace ithaca::jinja
