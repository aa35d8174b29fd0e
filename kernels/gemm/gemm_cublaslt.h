// Matrix products through cuBLASLt: what gemm.cpp asks before it uses the built-in kernels on cuda. The library is no
// part of the program; it is opened when a product first wants it.
#pragma once

#include "vtl/kernels/gemm/gemm.h"

namespace vtl::kernels::cublaslt {

// Whether the library can be opened here.
bool is_there();

// As kernels::gemm. False, with nothing written, when the library is not there or has no deterministic way to do it.
bool try_gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
              const Epilogue& epilogue);

}  // namespace vtl::kernels::cublaslt
