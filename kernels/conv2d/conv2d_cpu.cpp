// Any convolution as matrix products over gathered patches, a block of positions at a time. conv2d.cpp sends what has a
// faster way elsewhere first. A row is a position (b, i, j) of the output, or of the input in backward_data; a patch is
// what the taps read there.
#include "vtl/kernels/conv2d/conv2d.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"
#include "vtl/kernels/gemm/gemm.h"

namespace vtl::kernels::VTL_CPU {
namespace {

constexpr int64_t kPatchBytes = int64_t{8} << 20;  // scratch for the patches of one block

constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

int64_t rows_per_block(int64_t rows, int64_t patch_bytes) {
  return max(1, min(rows, max(128, kPatchBytes / max(1, patch_bytes))));
}

// patches[row - begin][p][q][c] for the output positions [begin, end) and the channels of one group.
template <class T>
void gather_patches(const Conv2dDims& d, const T* x, int64_t group, int64_t begin, int64_t end, T* patches) {
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels / d.groups;
  const int64_t patch = d.kernel_h * d.kernel_w * channels;
  const bool dense_rows = d.dilation_w == 1 && d.groups == 1;  // the taps of one row lie side by side
  const auto bytes = [](int64_t count) { return static_cast<size_t>(count) * sizeof(T); };
  parallel_for(end - begin, max(1, 65536 / (patch * static_cast<int64_t>(sizeof(T)) + 1)),
               [&](int64_t first, int64_t last) {
                 for (int64_t row = begin + first; row < begin + last; ++row) {
                   const int64_t j = row % out_w, i = row / out_w % out_h, image = row / (out_w * out_h);
                   const int64_t left = j * d.stride_w - d.pad_left;
                   T* to = patches + (row - begin) * patch;
                   for (int64_t p = 0; p < d.kernel_h; ++p, to += d.kernel_w * channels) {
                     const int64_t h = i * d.stride_h + p * d.dilation_h - d.pad_top;
                     if (h < 0 || h >= d.in_h) {
                       __builtin_memset(to, 0, bytes(d.kernel_w * channels));
                       continue;
                     }
                     const T* from = x + (image * d.in_h + h) * d.in_w * d.in_channels + group * channels;
                     if (dense_rows && left >= 0 && left + d.kernel_w <= d.in_w) {
                       __builtin_memcpy(to, from + left * channels, bytes(d.kernel_w * channels));
                       continue;
                     }
                     for (int64_t q = 0; q < d.kernel_w; ++q) {
                       const int64_t w = left + q * d.dilation_w;
                       if (w < 0 || w >= d.in_w)
                         __builtin_memset(to + q * channels, 0, bytes(channels));
                       else
                         __builtin_memcpy(to + q * channels, from + w * d.in_channels, bytes(channels));
                     }
                   }
                 }
               });
}

Epilogue epilogue_at(const Epilogue& e, int64_t channel, int64_t offset_bytes) {
  Epilogue at = e;
  if (e.scale) at.scale = e.scale + channel;
  if (e.bias) at.bias = e.bias + channel;
  if (e.residual) at.residual = static_cast<const char*>(e.residual) + offset_bytes;
  if (e.preactivation) at.preactivation = static_cast<char*>(e.preactivation) + offset_bytes;
  return at;
}

// One remainder of the input positions modulo the strides: the taps that meet it, and where.
struct Phase {
  int64_t h0, w0, rows_h, rows_w;  // input rows h0 + stride_h * [0, rows_h), columns likewise
  int64_t taps_h, taps_w;          // number of taps
};

// Tap number `index` of those with (position + pad - tap * dilation) % stride == 0; -1 when there are fewer.
int64_t tap_of_phase(int64_t position, int64_t pad, int64_t dilation, int64_t stride, int64_t kernel, int64_t index) {
  for (int64_t tap = 0; tap < kernel; ++tap)
    if ((position + pad - tap * dilation) % stride == 0 && index-- == 0) return tap;
  return -1;
}
int64_t taps_of_phase(int64_t position, int64_t pad, int64_t dilation, int64_t stride, int64_t kernel) {
  int64_t count = 0;
  while (tap_of_phase(position, pad, dilation, stride, kernel, count) >= 0) ++count;
  return count;
}

// Patches of dy for the input positions of one phase: patches[row - begin][tap h][tap w][o].
template <class T>
void gather_gradients(const Conv2dDims& d, const Phase& f, const T* dy, int64_t group, int64_t begin, int64_t end,
                      T* patches) {
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.out_channels / d.groups;
  const int64_t patch = f.taps_h * f.taps_w * channels;
  parallel_for(
      end - begin, max(1, 65536 / (patch * static_cast<int64_t>(sizeof(T)) + 1)), [&](int64_t first, int64_t last) {
        for (int64_t row = begin + first; row < begin + last; ++row) {
          const int64_t w = f.w0 + row % f.rows_w * d.stride_w, h = f.h0 + row / f.rows_w % f.rows_h * d.stride_h;
          const int64_t image = row / (f.rows_w * f.rows_h);
          T* to = patches + (row - begin) * patch;
          for (int64_t a = 0; a < f.taps_h; ++a) {
            const int64_t p = tap_of_phase(f.h0, d.pad_top, d.dilation_h, d.stride_h, d.kernel_h, a);
            const int64_t down = h + d.pad_top - p * d.dilation_h, i = down / d.stride_h;
            for (int64_t b = 0; b < f.taps_w; ++b, to += channels) {
              const int64_t q = tap_of_phase(f.w0, d.pad_left, d.dilation_w, d.stride_w, d.kernel_w, b);
              const int64_t right = w + d.pad_left - q * d.dilation_w, j = right / d.stride_w;
              const auto bytes = static_cast<size_t>(channels) * sizeof(T);
              if (down < 0 || i >= out_h || right < 0 || j >= out_w)
                __builtin_memset(to, 0, bytes);
              else
                __builtin_memcpy(to, dy + ((image * out_h + i) * out_w + j) * d.out_channels + group * channels, bytes);
            }
          }
        }
      });
}

// Filters of one group and phase as a matrix [tap h][tap w][o] x [c].
template <class T>
void gather_filters(const Conv2dDims& d, const Phase& f, const T* w, int64_t group, T* to) {
  const int64_t in = d.in_channels / d.groups, out = d.out_channels / d.groups;
  for (int64_t a = 0; a < f.taps_h; ++a)
    for (int64_t b = 0; b < f.taps_w; ++b) {
      const int64_t p = tap_of_phase(f.h0, d.pad_top, d.dilation_h, d.stride_h, d.kernel_h, a);
      const int64_t q = tap_of_phase(f.w0, d.pad_left, d.dilation_w, d.stride_w, d.kernel_w, b);
      for (int64_t o = 0; o < out; ++o, to += in)
        __builtin_memcpy(to, w + (((group * out + o) * d.kernel_h + p) * d.kernel_w + q) * in,
                         static_cast<size_t>(in) * sizeof(T));
    }
}

template <class TIn, class TOut>
void backward_data_phase(Stream& stream, const Conv2dDims& d, const Phase& f, int64_t group, const TIn* dy,
                         const TIn* w, TOut* dx, const TOut* addend) {
  const int64_t in = d.in_channels / d.groups, out = d.out_channels / d.groups, patch = f.taps_h * f.taps_w * out;
  const int64_t rows = d.batch * f.rows_h * f.rows_w,
                block = rows_per_block(rows, patch * static_cast<int64_t>(sizeof(TIn)));
  const Scratch filters = stream.scratch(static_cast<size_t>(patch * in) * sizeof(TIn));
  const Scratch patches = stream.scratch(static_cast<size_t>(block * patch) * sizeof(TIn));
  const Scratch sums = stream.scratch(static_cast<size_t>(block * in) * 4);
  gather_filters(d, f, w, group, static_cast<TIn*>(filters.data()));
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int64_t end = min(rows, begin + block);
    gather_gradients(d, f, dy, group, begin, end, static_cast<TIn*>(patches.data()));
    kernels::gemm(stream, {patches.data(), dtype_of<TIn>::value, patch}, {filters.data(), dtype_of<TIn>::value, in},
                  {sums.data(), DType::f32, in}, {end - begin, in, patch});
    parallel_for(end - begin, max(1, 16384 / in), [&](int64_t first, int64_t last) {
      for (int64_t row = begin + first; row < begin + last; ++row) {
        const int64_t column = f.w0 + row % f.rows_w * d.stride_w, h = f.h0 + row / f.rows_w % f.rows_h * d.stride_h;
        const int64_t image = row / (f.rows_w * f.rows_h);
        const int64_t at = ((image * d.in_h + h) * d.in_w + column) * d.in_channels + group * in;
        for_lanes(in, [&](int64_t c, auto lanes) {
          vfloat sum = load_n(sums.f32() + (row - begin) * in + c, lanes);
          if (addend) sum += load_n(addend + at + c, lanes);
          store_n(dx + at + c, sum, lanes);
        });
      }
    });
  }
}

// dx where patches neither overlap nor leave gaps: each product is one element.
template <class TIn, class TOut>
void backward_data_patches(Stream& stream, const Conv2dDims& d, const TIn* dy, const TIn* w, TOut* dx,
                           const TOut* addend) {
  const int64_t out_h = d.out_h(), out_w = d.out_w(), patch = d.kernel_h * d.kernel_w * d.in_channels;
  const int64_t rows = d.batch * out_h * out_w, block = rows_per_block(rows, patch * 4),
                run = d.kernel_w * d.in_channels;
  const Scratch patches = stream.scratch(static_cast<size_t>(block * patch) * 4);
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int64_t end = min(rows, begin + block);
    kernels::gemm(stream, {dy + begin * d.out_channels, dtype_of<TIn>::value, d.out_channels},
                  {w, dtype_of<TIn>::value, patch}, {patches.data(), DType::f32, patch},
                  {end - begin, patch, d.out_channels});
    parallel_for((end - begin) * d.kernel_h, max(1, 16384 / run), [&](int64_t first, int64_t last) {
      for (int64_t line = first; line < last; ++line) {
        const int64_t row = begin + line / d.kernel_h, image = row / (out_w * out_h);
        const int64_t h = row / out_w % out_h * d.kernel_h + line % d.kernel_h;
        const int64_t at = ((image * d.in_h + h) * d.in_w + row % out_w * d.kernel_w) * d.in_channels;
        for_lanes(run, [&](int64_t c, auto lanes) {
          vfloat sum = load_n(patches.f32() + line * run + c, lanes);
          if (addend) sum += load_n(addend + at + c, lanes);
          store_n(dx + at + c, sum, lanes);
        });
      }
    });
  }
}

}  // namespace

