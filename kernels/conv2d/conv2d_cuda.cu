// Convolutions as products on the tensor cores whose operands are gathered on the way to shared memory: nothing like
// the matrix of patches is ever stored. conv2d.cpp sends pointwise and depthwise ones elsewhere. With positions for
// those of one image after another and taps for (p, q, channel), a group computes
//   forward          y[position, o]  = sum over taps        x[position, tap] * w[o, tap]
//   backward_data    dx[position, c] = sum over (p, q, o)   dy[position, (p, q, o)] * w[o, p, q, c]
//   backward_weight  dw[o, tap]      = sum over positions   dy[position, o] * x[position, tap]
// A stride in backward_data leaves only some taps for each position, the same ones for positions that are equal modulo
// the stride: each such class is a product of its own.
#include "vtl/kernels/conv2d/conv2d.h"

#include "vtl/core/error.h"
#include "vtl/kernels/device/divide.h"
#include "vtl/kernels/device/matrix.h"

namespace vtl::kernels::VTL_GPU {
namespace {

constexpr int kThreads = 256;
constexpr int kMostSide = 1 << 14;  // of an image with its padding

// ---- operands ------------------------------------------------------------------------------------------------------

// Which elements of an activation [batch, height, width, channels] meet: position (image, r, c) and tap (p, q) at row
// r * stride_h + start_h + p * step_h and column c * stride_w + start_w + q * step_w.
struct TapGrid {
  int height, width, channels;
  int stride_h, stride_w, start_h, start_w, step_h, step_w;
  Divisor rows, columns;  // positions of one image
  Divisor taps_w, depth;  // taps in a row, channels of a group
  int positions, taps;    // in all; taps with their channels
};

// The elements of an activation as an operand: Major::k has a line for each position, Major::line one for each tap.
// Channels come in whole chunks of 16 bytes.
template <class T, Major M>
struct TapSource {
  using Element = T;
  static constexpr Major kMajor = M;
  static constexpr int kPieceBytes = kChunkBytes;

  const T* data;
  TapGrid grid;

  // What a position and a tap add to an element's place: the pixel, row and column (in the halves of `sides`, so that a
  // thread keeps two registers for a position), and a tap's channel. Both halves of a sum of `sides` are off by
  // kMiddle, so that neither becomes negative. Beyond the end, rows are none of an image's whatever is added.
  struct Place {
    int pixel;
    uint32_t sides;
    int c;
  };
  using Line = Place;
  using Depth = Place;

  VTL_DEVICE void select(int64_t item) { data += item * grid.depth.value; }
  VTL_DEVICE Line line(int64_t index) const { return M == Major::k ? position(index) : tap(index); }
  VTL_DEVICE Depth depth(int64_t index) const { return M == Major::k ? tap(index) : position(index); }
  VTL_DEVICE Chunk<T> chunk(const Line& line, const Depth& depth) const {
    const uint32_t sides = line.sides + depth.sides;
    const bool inside = (sides >> 16) - kMiddle < static_cast<unsigned>(grid.height) &&
                        (sides & 0xffff) - kMiddle < static_cast<unsigned>(grid.width);
    const int64_t at = static_cast<int64_t>(line.pixel + depth.pixel) * grid.channels + (line.c + depth.c);
    return {data + at, inside ? static_cast<unsigned>(kChunkBytes) : 0u};
  }

 private:
  static constexpr uint32_t kMiddle = kMostSide;

