#include "vtl/kernels/device/matrix.h"
#include "vtl/kernels/device/rows.h"
#include "vtl/kernels/gemm/activate_rows.h"
#include "vtl/kernels/gemm/gemm.h"

namespace vtl::kernels::VTL_GPU {
namespace {

constexpr int kCopyWarps = 8;

// to[i, r, c] = from[i, r, c]: rows of `cols` values, `stride` apart, into rows `to_stride` apart. One warp for a row.
template <class T>
__global__ void __launch_bounds__(kCopyWarps* kWarpLanes)
    align_rows(const T* from, int64_t stride, int64_t item_stride, T* to, int64_t to_stride, int64_t items,
               int64_t rows, int64_t cols) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kCopyWarps + warp_index(), item = row / rows;
  if (item >= items) return;
  from += item * item_stride + (row - item * rows) * stride;
  to += row * to_stride;
  for (int64_t c = lane_index(); c < cols; c += kWarpLanes) store(to + c, load(from + c));
}

// Tile products copy 16 bytes at once. A matrix whose rows do not begin at such addresses is copied first: it is small
// beside the other operand (the gradient of 37 logits, a LoRA of rank 4) wherever the network is not.
template <class T>
class AlignedMatrix {
 public:
  // `lines` and `k` are those of the product (staged_tile.h).
  AlignedMatrix(Stream& stream, const Matrix& matrix, Major major, int64_t lines, int64_t k, int64_t batch)
      : matrix_(matrix), scratch_(stream.scratch(is_aligned(matrix) ? 0 : bytes_for(matrix, major, lines, k, batch))) {
    if (is_aligned(matrix) || lines == 0 || k == 0) return;
    const int64_t rows = major == Major::k ? lines : k, cols = major == Major::k ? k : lines;
    const int64_t items = matrix.batch_stride ? batch : 1;
    matrix_.data = scratch_.data();
    matrix_.stride = padded(cols);
    matrix_.batch_stride = matrix.batch_stride ? rows * matrix_.stride : 0;
    launch(stream, {"gemm align_rows", blocks_for(items * rows, kCopyWarps), kCopyWarps * kWarpLanes}, align_rows<T>,
           static_cast<const T*>(matrix.data), matrix.stride, matrix.batch_stride, static_cast<T*>(scratch_.data()),
           matrix_.stride, items, rows, cols);
  }

  MatrixPart<T> part(int64_t k) const {
    return {static_cast<const T*>(matrix_.data), static_cast<int>(matrix_.stride), k, matrix_.batch_stride};
  }

 private:
  static bool is_aligned(const Matrix& m) {
    return reinterpret_cast<uintptr_t>(m.data) % kChunkBytes == 0 && m.stride % kChunk<T> == 0 &&
           m.batch_stride % kChunk<T> == 0;
  }
  static int64_t padded(int64_t cols) { return (cols + kChunk<T> - 1) / kChunk<T> * kChunk<T>; }
  static size_t bytes_for(const Matrix& m, Major major, int64_t lines, int64_t k, int64_t batch) {
    const int64_t values = (m.batch_stride ? batch : 1) * (major == Major::k ? lines * padded(k) : k * padded(lines));
    return static_cast<size_t>(values) * sizeof(T);
  }

  Matrix matrix_;
  Scratch scratch_;
};

Major major_of(bool k_is_contiguous) { return k_is_contiguous ? Major::k : Major::line; }

template <class T>
void multiply(Stream& stream, const Matrix& a, const Matrix& b, const EpilogueOut& out, const GemmDims& d,
              const GemmSlice& slice) {
  const Major a_major = major_of(a.transpose == Transpose::no), b_major = major_of(b.transpose == Transpose::yes);
  const AlignedMatrix<T> left(stream, a, a_major, d.m, d.k, d.batch), right(stream, b, b_major, d.n, d.k, d.batch);
  const AlignedMatrix<T> more_left(stream, slice.a, a_major, d.m, slice.k, 1);
  const AlignedMatrix<T> more_right(stream, slice.b, b_major, d.n, slice.k, 1);
  const auto go = [&]<Major A, Major B>() {
    const MatrixSource<T, A> from_a{left.part(d.k), static_cast<int>(d.m), more_left.part(slice.k)};
    const MatrixSource<T, B> from_b{right.part(d.k), static_cast<int>(d.n), more_right.part(slice.k)};
    tile_product(stream, "gemm", from_a, from_b, out, {d.m, d.n, from_a.product_k(), d.batch});
  };
  if (a_major == Major::k && b_major == Major::k)
    go.template operator()<Major::k, Major::k>();
  else if (a_major == Major::k)
    go.template operator()<Major::k, Major::line>();
  else if (b_major == Major::k)
    go.template operator()<Major::line, Major::k>();
  else
    go.template operator()<Major::line, Major::line>();
}

// y = activation(x) for rows `stride` apart.
template <class T>
struct ActivateRows {
  static constexpr int kWidth = kVecLanes<T>;
  Activation activation;
  const T* x;
  T* y;
  int64_t cols, stride;

  bool aligned() const { return stride % kWidth == 0 && aligned_to<kWidth>(x) && aligned_to<kWidth>(y); }
  template <int N>
  VTL_DEVICE NothingKept kept(int64_t) const {
    return {};
  }
  template <int N>
  VTL_DEVICE Vec<T, N> read(int64_t i, NothingKept) const {
    return load_vec<N>(x + place(i));
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, NothingKept, const Vec<T, N>& read) const {
    Floats<N> value = floats_of(read);
    activate(activation, value);
    store_floats(y + place(i), value);
    return value;
  }
  VTL_DEVICE int64_t place(int64_t i) const { return stride == cols ? i : i / cols * stride + i % cols; }
};

}  // namespace

void gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
          const Epilogue& epilogue, const PackedWeight*, const GemmSlice& slice) {
  const EpilogueOut out{epilogue, c.data, c.dtype, alpha, c.stride, dims.n, c.batch_stride};
  if (a.dtype == DType::f32)
    multiply<float>(stream, a, b, out, dims, slice);
  else
    multiply<bf16>(stream, a, b, out, dims, slice);
}

void activate_rows(Stream& stream, Activation activation, DType dtype, const void* x, void* y, int64_t rows,
                   int64_t cols, int64_t stride) {
  visit_float(dtype, [&]<class T>() {
    const ActivateRows<T> body{activation, static_cast<const T*>(x), static_cast<T*>(y), cols, stride};
    for_each_row(stream, "gemm activate_rows", body, {1, rows, cols});
  });
}

}  // namespace vtl::kernels::VTL_GPU