void conv2d_forward(Stream& stream, const Conv2dDims& d, const void* x, DType x_dtype, const void* w, DType w_dtype,
                    void* y, DType y_dtype, const Epilogue& epilogue, const PackedWeight* packed) {
  const int64_t patch = d.kernel_h * d.kernel_w * (d.in_channels / d.groups), out = d.out_channels / d.groups;
  const int64_t in_bytes = static_cast<int64_t>(size_of(x_dtype)), out_bytes = static_cast<int64_t>(size_of(y_dtype));
  const int64_t rows = d.batch * d.out_h() * d.out_w(), block = rows_per_block(rows, patch * in_bytes);
  const Scratch patches = stream.scratch(static_cast<size_t>(block * patch * in_bytes));
  for (int64_t group = 0; group < d.groups; ++group)
    for (int64_t begin = 0; begin < rows; begin += block) {
      const int64_t end = min(rows, begin + block), at = (begin * d.out_channels + group * out) * out_bytes;
      visit_float(x_dtype, [&]<class T>() {
        gather_patches(d, static_cast<const T*>(x), group, begin, end, static_cast<T*>(patches.data()));
      });
      kernels::gemm(stream, {patches.data(), x_dtype, patch},
                    {static_cast<const char*>(w) + group * out * patch * in_bytes, w_dtype, patch, Transpose::yes},
                    {static_cast<char*>(y) + at, y_dtype, d.out_channels}, {end - begin, out, patch}, 1,
                    epilogue_at(epilogue, group * out, at), d.groups == 1 ? packed : nullptr);
    }
}

