#include "vtl/kernels/add/add.h"
#include "vtl/kernels/cpu/columns.h"

// This file has a copy for __AVX512BF16__, where vec.h narrows to bf16 in one instruction.

namespace vtl::kernels::VTL_CPU {
namespace {

template <class T, class B>
void forward(const T* a, const B* b, T* y, AddDims d) {
  if (d.repeats == 1) {
    parallel_lanes(d.count, [&](int64_t i, auto lanes) VTL_INLINE_BODY {
      store_n(y + i, load_n(a + i, lanes) + load_n(b + i, lanes), lanes);
    });
    return;
  }
  const int64_t grain = row_grain(d.repeats, d.count);
  parallel_for(d.repeats, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for_lanes(d.count, [&](int64_t i, auto lanes) VTL_INLINE_BODY {
        const int64_t at = r * d.count + i;
        store_n(y + at, load_n(a + at, lanes) + load_n(b + i, lanes), lanes);
      });
  });
}

template <class T>
void copy_gradient(const T* dy, Dest da, int64_t count) {
  auto* out = static_cast<T*>(da.out);
  const auto* addend = static_cast<const T*>(da.addend);
  if (!addend && out == dy) return;
  parallel_lanes(count, [&](int64_t i, auto lanes) VTL_INLINE_BODY {
    vfloat value = load_n(dy + i, lanes);
    if (addend) value += load_n(addend + i, lanes);
    store_n(out + i, value, lanes);
  });
}

template <class T, class B>
void sum_gradient(const T* dy, Dest db, AddDims d) {
  constexpr int64_t kPiece = 1024;  // columns whose sums fit the innermost cache
  auto* out = static_cast<B*>(db.out);
  const auto* addend = static_cast<const B*>(db.addend);
  parallel_for(d.count, kPiece, [&](int64_t begin, int64_t end) {
    float sums[kPiece];
    sum_repeats(d.repeats, end - begin, sums, [&](int64_t r, int64_t i, auto lanes) VTL_INLINE_BODY {
      return load_n(dy + r * d.count + begin + i, lanes);
    });
    for_lanes(end - begin, [&](int64_t i, auto lanes) VTL_INLINE_BODY {
      vfloat value = load_n(sums + i, lanes);
      if (addend) value += load_n(addend + begin + i, lanes);
      store_n(out + begin + i, value, lanes);
    });
  });
}

}  // namespace

void add_forward(Stream&, DType dtype, const void* a, DType b_dtype, const void* b, void* y, AddDims dims) {
  visit_float(dtype, [&]<class T>() {
    visit_float(b_dtype, [&]<class B>() {
      forward(static_cast<const T*>(a), static_cast<const B*>(b), static_cast<T*>(y), dims);
    });
  });
}

void add_backward(Stream&, DType dtype, const void* dy, Dest da, DType b_dtype, Dest db, AddDims dims) {
  visit_float(dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(dy);
    // db first: da may overwrite dy.
    if (db.wanted()) visit_float(b_dtype, [&]<class B>() { sum_gradient<T, B>(from, db, dims); });
    if (da.wanted()) copy_gradient(from, da, dims.repeats * dims.count);
  });
}

}  // namespace vtl::kernels::VTL_CPU
