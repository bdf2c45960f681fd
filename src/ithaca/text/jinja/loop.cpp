#include "ithaca/text/jinja/loop.h"

#include "ithaca/base/error.h"
#include "ithaca/text/jinja/operators.h"

namespace ithaca::jinja {
namespace {

// Items that were taken from an iterator to count them.
struct TakenItems : Iterator {
  bool next(Value& value) override {
    if (position >= items.size()) return false;
    value = items[position++];
    return true;
  }
  Values items;
  std::size_t position = 0;
};

}  // namespace

bool Loop::peek() {
  if (!has_after_ && items_) has_after_ = items_->next(after_);
  return has_after_;
}

bool Loop::next() {
  if (!peek()) return false;
  before_ = std::move(current_);
  current_ = std::move(after_);
  has_after_ = false;
  ++index0_;
  return true;
}

void Loop::finish() {
  items_.reset();
  before_ = current_ = after_ = last_changed_ = Value();
  has_after_ = has_changed_ = false;
}

std::size_t Loop::length(Budget& budget) {
  if (!length_) {
    auto taken = std::make_shared<TakenItems>();
    for (Value item; items_ && items_->next(item);) {
      budget.values(1);
      hold(*taken, item);
      taken->items.push_back(std::move(item));
    }
    length_ = taken->items.size() + static_cast<std::size_t>(index0_ + 1) + (has_after_ ? 1 : 0);
    items_ = std::move(taken);
  }
  return *length_;
}

std::optional<Value> Loop::attribute(const std::string& name, Budget& budget) {
  const auto length_less = [&](std::int64_t number) {
    return Value::integer(static_cast<std::int64_t>(length(budget)) - number);
  };
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "index0") return Value::integer(index0_);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(!peek());
  if (name == "length") return length_less(0);
  if (name == "revindex") return length_less(index0_);
  if (name == "revindex0") return length_less(index0_ + 1);
  if (name == "depth") return Value::integer(depth0_ + 1);
  if (name == "depth0") return Value::integer(depth0_);
  if (name == "previtem") return index0_ == 0 ? Value::undefined("there is no previous item") : before_;
  if (name == "nextitem") return peek() ? after_ : Value::undefined("there is no next item");
  return std::nullopt;
}

Value Loop::cycle(const Values& values) const {
  if (values.empty()) throw Failure("loop.cycle is given nothing to cycle through");
  return values[static_cast<std::size_t>(index0_) % values.size()];
}

Value Loop::changed(Value values, Budget& budget) {
  if (has_changed_ && equal(last_changed_, values, budget)) return Value::boolean(false);
  last_changed_ = std::move(values);
  has_changed_ = true;
  return Value::boolean(true);
}

}  // namespace ithaca::jinja
