#include "vtl/kernels/image/image.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/bytes.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// The values for each channel repeat in a pattern of whole vectors: kLanes pixels of up to 64 channels.
constexpr int64_t kMaxChannels = 64;
constexpr int64_t kGrain = 1 << 15;

// (image / 255 - mean) / std = image * scale + shift
VTL_INLINE float scale_of(float std) { return static_cast<float>(1.0 / (255.0 * static_cast<double>(std))); }
VTL_INLINE float shift_of(float mean, float std) { return -mean / std; }

template <class T>
void normalize_pattern(const uint8_t* image, T* y, const float* mean, const float* std, ImageDims d) {
  const int64_t width = d.channels * kLanes;
  float scale[kMaxChannels * kLanes], shift[kMaxChannels * kLanes];
  for (int64_t i = 0; i < width; ++i) {
    scale[i] = scale_of(std[i % d.channels]);
    shift[i] = shift_of(mean[i % d.channels], std[i % d.channels]);
  }
  const int64_t grain = (kGrain / width + 1) * width;
  parallel_for(d.pixels * d.channels, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += width)
      for_lanes(end - row < width ? end - row : width, [&](int64_t i, auto lanes) {
        store_n(y + row + i,
                __builtin_convertvector(load_bytes(image + row + i, lanes), vfloat) * load_n(scale + i, lanes) +
                    load_n(shift + i, lanes),
                lanes);
      });
  });
}

template <class T>
void normalize_pixels(const uint8_t* image, T* y, const float* mean, const float* std, ImageDims d) {
  parallel_for(d.pixels, kGrain / d.channels + 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p)
      for (int64_t c = 0; c < d.channels; ++c)
        y[p * d.channels + c] =
            from_float<T>(static_cast<float>(image[p * d.channels + c]) * scale_of(std[c]) + shift_of(mean[c], std[c]));
  });
}

}  // namespace

void image_normalize(Stream&, DType dtype, const uint8_t* image, void* y, const float* mean, const float* std,
                     ImageDims dims) {
  visit_float(dtype, [&]<class T>() {
    auto* out = static_cast<T*>(y);
    if (dims.channels <= kMaxChannels)
      normalize_pattern(image, out, mean, std, dims);
    else
      normalize_pixels(image, out, mean, std, dims);
  });
}

}  // namespace vtl::kernels::VTL_CPU
