#include "vtl/io/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "vtl/core/error.h"

namespace vtl::io {
namespace {

constexpr int kFractionBits = 22;  // 32 less 8 of the pixel and 2 for the overshoot of the cubic
constexpr int64_t kPad = 16;       // bytes that vector loads and stores may touch behind a row

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double cubic(double x) {  // Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -0.5
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// Weights of two neighbouring source pixels. A weight is upper * 256 + lower, so that 16-bit multiply-adds keep all 22
// bits.
struct alignas(16) WeightPair {
  int16_t lower[8], upper[8];  // the pair, four times
};

// Where one result pixel comes from along an axis.
struct Taps {
  int64_t first = 0;          // source pixel
  int64_t pairs = 0, at = 0;  // its weights are weights[at .. at + pairs)
};

struct Axis {
  std::vector<Taps> taps;
  std::vector<WeightPair> weights;
  int64_t begin = 0, end = 0;  // source pixels that have a weight
};

WeightPair weight_pair(int32_t a, int32_t b) {
  WeightPair pair;
  for (int i = 0; i < 8; i += 2) {
    pair.lower[i] = static_cast<int16_t>(a & 255);
    pair.lower[i + 1] = static_cast<int16_t>(b & 255);
    pair.upper[i] = static_cast<int16_t>(a >> 8);
    pair.upper[i + 1] = static_cast<int16_t>(b >> 8);
  }
  return pair;
}

int32_t fixed_point(double weight) {
  return static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kFractionBits));
}

// The weights of result pixels [begin, begin + count) of `size`, when source [low, high) of `extent` pixels becomes the
// whole.
Axis make_axis(int64_t extent, double low, double high, int64_t size, int64_t begin, int64_t count,
               Interpolation interpolation) {
  const auto filter = interpolation == Interpolation::bicubic ? cubic : triangle;
  const double scale = (high - low) / static_cast<double>(size), widening = std::max(scale, 1.0);
  const double support = (interpolation == Interpolation::bicubic ? 2.0 : 1.0) * widening;
  Axis axis;
  axis.taps.resize(static_cast<size_t>(count));
  axis.begin = extent;
  std::vector<double> weights;
  for (int64_t i = 0; i < count; ++i) {
    const double center = low + (static_cast<double>(begin + i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t last = std::min(extent, static_cast<int64_t>(center + support + 0.5));
    weights.clear();
    double sum = 0;
    for (int64_t x = first; x < last; ++x) {
      weights.push_back(filter((static_cast<double>(x) - center + 0.5) * (1.0 / widening)));
      sum += weights.back();
    }
    if (weights.size() % 2) weights.push_back(0);
    Taps& taps = axis.taps[static_cast<size_t>(i)];
    taps = {first, static_cast<int64_t>(weights.size()) / 2, static_cast<int64_t>(axis.weights.size())};
    for (size_t k = 0; k < weights.size(); k += 2)
      axis.weights.push_back(weight_pair(fixed_point(sum != 0 ? weights[k] / sum : weights[k]),
                                         fixed_point(sum != 0 ? weights[k + 1] / sum : weights[k + 1])));
    axis.begin = std::min(axis.begin, first);
    axis.end = std::max(axis.end, last);
  }
  return axis;
}

// One row, along it: to[x] = sum_k from[first(x) + k] * weight(x, k) for each channel. `from` begins with source pixel
// `origin`; both rows have kPad bytes behind them.
void resize_columns(const uint8_t* from, int64_t origin, const Axis& axis, uint8_t* to) {
  for (const Taps& taps : axis.taps) {
    const uint8_t* pixel = from + (taps.first - origin) * 3;
    const WeightPair* weight = axis.weights.data() + taps.at;
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128();
    __m128i lower = _mm_set1_epi32(1 << (kFractionBits - 1)), upper = zero;
    for (int64_t k = 0; k < taps.pairs; ++k, ++weight, pixel += 6) {
      const __m128i rgb_rgb = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixel));
      const __m128i pairs = _mm_unpacklo_epi8(_mm_unpacklo_epi8(rgb_rgb, _mm_srli_epi64(rgb_rgb, 24)), zero);
      lower = _mm_add_epi32(lower, _mm_madd_epi16(pairs, *reinterpret_cast<const __m128i*>(weight->lower)));
      upper = _mm_add_epi32(upper, _mm_madd_epi16(pairs, *reinterpret_cast<const __m128i*>(weight->upper)));
    }
    const __m128i sum = _mm_srai_epi32(_mm_add_epi32(lower, _mm_slli_epi32(upper, 8)), kFractionBits);
    const int32_t rgbx = _mm_cvtsi128_si32(_mm_packus_epi16(_mm_packs_epi32(sum, sum), zero));
    std::memcpy(to, &rgbx, 4);
#else
    int32_t sum[3] = {1 << (kFractionBits - 1), 1 << (kFractionBits - 1), 1 << (kFractionBits - 1)};
    for (int64_t k = 0; k < taps.pairs; ++k, ++weight, pixel += 6)
      for (int c = 0; c < 3; ++c)
        sum[c] += pixel[c] * (weight->upper[0] * 256 + weight->lower[0]) +
                  pixel[c + 3] * (weight->upper[1] * 256 + weight->lower[1]);
    for (int c = 0; c < 3; ++c) to[c] = static_cast<uint8_t>(std::clamp(sum[c] >> kFractionBits, 0, 255));
#endif
    to += 3;
  }
}

// One row, across rows: to[i] = sum_k rows[k * stride + i] * weight(k). Bytes up to the next multiple of kPad are
// written.
void resize_rows(const uint8_t* rows, int64_t stride, const WeightPair* weights, int64_t pairs, int64_t bytes,
                 uint8_t* to) {
  for (int64_t i = 0; i < bytes; i += kPad) {
    const uint8_t* row = rows + i;
    const WeightPair* weight = weights;
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128(), half = _mm_set1_epi32(1 << (kFractionBits - 1));
    __m128i lower[4] = {half, half, half, half}, upper[4] = {zero, zero, zero, zero};
    for (int64_t k = 0; k < pairs; ++k, ++weight, row += 2 * stride) {
      const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
      const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + stride));
      const __m128i low = _mm_unpacklo_epi8(a, b), high = _mm_unpackhi_epi8(a, b);
      const __m128i values[4] = {_mm_unpacklo_epi8(low, zero), _mm_unpackhi_epi8(low, zero),
                                 _mm_unpacklo_epi8(high, zero), _mm_unpackhi_epi8(high, zero)};
      const __m128i low_weight = *reinterpret_cast<const __m128i*>(weight->lower);
      const __m128i high_weight = *reinterpret_cast<const __m128i*>(weight->upper);
      for (int j = 0; j < 4; ++j) {
        lower[j] = _mm_add_epi32(lower[j], _mm_madd_epi16(values[j], low_weight));
        upper[j] = _mm_add_epi32(upper[j], _mm_madd_epi16(values[j], high_weight));
      }
    }
    __m128i sum[4];
    for (int j = 0; j < 4; ++j)
      sum[j] = _mm_srai_epi32(_mm_add_epi32(lower[j], _mm_slli_epi32(upper[j], 8)), kFractionBits);
    const __m128i result = _mm_packus_epi16(_mm_packs_epi32(sum[0], sum[1]), _mm_packs_epi32(sum[2], sum[3]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), result);
#else
    int32_t sum[kPad];
    std::fill(sum, sum + kPad, 1 << (kFractionBits - 1));
    for (int64_t k = 0; k < pairs; ++k, ++weight, row += 2 * stride)
      for (int j = 0; j < kPad; ++j)
        sum[j] += row[j] * (weight->upper[0] * 256 + weight->lower[0]) +
                  row[stride + j] * (weight->upper[1] * 256 + weight->lower[1]);
    for (int j = 0; j < kPad; ++j) to[i + j] = static_cast<uint8_t>(std::clamp(sum[j] >> kFractionBits, 0, 255));
#endif
  }
}

