#include "ithaca/parallel/memory/pages.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>
#include <vector>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

int64_t resident_pages() {
  int64_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident;
}

TEST(ZeroPages, SetsExactlyTheTensorToZero) {
  for (const int64_t offset : {0, 1, 16, 1023, 1024, 5000})
    for (const int64_t count : {0, 1, 100, 1024, 1025, 3000, 20'000}) {
      const at::Tensor whole = at::ones({offset + count + 2000}, at::kFloat);
      at::Tensor part = whole.narrow(0, offset, count);
      zero_pages(part);
      EXPECT_EQ(part.count_nonzero().item<int64_t>(), 0) << offset << " " << count;
      EXPECT_EQ(whole.count_nonzero().item<int64_t>(), whole.numel() - count) << offset << " " << count;
      part.fill_(2);  // can be written again
      EXPECT_EQ(part.sum().item<double>(), 2.0 * static_cast<double>(count));
    }
  at::Tensor strided = at::ones({4, 4}).t();
  EXPECT_THROW(zero_pages(strided), Error);
}

TEST(ZeroPages, TakeNoMemoryUntilTheyAreWritten) {
  constexpr int64_t kBytes = 64 << 20;
  const int64_t page = ::getpagesize();
  at::Tensor tensor = at::ones({kBytes}, at::kByte);
  const int64_t before = resident_pages();
  zero_pages(tensor);
  EXPECT_LT(resident_pages(), before - kBytes / page * 9 / 10);
  tensor.narrow(0, 0, kBytes / 2).fill_(1);
  EXPECT_LT(resident_pages(), before - kBytes / page * 4 / 10);
}

// Freed memory below a block that is still in use stays with the process until it is asked for.
TEST(Pages, OfFreedMemoryGoBack) {
  constexpr int64_t kBlock = 64 << 10, kBlocks = 1000;  // below what malloc maps by itself
  std::vector<at::Tensor> blocks;
  for (int64_t i = 0; i < kBlocks; ++i) blocks.push_back(at::ones({kBlock}, at::kByte));
  const at::Tensor last = at::ones({kBlock}, at::kByte);
  const int64_t before = resident_pages();
  blocks.clear();
  return_freed_memory();
  EXPECT_LT(resident_pages(), before - kBlock * kBlocks / ::getpagesize() * 9 / 10);
  EXPECT_EQ(last.sum().item<int64_t>(), kBlock);
}

}  // namespace
}  // namespace ithaca