  VTL_DEVICE static uint32_t sides_of(int h, int w) { return static_cast<uint32_t>(h * (1 << 16) + w); }
  VTL_DEVICE Place position(int64_t index) const {
    if (index >= grid.positions) return {0, kMiddle, 0};
    const int at = static_cast<int>(index), line = at / grid.columns, image = line / grid.rows;
    const int h = remainder(line, image, grid.rows) * grid.stride_h + grid.start_h;
    const int w = remainder(at, line, grid.columns) * grid.stride_w + grid.start_w;
    return {(image * grid.height + h) * grid.width + w, sides_of(h + kMostSide, w + kMostSide), 0};
  }
  VTL_DEVICE Place tap(int64_t index) const {
    if (index >= grid.taps) return {0, kMiddle << 17, 0};
    const int at = static_cast<int>(index), pair = at / grid.depth, p = pair / grid.taps_w;
    const int h = p * grid.step_h, w = remainder(pair, p, grid.taps_w) * grid.step_w;
    return {h * grid.width + w, sides_of(h, w), remainder(at, pair, grid.depth)};
  }
};

// The filters [outputs][taps] of a group, forward: k is a tap, a line is an output. Taps come in whole chunks.
template <class T>
struct FilterRows {
  using Element = T;
  static constexpr Major kMajor = Major::k;
  static constexpr int kPieceBytes = kChunkBytes;

  const T* data;
  int outputs, taps;

  using Line = int;  // where it begins; negative: beyond the end
  struct Depth {
    const T* from;
    unsigned bytes;
  };

  VTL_DEVICE void select(int64_t item) { data += item * outputs * taps; }
  VTL_DEVICE Line line(int64_t index) const { return index < outputs ? static_cast<int>(index) * taps : -1; }
  VTL_DEVICE Depth depth(int64_t index) const {
    return {data + index, index < taps ? static_cast<unsigned>(kChunkBytes) : 0u};
  }
  VTL_DEVICE Chunk<T> chunk(const Line& line, const Depth& depth) const {
    return {depth.from + line, line < 0 ? 0u : depth.bytes};
  }
};

// The filters [outputs, kernel_h, kernel_w, channels] of a group for backward_data: k is (p, q, o) over the taps of one
// class, a line is an input channel. Channels come in whole chunks; k counts outputs in whole chunks, too.
template <class T>
struct FilterSource {
  using Element = T;
  static constexpr Major kMajor = Major::line;
  static constexpr int kPieceBytes = kChunkBytes;

  const T* data;
  int channels, outputs, kernel_w, taps;          // taps: of a filter
  int first_p, first_q, every_p, every_q, count;  // count: the length of k
  Divisor depth_whole, taps_w;                    // outputs in whole chunks, taps of the class in a row

  using Line = int;
  struct Depth {
    const T* from;
    unsigned bytes;
  };

  VTL_DEVICE void select(int64_t item) { data += item * outputs * taps * channels; }
  VTL_DEVICE Line line(int64_t index) const { return static_cast<int>(min(index, static_cast<int64_t>(channels))); }
  VTL_DEVICE Depth depth(int64_t index) const {
    if (index >= count) return {data, 0};
    const int at = static_cast<int>(index), pair = at / depth_whole, o = remainder(at, pair, depth_whole);
    const int a = pair / taps_w, p = first_p + a * every_p, q = first_q + remainder(pair, a, taps_w) * every_q;
    const int64_t row = o * taps + p * kernel_w + q;
    return {data + row * channels, o < outputs ? static_cast<unsigned>(kChunkBytes) : 0u};
  }
  VTL_DEVICE Chunk<T> chunk(const Line& line, const Depth& depth) const {
    return {depth.from + line, line < channels ? depth.bytes : 0};
  }
};

// ---- results -------------------------------------------------------------------------------------------------------

// What `to` does, with a row for each position of a class: image, row r * stride_h + start_h, column c * stride_w +
// start_w of [batch, height, width, channels].
struct PixelOut {
  EpilogueOut to;
  int height, width, stride_h, stride_w, start_h, start_w;
  Divisor rows, columns;

