// The skeleton of tensor-core products on the emulated device, with sources of every width of copies.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "vtl/core/context.h"
#include "vtl/core/tensor.h"
#include "vtl/kernels/device/matrix.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::kernels::simt;
using test::Values;

// A dense matrix [lines, k] or [k, lines] whose rows begin anywhere.
template <class T, Major M, int PieceBytes>
struct AnySource {
  using Element = T;
  static constexpr Major kMajor = M;
  static constexpr int kPieceBytes = PieceBytes;

  const T* data;
  int64_t stride, lines, k;

  struct Line {
    int64_t at;
  };
  struct Depth {
    int64_t at;
  };
  void select(int64_t) {}
  Line line(int64_t at) const { return {at}; }
  Depth depth(int64_t at) const { return {at}; }
  Chunk<T> chunk(Line line, Depth depth) const {
    if (line.at >= lines || depth.at >= k) return {nullptr, 0};
    const int64_t left = M == Major::k ? k - depth.at : lines - line.at;
    const int64_t at = M == Major::k ? line.at * stride + depth.at : depth.at * stride + line.at;
    return {data + at, static_cast<unsigned>(min<int64_t>(left * static_cast<int64_t>(sizeof(T)), kPieceBytes))};
  }
};

struct Dims {
  int64_t m, n, k;
};

template <class Shape, class T, Major A, Major B, int PieceBytes>
void check_tiles(Dims d, int64_t extra, int64_t splits) {
  CAPTURE(PieceBytes);
  CAPTURE(splits);
  const auto devices = test::devices();
  if (std::find(devices.begin(), devices.end(), Device::simt()) == devices.end()) return;
  Stream stream(Device::simt());
  const StreamScope scope(stream);
  const DType dtype = dtype_of<T>::value;
  const int64_t a_stride = (A == Major::k ? d.k : d.m) + extra, b_stride = (B == Major::k ? d.k : d.n) + extra;
  const int64_t a_size = a_stride * (A == Major::k ? d.m : d.k), b_size = b_stride * (B == Major::k ? d.n : d.k);
  const Values a = test::rounded(test::random_values("a", a_size), dtype);
  const Values b = test::rounded(test::random_values("b", b_size), dtype);
  Values expected(static_cast<size_t>(d.m * d.n));
  for (int64_t i = 0; i < d.m; ++i)
    for (int64_t j = 0; j < d.n; ++j)
      for (int64_t k = 0; k < d.k; ++k)
        expected[i * d.n + j] += a[A == Major::k ? i * a_stride + k : k * a_stride + i] *
                                 b[B == Major::k ? j * b_stride + k : k * b_stride + j];

  const Tensor ta = test::to_tensor(a, {a_size}, dtype, Device::simt());
  const Tensor tb = test::to_tensor(b, {b_size}, dtype, Device::simt());
  const Tensor c = Tensor::empty({d.m, d.n}, DType::f32, Device::simt());
  const AnySource<T, A, PieceBytes> from_a{static_cast<const T*>(ta.data()), a_stride, d.m, d.k};
  const AnySource<T, B, PieceBytes> from_b{static_cast<const T*>(tb.data()), b_stride, d.n, d.k};
  const EpilogueOut out{{}, c.data(), DType::f32, 1, d.n, d.n};
  tile_detail::launch_tiles<Shape>(stream, "product", from_a, from_b, out, {d.m, d.n, d.k}, splits);
  // Roundings of k products of 1.5^2, as a random walk.
  CHECK(test::max_difference(test::to_values(c), expected) <= 8 * 0x1p-23 * std::sqrt(double(d.k)) * 2.25);
}

}  // namespace

TEST_CASE("products in large tiles match their definition") {
  check_tiles<BigTile<bf16>, bf16, Major::k, Major::k, 16>({200, 150, 328}, 0, 1);
  check_tiles<BigTile<bf16>, bf16, Major::line, Major::line, 16>({200, 152, 300}, 0, 2);
  check_tiles<BigTile<float>, float, Major::k, Major::line, 16>({200, 152, 100}, 0, 1);
}

TEST_CASE("operands that move in small pieces give the same products") {
  check_tiles<SmallTile, bf16, Major::k, Major::line, 8>({70, 68, 92}, 4, 1);
  check_tiles<SmallTile, bf16, Major::line, Major::k, 4>({70, 68, 92}, 2, 2);
  check_tiles<SmallTile, bf16, Major::k, Major::line, 2>({69, 67, 91}, 1, 1);
  check_tiles<SmallTile, float, Major::line, Major::k, 8>({70, 68, 92}, 2, 1);
  check_tiles<SmallTile, float, Major::k, Major::line, 4>({69, 67, 91}, 1, 2);
}
