#include "vtl/kernels/batchnorm/batchnorm.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/activation_gradient.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// Columns that a reduction takes at a time: its sums stay in the first-level cache.
constexpr int64_t kBlock = 1024;
// Elements of a chunk of the parallel loop, about. Bounds the length of an f32 sum, too.
constexpr int64_t kChunk = 1 << 16;
// This file has a copy for __AVX512BF16__, where vec.h narrows to bf16 in one instruction instead of eight.

// Wide rows that share one load of the values for each channel.
constexpr int64_t kUnroll = 4;

// A row of few channels leaves a partial vector at its end: `group` rows are taken as one wide row of whole vectors,
// over which the values for each channel repeat. The last wide row may be shorter.
struct Tiling {
  int64_t channels, group, width, elements, chunk_elements, chunks;
};

VTL_INLINE Tiling tile(BatchNormDims d) {
  Tiling t{};
  t.channels = d.channels;
  t.group = 1;
  while (t.group * d.channels % kLanes != 0) t.group *= 2;
  if (t.group * d.channels > kBlock) t.group = 1;
  t.width = t.group * d.channels;
  t.elements = d.rows * d.channels;
  const int64_t quantum = kUnroll * t.width;
  t.chunk_elements = kChunk > quantum ? kChunk / quantum * quantum : quantum;
  t.chunks = t.elements ? (t.elements + t.chunk_elements - 1) / t.chunk_elements : 0;
  return t;
}

template <int64_t count>
struct Rows {
  static constexpr int64_t value = count;
};

// f(c, i, lanes, rows) for the vectors of columns [c0, c1) of the wide rows in elements [begin, end): `lanes` elements
// at i, i + width, ..., rows of them, all in columns c, c + 1, ...
template <class F>
VTL_INLINE void for_vectors(int64_t begin, int64_t end, int64_t width, int64_t c0, int64_t c1, F&& f) {
  int64_t row = begin;
  for (; row + kUnroll * width <= end; row += kUnroll * width)
    for_lanes(c1 - c0, [&](int64_t c, auto lanes) { f(c0 + c, row + c0 + c, lanes, Rows<kUnroll>{}); });
  for (; row < end; row += width) {
    const int64_t limit = end - row < c1 ? end - row : c1;
    for_lanes(limit - c0, [&](int64_t c, auto lanes) { f(c0 + c, row + c0 + c, lanes, Rows<1>{}); });
  }
}

// Two sums for each of the columns [c0, c1) over the wide rows in elements [begin, end), to first[0 .. c1 - c0) and second:
// add(c, i, lanes, rows, s1, s2) is called as by for_vectors and adds to s1 and s2. Rounding grows with the length of an f32
// sum: short ones are added up in turn.
template <class F>
VTL_INLINE void sum_columns(int64_t begin, int64_t end, int64_t width, int64_t c0, int64_t c1, float* first,
                            float* second, F&& add) {
  constexpr int64_t kShortRows = 16 * kUnroll;
  const int64_t block = c1 - c0;
  float short_first[kBlock], short_second[kBlock];
  __builtin_memset(first, 0, static_cast<size_t>(block) * 4);
  __builtin_memset(second, 0, static_cast<size_t>(block) * 4);
  for (int64_t from = begin; from < end; from += kShortRows * width) {
    const int64_t to = end - from < kShortRows * width ? end : from + kShortRows * width;
    __builtin_memset(short_first, 0, static_cast<size_t>(block) * 4);
    __builtin_memset(short_second, 0, static_cast<size_t>(block) * 4);
    for_vectors(from, to, width, c0, c1, [&](int64_t c, int64_t i, auto lanes, auto rows) {
      vfloat s1 = load_n(short_first + c - c0, lanes), s2 = load_n(short_second + c - c0, lanes);
      add(c, i, lanes, rows, s1, s2);
      store_n(short_first + c - c0, s1, lanes);
      store_n(short_second + c - c0, s2, lanes);
    });
    for_lanes(block, [&](int64_t c, auto lanes) {
      store_n(first + c, load_n(first + c, lanes) + load_n(short_first + c, lanes), lanes);
      store_n(second + c, load_n(second + c, lanes) + load_n(short_second + c, lanes), lanes);
    });
  }
}

// body(begin, end) over the elements, in chunks of whole wide rows.
template <class F>
VTL_INLINE void for_chunks(const Tiling& t, F&& body) {
  parallel_for(t.elements, t.chunk_elements, body);
}