void check(const ImageView& source, const Resize& r) {
  VTL_CHECK(source.width > 0 && source.height > 0, "resize: the source has ", source.width, " x ", source.height,
            " pixels");
  VTL_CHECK(r.width > 0 && r.height > 0, "resize: to ", r.width, " x ", r.height, " pixels, expected at least one");
  VTL_CHECK(r.box.left >= 0 && r.box.top >= 0 && r.box.right <= static_cast<double>(source.width) &&
                r.box.bottom <= static_cast<double>(source.height) && r.box.left < r.box.right &&
                r.box.top < r.box.bottom,
            "resize: the box ", r.box.left, ", ", r.box.top, " to ", r.box.right, ", ", r.box.bottom,
            " is empty or leaves the source of ", source.width, " x ", source.height, " pixels");
  const Window& w = r.window;
  VTL_CHECK(w.left >= 0 && w.top >= 0 && w.width > 0 && w.height > 0 && w.width <= r.width - w.left &&
                w.height <= r.height - w.top,
            "resize: the window of ", w.width, " x ", w.height, " pixels at ", w.left, ", ", w.top,
            " is empty or leaves the result of ", r.width, " x ", r.height);
}

// A plane of whole vectors: rows padded, and one row more than asked for, which is the second of a pair whose weight is
// zero.
class Plane {
 public:
  Plane(int64_t pixels, int64_t rows)
      : stride_((pixels * 3 + kPad - 1) / kPad * kPad + kPad), bytes_(static_cast<size_t>((rows + 1) * stride_)) {}

