// Winograd's F(4x4, 3x3). A tile is 4 x 4 outputs from 6 x 6 inputs; with d the inputs and g the filter,
//   y = A^T [sum over channels of (G g G^T) * (B^T d B)] A,   dg = G^T [sum over tiles of (A dy A^T) * (B^T d B)] G,
// where * is element by element: 36 matrix products over the channels, one for each element e of the 6 x 6.
// The matrices come from polynomials through the points 0, +-a, +-b and infinity. a = 5/8 and b = 3/2 lose less to
// rounding than the textbook's 1 and 2, and are exact in f32.
#include "vtl/kernels/conv2d/winograd.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/activate.h"
#include "vtl/kernels/cpu/tile_product.h"

namespace vtl::kernels::VTL_CPU {
namespace {

constexpr int kElements = 36;
constexpr float kA = 0.625f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB, kSum = kA2 + kB2, kProduct = kA2 * kB2;

// Tiles of one block: the matrix product reads a piece of the transformed weight from L3 once for each block, and the
// block's transformed inputs and sums stay in L2.
constexpr int64_t kBlockTiles = 28 / kTileRows * kTileRows;
// A transformed weight of more than L2 holds is written past the caches.
constexpr int64_t kStreamedBytes = int64_t{4} << 20;
// One that L3 may not hold is read once or twice rather than for each kBlockTiles.
constexpr int64_t kHugeWeightBytes = int64_t{16} << 20;
constexpr int64_t kHugeWeightBlockTiles = 70 / kTileRows * kTileRows;
// Input channels of one piece of a panel of the weight.
constexpr int64_t kDepth = 128;
// Output channels that are summed before they are transformed back.
constexpr int64_t kBlockChannels = 64;
// backward_weight: transformed inputs and gradients of one block; sums of one part, and of all.
constexpr int64_t kPairBytes = int64_t{1} << 20;
constexpr int64_t kPrivateSumsBytes = int64_t{4} << 20, kAllSumsBytes = int64_t{16} << 20, kMaxParts = 16;
constexpr int64_t kSharedBytes = int64_t{10} << 20;  // of one block that all threads work on

constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

// One dimension of a transform: to[0 .. kOut) from from[0 .. kIn).
struct InputTransform {  // B^T d
  static constexpr int kIn = 6, kOut = 6;
  VTL_INLINE void operator()(const vfloat* d, vfloat* to) const {
    const vfloat even_b = d[4] - kB2 * d[2], odd_b = kA * (d[3] - kB2 * d[1]);
    const vfloat even_a = d[4] - kA2 * d[2], odd_a = kB * (d[3] - kA2 * d[1]);
    to[0] = d[4] - kSum * d[2] + kProduct * d[0];
    to[1] = even_b + odd_b;
    to[2] = even_b - odd_b;
    to[3] = even_a + odd_a;
    to[4] = even_a - odd_a;
    to[5] = d[5] - kSum * d[3] + kProduct * d[1];
  }
};

struct OutputTransform {  // A^T m
  static constexpr int kIn = 6, kOut = 4;
  VTL_INLINE void operator()(const vfloat* m, vfloat* to) const {
    const vfloat even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    to[0] = m[0] + even_a + even_b;
    to[1] = kA * odd_a + kB * odd_b;
    to[2] = kA2 * even_a + kB2 * even_b;
    to[3] = kA * kA2 * odd_a + kB * kB2 * odd_b + m[5];
  }
};

struct GradientTransform {  // A dy
  static constexpr int kIn = 4, kOut = 6;
  VTL_INLINE void operator()(const vfloat* dy, vfloat* to) const {
    const vfloat even_a = dy[0] + kA2 * dy[2], odd_a = kA * dy[1] + kA * kA2 * dy[3];
    const vfloat even_b = dy[0] + kB2 * dy[2], odd_b = kB * dy[1] + kB * kB2 * dy[3];
    to[0] = dy[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = dy[3];
  }
};

// 1 / the product of the differences between a point and the others.
constexpr float kNorm0 = 1 / kProduct, kNormA = 1 / (2 * kA2 * (kA2 - kB2)), kNormB = 1 / (2 * kB2 * (kB2 - kA2));

struct FilterTransform {  // G g
  static constexpr int kIn = 3, kOut = 6;
  VTL_INLINE void operator()(const vfloat* g, vfloat* to) const {
    const vfloat even_a = kNormA * (g[0] + kA2 * g[2]), odd_a = kNormA * kA * g[1];
    const vfloat even_b = kNormB * (g[0] + kB2 * g[2]), odd_b = kNormB * kB * g[1];
    to[0] = kNorm0 * g[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = g[2];
  }
};

struct FilterGradientTransform {  // G^T m
  static constexpr int kIn = 6, kOut = 3;
  VTL_INLINE void operator()(const vfloat* m, vfloat* to) const {
    const vfloat even_a = kNormA * (m[1] + m[2]), even_b = kNormB * (m[3] + m[4]);
    to[0] = kNorm0 * m[0] + even_a + even_b;
    to[1] = kNormA * kA * (m[1] - m[2]) + kNormB * kB * (m[3] - m[4]);
    to[2] = kA2 * even_a + kB2 * even_b + m[5];
  }
};

// The transform along both dimensions: element(r, c) gives the kIn x kIn elements, result(e, value) takes the kOut x
// kOut results, e = r * kOut + c.
template <class Transform, class Element, class Result>
VTL_INLINE void transform_2d(Element&& element, Result&& result) {
  constexpr int kIn = Transform::kIn, kOut = Transform::kOut;
  vfloat half[kOut][kIn];
#pragma GCC unroll 6
  for (int c = 0; c < kIn; ++c) {
    vfloat column[kIn], transformed[kOut];
#pragma GCC unroll 6
    for (int r = 0; r < kIn; ++r) column[r] = element(r, c);
    Transform{}(column, transformed);
#pragma GCC unroll 6
    for (int r = 0; r < kOut; ++r) half[r][c] = transformed[r];
  }
#pragma GCC unroll 6
  for (int r = 0; r < kOut; ++r) {
    vfloat transformed[kOut];
    Transform{}(half[r], transformed);
#pragma GCC unroll 6
    for (int c = 0; c < kOut; ++c) result(r * kOut + c, transformed[c]);
  }
}

struct Tiles {
  int64_t rows, cols, count;