void conv2d_backward_data(Stream& stream, const Conv2dDims& d, const void* dy, DType dy_dtype, const void* w, DType,
                          Dest dx, DType dx_dtype, const PackedWeight*) {
  if (d.is_patches() && d.in_h == d.out_h() * d.kernel_h && d.in_w == d.out_w() * d.kernel_w) {
    visit_float(dy_dtype, [&]<class TIn>() {
      const auto run = [&]<class TOut>() {
        backward_data_patches(stream, d, static_cast<const TIn*>(dy), static_cast<const TIn*>(w),
                              static_cast<TOut*>(dx.out), static_cast<const TOut*>(dx.addend));
      };
      if constexpr (sizeof(TIn) == 4)
        run.template operator()<float>();
      else
        visit_float(dx_dtype, run);
    });
    return;
  }
  for (int64_t group = 0; group < d.groups; ++group)
    for (int64_t h0 = 0; h0 < min(d.stride_h, d.in_h); ++h0)
      for (int64_t w0 = 0; w0 < min(d.stride_w, d.in_w); ++w0) {
        Phase f{h0, w0, (d.in_h - h0 + d.stride_h - 1) / d.stride_h, (d.in_w - w0 + d.stride_w - 1) / d.stride_w, 0, 0};
        f.taps_h = taps_of_phase(h0, d.pad_top, d.dilation_h, d.stride_h, d.kernel_h);
        f.taps_w = taps_of_phase(w0, d.pad_left, d.dilation_w, d.stride_w, d.kernel_w);
        visit_float(dy_dtype, [&]<class TIn>() {
          const auto run = [&]<class TOut>() {
            backward_data_phase(stream, d, f, group, static_cast<const TIn*>(dy), static_cast<const TIn*>(w),
                                static_cast<TOut*>(dx.out), static_cast<const TOut*>(dx.addend));
          };
          if constexpr (sizeof(TIn) == 4)
            run.template operator()<float>();
          else
            visit_float(dx_dtype, run);
        });
      }
}

