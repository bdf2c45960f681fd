// Which value a name in a template stands for is settled before it runs, as Jinja's compiler does: a name
// belongs to the scope that stores it, a loop's body starts each round with fresh names, and a name that no
// scope around it has by then is looked up among the variables given to the template.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ithaca/text/jinja/run.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

// The values of one call of a macro, or of the template itself.
struct Frame : std::enable_shared_from_this<Frame> {
  Frame(std::size_t slot_count, std::shared_ptr<Frame> around)
      : slots(slot_count), outer(std::move(around)) {}
  std::vector<Value> slots;
  std::shared_ptr<Frame> outer;  // of the macro or template in whose text this one is written
};

// Where a name's value lies: in the frame `hops` levels outwards.
struct Slot {
  int hops = 0;
  std::size_t index = 0;
  Value& in(Frame& frame) const {
    Frame* at = &frame;
    for (int i = 0; i < hops; ++i) at = at->outer.get();
    return at->slots[index];
  }
};

// What a scope's names hold when it is entered.
struct Load {
  enum class From : std::uint8_t { kParameter, kVariable, kOuter, kNothing };
  From from = From::kNothing;
  std::size_t index = 0;
  std::string name;
  Slot outer;
};
void enter_scope(const std::vector<Load>& loads, Run& run, Frame& frame);

class Scope {
 public:
  // A scope of the template (no parent), or within another: of the same function, or the body of a macro.
  explicit Scope(Scope* parent, bool new_function = false);

  // First all names that stand in a scope are declared, in the order of the text, ...
  void load(const std::string& name);
  void store(const std::string& name, bool in_branch);
  Slot parameter(const std::string& name);
  // ... then they have their places.
  Slot find(const std::string& name) const;
  std::vector<Load> loads() const;
  std::size_t slot_count() const { return *slot_count_; }  // of the whole function, once all of it was seen

 private:
  struct Entry {
    Load load;
  };
  const Entry* entry(const std::string& name, int& hops) const;
  Entry& define(const std::string& name, Load::From from);

  Scope* parent_;
  bool new_function_;
  std::shared_ptr<std::size_t> slot_count_;
  std::map<std::string, Entry> entries_;
};

}  // namespace ithaca::jinja