  explicit Tiles(const Conv2dDims& d)
      : rows((d.out_h() + 3) / 4), cols((d.out_w() + 3) / 4), count(d.batch * rows * cols) {}
};

struct TilePlace {
  int64_t image, i, j;  // the first output

  TilePlace(const Tiles& tiles, int64_t tile)
      : image(tile / (tiles.rows * tiles.cols)), i(tile / tiles.cols % tiles.rows * 4), j(tile % tiles.cols * 4) {}
};

// The 6 x 6 inputs of a tile as pointers to their channels; `zeros` outside the image.
VTL_INLINE void locate_inputs(const Conv2dDims& d, const TilePlace& place, const float* x, const float* zeros,
                              const float** pixels) {
  for (int64_t r = 0; r < 6; ++r)
    for (int64_t c = 0; c < 6; ++c) {
      const int64_t h = place.i + r - d.pad_top, w = place.j + c - d.pad_left;
      pixels[r * 6 + c] = h >= 0 && h < d.in_h && w >= 0 && w < d.in_w
                              ? x + ((place.image * d.in_h + h) * d.in_w + w) * d.in_channels
                              : zeros;
    }
}

// ---- weights ----

// The rows of a kLanes x kLanes block become its columns.
VTL_INLINE void transpose(vfloat* rows) {
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
    vint low, high;
    for (int lane = 0; lane < kLanes; ++lane) {
      low[lane] = lane & step ? kLanes + lane - step : lane;
      high[lane] = lane & step ? kLanes + lane : lane + step;
    }
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) {
      if (r & step) continue;
      const vfloat a = rows[r], b = rows[r + step];
      rows[r] = __builtin_shuffle(a, b, low);
      rows[r + step] = __builtin_shuffle(a, b, high);
    }
  }
}

// Stores that bypass the caches, to 64-byte boundaries, and what must follow them before other threads read.
VTL_INLINE void store_streaming(float* to, vfloat x) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, (__m512)x);
#elif defined(__AVX2__)
  _mm256_stream_ps(to, (__m256)x);
#else
  store(to, x);
#endif
}
VTL_INLINE void finish_streaming() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

// Where the products read the weight of element e, input channel `in` and the panel of output channels that holds
// `out`: pieces of kBlockChannels output channels one after the other, in each all elements, in each panels of
// kTileCols.
struct WeightLayout {
  int64_t in_channels, out_channels;

