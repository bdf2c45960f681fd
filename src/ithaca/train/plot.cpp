#include "ithaca/train/plot.h"

#include <cairo.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/text_encoding.h"

namespace ithaca {
namespace {

constexpr int kWidth = 1280, kHeight = 800;
constexpr double kLeft = 104, kRight = 40, kTop = 84, kBottom = 84;
constexpr int kMostTicks = 9;

struct Colour {
  double red, green, blue, alpha = 1;
};
constexpr Colour kPaper{1, 1, 1}, kInk{0.13, 0.15, 0.19}, kMuted{0.42, 0.45, 0.50}, kGrid{0.90, 0.91, 0.93};
constexpr Colour kRaw{0.15, 0.45, 0.75, 0.35}, kSmooth{0.09, 0.36, 0.66}, kEvaluation{0.88, 0.40, 0.10};

struct Point {
  double x, y;
};

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
  double size() const { return high - low; }
};

std::vector<Point> finite_points(const LossPoints& points, const std::vector<double>& values) {
  std::vector<Point> finite;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values[i])) finite.push_back({static_cast<double>(points.steps[i]), values[i]});
  return finite;
}

// A picture with axes; everything is drawn in data coordinates through at().
class Canvas {
 public:
  Canvas(Range x, Range y)
      : x_(x),
        y_(y),
        surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24, kWidth, kHeight)),
        cairo_(cairo_create(surface_.get())) {
    colour(kPaper);
    cairo_paint(cairo_.get());
    // Cairo's toy interface takes whatever font is nearest, and one of its own where none is installed
    cairo_select_font_face(cairo_.get(), "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_line_join(cairo_.get(), CAIRO_LINE_JOIN_ROUND);
    cairo_set_line_cap(cairo_.get(), CAIRO_LINE_CAP_ROUND);
  }

  Point at(Point p) const {
    return {kLeft + (p.x - x_.low) / x_.size() * (kWidth - kLeft - kRight),
            kHeight - kBottom - (p.y - y_.low) / y_.size() * (kHeight - kTop - kBottom)};
  }

  void grid(double value, bool vertical) {
    const Point from = at(vertical ? Point{value, y_.low} : Point{x_.low, value});
    colour(kGrid);
    cairo_set_line_width(cairo_.get(), 1);
    cairo_move_to(cairo_.get(), std::round(from.x) + 0.5, std::round(from.y) + 0.5);
    if (vertical)
      cairo_line_to(cairo_.get(), std::round(from.x) + 0.5, kTop);
    else
      cairo_line_to(cairo_.get(), kWidth - kRight, std::round(from.y) + 0.5);
    cairo_stroke(cairo_.get());
  }

  void frame() {
    colour(kMuted);
    cairo_set_line_width(cairo_.get(), 1.5);
    cairo_move_to(cairo_.get(), kLeft, kTop);
    cairo_line_to(cairo_.get(), kLeft, kHeight - kBottom);
    cairo_line_to(cairo_.get(), kWidth - kRight, kHeight - kBottom);
    cairo_stroke(cairo_.get());
  }

  void curve(const std::vector<Point>& points, const Colour& ink, double width) {
    colour(ink);
    cairo_set_line_width(cairo_.get(), width);
    cairo_save(cairo_.get());
    cairo_rectangle(cairo_.get(), kLeft, kTop - 4, kWidth - kLeft - kRight + 4, kHeight - kTop - kBottom + 4);
    cairo_clip(cairo_.get());
    for (const Point& p : points) cairo_line_to(cairo_.get(), at(p).x, at(p).y);
    cairo_stroke(cairo_.get());
    cairo_restore(cairo_.get());
  }

  void dots(const std::vector<Point>& points, const Colour& ink, double radius) {
    for (const Point& p : points) {
      cairo_arc(cairo_.get(), at(p).x, at(p).y, radius, 0, 2 * M_PI);
      colour(ink);
      cairo_fill_preserve(cairo_.get());
      colour(kPaper);
      cairo_set_line_width(cairo_.get(), 1.5);
      cairo_stroke(cairo_.get());
    }
  }

  // `anchor` 0: starts at `where`; 0.5: centred on it; 1: ends there. `turned`: reads upwards.
  void text(const std::string& text, Point where, double size, double anchor, const Colour& ink,
            bool turned = false) {
    cairo_set_font_size(cairo_.get(), size);
    cairo_text_extents_t extents;
    cairo_text_extents(cairo_.get(), text.c_str(), &extents);
    cairo_save(cairo_.get());
    cairo_move_to(cairo_.get(), where.x, where.y);
    if (turned) cairo_rotate(cairo_.get(), -M_PI / 2);
    cairo_rel_move_to(cairo_.get(), -anchor * extents.x_advance,
                      0.36 * size);  // the middle of the digits on `where`
    colour(ink);
    cairo_show_text(cairo_.get(), text.c_str());
    cairo_restore(cairo_.get());
  }

  // A legend entry right-aligned at `right`; returns where the next one to its left ends.
  double legend(const std::string& label, double right, const Colour& ink, double width, bool dot) {
    const double y = kTop - 24;
    text(label, {right, y}, 17, 1, kInk);
    cairo_text_extents_t extents;
    cairo_text_extents(cairo_.get(), label.c_str(), &extents);
    const double end = right - extents.x_advance - 10;
    colour(ink);
    cairo_set_line_width(cairo_.get(), width);
    if (dot) {
      cairo_arc(cairo_.get(), end - 8, y, 6, 0, 2 * M_PI);
      cairo_fill(cairo_.get());
      return end - 44;
    }
    cairo_move_to(cairo_.get(), end - 34, y);
    cairo_line_to(cairo_.get(), end, y);
    cairo_stroke(cairo_.get());
    return end - 66;
  }

  std::string png() const {
    std::string bytes;
    const auto append = [](void* to, const unsigned char* data, unsigned size) {
      static_cast<std::string*>(to)->append(reinterpret_cast<const char*>(data), size);
      return CAIRO_STATUS_SUCCESS;
    };
    const cairo_status_t status = cairo_surface_write_to_png_stream(surface_.get(), append, &bytes);
    ITHACA_CHECK(status == CAIRO_STATUS_SUCCESS, cairo_status_to_string(status));
    return bytes;
  }

 private:
  struct Destroy {
    void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
    void operator()(cairo_t* cairo) const { cairo_destroy(cairo); }
  };
  void colour(const Colour& c) { cairo_set_source_rgba(cairo_.get(), c.red, c.green, c.blue, c.alpha); }

  Range x_, y_;
  std::unique_ptr<cairo_surface_t, Destroy> surface_;
  std::unique_ptr<cairo_t, Destroy> cairo_;
};

