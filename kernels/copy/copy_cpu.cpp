#include "vtl/kernels/copy/copy.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/copy/copy_plan.h"
#include "vtl/kernels/cpu/bytes.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// Elements of one task, about.
constexpr int64_t kGrain = 1 << 14;
// The side of a square of a transposition: its lines stay in the first-level cache while they are read across.
constexpr int64_t kTile = 32;

VTL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// run(to, from, count, to_step, from_step) for runs of elements that cover everything once, on all threads: element k
// of a run is at to + k * to_step and from + k * from_step.
template <class F>
VTL_INLINE void for_runs(const CopyDims& dims, F&& run) {
  CopyPlan plan = make_copy_plan(dims);
  if (plan.empty) return;
  // Beside the axis of the runs one more makes up a task: where `from` is contiguous along another axis, that one, and
  // squares of both are read; otherwise the next one.
  const int transposed = transposed_axis(plan);
  const bool square = transposed >= 0;
  const CopyAxis run_axis = plan.take(plan.rank - 1);
  const CopyAxis across = plan.rank == 0 ? CopyAxis{1, 0, 0} : plan.take(square ? transposed : plan.rank - 1);
  const int64_t length = smaller(run_axis.extent, square ? kTile : kGrain);
  const int64_t runs = smaller(across.extent, square ? kTile : kGrain / length + 1);
  const int64_t pieces = (run_axis.extent + length - 1) / length, bands = (across.extent + runs - 1) / runs;
  int64_t outer = 1;
  for (int k = 0; k < plan.rank; ++k) outer *= plan.axes[k].extent;

  parallel_for(outer * bands * pieces, kGrain / (length * runs) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t k0 = task % pieces * length, b0 = task / pieces % bands * runs;
      const int64_t count = smaller(run_axis.extent - k0, length), last = smaller(across.extent, b0 + runs);
      int64_t to = k0 * run_axis.to, from = k0 * run_axis.from, rest = task / pieces / bands;
      for (int k = plan.rank - 1; k >= 0; --k) {
        const int64_t i = rest % plan.axes[k].extent;
        rest /= plan.axes[k].extent;
        to += i * plan.axes[k].to;
        from += i * plan.axes[k].from;
      }
      for (int64_t b = b0; b < last; ++b)
        run(to + b * across.to, from + b * across.from, count, run_axis.to, run_axis.from);
    }
  });
}

template <class Element>
void copy_elements(const Element* from, Element* to, const CopyDims& dims) {
  for_runs(dims, [=](int64_t to_offset, int64_t from_offset, int64_t count, int64_t to_step, int64_t from_step) {
    Element* out = to + to_offset;
    const Element* in = from + from_offset;
    if (to_step == 1 && from_step == 1)
      __builtin_memcpy(out, in, static_cast<size_t>(count) * sizeof(Element));
    else if (to_step == 1)
      for (int64_t k = 0; k < count; ++k) out[k] = in[k * from_step];
    else
      for (int64_t k = 0; k < count; ++k) out[k * to_step] = in[k * from_step];
  });
}

template <class T>
void copy_add(const T* from, Dest dest, const CopyDims& dims) {
  auto* to = static_cast<T*>(dest.out);
  const auto* addend = static_cast<const T*>(dest.addend);
  for_runs(dims, [=](int64_t to_offset, int64_t from_offset, int64_t count, int64_t to_step, int64_t from_step) {
    T* out = to + to_offset;
    const T *in = from + from_offset, *base = addend + to_offset;
    if (to_step == 1 && from_step == 1)
      for_lanes(count, [&](int64_t k, auto lanes) {
        store_n(out + k, load_n(base + k, lanes) + load_n(in + k, lanes), lanes);
      });
    else
      for (int64_t k = 0; k < count; ++k)
        out[k * to_step] = from_float<T>(to_float(base[k * to_step]) + to_float(in[k * from_step]));
  });
}

// u8 beside the two float types.
template <class T, class Lanes>
VTL_INLINE vfloat load_any(const T* from, Lanes lanes) {
  return load_n(from, lanes);
}
template <class Lanes>
VTL_INLINE vfloat load_any(const uint8_t* from, Lanes lanes) {
  return __builtin_convertvector(load_bytes(from, lanes), vfloat);
}

template <class From, class To>
void convert(const From* from, To* to, int64_t count) {
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end) {
    for_lanes(end - begin,
              [&](int64_t i, auto lanes) { store_n(to + begin + i, load_any(from + begin + i, lanes), lanes); });
  });
}

}  // namespace

void copy_strided(Stream&, size_t element_bytes, const void* from, void* to, const CopyDims& dims) {
  const auto as = [&]<class Element>() {
    copy_elements(static_cast<const Element*>(from), static_cast<Element*>(to), dims);
  };
  switch (element_bytes) {
    case 1:
      return as.template operator()<uint8_t>();
    case 2:
      return as.template operator()<uint16_t>();
    case 4:
      return as.template operator()<uint32_t>();
    case 8:
      return as.template operator()<uint64_t>();
  }
}

void copy_strided_add(Stream&, DType dtype, const void* from, Dest to, const CopyDims& dims) {
  if (!to.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    if (to.addend)
      copy_add(static_cast<const T*>(from), to, dims);
    else if constexpr (sizeof(T) == 4)
      copy_elements(static_cast<const uint32_t*>(from), static_cast<uint32_t*>(to.out), dims);
    else
      copy_elements(static_cast<const uint16_t*>(from), static_cast<uint16_t*>(to.out), dims);
  });
}

void cast(Stream&, DType from_dtype, const void* from, DType to_dtype, void* to, int64_t count) {
  visit_float(to_dtype, [&]<class To>() {
    auto* out = static_cast<To*>(to);
    if (from_dtype == DType::u8)
      convert(static_cast<const uint8_t*>(from), out, count);
    else if (from_dtype == DType::bf16)
      convert(static_cast<const bf16*>(from), out, count);
    else
      convert(static_cast<const float*>(from), out, count);
  });
}

}  // namespace vtl::kernels::VTL_CPU