void conv2d_backward_weight(Stream& stream, const Conv2dDims& d, const void* x, DType x_dtype, const void* dy,
                            DType dy_dtype, Dest dweight, Dest) {
  const int64_t patch = d.kernel_h * d.kernel_w * (d.in_channels / d.groups), out = d.out_channels / d.groups;
  const int64_t in_bytes = static_cast<int64_t>(size_of(x_dtype));
  const int64_t rows = d.batch * d.out_h() * d.out_w(), block = rows_per_block(rows, patch * in_bytes);
  const Scratch patches = stream.scratch(static_cast<size_t>(block * patch * in_bytes));
  for (int64_t group = 0; group < d.groups; ++group) {
    auto* const to = static_cast<float*>(dweight.out) + group * out * patch;
    const auto* addend = static_cast<const float*>(dweight.addend);
    Epilogue sum_so_far;
    sum_so_far.residual = addend ? addend + group * out * patch : nullptr;
    for (int64_t begin = 0; begin < rows; begin += block) {
      const int64_t end = min(rows, begin + block);
      visit_float(x_dtype, [&]<class T>() {
        gather_patches(d, static_cast<const T*>(x), group, begin, end, static_cast<T*>(patches.data()));
      });
      const auto* from = static_cast<const char*>(dy) + (begin * d.out_channels + group * out) * in_bytes;
      kernels::gemm(stream, {from, dy_dtype, d.out_channels, Transpose::yes}, {patches.data(), x_dtype, patch},
                    {to, DType::f32, patch}, {out, patch, end - begin}, 1, sum_so_far);
      sum_so_far.residual = to;
    }
  }
}

}  // namespace vtl::kernels::VTL_CPU
