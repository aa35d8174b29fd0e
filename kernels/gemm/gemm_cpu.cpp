#include "vtl/kernels/gemm/gemm.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/activate.h"
#include "vtl/kernels/cpu/tile_product.h"
#include "vtl/kernels/gemm/activate_rows.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// One chunk of work is kChunkRows x kChunkCols of C; its sums and its piece of A (kDepth columns) live on the stack, in
// L2.
constexpr int64_t kChunkRows = 8 * kTileRows, kChunkCols = 256, kDepth = 256;
constexpr int64_t kPackedBytes = int64_t{16} << 20;  // op(B) is packed for as many products of the batch as fit

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

// The panel of columns [j, j + kTileCols) of op(B): to[k * kTileCols + c], zeros beyond n and k.
template <class T>
void pack_b_panel(const T* b, int64_t stride, Transpose transpose, int64_t j, int64_t n, int64_t k, int64_t k_padded,
                  float* to) {
  const int64_t cols = min(kTileCols, n - j);
  if (cols < kTileCols) __builtin_memset(to, 0, static_cast<size_t>(k_padded * kTileCols) * 4);
  if (transpose == Transpose::no) {
    for (int64_t i = 0; i < k; ++i) {
      const T* row = b + i * stride + j;
      for_lanes(cols, [&](int64_t c, auto lanes) { store_n(to + i * kTileCols + c, load_n(row + c, lanes), lanes); });
    }
  } else {
    for (int64_t i0 = 0; i0 < k; i0 += 64)  // pieces of the panel that stay in L1 while its columns are filled
      for (int64_t c = 0; c < cols; ++c) {
        const T* column = b + (j + c) * stride;
        for (int64_t i = i0; i < min(k, i0 + 64); ++i) to[i * kTileCols + c] = to_float(column[i]);
      }
  }
  if (cols == kTileCols) __builtin_memset(to + k * kTileCols, 0, static_cast<size_t>((k_padded - k) * kTileCols) * 4);
}

// Rows [i, i + rows) and columns [k, k + depth) of op(A) as tile_product reads them, `rows_padded` rows to a block.
template <class T>
void pack_a(const T* a, int64_t stride, Transpose transpose, int64_t i, int64_t rows, int64_t rows_padded, int64_t k,
            int64_t depth, float* to) {
  for (int64_t block = 0; block < depth; block += kLanes, to += rows_padded * kLanes) {
    const int64_t lanes = min(kLanes, depth - block);
    if (transpose == Transpose::no) {
      const T* from = a + i * stride + k + block;
      for (int64_t r = 0; r < rows; ++r, from += stride)
        store(to + r * kLanes, lanes == kLanes ? load(from) : load_part(from, lanes));
    } else {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const T* from = a + (k + block + lane) * stride + i;
        for (int64_t r = 0; r < rows; ++r) to[r * kLanes + lane] = lane < lanes ? to_float(from[r]) : 0.0f;
      }
    }
    __builtin_memset(to + rows * kLanes, 0, static_cast<size_t>((rows_padded - rows) * kLanes) * 4);
  }
}

// Rows [i, ...) x columns [j, ...) of one product. `packed_b` holds all panels of op(B).
template <class TIn, class TOut>
void multiply_chunk(const TIn* a, const Matrix& a_layout, const float* packed_b, TOut* c, int64_t c_stride, int64_t i,
                    int64_t rows, int64_t j, int64_t cols, int64_t k, float alpha, const Epilogue& epilogue,
                    int64_t c_offset) {
  alignas(64) float sums[kChunkRows * kChunkCols];
  alignas(64) float piece[kChunkRows * kDepth];
  const int64_t rows_padded = round_up(rows, kTileRows), k_padded = round_up(k, kLanes);
  if (k == 0) __builtin_memset(sums, 0, sizeof sums);
  for (int64_t k0 = 0; k0 < k; k0 += kDepth) {
    const int64_t depth = min(kDepth, k - k0);
    pack_a(a, a_layout.stride, a_layout.transpose, i, rows, rows_padded, k0, depth, piece);
    for (int64_t panel = 0; panel < cols; panel += kTileCols) {
      const float* b = packed_b + (j + panel) * k_padded + k0 * kTileCols;
      for (int64_t r = 0; r < rows; r += kTileRows)
        tile_product(piece + r * kLanes, rows_padded * kLanes, b, (depth + kLanes - 1) / kLanes,
                     sums + r * kChunkCols + panel, kChunkCols, k0 == 0 ? Sums::overwrite : Sums::add);
    }
  }
  for (int64_t r = 0; r < rows; ++r)
    for_lanes(cols, [&](int64_t col, auto lanes) {
      const vfloat sum = load(sums + r * kChunkCols + col) * alpha;
      write_epilogue(epilogue, sum, c, c_offset + (i + r) * c_stride + j + col, j + col, lanes);
    });
}