  int64_t piece_channels(int64_t out) const {
    return min(kBlockChannels, out_channels - out / kBlockChannels * kBlockChannels);
  }
  int64_t panel(int64_t e, int64_t out) const {
    const int64_t first = out / kBlockChannels * kBlockChannels;
    return (first * kElements + e * piece_channels(out) + (out - first) / kTileCols * kTileCols) * in_channels;
  }
};

// ---- forward ----

// From one element to the next, in floats. The extra vector spreads the 36 streams over the sets of the caches.
constexpr int64_t element_stride(int64_t rows, int64_t channels) { return rows * channels + kLanes; }

// inputs[e][c / kLanes][tile][kLanes] for the tiles [first, first + count) of one block.
void transform_inputs(const Conv2dDims& d, const Tiles& tiles, const float* x, const float* zeros, int64_t first,
                      int64_t count, int64_t rows_padded, float* inputs) {
  const int64_t element_size = element_stride(rows_padded, d.in_channels);
  for (int64_t t = 0; t < count; ++t) {
    const float* pixels[kElements];
    locate_inputs(d, TilePlace(tiles, first + t), x, zeros, pixels);
    for (int64_t c = 0; c < d.in_channels; c += kLanes) {
      float* to = inputs + c * rows_padded + t * kLanes;
      transform_2d<InputTransform>(
          [&](int r, int q) __attribute__((always_inline)) { return load(pixels[r * 6 + q] + c); },
          [&](int e, vfloat value) __attribute__((always_inline)) { store(to + e * element_size, value); });
    }
  }
}

// Outputs of the tiles from sums[e][tile][channels] for the output channels [out, out + channels).
void transform_outputs(const Conv2dDims& d, const Tiles& tiles, const float* sums, int64_t first, int64_t count,
                       int64_t rows_padded, int64_t out, int64_t channels, float* y, const Epilogue& epilogue) {
  const int64_t element_size = element_stride(rows_padded, channels), out_h = d.out_h(), out_w = d.out_w();
  for (int64_t t = 0; t < count; ++t) {
    const TilePlace place(tiles, first + t);
    const int64_t rows = min(4, out_h - place.i), cols = min(4, out_w - place.j);
    const int64_t corner = ((place.image * out_h + place.i) * out_w + place.j) * d.out_channels + out;
    for (int64_t c = 0; c < channels; c += kLanes) {
      const float* from = sums + t * channels + c;
      vfloat tile[16];
      transform_2d<OutputTransform>(
          [&](int r, int q) __attribute__((always_inline)) { return load(from + (r * 6 + q) * element_size); },
          [&](int e, vfloat value) __attribute__((always_inline)) { tile[e] = value; });
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t q = 0; q < cols; ++q)
          write_epilogue(epilogue, tile[r * 4 + q], y, corner + (r * out_w + q) * d.out_channels + c, out + c,
                         AllLanes{});
    }
  }
}

// One panel of the weight with all rows of the block, in pieces of kDepth input channels, which stay in L1 from row to
// row. The first passes over a piece fetch the next one, which follows in memory: the weight comes from L3, and else
// they wait for it.
VTL_INLINE void multiply_panel(const float* inputs, const float* weight, int64_t in_channels, int64_t rows, float* sums,
                               int64_t sums_stride) {
  for (int64_t c = 0; c < in_channels; c += kDepth) {
    const int64_t depth = min(kDepth, in_channels - c);
    const float* piece = weight + c * kTileCols;
    for (int64_t r = 0; r < rows; r += kTileRows) {
      const int64_t pass = r / kTileRows;
      const float* ahead =
          pass * kPrefetchFloats < kTileCols ? piece + depth * (kTileCols + pass * kPrefetchFloats) : nullptr;
      tile_product(inputs + c * rows + r * kLanes, rows * kLanes, piece, depth / kLanes, sums + r * sums_stride,
                   sums_stride, c == 0 ? Sums::overwrite : Sums::add, ahead);
    }
  }
}