  int64_t stride() const { return stride_; }
  uint8_t* row(int64_t y) { return bytes_.data() + y * stride_; }

 private:
  int64_t stride_;
  std::vector<uint8_t> bytes_;
};

int64_t size_of(const Axis& axis) { return static_cast<int64_t>(axis.taps.size()); }

void columns_then_rows(const ImageView& source, const Axis& columns, const Axis& rows, uint8_t* out, int64_t stride) {
  const int64_t height = rows.end - rows.begin, width = size_of(columns), source_width = columns.end - columns.begin;
  Plane row(source_width, 1), narrow(width, height), result(width, 1);
  for (int64_t y = 0; y < height; ++y) {
    std::memcpy(row.row(0), source.row(rows.begin + y) + columns.begin * 3, static_cast<size_t>(source_width * 3));
    resize_columns(row.row(0), columns.begin, columns, narrow.row(y));
  }
  for (const Taps& taps : rows.taps) {
    resize_rows(narrow.row(taps.first - rows.begin), narrow.stride(), rows.weights.data() + taps.at, taps.pairs,
                width * 3, result.row(0));
    std::memcpy(out, result.row(0), static_cast<size_t>(width * 3));
    out += stride;
  }
}

void rows_then_columns(const ImageView& source, const Axis& columns, const Axis& rows, uint8_t* out, int64_t stride) {
  const int64_t height = rows.end - rows.begin, width = size_of(columns), source_width = columns.end - columns.begin;
  Plane area(source_width, height), low(source_width, 1), result(width, 1);
  for (int64_t y = 0; y < height; ++y)
    std::memcpy(area.row(y), source.row(rows.begin + y) + columns.begin * 3, static_cast<size_t>(source_width * 3));
  for (const Taps& taps : rows.taps) {
    resize_rows(area.row(taps.first - rows.begin), area.stride(), rows.weights.data() + taps.at, taps.pairs,
                source_width * 3, low.row(0));
    resize_columns(low.row(0), columns.begin, columns, result.row(0));
    std::memcpy(out, result.row(0), static_cast<size_t>(width * 3));
    out += stride;
  }
}

// Pillow 13 takes the rows first when that removes much more, by this rule (found by measuring; earlier releases never
// do).
bool rows_first(const ImageView& source, const Resize& resize) {
  return resize.height < source.height && source.height - resize.height > 2 * (source.width - resize.width);
}

}  // namespace

void resize_into(const ImageView& source, const Resize& resize, uint8_t* out, int64_t stride) {
  check(source, resize);
  const Window& window = resize.window;
  const Axis columns = make_axis(source.width, resize.box.left, resize.box.right, resize.width, window.left,
                                 window.width, resize.interpolation);
  const Axis rows = make_axis(source.height, resize.box.top, resize.box.bottom, resize.height, window.top,
                              window.height, resize.interpolation);
  if (rows_first(source, resize)) rows_then_columns(source, columns, rows, out, stride);
  else columns_then_rows(source, columns, rows, out, stride);
}

Image resize_image(const ImageView& source, int64_t width, int64_t height, Interpolation interpolation) {
  VTL_CHECK(width > 0 && height > 0, "resize: to ", width, " x ", height, " pixels, expected at least one");
  Image image{width, height, std::vector<uint8_t>(static_cast<size_t>(width * height) * 3)};
  const Box all{0, 0, static_cast<double>(source.width), static_cast<double>(source.height)};
  resize_into(source, {all, width, height, interpolation, {0, 0, width, height}}, image.rgb.data(), width * 3);
  return image;
}

}  // namespace vtl::io
