// training_loss.png: the arithmetic exactly, the picture by reading its pixels back.
#include "ithaca/train/plot.h"

#include <cairo.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "ithaca/base/error.h"
#include "tests/support/temporary_folder.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;

TEST(Smoothing, FollowsTheWeightRule) {
  // By hand for three values: weight = 1.8 * (sigmoid(0.15) - 0.5) = 0.0673737...
  const double weight = 1.8 * (1 / (1 + std::exp(-0.15)) - 0.5);
  const std::vector<double> values{4, 2, 8};
  const auto result = smoothed(values);
  ASSERT_EQ(result.size(), 3u);
  EXPECT_DOUBLE_EQ(result[0], 4);
  EXPECT_DOUBLE_EQ(result[1], weight * 4 + (1 - weight) * 2);
  EXPECT_DOUBLE_EQ(result[2], weight * result[1] + (1 - weight) * 8);
  EXPECT_TRUE(smoothed({}).empty());
}

TEST(Smoothing, ValuesThatAreNotFiniteLeaveNoTrace) {
  const std::vector<double> values{NAN, 3, NAN, INFINITY, 3};
  const auto result = smoothed(values);
  EXPECT_TRUE(std::isnan(result[0]));
  for (std::size_t i = 1; i < result.size(); ++i) EXPECT_DOUBLE_EQ(result[i], 3);
}

TEST(Ticks, AreRoundAndInside) {
  using Ticks = std::vector<double>;
  EXPECT_EQ(nice_ticks(0, 10, 6), (Ticks{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(nice_ticks(-1, 1, 5), (Ticks{-1, -0.5, 0, 0.5, 1}));
  EXPECT_EQ(nice_ticks(3, 1003, 3), (Ticks{500, 1000}));
  EXPECT_TRUE(nice_ticks(1, 1, 5).empty());
  EXPECT_TRUE(nice_ticks(NAN, 1, 5).empty());
  EXPECT_TRUE(nice_ticks(0, INFINITY, 5).empty());
  int cases = 0;
  for (double low = -3.7; low < 1e7; low = low * 1.9 + 5)
    for (double size = 1e-6; size < 1e9; size *= 3.3) {
      const auto ticks = nice_ticks(low, low + size, 9);
      EXPECT_LE(ticks.size(), 9u);
      EXPECT_GE(ticks.size(), 2u) << low << " + " << size;
      for (const double tick : ticks) {
        EXPECT_GE(tick, low - 1e-6 * size);
        EXPECT_LE(tick, low + size * (1 + 1e-6));
      }
      ++cases;
    }
  EXPECT_GT(cases, 100);
}

class Plot : public ::testing::Test {
 protected:
  // Pixels that are clearly blue (the curves) or orange (evaluation points).
  struct Count {
    int blue = 0, orange = 0;
  };
  Count count() const {
    cairo_surface_t* surface = cairo_image_surface_create_from_png(file_.c_str());
    EXPECT_EQ(cairo_surface_status(surface), CAIRO_STATUS_SUCCESS);
    EXPECT_EQ(cairo_image_surface_get_width(surface), 1280);
    EXPECT_EQ(cairo_image_surface_get_height(surface), 800);
    Count count;
    const unsigned char* data = cairo_image_surface_get_data(surface);
    for (int y = 0; y < 800; ++y)
      for (int x = 0; x < 1280; ++x) {
        const unsigned char* pixel =
            data + y * cairo_image_surface_get_stride(surface) + 4 * x;  // blue, green, red
        count.blue += pixel[0] > pixel[2] + 40;
        count.orange += pixel[2] > pixel[0] + 80;
      }
    cairo_surface_destroy(surface);
    return count;
  }
  const TemporaryFolder folder_;
  const fs::path file_ = folder_ / "training_loss.png";
};

TEST_F(Plot, DrawsCurvesAndEvaluationPoints) {
  LossPoints training;
  for (int i = 1; i <= 100; ++i) {
    training.steps.push_back(i);
    training.losses.push_back(3 - 0.01 * i);
  }
  draw_loss(file_, training, "Training loss");
  const Count without = count();
  EXPECT_GT(without.blue, 1000);
  EXPECT_EQ(without.orange, 0);
  draw_loss(file_, training, "Training loss", {{50, 100}, {2.6, 2.1}});
  EXPECT_GT(count().orange, 100);
}

TEST_F(Plot, OddInputsStillGiveAPicture) {
  draw_loss(file_, {{7}, {2.5}}, "one point");
  EXPECT_GT(count().blue, 50);
  draw_loss(file_, {{1, 2, 3}, {2, 2, 2}}, "flat");
  EXPECT_GT(count().blue, 1000);
  draw_loss(file_, {{1, 2, 3}, {1e300, NAN, -1e300}}, "huge \xFF name");
  EXPECT_GT(count().blue, 100);
  draw_loss(file_, {{1}, {NAN}}, "nothing finite");
  count();
  draw_loss(file_, {}, "nothing");
  count();
}

TEST_F(Plot, AFolderThatIsNotThereIsNamed) {
  EXPECT_THROW(draw_loss(folder_.path() / "none" / "loss.png", {{1}, {1}}, ""), UserError);
}

}  // namespace
}  // namespace ithaca