// What the loops need for each column of a wide row, [width] each.
struct Columns {
  float *mean, *rstd, *scale, *bias;  // scale = weight * rstd
  float *offset, *slope;              // of the backward pass: dx = g * scale - offset - (x - mean) * slope
};
constexpr int64_t kColumnArrays = 6;

VTL_INLINE size_t columns_bytes(const Tiling& t) { return static_cast<size_t>(kColumnArrays * t.width) * 4; }

// sums may be null: statistics are constants.
VTL_INLINE Columns fill_columns(float* memory, const Tiling& t, BatchNormScale s, const float* sums,
                                int64_t total_rows) {
  const Columns to{
      memory, memory + t.width, memory + 2 * t.width, memory + 3 * t.width, memory + 4 * t.width, memory + 5 * t.width};
  const float inverse = total_rows ? static_cast<float>(1.0 / static_cast<double>(total_rows)) : 0.0f;
  for (int64_t g = 0; g < t.group; ++g)
    for (int64_t c = 0; c < t.channels; ++c) {
      const int64_t i = g * t.channels + c;
      to.mean[i] = s.mean[c];
      to.rstd[i] = s.rstd[c];
      to.scale[i] = s.weight ? s.weight[c] * s.rstd[c] : s.rstd[c];
      to.bias[i] = s.bias ? s.bias[c] : 0.0f;
      to.offset[i] = sums ? to.scale[i] * sums[c] * inverse : 0.0f;
      to.slope[i] = sums ? to.scale[i] * s.rstd[c] * sums[t.channels + c] * inverse : 0.0f;
    }
  return to;
}

// --- forward ---

// Sums of x - shift and (x - shift)^2 over a chunk, where shift is the mean of the chunk's first rows: what cancels in
// the variance is then no larger than the spread of the data, however large its mean.
template <class T>
VTL_INLINE void chunk_moments(const T* x, const Tiling& t, int64_t begin, int64_t end, float* mean, float* m2) {
  const int64_t rows = (end - begin) / t.channels, first = rows < 8 ? rows : 8;
  float shift[kBlock], sum[kBlock], squares[kBlock];
  for (int64_t c0 = 0; c0 < t.width; c0 += kBlock) {
    const int64_t c1 = c0 + kBlock < t.width ? c0 + kBlock : t.width, block = c1 - c0;
    // With a group, c0 = 0 and the first `channels` columns repeat.
    const int64_t distinct = t.group > 1 ? t.channels : block;
    const float inverse = 1.0f / static_cast<float>(first);
    for (int64_t c = 0; c < distinct; ++c) {
      float total = 0;
      for (int64_t r = 0; r < first; ++r) total += to_float(x[begin + r * t.channels + c0 + c]);
      shift[c] = total * inverse;
    }
    for (int64_t c = distinct; c < block; ++c) shift[c] = shift[c - distinct];
    sum_columns(begin, end, t.width, c0, c1, sum, squares,
                [&](int64_t c, int64_t i, auto lanes, auto rows_at_once, vfloat& s1, vfloat& s2) {
                  const vfloat k = load_n(shift + c - c0, lanes);
                  for (int64_t r = 0; r < rows_at_once.value; ++r) {
                    const vfloat value = load_n(x + i + r * t.width, lanes) - k;
                    s1 += value;
                    s2 += value * value;
                  }
                });
    const float inverse_rows = 1.0f / static_cast<float>(rows);
    for (int64_t c = 0; c < distinct; ++c) {
      float s1 = 0, s2 = 0;
      for (int64_t i = c; i < block; i += distinct) {
        s1 += sum[i];
        s2 += squares[i];
      }
      const float m = s2 - s1 * s1 * inverse_rows;
      mean[c0 + c] = shift[c] + s1 * inverse_rows;
      m2[c0 + c] = m > 0 || m != m ? m : 0.0f;
    }
  }
}

// Mean and sum of squared deviations of a set, and of two sets together (Chan, Golub, LeVeque 1979).
struct Moments {
  double count = 0, mean = 0, m2 = 0;
};
VTL_INLINE void merge(Moments& a, double count, double mean, double m2) {
  if (count == 0) return;
  const double total = a.count + count, delta = mean - a.mean, share = count / total;
  a.mean += delta * share;
  a.m2 += m2 + delta * delta * a.count * share;
  a.count = total;
}