  bool wide() const { return to.wide(); }
  VTL_DEVICE void select(int64_t item) { to.select(item); }
  template <int N>
  VTL_DEVICE Floats<N> read(int64_t row, int64_t col) const {
    return to.read<N>(pixel(row), col);
  }
  template <int N>
  VTL_DEVICE void write(int64_t row, int64_t col, const Floats<N>& sums, const Floats<N>& residual) const {
    to.write<N>(pixel(row), col, sums, residual);
  }
  VTL_DEVICE int64_t pixel(int64_t row) const {
    const int at = static_cast<int>(row), line = at / columns, image = line / rows;
    const int h = remainder(line, image, rows) * stride_h + start_h,
              w = remainder(at, line, columns) * stride_w + start_w;
    return (image * height + h) * width + w;
  }
};

// ---- operands in whole chunks --------------------------------------------------------------------------------------

// to[row] = from[row] with zeros behind its `narrow` values, up to `chunks` of 16 bytes. Grid: rows * chunks / 256.
template <class T>
__global__ void __launch_bounds__(kThreads) pad_rows(const T* from, T* to, int64_t rows, int chunks, int narrow) {
  constexpr int N = kVecLanes<T>;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, row = index / chunks;
  if (row >= rows) return;
  const int first = static_cast<int>(index % chunks) * N;
  Vec<T, N> values{};
  VTL_UNROLL
  for (int i = 0; i < N; ++i)
    if (first + i < narrow) values[i] = load(from + row * narrow + first + i);
  store_vec<N>(to + index * N, values);
}

// to[row] = addend[row] + the first `narrow` of the `wide` values from[row]. Grid: rows * narrow / 256.
__global__ void __launch_bounds__(kThreads)
    trim_rows(const float* from, const float* addend, float* to, int64_t rows, int wide, int narrow) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, row = index / narrow;
  if (row >= rows) return;
  const float value = load(from + row * wide + index % narrow);
  store(to + index, addend ? load(addend + index) + value : value);
}

// Rows of `cols` values as rows of whole chunks: the very data where they are that already, else a copy in scratch.
template <class T>
class WholeRows {
 public:
  WholeRows(Stream& stream, const void* data, int64_t rows, int64_t cols)
      : cols_((cols + kChunk<T> - 1) / kChunk<T> * kChunk<T>),
        whole_(cols_ == cols && aligned_to<kChunk<T>>(static_cast<const T*>(data))),
        copy_(stream.scratch(whole_ ? 0 : static_cast<size_t>(rows * cols_) * sizeof(T))),
        data_(static_cast<const T*>(whole_ ? data : copy_.data())) {
    if (whole_) return;
    const int64_t chunks = cols_ / kChunk<T>;
    launch(stream, {"conv2d pad_rows", blocks_for(rows * chunks, kThreads), kThreads}, pad_rows<T>,
           static_cast<const T*>(data), static_cast<T*>(copy_.data()), rows, chunks, cols);
  }

  const T* data() const { return data_; }
  int64_t cols() const { return cols_; }