template <class TIn, class TOut>
void multiply(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& d, float alpha,
              const Epilogue& epilogue) {
  const int64_t n_panels = (d.n + kTileCols - 1) / kTileCols, k_padded = round_up(d.k, kLanes);
  const int64_t panel_size = k_padded * kTileCols, packed_size = n_panels * panel_size;
  const bool shared_b = b.batch_stride == 0;
  const int64_t bytes = packed_size * 4;
  const int64_t group = shared_b ? d.batch : bytes >= kPackedBytes ? 1 : min(d.batch, kPackedBytes / (bytes + 1) + 1);
  const Scratch scratch = stream.scratch(static_cast<size_t>((shared_b ? 1 : group) * bytes));
  float* const packed = scratch.f32();
  const int64_t row_chunks = (d.m + kChunkRows - 1) / kChunkRows, col_chunks = (d.n + kChunkCols - 1) / kChunkCols;

  for (int64_t first = 0; first < d.batch; first += group) {
    const int64_t products = min(group, d.batch - first);
    parallel_chunks((shared_b ? 1 : products) * n_panels, [&](int64_t chunk) {
      const int64_t product = chunk / n_panels, panel = chunk % n_panels;
      const auto* from = static_cast<const TIn*>(b.data) + (first + product) * b.batch_stride;
      pack_b_panel(from, b.stride, b.transpose, panel * kTileCols, d.n, d.k, k_padded, packed + chunk * panel_size);
    });
    parallel_chunks(products * row_chunks * col_chunks, [&](int64_t chunk) {
      const int64_t product = chunk / (row_chunks * col_chunks), within = chunk % (row_chunks * col_chunks);
      const int64_t i = within / col_chunks * kChunkRows, j = within % col_chunks * kChunkCols;
      multiply_chunk(static_cast<const TIn*>(a.data) + (first + product) * a.batch_stride, a,
                     packed + (shared_b ? 0 : product * packed_size), static_cast<TOut*>(c.data), c.stride, i,
                     min(kChunkRows, d.m - i), j, min(kChunkCols, d.n - j), d.k, alpha, epilogue,
                     (first + product) * c.batch_stride);
    });
  }
}

}  // namespace

void gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
          const Epilogue& epilogue, const PackedWeight*, const GemmSlice&) {
  if (a.dtype == DType::f32)
    multiply<float, float>(stream, a, b, c, dims, alpha, epilogue);
  else if (c.dtype == DType::f32)
    multiply<bf16, float>(stream, a, b, c, dims, alpha, epilogue);
  else
    multiply<bf16, bf16>(stream, a, b, c, dims, alpha, epilogue);
}

void activate_rows(Stream&, Activation activation, DType dtype, const void* x, void* y, int64_t rows, int64_t cols,
                   int64_t stride) {
  visit_float(dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(x);
    auto* to = static_cast<T*>(y);
    parallel_for(rows, (16384 + cols) / (cols + 1), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for_lanes(cols, [&](int64_t col, auto lanes) {
          store_n(to + r * stride + col, activate(activation, load_n(from + r * stride + col, lanes)), lanes);
        });
    });
  });
}

}  // namespace vtl::kernels::VTL_CPU
