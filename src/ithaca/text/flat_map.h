// An open-addressing map from 64-bit keys to 64-bit values, filled once and then only read: the merge table
// is asked several times a character.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace ithaca {

class FlatMap {
 public:
  explicit FlatMap(std::size_t expected = 0) { resize(expected); }

  void insert_or_assign(std::uint64_t key, std::uint64_t value) {
    if ((size_ + 1) * 2 > slots_.size()) grow();
    Slot& slot = slots_[find_slot(key)];
    size_ += !slot.used;
    slot = {key, value, true};
  }

  const std::uint64_t* find(std::uint64_t key) const {
    const Slot& slot = slots_[find_slot(key)];
    return slot.used ? &slot.value : nullptr;
  }
  bool contains(std::uint64_t key) const { return find(key) != nullptr; }

 private:
  struct Slot {
    std::uint64_t key = 0;
    std::uint64_t value = 0;
    bool used = false;
  };

  void resize(std::size_t expected) { slots_.assign(std::bit_ceil(expected * 2 + 16), Slot{}); }
  void grow() {
    std::vector<Slot> old = std::move(slots_);
    resize(old.size());
    for (const Slot& slot : old)
      if (slot.used) slots_[find_slot(slot.key)] = slot;
  }
  std::size_t find_slot(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    std::uint64_t hash = key * 0x9E3779B97F4A7C15u;
    std::size_t index = (hash ^ hash >> 32) & mask;
    while (slots_[index].used && slots_[index].key != key) index = (index + 1) & mask;
    return index;
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace ithaca