void forward(Stream& stream, const Conv2dDims& d, const float* x, const float* weight, float* y,
             const Epilogue& epilogue) {
  const Tiles tiles(d);
  const WeightLayout layout{d.in_channels, d.out_channels};
  const bool huge = kElements * d.in_channels * d.out_channels * 4 > kHugeWeightBytes;
  const int64_t block_tiles = huge ? kHugeWeightBlockTiles : kBlockTiles;
  const int64_t blocks = (tiles.count + block_tiles - 1) / block_tiles, threads = compute_threads();
  // With fewer blocks than threads the output channels are shared out as well; each share transforms the inputs for
  // itself.
  const int64_t pieces = (d.out_channels + kBlockChannels - 1) / kBlockChannels;
  const int64_t shares = min(pieces, (threads + blocks - 1) / blocks), items = blocks * shares;
  const int64_t workers = min(items, threads);
  const int64_t inputs_size = kElements * element_stride(block_tiles, d.in_channels);
  const int64_t sums_size = kElements * element_stride(block_tiles, kBlockChannels);
  const Scratch scratch = stream.scratch(static_cast<size_t>(workers * (inputs_size + sums_size) + d.in_channels) * 4);
  float* const zeros = scratch.f32() + workers * (inputs_size + sums_size);
  __builtin_memset(zeros, 0, static_cast<size_t>(d.in_channels) * 4);
  int64_t next = 0;
  // Each worker keeps its buffers from item to item. Items are independent: who takes which changes no bits.
  parallel_chunks(workers, [&](int64_t worker) {
    float* const inputs = scratch.f32() + worker * (inputs_size + sums_size);
    float* const sums = inputs + inputs_size;
    for (;;) {
      const int64_t item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (item >= items) break;
      // Blocks and shares as equal as can be, so that no thread waits long at the end.
      const int64_t block = item / shares, share = item % shares;
      const int64_t first = tiles.count * block / blocks, count = tiles.count * (block + 1) / blocks - first;
      const int64_t rows = (count + kTileRows - 1) / kTileRows * kTileRows;
      transform_inputs(d, tiles, x, zeros, first, count, rows, inputs);
      for (int64_t piece = pieces * share / shares; piece < pieces * (share + 1) / shares; ++piece) {
        const int64_t out = piece * kBlockChannels, channels = layout.piece_channels(out);
        for (int64_t e = 0; e < kElements; ++e)
          for (int64_t panel = 0; panel < channels; panel += kTileCols)
            multiply_panel(inputs + e * element_stride(rows, d.in_channels), weight + layout.panel(e, out + panel),
                           d.in_channels, rows, sums + e * element_stride(rows, channels) + panel, channels);
        transform_outputs(d, tiles, sums, first, count, rows, out, channels, y, epilogue);
      }
    }
  });
}

// ---- backward weight ----

// inputs[e][tile][channel] and gradients[e][tile][channel] of the tiles [first, first + count).
void transform_pair(const Conv2dDims& d, const Tiles& tiles, const float* x, const float* dy, const float* zeros,
                    int64_t first, int64_t begin, int64_t end, int64_t count, float* inputs, float* gradients) {
  const int64_t out_h = d.out_h(), out_w = d.out_w();
  for (int64_t t = begin; t < end; ++t) {
    const TilePlace place(tiles, first + t);
    const float* pixels[kElements];
    locate_inputs(d, place, x, zeros, pixels);
    for (int64_t c = 0; c < d.in_channels; c += kLanes) {
      float* to = inputs + t * d.in_channels + c;
      transform_2d<InputTransform>(
          [&](int r, int q) __attribute__((always_inline)) { return load(pixels[r * 6 + q] + c); },
          [&](int e, vfloat value)
              __attribute__((always_inline)) { store(to + e * element_stride(count, d.in_channels), value); });
    }
    for (int64_t r = 0; r < 4; ++r)
      for (int64_t q = 0; q < 4; ++q)
        pixels[r * 4 + q] = place.i + r < out_h && place.j + q < out_w
                                ? dy + ((place.image * out_h + place.i + r) * out_w + place.j + q) * d.out_channels
                                : zeros;
    for (int64_t o = 0; o < d.out_channels; o += kLanes) {
      float* to = gradients + t * d.out_channels + o;
      const int64_t stride = element_stride(count, d.out_channels);
      transform_2d<GradientTransform>(
          [&](int r, int q) __attribute__((always_inline)) { return load(pixels[r * 4 + q] + o); },
          [&](int e, vfloat value) __attribute__((always_inline)) { store(to + e * stride, value); });
    }
  }
}