template <class T>
void statistics(Stream& stream, const T* x, float* moments, BatchNormDims d) {
  const Tiling t = tile(d);
  const Scratch scratch = stream.scratch(static_cast<size_t>(t.chunks * 2 * d.channels) * 4);
  float* const parts = scratch.f32();  // [chunks][2][channels]
  for_chunks(t, [&](int64_t begin, int64_t end) {
    float* part = parts + begin / t.chunk_elements * 2 * d.channels;
    chunk_moments(x, t, begin, end, part, part + d.channels);
  });
  parallel_for(d.channels, 64, [&](int64_t begin, int64_t end) {
    Moments merged[64];
    for (int64_t chunk = 0; chunk < t.chunks; ++chunk) {
      const int64_t left = t.elements - chunk * t.chunk_elements;
      const double count = static_cast<double>((left < t.chunk_elements ? left : t.chunk_elements) / d.channels);
      const float* part = parts + chunk * 2 * d.channels;
      for (int64_t c = begin; c < end; ++c) merge(merged[c - begin], count, part[c], part[d.channels + c]);
    }
    for (int64_t c = begin; c < end; ++c) {
      moments[c] = static_cast<float>(merged[c - begin].mean);
      moments[d.channels + c] = static_cast<float>(merged[c - begin].m2);
    }
  });
  moments[2 * d.channels] = static_cast<float>(d.rows);
}

template <class T, Activation kind>
void apply(Stream& stream, const T* x, BatchNormScale s, const T* residual, T* y, BatchNormDims d) {
  const Tiling t = tile(d);
  const Scratch scratch = stream.scratch(columns_bytes(t));
  const Columns columns = fill_columns(scratch.f32(), t, s, nullptr, 0);
  for_chunks(t, [&](int64_t begin, int64_t end) {
    for_vectors(begin, end, t.width, 0, t.width, [&](int64_t c, int64_t i, auto lanes, auto rows) {
      const vfloat mean = load_n(columns.mean + c, lanes), scale = load_n(columns.scale + c, lanes);
      const vfloat bias = load_n(columns.bias + c, lanes);
      for (int64_t r = 0; r < rows.value; ++r) {
        const int64_t at = i + r * t.width;
        vfloat z = (load_n(x + at, lanes) - mean) * scale + bias;
        if (residual) z += load_n(residual + at, lanes);
        store_n(y + at, activate(kind, z), lanes);
      }
    });
  });
}

// --- backward ---

template <class T>
struct Saved {
  const T *x, *residual, *y;
};
template <class T>
VTL_INLINE Saved<T> saved_as(BatchNormSaved saved) {
  return {static_cast<const T*>(saved.x), static_cast<const T*>(saved.residual), static_cast<const T*>(saved.y)};
}

// g at `at`, from dy and the activation's derivative there. centred = x - mean.
template <Activation kind, class T, class Lanes>
VTL_INLINE vfloat activation_gradient(const T* dy, const Saved<T>& saved, int64_t at, Lanes lanes, vfloat centred,
                                      vfloat scale, vfloat bias) {
  const vfloat upstream = load_n(dy + at, lanes);
  if constexpr (kind == Activation::none) return upstream;
  if (saved.y) return activate_backward_from_output<kind>(upstream, load_n(saved.y + at, lanes));
  vfloat z = centred * scale + bias;
  if (saved.residual) z += load_n(saved.residual + at, lanes);
  return activate_backward<kind>(upstream, z);
}

VTL_INLINE void write_parameter(Dest dest, const float* values, int64_t count) {
  if (!dest.wanted()) return;
  auto* out = static_cast<float*>(dest.out);
  const auto* addend = static_cast<const float*>(dest.addend);
  for (int64_t c = 0; c < count; ++c) out[c] = addend ? addend[c] + values[c] : values[c];
}

// sums[which][c] = the sum over chunks of parts[chunk][which][c]; that of g * (x - mean) becomes that of g * xhat.
VTL_INLINE void merge_sums(const float* parts, int64_t chunks, const float* rstd, float* sums, int64_t channels) {
  parallel_for(channels, 64, [&](int64_t begin, int64_t end) {
    double total[2][64] = {};
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
      for (int64_t which = 0; which < 2; ++which)
        for (int64_t c = begin; c < end; ++c)
          total[which][c - begin] += static_cast<double>(parts[(chunk * 2 + which) * channels + c]);
    for (int64_t c = begin; c < end; ++c) {
      sums[c] = static_cast<float>(total[0][c - begin]);
      sums[channels + c] = static_cast<float>(total[1][c - begin] * static_cast<double>(rstd[c]));
    }
  });
}

