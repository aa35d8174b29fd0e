// Copies between strided views (permute, slice, concatenate, broadcast) and conversions of dtype.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/shape.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

// Element (i0, i1, ...) with 0 <= ik < extent[k] lies at sum of ik * stride[k] elements from the pointer. Strides of
// `from` may be zero (broadcast) or negative; those of `to` must give every element a place of its own.
struct CopyDims {
  int rank = 0;
  int64_t extent[kMaxDims] = {};
  int64_t from_stride[kMaxDims] = {};
  int64_t to_stride[kMaxDims] = {};
};

// to[i] = from[i] for elements of 1, 2, 4 or 8 bytes. The two do not overlap.
void copy_strided(Stream& stream, size_t element_bytes, const void* from, void* to, const CopyDims& dims);

// to.out[i] = (to.addend ? to.addend[i] : 0) + from[i], of `dtype` (f32 or bf16); addend has to_stride too.
void copy_strided_add(Stream& stream, DType dtype, const void* from, Dest to, const CopyDims& dims);

// to[i] = from[i] for f32, bf16 and u8 to f32 or bf16 (rounded to nearest even). Dense; in place when both have one
// size.
void cast(Stream& stream, DType from_dtype, const void* from, DType to_dtype, void* to, int64_t count);

}  // namespace vtl::kernels
