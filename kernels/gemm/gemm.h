// Matrix products with a fused epilogue: C = epilogue(alpha * op(A) * op(B)).
#pragma once

#include <cstdint>

#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/epilogue.h"

namespace vtl::kernels {

enum class Transpose : uint8_t { no, yes };

// A batch of row-major matrices. With `transpose` the product sees op(X)[i, j] = data[j * stride + i].
struct Matrix {
  const void* data;
  DType dtype;     // f32 or bf16
  int64_t stride;  // elements from one row in memory to the next
  Transpose transpose = Transpose::no;
  int64_t batch_stride = 0;  // elements from one matrix to the next; 0: all products share this matrix
};

// Where the product goes: rows of n elements, `stride` apart.
struct MatrixOut {
  void* data;
  DType dtype;
  int64_t stride;
  int64_t batch_stride = 0;
};

struct GemmDims {
  int64_t m, n, k;  // op(A) is m x k, op(B) k x n, C m x n
  int64_t batch = 1;
};

// Columns for op(A), rows for op(B): more of k, from other memory. Transposes and dtypes are those of A and B.
struct GemmSlice {
  Matrix a, b;  // op(a) is m x k, op(b) k x n; with batch = 1 only
  int64_t k = 0;
};

// C[b, i, j] = epilogue(alpha * sum_k op(A)[b, i, k] * op(B)[b, k, j]); products and sums in f32.
// dtypes of A, B, C: f32 f32 f32, bf16 bf16 bf16, bf16 bf16 f32; others are `unsupported`. C overlaps neither A nor B.
// k may be 0 (the sum is then 0). The epilogue's scale and bias have n values; its residual and preactivation have the
// strides of C. `packed` is null or gemm_pack of this very B, with this stride, transpose, k and n. `slice` is summed with
// the rest: a low-rank member of a layer beside its weight.
//
// The linear layer y = x W^T + bias with W [out, in] is A = x, B = W transposed; dx = dy W; dW = dy^T x (A transposed).
void gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha = 1,
          const Epilogue& epilogue = {}, const PackedWeight* packed = nullptr, const GemmSlice& slice = {});

// op(B), one matrix of k x n, packed for products with about `dims.m` rows on the stream's device. Null when this
// device gains nothing from it.
PackedWeightPtr gemm_pack(Stream& stream, const Matrix& b, const GemmDims& dims);

}  // namespace vtl::kernels
