#include "vtl/kernels/add/add.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"

namespace vtl::kernels::VTL_GPU {
namespace {

constexpr int kThreads = 256;
constexpr int kSumThreads =
    64;  // small blocks: a position embedding has few columns, and all multiprocessors should get some
constexpr int64_t kMostGridRows = 1024;

// y[r,i] = a[r,i] + b[i]. Grid: (columns / (256 N), rows or less); one thread holds N columns of b and walks over rows.
// All pointers are aligned to N values; count is a multiple of N unless there is one row, whose last columns are then
// taken one by one.
template <int N, class T, class B>
__global__ void __launch_bounds__(kThreads) add_rows(const T* a, const B* b, T* y, AddDims d) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  if (i >= d.count) return;
  if (i + N > d.count) {
    for (int64_t k = i; k < d.count; ++k) store(y + k, from_float<T>(to_float(load(a + k)) + to_float(load(b + k))));
    return;
  }
  const Floats<N> added = load_floats<N>(b + i);
  for (int64_t r = blockIdx.y; r < d.repeats; r += gridDim.y) {
    Floats<N> value = load_floats<N>(a + r * d.count + i);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += added[k];
    store_floats(y + r * d.count + i, value);
  }
}

// out[i] = (addend ? addend[i] : 0) + dy[i]. Grid: count / (256 N). Pointers are aligned to N values.
template <int N, class T>
__global__ void __launch_bounds__(kThreads) copy_gradient(const T* dy, const T* addend, T* out, int64_t count) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  if (i >= count) return;
  if (i + N > count) {
    for (int64_t k = i; k < count; ++k)
      store(out + k, from_float<T>(to_float(load(dy + k)) + (addend ? to_float(load(addend + k)) : 0.0f)));
    return;
  }
  Floats<N> value = load_floats<N>(dy + i);
  if (addend) {
    const Floats<N> before = load_floats<N>(addend + i);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += before[k];
  }
  store_floats(out + i, value);
}

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
  if (addend) {
    const Floats<N> before = load_floats<N>(addend + i);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) sum[k] += before[k];
  }
  store_floats(out + i, sum);
}

template <int N, class T, class B>
void launch_add(Stream& stream, const T* a, const B* b, T* y, AddDims d) {
  const dim3 grid(blocks_for(d.count, kThreads * N), static_cast<unsigned>(min(d.repeats, kMostGridRows)));
  launch(stream, {"add_rows", grid, kThreads}, add_rows<N, T, B>, a, b, y, d);
}

// As many values as make 16 bytes of the wider type: a warp then reads whole sectors of both.
template <class T, class B>
constexpr int kWidth = min(kVecLanes<T>, kVecLanes<B>);

template <class T, class B>
void forward(Stream& stream, const T* a, const B* b, T* y, AddDims d) {
  constexpr int N = kWidth<T, B>;
  const bool whole = d.repeats == 1 || d.count % N == 0;
  if (whole && aligned_to<N>(a) && aligned_to<N>(b) && aligned_to<N>(y))
    launch_add<N>(stream, a, b, y, d);
  else
    launch_add<1>(stream, a, b, y, d);
}

template <class T>
void copy_to(Stream& stream, const T* dy, Dest da, int64_t count) {
  constexpr int N = kVecLanes<T>;
  auto* out = static_cast<T*>(da.out);
  const auto* addend = static_cast<const T*>(da.addend);
  if (!addend && out == dy) return;
  if (aligned_to<N>(dy) && aligned_to<N>(addend) && aligned_to<N>(out))
    launch(stream, {"copy_gradient", blocks_for(count, kThreads * N), kThreads}, copy_gradient<N, T>, dy, addend, out,
           count);
  else
    launch(stream, {"copy_gradient", blocks_for(count, kThreads), kThreads}, copy_gradient<1, T>, dy, addend, out,
           count);
}

template <class T, class B>
void sum_to(Stream& stream, const T* dy, Dest db, AddDims d) {
  constexpr int N = kWidth<T, B>;
  auto* out = static_cast<B*>(db.out);
  const auto* addend = static_cast<const B*>(db.addend);
  if (d.count % N == 0 && aligned_to<N>(dy) && aligned_to<N>(addend) && aligned_to<N>(out))
    launch(stream, {"sum_rows", blocks_for(d.count, kSumThreads * N), kSumThreads}, sum_rows<N, T, B>, dy, addend, out,
           d);
  else
    launch(stream, {"sum_rows", blocks_for(d.count, kSumThreads), kSumThreads}, sum_rows<1, T, B>, dy, addend, out, d);
}

}  // namespace

void add_forward(Stream& stream, DType dtype, const void* a, DType b_dtype, const void* b, void* y, AddDims dims) {
  if (dims.repeats == 0 || dims.count == 0) return;
  visit_float(dtype, [&]<class T>() {
    visit_float(b_dtype, [&]<class B>() {
      forward(stream, static_cast<const T*>(a), static_cast<const B*>(b), static_cast<T*>(y), dims);
    });
  });
}

void add_backward(Stream& stream, DType dtype, const void* dy, Dest da, DType b_dtype, Dest db, AddDims dims) {
  if (dims.count == 0) return;
  visit_float(dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(dy);
    // db first: da may overwrite dy.
    if (db.wanted()) visit_float(b_dtype, [&]<class B>() { sum_to<T, B>(stream, from, db, dims); });
    if (da.wanted() && dims.repeats > 0) copy_to(stream, from, da, dims.repeats * dims.count);
  });
}

}  // namespace vtl::kernels::VTL_GPU
