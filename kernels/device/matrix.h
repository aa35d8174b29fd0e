// Matrices in device memory as operands and results of tile products.
#pragma once

#include "vtl/kernels/device/epilogue.h"
#include "vtl/kernels/device/tile_product.h"

namespace vtl::kernels::VTL_GPU {

// `lines` rows of k values (Major::k) or k rows of `lines` values (Major::line), `stride` elements apart; data and rows
// aligned to 16 bytes.
template <class T>
struct MatrixPart {
  const T* data;
  int stride;
  int64_t k;
  int64_t item_stride = 0;  // from one product's matrix to the next
};

// A matrix whose k goes on in a second one (a low-rank member beside its weight), which all items share.
template <class T, Major M>
struct MatrixSource {
  using Element = T;
  static constexpr Major kMajor = M;
  static constexpr int kPieceBytes = kChunkBytes;

  MatrixPart<T> first;
  int lines;
  MatrixPart<T> second{};

  // The k of the product: the second matrix begins with a stage of its own.
  VTL_INLINE int64_t second_begins() const { return (first.k + kStageDepth<T> - 1) / kStageDepth<T> * kStageDepth<T>; }
  int64_t product_k() const { return second.k > 0 ? second_begins() + second.k : first.k; }

  struct Line {
    int at;
    unsigned bytes;
  };
  struct Depth {
    const T* from;
    int stride;
    unsigned bytes;
  };

  VTL_DEVICE void select(int64_t item) { first.data += item * first.item_stride; }
  VTL_DEVICE Line line(int64_t at) const {
    return {static_cast<int>(at), M == Major::k ? (at < lines ? kWhole : 0) : bytes_before(lines - at)};
  }
  VTL_DEVICE Depth depth(int64_t k) const {
    return k < first.k || second.k == 0 ? depth_in(first, k) : depth_in(second, k - second_begins());
  }
  VTL_DEVICE Chunk<T> chunk(const Line& line, const Depth& depth) const {
    return {depth.from + static_cast<int64_t>(line.at) * depth.stride, min(line.bytes, depth.bytes)};
  }

 private:
  static constexpr unsigned kWhole = kChunkBytes;
  // Of a chunk with `count` values before the end.
  VTL_DEVICE static unsigned bytes_before(int64_t count) {
    return count <= 0 ? 0u : count >= kChunk<T> ? kWhole : static_cast<unsigned>(count) * sizeof(T);
  }
  VTL_DEVICE static Depth depth_in(const MatrixPart<T>& part, int64_t k) {
    if (k < 0) return {part.data, 0, 0};  // between the two
    if constexpr (M == Major::k) return {part.data + k, part.stride, bytes_before(part.k - k)};
    return {part.data + k * part.stride, 1, k < part.k ? kWhole : 0};
  }
};

// epilogue(alpha * sum) into rows of f32 or bf16, `stride` elements apart; residual and preactivation lie like the
// rows. Item i begins item_stride * i elements on, its scale and bias item_channels * i.
struct EpilogueOut {
  Epilogue epilogue;
  void* data;
  DType dtype;
  float alpha;
  int64_t stride, cols;
  int64_t item_stride = 0, item_channels = 0;
  int64_t offset_ = 0, channel_ = 0;  // of the selected item

  bool wide() const {
    return cols % 4 == 0 && stride % 4 == 0 && item_stride % 4 == 0 && item_channels % 4 == 0 &&
           (dtype == DType::f32 ? aligned_to<4>(epilogue, static_cast<const float*>(data))
                                : aligned_to<4>(epilogue, static_cast<const bf16*>(data)));
  }
  VTL_DEVICE void select(int64_t item) {
    offset_ = item * item_stride;
    channel_ = item * item_channels;
  }
  template <int N>
  VTL_DEVICE Floats<N> read(int64_t row, int64_t col) const {
    const int64_t at = offset_ + row * stride + col;
    return dtype == DType::f32 ? load_residual<N, float>(epilogue, at) : load_residual<N, bf16>(epilogue, at);
  }
  template <int N>
  VTL_DEVICE void write(int64_t row, int64_t col, Floats<N> sums, const Floats<N>& residual) const {
    VTL_UNROLL
    for (int i = 0; i < N; ++i) sums[i] *= alpha;
    before_activation(epilogue, sums, residual, channel_ + col);
    if (epilogue.preactivation) store_to(epilogue.preactivation, row, col, sums);
    if (epilogue.activation != Activation::none) sums = activated(epilogue.activation, sums);
    store_to(data, row, col, sums);
  }

 private:
  template <int N>
  VTL_DEVICE void store_to(void* to, int64_t row, int64_t col, const Floats<N>& values) const {
    const int64_t at = offset_ + row * stride + col;
    if (dtype == DType::f32)
      store_floats(static_cast<float*>(to) + at, values);
    else
      store_floats(static_cast<bf16*>(to) + at, values);
  }
};

}  // namespace vtl::kernels::VTL_GPU
