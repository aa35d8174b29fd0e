#include "vtl/kernels/device/rows.h"
#include "vtl/kernels/image/image.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// Values of images. A row's length is a multiple of the channels: a thread then has the same ones in every row, and
// finds their factors once.
template <class T>
struct Normalize {
  static constexpr int kWidth = kVecLanes<T>;
  const uint8_t* image;
  T* y;
  const float *mean, *std;
  int channels;

  // image * scale + shift = (image / 255 - mean) / std
  template <int N>
  struct Factors {
    Floats<N> scale, shift;
  };

  bool aligned() const { return reinterpret_cast<uintptr_t>(image) % kWidth == 0 && aligned_to<kWidth>(y); }
  template <int N>
  VTL_DEVICE Factors<N> kept(int64_t i) const {
    Factors<N> factors;
    int c = static_cast<int>(i % channels);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) {
      const float deviation = load(std + c);
      factors.scale[k] = 1.0f / (255.0f * deviation);
      factors.shift[k] = -load(mean + c) / deviation;
      c = c + 1 < channels ? c + 1 : 0;
    }
    return factors;
  }
  template <int N>
  VTL_DEVICE Vec<uint8_t, N> read(int64_t i, const Factors<N>&) const {
    return load_vec<N>(image + i);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Factors<N>& factors, const Vec<uint8_t, N>& bytes) const {
    Floats<N> value = floats_of(bytes);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] = value[k] * factors.scale[k] + factors.shift[k];
    store_floats(y + i, value);
    return value;
  }
};

// Pixels of a row: with three channels their values fill whole blocks.
constexpr int64_t kRowPixels = 2048;

}  // namespace

void image_normalize(Stream& stream, DType dtype, const uint8_t* image, void* y, const float* mean, const float* std,
                     ImageDims dims) {
  visit_float(dtype, [&]<class T>() {
    auto* out = static_cast<T*>(y);
    const int channels = static_cast<int>(dims.channels);
    const auto normalize = [&](int64_t first, int64_t rows, int64_t pixels) {
      const int64_t at = first * dims.channels;
      for_each_row(stream, "image_normalize", Normalize<T>{image + at, out + at, mean, std, channels},
                   {1, rows, pixels * dims.channels});
    };
    const int64_t rows = dims.pixels / kRowPixels;
    normalize(0, rows, kRowPixels);
    normalize(rows * kRowPixels, 1, dims.pixels % kRowPixels);
  });
}

}  // namespace vtl::kernels::VTL_GPU
