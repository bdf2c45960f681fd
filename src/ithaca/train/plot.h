// training_loss.png: the raw loss, faint, and a smoothed line over it; evaluation points where there are
// some.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace ithaca {

// LLaMA-Factory's smoothing: an exponential moving average that starts at the first value, whose weight on
// the past grows with the number n of values: 1.8 * (sigmoid(0.05 * n) - 0.5). Values that are not finite
// leave the average as it was.
std::vector<double> smoothed(std::span<const double> values);

// Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high], at most `most` of them, at least
// one if low < high allows it.
std::vector<double> nice_ticks(double low, double high, int most);

struct LossPoints {
  std::vector<int64_t> steps;
  std::vector<double> losses;  // as many
};

// Writes a PNG of 1280 x 800 pixels, whole (rename). Points that are not finite are left out; no point at all
// gives empty axes that say so. UserError if the file cannot be written.
void draw_loss(const std::filesystem::path& file, const LossPoints& training, const std::string& title,
               const LossPoints& evaluation = {});

}  // namespace ithaca