// Folds the sums of a block of columns, in which `distinct` ones repeat, into part[0..distinct).
VTL_INLINE void fold(const float* block_sums, int64_t block, int64_t distinct, float* part) {
  for (int64_t c = 0; c < distinct; ++c) {
    float total = 0;
    for (int64_t i = c; i < block; i += distinct) total += block_sums[i];
    part[c] = total;
  }
}

template <class T, Activation kind>
void backward_reduce(Stream& stream, const T* dy, Saved<T> saved, BatchNormScale s, float* sums, T* g_out,
                     BatchNormDims d) {
  const Tiling t = tile(d);
  const Scratch column_scratch = stream.scratch(columns_bytes(t));
  const Scratch part_scratch = stream.scratch(static_cast<size_t>(t.chunks * 2 * d.channels) * 4);
  const Columns columns = fill_columns(column_scratch.f32(), t, s, nullptr, 0);
  float* const parts = part_scratch.f32();  // [chunks][2][channels]
  for_chunks(t, [&](int64_t begin, int64_t end) {
    float* part = parts + begin / t.chunk_elements * 2 * d.channels;
    float g_sum[kBlock], gx_sum[kBlock];
    for (int64_t c0 = 0; c0 < t.width; c0 += kBlock) {
      const int64_t c1 = c0 + kBlock < t.width ? c0 + kBlock : t.width, block = c1 - c0;
      sum_columns(begin, end, t.width, c0, c1, g_sum, gx_sum,
                  [&](int64_t c, int64_t i, auto lanes, auto rows, vfloat& s1, vfloat& s2) {
                    const vfloat mean = load_n(columns.mean + c, lanes), scale = load_n(columns.scale + c, lanes);
                    const vfloat bias = load_n(columns.bias + c, lanes);
                    for (int64_t r = 0; r < rows.value; ++r) {
                      const int64_t at = i + r * t.width;
                      const vfloat centred = load_n(saved.x + at, lanes) - mean;
                      const vfloat g = activation_gradient<kind>(dy, saved, at, lanes, centred, scale, bias);
                      if (g_out) store_n(g_out + at, g, lanes);
                      s1 += g;
                      s2 += g * centred;
                    }
                  });
      const int64_t distinct = t.group > 1 ? t.channels : block;
      fold(g_sum, block, distinct, part + c0);
      fold(gx_sum, block, distinct, part + d.channels + c0);
    }
  });
  merge_sums(parts, t.chunks, s.rstd, sums, d.channels);
}

// dx = g * scale - offset - (x - mean) * slope, dresidual = g.
template <class T, Activation kind>
void backward_apply(Stream& stream, const T* dy, Saved<T> saved, BatchNormScale s, const float* sums,
                    int64_t total_rows, Dest dx, Dest dresidual, BatchNormDims d) {
  const Tiling t = tile(d);
  const Scratch scratch = stream.scratch(columns_bytes(t));
  const Columns columns = fill_columns(scratch.f32(), t, s, sums, total_rows);
  auto *dx_out = static_cast<T*>(dx.out), *dresidual_out = static_cast<T*>(dresidual.out);
  const auto *dx_addend = static_cast<const T*>(dx.addend), *dresidual_addend = static_cast<const T*>(dresidual.addend);
  for_chunks(t, [&](int64_t begin, int64_t end) {
    for_vectors(begin, end, t.width, 0, t.width, [&](int64_t c, int64_t i, auto lanes, auto rows) {
      const vfloat mean = load_n(columns.mean + c, lanes), scale = load_n(columns.scale + c, lanes);
      const vfloat bias = load_n(columns.bias + c, lanes);
      const vfloat offset = load_n(columns.offset + c, lanes), slope = load_n(columns.slope + c, lanes);
      for (int64_t r = 0; r < rows.value; ++r) {
        const int64_t at = i + r * t.width;
        const vfloat centred = saved.x ? load_n(saved.x + at, lanes) - mean : vfloat{};
        const vfloat g = activation_gradient<kind>(dy, saved, at, lanes, centred, scale, bias);
        if (dx_out) {
          vfloat value = g * scale - offset - centred * slope;
          if (dx_addend) value += load_n(dx_addend + at, lanes);
          store_n(dx_out + at, value, lanes);
        }
        if (dresidual_out) {
          const vfloat value = dresidual_addend ? g + load_n(dresidual_addend + at, lanes) : g;
          store_n(dresidual_out + at, value, lanes);
        }
      }
    });
  });
}

}  // namespace