// sums[e][o][c] = or += over `count` transformed tiles, for the output channels [begin, end).
VTL_INLINE void multiply_pair(const Conv2dDims& d, int64_t e, int64_t begin, int64_t end, int64_t count,
                              const float* inputs, const float* gradients, float* sums, Sums mode) {
  const int64_t in = d.in_channels, out = d.out_channels;
  for (int64_t o = begin; o < end; o += kStridedRows)
    for (int64_t c = 0; c < in; c += kTileCols)
      tile_product_strided(gradients + e * element_stride(count, out) + o, out,
                           inputs + e * element_stride(count, in) + c, in, count, sums + (e * out + o) * in + c, in,
                           mode);
}

int64_t tile_bytes(const Conv2dDims& d) { return kElements * (d.in_channels + d.out_channels) * 4; }
int64_t sums_size(const Conv2dDims& d) { return kElements * d.in_channels * d.out_channels; }

// Few channels: the tiles are cut into parts, each with sums of its own, and all threads work without waiting for each
// other. The parts depend on the shape only, and so does the order of the sums.
int64_t count_parts(const Conv2dDims& d, const Tiles& tiles) {
  if (sums_size(d) * 4 > kPrivateSumsBytes) return 1;
  return max(1, min(min(kMaxParts, kAllSumsBytes / (sums_size(d) * 4)), tiles.count / kBlockTiles));
}

void sum_parts(Stream& stream, const Conv2dDims& d, const Tiles& tiles, const float* x, const float* dy,
               const float* zeros, int64_t parts, float* sums) {
  const int64_t block = max(kBlockTiles, kPairBytes / tile_bytes(d)), workers = min(parts, compute_threads());
  const int64_t inputs_size = kElements * element_stride(block, d.in_channels);
  const int64_t worker_size = inputs_size + kElements * element_stride(block, d.out_channels);
  const Scratch scratch = stream.scratch(static_cast<size_t>(workers * worker_size) * 4);
  int64_t next = 0;
  parallel_chunks(workers, [&](int64_t worker) {
    float* const inputs = scratch.f32() + worker * worker_size;
    float* const gradients = inputs + inputs_size;
    for (;;) {
      const int64_t part = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (part >= parts) break;
      const int64_t begin = tiles.count * part / parts, end = tiles.count * (part + 1) / parts;
      for (int64_t first = begin; first < end; first += block) {
        const int64_t count = min(block, end - first);
        transform_pair(d, tiles, x, dy, zeros, first, 0, count, count, inputs, gradients);
        for (int64_t e = 0; e < kElements; ++e)
          multiply_pair(d, e, 0, d.out_channels, count, inputs, gradients, sums + part * sums_size(d),
                        first == begin ? Sums::overwrite : Sums::add);
      }
    }
  });
}

// Many channels: the sums exist once, and the threads share them. A few large blocks, because the sums are read and
// written for each, and all threads meet after each.
void sum_blocks(Stream& stream, const Conv2dDims& d, const Tiles& tiles, const float* x, const float* dy,
                const float* zeros, float* sums) {
  const int64_t blocks = min(4, tiles.count * tile_bytes(d) / kSharedBytes + 1),
                block = (tiles.count + blocks - 1) / blocks;
  const int64_t inputs_size = kElements * element_stride(block, d.in_channels);
  const Scratch scratch =
      stream.scratch(static_cast<size_t>(inputs_size + kElements * element_stride(block, d.out_channels)) * 4);
  float* const inputs = scratch.f32();
  float* const gradients = inputs + inputs_size;
  const int64_t pieces = (d.out_channels + kBlockChannels - 1) / kBlockChannels;
  for (int64_t first = 0; first < tiles.count; first += block) {
    const int64_t count = min(block, tiles.count - first);
    parallel_for(count, 8, [&](int64_t begin, int64_t end) {
      transform_pair(d, tiles, x, dy, zeros, first, begin, end, count, inputs, gradients);
    });
    parallel_chunks(kElements * pieces, [&](int64_t chunk) {
      const int64_t o = chunk % pieces * kBlockChannels;
      multiply_pair(d, chunk / pieces, o, min(d.out_channels, o + kBlockChannels), count, inputs, gradients, sums,
                    first == 0 ? Sums::overwrite : Sums::add);
    });
  }
}

}  // namespace