 private:
  int64_t cols_;
  bool whole_;
  Scratch copy_;
  const T* data_;
};

// ---- the three products --------------------------------------------------------------------------------------------

// Positions and taps are counted in 32 bits, and may be counted a little beyond their end.
int small(int64_t value) {
  constexpr int64_t kMost = (int64_t{1} << 31) - (1 << 16);
  if (value > kMost)
    fail(ErrorKind::unsupported, "conv2d: ", value, " positions or filter elements, at most ", kMost,
         " on this device; use smaller batches");
  return static_cast<int>(value);
}

void check_sides(const Conv2dDims& d) {
  const int64_t side = max(d.in_h + d.pad_top + d.pad_bottom, d.in_w + d.pad_left + d.pad_right);
  if (side >= kMostSide)
    fail(ErrorKind::unsupported, "conv2d: an image with a side of ", side, " with its padding, at most ", kMostSide - 1,
         " on this device");
}

int64_t in_of(const Conv2dDims& d) { return d.in_channels / d.groups; }
int64_t out_of(const Conv2dDims& d) { return d.out_channels / d.groups; }
int64_t taps_of(const Conv2dDims& d) { return d.kernel_h * d.kernel_w; }
int64_t pixels_in(const Conv2dDims& d) { return d.batch * d.in_h * d.in_w; }
int64_t pixels_out(const Conv2dDims& d) { return d.batch * d.out_h() * d.out_w(); }

// The taps of x, with `channels` in each group.
TapGrid input_taps(const Conv2dDims& d, int64_t channels) {
  check_sides(d);
  small(pixels_in(d));
  return {small(d.in_h),       small(d.in_w),        small(d.groups * channels),  small(d.stride_h),
          small(d.stride_w),   small(-d.pad_top),    small(-d.pad_left),          small(d.dilation_h),
          small(d.dilation_w), Divisor(d.out_h()),   Divisor(d.out_w()),          Divisor(d.kernel_w),
          Divisor(channels),   small(pixels_out(d)), small(taps_of(d) * channels)};
}

// Pixels of `channels`, of which each item has `group`.
EpilogueOut channels_out(const Epilogue& epilogue, void* data, DType dtype, int64_t channels, int64_t group) {
  return {epilogue, data, dtype, 1, channels, group, group, group};
}

template <class T>
void forward(Stream& stream, const Conv2dDims& d, const void* x, const void* w, void* y, DType y_dtype,
             const Epilogue& epilogue) {
  const WholeRows<T> input(stream, x, pixels_in(d) * d.groups, in_of(d));
  const WholeRows<T> filters(stream, w, d.out_channels * taps_of(d), in_of(d));
  const int64_t depth = taps_of(d) * filters.cols();
  const TapSource<T, Major::k> a{input.data(), input_taps(d, input.cols())};
  small(d.out_channels * depth);
  const FilterRows<T> b{filters.data(), small(out_of(d)), small(depth)};
  const EpilogueOut out = channels_out(epilogue, y, y_dtype, d.out_channels, out_of(d));
  tile_product(stream, "conv2d forward", a, b, out, {pixels_out(d), out_of(d), depth, d.groups});
}

// One remainder of the input positions of an axis modulo the stride: the positions, and the taps that meet them. The
// first position meets its taps at outputs start, start + move, ...; the next one a place further on.
struct Class {
  int64_t first, count;
  int64_t first_tap, every_tap, taps;
  int64_t start, move;
};

Class class_of(int64_t first, int64_t size, int64_t pad, int64_t dilation, int64_t stride, int64_t kernel) {
  Class c{first, (size - first + stride - 1) / stride, 0, 1, 0, 0, 0};
  const auto meets = [&](int64_t tap) { return (first + pad - tap * dilation) % stride == 0; };
  while (c.first_tap < kernel && !meets(c.first_tap)) ++c.first_tap;
  if (c.first_tap == kernel) return c;
  while (c.every_tap * dilation % stride != 0) ++c.every_tap;
  c.taps = (kernel - c.first_tap + c.every_tap - 1) / c.every_tap;
  c.start = (first + pad - c.first_tap * dilation) / stride;
  c.move = -c.every_tap * dilation / stride;
  return c;
}

template <class T>
void backward_data(Stream& stream, const Conv2dDims& d, const void* dy, const void* w, Dest dx, DType dx_dtype) {
  const WholeRows<T> upstream(stream, dy, pixels_out(d) * d.groups, out_of(d));
  const WholeRows<T> filters(stream, w, d.out_channels * taps_of(d), in_of(d));
  check_sides(d);
  small(pixels_in(d));
  small(d.out_channels * taps_of(d));
  Epilogue sum;
  sum.residual = dx.addend;
  for (int64_t h = 0; h < min(d.stride_h, d.in_h); ++h)
    for (int64_t column = 0; column < min(d.stride_w, d.in_w); ++column) {
      const Class ch = class_of(h, d.in_h, d.pad_top, d.dilation_h, d.stride_h, d.kernel_h);
      const Class cw = class_of(column, d.in_w, d.pad_left, d.dilation_w, d.stride_w, d.kernel_w);
      const int64_t taps = ch.taps * cw.taps, depth = taps * upstream.cols(), positions = d.batch * ch.count * cw.count;
      if (taps == 0 && dx.addend == dx.out) continue;  // nothing to add
      const Divisor rows(ch.count), columns(cw.count), taps_w(max(cw.taps, int64_t{1}));
      const TapSource<T, Major::k> a{upstream.data(),
                                     {small(d.out_h()), small(d.out_w()), small(d.groups * upstream.cols()), 1, 1,
                                      small(ch.start), small(cw.start), small(ch.move), small(cw.move), rows, columns,
                                      taps_w, Divisor(upstream.cols()), small(positions), small(depth)}};
      const FilterSource<T> b{filters.data(),      small(filters.cols()), small(out_of(d)),         small(d.kernel_w),
                              small(taps_of(d)),   small(ch.first_tap),   small(cw.first_tap),      small(ch.every_tap),
                              small(cw.every_tap), small(depth),          Divisor(upstream.cols()), taps_w};
      const PixelOut out{channels_out(sum, dx.out, dx_dtype, d.in_channels, in_of(d)),
                         small(d.in_h),
                         small(d.in_w),
                         small(d.stride_h),
                         small(d.stride_w),
                         small(h),
                         small(column),
                         rows,
                         columns};
      tile_product(stream, "conv2d backward_data", a, b, out, {positions, in_of(d), depth, d.groups});
    }
}

template <class T>
void backward_weight(Stream& stream, const Conv2dDims& d, const void* x, const void* dy, Dest dweight) {
  const WholeRows<T> input(stream, x, pixels_in(d) * d.groups, in_of(d));
  const WholeRows<T> upstream(stream, dy, pixels_out(d) * d.groups, out_of(d));
  const int64_t in = in_of(d), wide = input.cols(), cols = taps_of(d) * wide, rows = d.out_channels * taps_of(d);
  const bool whole = wide == in;
  const Scratch padded = stream.scratch(whole ? 0 : static_cast<size_t>(rows * wide) * sizeof(float));
  const MatrixSource<T, Major::line> a{
      {upstream.data(), small(d.groups * upstream.cols()), pixels_out(d), upstream.cols()}, small(out_of(d))};
  const TapSource<T, Major::line> b{input.data(), input_taps(d, wide)};
  Epilogue sum;
  if (whole) sum.residual = dweight.addend;
  const EpilogueOut out{sum, whole ? dweight.out : padded.data(), DType::f32, 1, cols, cols, out_of(d) * cols};
  tile_product(stream, "conv2d backward_weight", a, b, out, {out_of(d), cols, pixels_out(d), d.groups});
  if (!whole)
    launch(stream, {"conv2d trim_rows", blocks_for(rows * in, kThreads), kThreads}, trim_rows, padded.f32(),
           static_cast<const float*>(dweight.addend), static_cast<float*>(dweight.out), rows, wide, in);
}

// Patches that tile a row: their columns are as good as channels (a patch embedding then has 48 of them, not 3).
Conv2dDims merged(Conv2dDims d) {
  if (!d.is_patches() || d.in_w % d.kernel_w != 0) return d;
  d.in_w /= d.kernel_w;
  d.in_channels *= d.kernel_w;
  d.kernel_w = d.stride_w = 1;
  return d;
}

}  // namespace

void conv2d_forward(Stream& stream, const Conv2dDims& dims, const void* x, DType x_dtype, const void* w, DType, void* y,
                    DType y_dtype, const Epilogue& epilogue, const PackedWeight*) {
  visit_float(x_dtype, [&]<class T>() { forward<T>(stream, merged(dims), x, w, y, y_dtype, epilogue); });
}

void conv2d_backward_data(Stream& stream, const Conv2dDims& dims, const void* dy, DType dy_dtype, const void* w, DType,
                          Dest dx, DType dx_dtype, const PackedWeight*) {
  visit_float(dy_dtype, [&]<class T>() { backward_data<T>(stream, merged(dims), dy, w, dx, dx_dtype); });
}

void conv2d_backward_weight(Stream& stream, const Conv2dDims& dims, const void* x, DType x_dtype, const void* dy, DType,
                            Dest dweight, Dest) {
  visit_float(x_dtype, [&]<class T>() { backward_weight<T>(stream, merged(dims), x, dy, dweight); });
}

}  // namespace vtl::kernels::VTL_GPU
