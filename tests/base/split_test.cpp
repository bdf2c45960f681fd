#include "ithaca/base/split.h"

#include <gtest/gtest.h>

namespace ithaca {
namespace {

TEST(EvenSplit, LeadingPartsHoldOneMore) {
  EXPECT_EQ(even_split(10, 4, 0), (Share{0, 3}));
  EXPECT_EQ(even_split(10, 4, 1), (Share{3, 3}));
  EXPECT_EQ(even_split(10, 4, 2), (Share{6, 2}));
  EXPECT_EQ(even_split(10, 4, 3), (Share{8, 2}));
  EXPECT_EQ(even_split(2, 3, 2), (Share{2, 0}));
  EXPECT_EQ(even_split(0, 3, 1), (Share{0, 0}));
  EXPECT_EQ(even_split(int64_t{1} << 62, 2, 1), (Share{int64_t{1} << 61, int64_t{1} << 61}));
}

TEST(EvenSplit, PartsCoverAllAndTouch) {
  for (int64_t n = 0; n <= 20; ++n)
    for (int64_t parts = 1; parts <= 7; ++parts) {
      int64_t end = 0;
      for (int64_t part = 0; part < parts; ++part) {
        const Share share = even_split(n, parts, part);
        EXPECT_EQ(share.begin, end) << n << " in " << parts;
        EXPECT_LE(share.count, even_split(n, parts, 0).count);
        EXPECT_GE(share.count + 1, even_split(n, parts, 0).count);
        end = share.begin + share.count;
      }
      EXPECT_EQ(end, n);
    }
}

}  // namespace
}  // namespace ithaca