void winograd_transform_weight(Stream&, const Conv2dDims& d, ConvDirection direction, const float* w,
                               float* transformed) {
  const bool forward = direction == ConvDirection::forward;
  const WeightLayout layout{forward ? d.in_channels : d.out_channels, forward ? d.out_channels : d.in_channels};
  const int64_t filter = 9 * d.in_channels;
  const bool streams = kElements * d.in_channels * d.out_channels * 4 > kStreamedBytes;
  // One chunk: a panel of the product's columns. kLanes rows of it are gathered for all elements, and then written as
  // one run for each: single vectors, 36 streams of them a power of two apart, would fall into the same sets of the
  // caches.
  parallel_chunks(layout.out_channels / kTileCols, [&](int64_t chunk) {
    alignas(64) float rows[kElements][kLanes * kTileCols];
    for (int64_t in = 0; in < layout.in_channels; in += kLanes) {
      for (int64_t half = 0; half < kTileCols; half += kLanes) {
        const int64_t out = chunk * kTileCols + half;
        alignas(64) vfloat taps[9][kLanes];  // [tap][input channel], lanes are output channels
        for (int tap = 0; tap < 9; ++tap) {
          // backward_data is a convolution of dy with the filters turned by half a turn and their channels exchanged.
          for (int i = 0; i < kLanes; ++i)
            taps[tap][i] = forward ? load(w + (out + i) * filter + tap * d.in_channels + in)
                                   : load(w + (in + i) * filter + (8 - tap) * d.in_channels + out);
          if (forward) transpose(taps[tap]);
        }
        for (int i = 0; i < kLanes; ++i)
          transform_2d<FilterTransform>(
              [&](int r, int q) __attribute__((always_inline)) { return taps[r * 3 + q][i]; },
              [&](int e, vfloat value)
                  __attribute__((always_inline)) { store(rows[e] + i * kTileCols + half, value); });
      }
      for (int64_t e = 0; e < kElements; ++e) {
        float* to = transformed + layout.panel(e, chunk * kTileCols) + in * kTileCols;
        for (int64_t i = 0; i < kLanes * kTileCols; i += kLanes)
          streams ? store_streaming(to + i, load(rows[e] + i)) : store(to + i, load(rows[e] + i));
      }
    }
    if (streams) finish_streaming();
  });
}

void winograd_forward(Stream& stream, const Conv2dDims& dims, const float* x, const float* transformed, float* y,
                      const Epilogue& epilogue) {
  forward(stream, dims, x, transformed, y, epilogue);
}

void winograd_backward_data(Stream& stream, const Conv2dDims& d, const float* dy, const float* transformed, Dest dx) {
  Conv2dDims turned = d;
  turned.in_h = d.out_h();
  turned.in_w = d.out_w();
  turned.in_channels = d.out_channels;
  turned.out_channels = d.in_channels;
  turned.pad_top = 2 - d.pad_top;
  turned.pad_bottom = 2 - d.pad_bottom;
  turned.pad_left = 2 - d.pad_left;
  turned.pad_right = 2 - d.pad_right;
  Epilogue epilogue;
  epilogue.residual = dx.addend;
  forward(stream, turned, dy, transformed, static_cast<float*>(dx.out), epilogue);
}

void winograd_backward_weight(Stream& stream, const Conv2dDims& d, const float* x, const float* dy, Dest dweight) {
  const Tiles tiles(d);
  const int64_t in = d.in_channels, out = d.out_channels, parts = count_parts(d, tiles), widest = max(in, out);
  const Scratch scratch = stream.scratch(static_cast<size_t>(parts * sums_size(d) + widest) * 4);
  float* const sums = scratch.f32();  // [part][e][out][in]
  float* const zeros = sums + parts * sums_size(d);
  __builtin_memset(zeros, 0, static_cast<size_t>(widest) * 4);
  if (parts > 1)
    sum_parts(stream, d, tiles, x, dy, zeros, parts, sums);
  else
    sum_blocks(stream, d, tiles, x, dy, zeros, sums);

  auto* to = static_cast<float*>(dweight.out);
  const auto* addend = static_cast<const float*>(dweight.addend);
  parallel_for(out, 4, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t c = 0; c < in; c += kLanes) {
        transform_2d<FilterGradientTransform>(
            [&](int r, int q) __attribute__((always_inline)) {
              const float* from = sums + ((r * 6 + q) * out + o) * in + c;
              vfloat sum = load(from);
              for (int64_t part = 1; part < parts; ++part) sum += load(from + part * sums_size(d));
              return sum;
            },
            [&](int e, vfloat value) __attribute__((always_inline)) {
              const int64_t at = (o * 9 + e) * in + c;
              store(to + at, addend ? load(addend + at) + value : value);
            });
      }
  });
}

}  // namespace vtl::kernels::VTL_CPU
