// Matrix products through oneDNN: what gemm.cpp asks before it uses the built-in kernels.
#pragma once

#include "vtl/kernels/gemm/gemm.h"

namespace vtl::kernels::onednn {

// As kernels::gemm. False, with nothing written, when oneDNN has no fast kernel for it.
bool try_gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
              const Epilogue& epilogue, const PackedWeight* packed);
PackedWeightPtr pack_gemm(Stream& stream, const Matrix& b, const GemmDims& dims);

}  // namespace vtl::kernels::onednn
