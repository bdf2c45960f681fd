// `loop` in a for statement.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "ithaca/text/jinja/run.h"
#include "ithaca/text/jinja/scope.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

struct ForStmt;

class Loop : public Object {
 public:
  Loop(std::shared_ptr<Iterator> items, std::optional<std::size_t> length, int depth0)
      : items_(std::move(items)), length_(length), depth0_(depth0) {}

  // Goes on to the next item; false at the end.
  bool next();
  const Value& current() const { return current_; }
  // Lets go of all values when the loop is over: `loop` itself may live on in a namespace.
  void finish();

  // loop.index and the like; nothing if it has none of this name.
  std::optional<Value> attribute(const std::string& name, Budget& budget);
  Value cycle(const Values& values) const;
  Value changed(Value values, Budget& budget);

  // Of a recursive loop.
  const ForStmt* statement = nullptr;
  std::weak_ptr<Frame> frame;
  int depth0() const { return depth0_; }

 private:
  bool peek();
  std::size_t length(Budget& budget);

  std::shared_ptr<Iterator> items_;
  std::optional<std::size_t> length_;
  int depth0_;
  std::int64_t index0_ = -1;
  Value before_, current_, after_, last_changed_;
  bool has_after_ = false, has_changed_ = false;
};

}  // namespace ithaca::jinja