void batchnorm_statistics(Stream& stream, DType dtype, const void* x, float* moments, BatchNormDims dims) {
  visit_float(dtype, [&]<class T>() { statistics(stream, static_cast<const T*>(x), moments, dims); });
}

void batchnorm_finish(Stream&, const float* moments, float* mean, float* rstd, float* running_mean, float* running_var,
                      int64_t* num_batches_tracked, BatchNormFinish f) {
  const int64_t stride = batchnorm_moments_size(f.channels);
  double rows = 0;
  for (int64_t part = 0; part < f.parts; ++part) rows += static_cast<double>(moments[part * stride + 2 * f.channels]);
  const double keep = 1.0 - static_cast<double>(f.momentum), take = static_cast<double>(f.momentum);
  for (int64_t c = 0; c < f.channels; ++c) {
    Moments merged;
    for (int64_t part = 0; part < f.parts; ++part) {
      const float* from = moments + part * stride;
      merge(merged, from[2 * f.channels], from[c], from[f.channels + c]);
    }
    const double variance = rows > 0 ? merged.m2 / rows : 0;
    mean[c] = static_cast<float>(merged.mean);
    rstd[c] = static_cast<float>(1.0 / __builtin_sqrt(variance + static_cast<double>(f.eps)));
    if (rows == 0) continue;
    const double unbiased = merged.m2 / (rows > 1 ? rows - 1 : 1);
    if (running_mean)
      running_mean[c] = static_cast<float>(keep * static_cast<double>(running_mean[c]) + take * merged.mean);
    if (running_var) running_var[c] = static_cast<float>(keep * static_cast<double>(running_var[c]) + take * unbiased);
  }
  if (num_batches_tracked && rows > 0) ++*num_batches_tracked;
}

void batchnorm_running_rstd(Stream&, const float* running_var, float* rstd, int64_t channels, float eps) {
  for (int64_t c = 0; c < channels; ++c) rstd[c] = 1.0f / __builtin_sqrtf(running_var[c] + eps);
}

void batchnorm_apply(Stream& stream, DType dtype, const void* x, BatchNormScale scale, const void* residual,
                     Activation activation, void* y, BatchNormDims dims) {
  visit_float(dtype, [&]<class T>() {
    visit_activation(activation, [&]<Activation kind>() {
      apply<T, kind>(stream, static_cast<const T*>(x), scale, static_cast<const T*>(residual), static_cast<T*>(y),
                     dims);
    });
  });
}

void batchnorm_backward_reduce(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                               Activation activation, float* sums, Dest dweight, Dest dbias, void* g,
                               BatchNormDims dims) {
  visit_float(dtype, [&]<class T>() {
    visit_activation(activation, [&]<Activation kind>() {
      backward_reduce<T, kind>(stream, static_cast<const T*>(dy), saved_as<T>(saved), scale, sums, static_cast<T*>(g),
                               dims);
    });
  });
  write_parameter(dbias, sums, dims.channels);
  write_parameter(dweight, sums + dims.channels, dims.channels);
}

void batchnorm_backward_apply(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                              Activation activation, const float* sums, int64_t total_rows, Dest dx, Dest dresidual,
                              BatchNormDims dims) {
  visit_float(dtype, [&]<class T>() {
    visit_activation(activation, [&]<Activation kind>() {
      backward_apply<T, kind>(stream, static_cast<const T*>(dy), saved_as<T>(saved), scale, sums, total_rows, dx,
                              dresidual, dims);
    });
  });
}

void batchnorm_frozen_backward(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                               Activation activation, Dest dx, Dest dresidual, Dest dweight, Dest dbias,
                               BatchNormDims dims) {
  // The sums come first: dx may overwrite dy.
  if (dweight.wanted() || dbias.wanted()) {
    const Scratch sums = stream.scratch(static_cast<size_t>(2 * dims.channels) * 4);
    // Without dweight x may be missing: dy stands in for it, and what comes of that is not written.
    BatchNormSaved known = saved;
    if (!known.x) known.x = dy;
    VTL_CPU::batchnorm_backward_reduce(stream, dtype, dy, known, scale, activation, sums.f32(), dweight, dbias, nullptr,
                                       dims);
  }
  if (dx.wanted() || dresidual.wanted())
    VTL_CPU::batchnorm_backward_apply(stream, dtype, dy, saved, scale, activation, nullptr, dims.rows, dx, dresidual,
                                      dims);
}

}  // namespace vtl::kernels::VTL_CPU
