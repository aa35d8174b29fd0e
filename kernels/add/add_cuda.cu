#include "vtl/kernels/add/add.h"
#include "vtl/kernels/device/rows.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// As many values as make 16 bytes of the wider type: a warp then reads whole sectors of both.
template <class T, class B>
constexpr int kWidthOf = min(kVecLanes<T>, kVecLanes<B>);

// y[r,i] = a[r,i] + b[i]
template <class T, class B>
struct Add {
  static constexpr int kWidth = kWidthOf<T, B>;
  const T* a;
  const B* b;
  T* y;

  bool aligned() const { return aligned_to<kWidth>(a) && aligned_to<kWidth>(b) && aligned_to<kWidth>(y); }
  template <int N>
  VTL_DEVICE Floats<N> kept(int64_t c) const {
    return load_floats<N>(b + c);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Floats<N>& added) const {
    Floats<N> value = load_floats<N>(a + i);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += added[k];
    store_floats(y + i, value);
    return value;
  }
};

// out[i] = dy[i] + (addend ? addend[i] : 0)
template <class T>
struct CopyGradient {
  static constexpr int kWidth = kVecLanes<T>;
  const T *dy, *addend;
  T* out;

  bool aligned() const { return aligned_to<kWidth>(dy) && aligned_to<kWidth>(addend) && aligned_to<kWidth>(out); }
  template <int N>
  VTL_DEVICE NothingKept kept(int64_t) const {
    return {};
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, NothingKept) const {
    Floats<N> value = load_floats<N>(dy + i);
    const Floats<N> before = load_floats_or_zero<N>(addend, i);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += before[k];
    store_floats(out + i, value);
    return value;
  }
};

// Small blocks: a position embedding has few columns, and all multiprocessors should get some.
constexpr int kSumThreads = 64;

// out[i] = (addend ? addend[i] : 0) + sum_r dy[r,i], in the order of r. Grid: count / (64 N); one thread sums N
// columns. count is a multiple of N, pointers are aligned to N values.
template <int N, class T, class B>
__global__ void __launch_bounds__(kSumThreads) sum_rows(const T* dy, const B* addend, B* out, AddDims d) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * N;
  if (i >= d.count) return;
  Floats<N> sum{};
  VTL_UNROLL_BY(4)
  for (int64_t r = 0; r < d.repeats; ++r) {
    const Floats<N> row = load_floats<N>(dy + r * d.count + i);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) sum[k] += row[k];
  }
  const Floats<N> before = load_floats_or_zero<N>(addend, i);
  VTL_UNROLL
  for (int k = 0; k < N; ++k) sum[k] += before[k];
  store_floats(out + i, sum);
}

template <class T, class B>
void sum_to(Stream& stream, const T* dy, Dest db, AddDims d) {
  constexpr int N = kWidthOf<T, B>;
  auto* out = static_cast<B*>(db.out);
  const auto* addend = static_cast<const B*>(db.addend);
  if (d.count % N == 0 && aligned_to<N>(dy) && aligned_to<N>(addend) && aligned_to<N>(out))
    launch(stream, {"add sum_rows", blocks_for(d.count, kSumThreads * N), kSumThreads}, sum_rows<N, T, B>, dy, addend,
           out, d);
  else
    launch(stream, {"add sum_rows", blocks_for(d.count, kSumThreads), kSumThreads}, sum_rows<1, T, B>, dy, addend, out,
           d);
}

}  // namespace

void add_forward(Stream& stream, DType dtype, const void* a, DType b_dtype, const void* b, void* y, AddDims dims) {
  visit_float(dtype, [&]<class T>() {
    visit_float(b_dtype, [&]<class B>() {
      const Add<T, B> body{static_cast<const T*>(a), static_cast<const B*>(b), static_cast<T*>(y)};
      for_each_row(stream, "add", body, {1, dims.repeats, dims.count});
    });
  });
}

void add_backward(Stream& stream, DType dtype, const void* dy, Dest da, DType b_dtype, Dest db, AddDims dims) {
  if (dims.count == 0) return;
  visit_float(dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(dy);
    // db first: da may overwrite dy.
    if (db.wanted()) visit_float(b_dtype, [&]<class B>() { sum_to<T, B>(stream, from, db, dims); });
    if (!da.wanted() || (da.out == dy && !da.addend)) return;
    const CopyGradient<T> body{from, static_cast<const T*>(da.addend), static_cast<T*>(da.out)};
    for_each_element(stream, "add copy_gradient", body, dims.repeats * dims.count);
  });
}

}  // namespace vtl::kernels::VTL_GPU