// Just the digits that tell the ticks apart: 0.5, 1.0, 1.5; 20k, 40k.
std::string tick_label(double value, double apart) {
  char text[48];
  const double size = std::max(std::abs(value), apart);
  if (size >= 1e6 || apart < 1e-5) {
    std::snprintf(text, sizeof text, "%g", value);
    return text;
  }
  const bool thousands = apart >= 1000 && size >= 10000;
  if (thousands) {
    value /= 1000;
    apart /= 1000;
  }
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(apart) - 1e-9)), 0, 6);
  std::snprintf(text, sizeof text, "%.*f%s", decimals, value == 0 ? 0.0 : value,
                thousands && value != 0 ? "k" : "");
  return text;
}

void draw_axes(Canvas& canvas, const Range& x, const Range& y, const std::string& title) {
  const auto apart = [](const std::vector<double>& ticks) {
    return ticks.size() > 1 ? ticks[1] - ticks[0] : 1.0;
  };
  const auto across = nice_ticks(x.low, x.high, kMostTicks), up = nice_ticks(y.low, y.high, kMostTicks);
  for (const double tick : up) {
    canvas.grid(tick, false);
    canvas.text(tick_label(tick, apart(up)), {kLeft - 14, canvas.at({x.low, tick}).y}, 17, 1, kMuted);
  }
  for (const double tick : across) {
    if (std::abs(tick - std::round(tick)) > 1e-6) continue;  // there is no half a step
    canvas.grid(tick, true);
    canvas.text(tick_label(tick, apart(across)), {canvas.at({tick, y.low}).x, kHeight - kBottom + 24}, 17,
                0.5, kMuted);
  }
  canvas.frame();
  canvas.text("step", {(kLeft + kWidth - kRight) / 2, kHeight - 28}, 19, 0.5, kInk);
  canvas.text("loss", {30, (kTop + kHeight - kBottom) / 2}, 19, 0.5, kInk, true);
  canvas.text(title, {kLeft, 36}, 24, 0, kInk);
}

