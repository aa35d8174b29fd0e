#include "vtl/kernels/add/add.h"
#include "vtl/kernels/device/rows.h"
#include "vtl/kernels/scale/scale.h"

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
  VTL_DEVICE Vec<T, N> read(int64_t i, const Floats<N>&) const {
    return load_vec<N>(a + i);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Floats<N>& added, const Vec<T, N>& read) const {
    Floats<N> value = floats_of(read);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += added[k];
    store_floats(y + i, value);
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
  Floats<N> sum = sum_of_rows<N>(dy + i, d.repeats, d.count);
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
  if (dims.repeats == 1 && b_dtype == dtype)
    return kernels::scale_backward(stream, dtype, a, 1, {y, b}, dims.count);  // y = b + 1 a
  visit_float(dtype, [&]<class T>() {
    visit_float(b_dtype, [&]<class B>() {
      const Add<T, B> body{static_cast<const T*>(a), static_cast<const B*>(b), static_cast<T*>(y)};
      for_each_row(stream, "add", body, {1, dims.repeats, dims.count});
    });
  });
}

void add_backward(Stream& stream, DType dtype, const void* dy, Dest da, DType b_dtype, Dest db, AddDims dims) {
  if (dims.count == 0) return;
  // db first: da may overwrite dy.
  if (db.wanted() && dims.repeats == 1 && b_dtype == dtype)
    kernels::scale_backward(stream, dtype, dy, 1, db, dims.count);
  else if (db.wanted())
    visit_float(dtype, [&]<class T>() {
      visit_float(b_dtype, [&]<class B>() { sum_to<T, B>(stream, static_cast<const T*>(dy), db, dims); });
    });
  if (da.out != dy || da.addend) kernels::scale_backward(stream, dtype, dy, 1, da, dims.repeats * dims.count);
}

}  // namespace vtl::kernels::VTL_GPU