// Cairo draws nothing more after text that is not UTF-8, and a title may hold a file's name.
std::string printable(std::string text) {
  if (find_invalid_utf8(text))
    std::replace_if(
        text.begin(), text.end(), [](unsigned char c) { return c >= 0x80; }, '?');
  return text;
}

// A little air around the data, and never a range of no size.
Range with_margin(Range range, double share) {
  if (range.empty()) return {0, 1};
  const double air = range.size() > 0 ? share * range.size() : std::max(0.5, 0.1 * std::abs(range.high));
  return {range.low - air, range.high + air};
}

}  // namespace

std::vector<double> smoothed(std::span<const double> values) {
  const double weight = 1.8 * (1 / (1 + std::exp(-0.05 * static_cast<double>(values.size()))) - 0.5);
  std::vector<double> result;
  double average = std::numeric_limits<double>::quiet_NaN();
  for (const double value : values) {
    if (std::isfinite(value)) average = std::isnan(average) ? value : weight * average + (1 - weight) * value;
    result.push_back(average);
  }
  return result;
}

std::vector<double> nice_ticks(double low, double high, int most) {
  std::vector<double> ticks;
  if (!(low < high) || !std::isfinite(high - low) || most < 1) return ticks;
  double apart = std::pow(10, std::floor(std::log10((high - low) / most)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0, 20.0}) {
    const double first = std::ceil(low / (apart * factor) - 1e-9),
                 last = std::floor(high / (apart * factor) + 1e-9);
    if (last - first + 1 > most) continue;
    for (double tick = first; tick <= last; ++tick) ticks.push_back(tick * (apart * factor));
    break;
  }
  return ticks;
}

void draw_loss(const std::filesystem::path& file, const LossPoints& training, const std::string& title,
               const LossPoints& evaluation) {
  ITHACA_CHECK(training.steps.size() == training.losses.size() &&
               evaluation.steps.size() == evaluation.losses.size());
  const auto raw = finite_points(training, training.losses),
             smooth = finite_points(training, smoothed(training.losses));
  const auto evaluated = finite_points(evaluation, evaluation.losses);
  Range x, y;
  for (const auto* points : {&raw, &evaluated})
    for (const Point& p : *points) {
      x.add(p.x);
      y.add(p.y);
    }
  const Range x_axis = with_margin(x, 0.01), y_axis = with_margin(y, 0.06);
  Canvas canvas(x_axis, y_axis);
  draw_axes(canvas, x_axis, y_axis, printable(title));
  canvas.curve(raw, kRaw, 1.8);
  canvas.curve(smooth, kSmooth, 3.2);
  if (raw.size() == 1) canvas.dots(raw, kSmooth, 6);
  canvas.dots(evaluated, kEvaluation, 7);

  double right = kWidth - kRight;
  if (!evaluated.empty()) right = canvas.legend("evaluation", right, kEvaluation, 1, true);
  right = canvas.legend("smoothed", right, kSmooth, 3.2, false);
  canvas.legend("loss", right, kRaw, 1.8, false);
  if (x.empty())
    canvas.text("no finite loss was logged", {(kLeft + kWidth - kRight) / 2, kHeight / 2.0}, 22, 0.5, kMuted);
  write_file(file, canvas.png());
}

}  // namespace ithaca
