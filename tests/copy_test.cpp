#include "vtl/kernels/copy/copy.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "vtl/core/context.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::CopyDims;

CopyDims make_dims(const std::vector<int64_t>& extent, const std::vector<int64_t>& from,
                   const std::vector<int64_t>& to) {
  CopyDims d;
  d.rank = static_cast<int>(extent.size());
  std::copy(extent.begin(), extent.end(), d.extent);
  std::copy(from.begin(), from.end(), d.from_stride);
  std::copy(to.begin(), to.end(), d.to_stride);
  return d;
}

// A dense destination in the order of `axes`, from a dense source of extents `shape`.
CopyDims permutation(const std::vector<int64_t>& shape, const std::vector<int>& axes) {
  const Shape strides = Shape(std::span<const int64_t>(shape)).strides();
  std::vector<int64_t> extent, from;
  for (const int axis : axes) {
    extent.push_back(shape[static_cast<size_t>(axis)]);
    from.push_back(strides[axis]);
  }
  const Shape to = Shape(std::span<const int64_t>(extent)).strides();
  return make_dims(extent, from, {to.dims().begin(), to.dims().end()});
}

// Calls visit(from offset, to offset) for every element.
template <class F>
void for_each_element(const CopyDims& d, F&& visit) {
  int64_t count = 1;
  for (int k = 0; k < d.rank; ++k) count *= d.extent[k];
  for (int64_t e = 0; e < count; ++e) {
    int64_t rest = e, from = 0, to = 0;
    for (int k = d.rank - 1; k >= 0; --k) {
      from += rest % d.extent[k] * d.from_stride[k];
      to += rest % d.extent[k] * d.to_stride[k];
      rest /= d.extent[k];
    }
    visit(from, to);
  }
}

template <class T>
Tensor to_bytes(const std::vector<T>& values, Device device) {
  const auto bytes = std::as_bytes(std::span(values));
  return Tensor::from_bytes(bytes, {static_cast<int64_t>(bytes.size())}, DType::u8, device);
}

// With the elements numbered in `from`, and 77 wherever nothing is written.
template <class Element>
void check_copy(const CopyDims& d, int64_t from_count, int64_t to_count, int64_t from_start = 0) {
  std::vector<Element> from(static_cast<size_t>(from_count)), expected(static_cast<size_t>(to_count), Element{77}),
      got = expected;
  std::iota(from.begin(), from.end(), Element{1});
  for_each_element(
      d, [&](int64_t f, int64_t t) { expected[static_cast<size_t>(t)] = from[static_cast<size_t>(from_start + f)]; });
  for (const Device& device : devices()) {
    CAPTURE(to_string(device));
    Stream stream(device);
    const StreamScope scope(stream);
    const Tensor x = to_bytes(from, device), y = to_bytes(got, device);
    kernels::copy_strided(stream, sizeof(Element), static_cast<const Element*>(x.data()) + from_start, y.data(), d);
    std::vector<Element> copied(expected.size());
    y.copy_to_host(std::as_writable_bytes(std::span(copied)));
    CHECK(copied == expected);
  }
}

void check_every_size(const CopyDims& d, int64_t from_count, int64_t to_count, int64_t from_start = 0) {
  check_copy<uint8_t>(d, from_count, to_count, from_start);
  check_copy<uint16_t>(d, from_count, to_count, from_start);
  check_copy<uint32_t>(d, from_count, to_count, from_start);
  check_copy<uint64_t>(d, from_count, to_count, from_start);
}

}  // namespace

TEST_CASE("every permutation of four axes, and one of eight, lands where it should") {
  std::vector<int> axes{0, 1, 2, 3};
  do check_every_size(permutation({3, 5, 1, 33}, axes), 3 * 5 * 33, 3 * 5 * 33);
  while (std::next_permutation(axes.begin(), axes.end()));
  check_every_size(permutation({2, 3, 2, 1, 3, 2, 2, 3}, {7, 2, 5, 0, 3, 6, 1, 4}), 432, 432);
}

TEST_CASE("convolution weights move between OIHW and OHWI and back") {
  const int64_t o = 70, i = 65, h = 3, w = 3, count = o * i * h * w;
  std::vector<float> oihw(count), ohwi(count), again(count);
  std::iota(oihw.begin(), oihw.end(), 0.0f);
  Stream stream(Device::cpu());
  kernels::copy_strided(stream, 4, oihw.data(), ohwi.data(), permutation({o, i, h, w}, {0, 2, 3, 1}));
  CHECK(ohwi[((5 * h + 2) * w + 1) * i + 64] == oihw[((5 * i + 64) * h + 2) * w + 1]);
  kernels::copy_strided(stream, 4, ohwi.data(), again.data(), permutation({o, h, w, i}, {0, 3, 1, 2}));
  CHECK(again == oihw);
}

TEST_CASE("slices, broadcasts, reversed axes and gaps are strides like others") {
  SUBCASE("a slice into a slice") { check_every_size(make_dims({7, 5}, {11, 1}, {9, 1}), 77, 63, 0); }
  SUBCASE("a column") { check_every_size(make_dims({100}, {3}, {2}), 300, 200); }
  SUBCASE("broadcast along the last axis") { check_every_size(make_dims({4, 37}, {1, 0}, {37, 1}), 4, 148); }
  SUBCASE("broadcast along the first axis") { check_every_size(make_dims({4, 37}, {0, 1}, {37, 1}), 37, 148); }
  SUBCASE("reversed") { check_every_size(make_dims({6, 50}, {-50, -1}, {50, 1}), 300, 300, 299); }
  SUBCASE("a scalar") { check_every_size(make_dims({}, {}, {}), 1, 1); }
  SUBCASE("nothing") { check_every_size(make_dims({3, 0, 2}, {2, 2, 1}, {2, 2, 1}), 1, 1); }
  SUBCASE("more than one chunk") {
    check_every_size(permutation({130, 257, 3}, {1, 2, 0}), 130 * 257 * 3, 130 * 257 * 3);
  }
  SUBCASE("wide elements in rows, and rows that are not") {
    for (const int64_t gap : {0, 1, 4, 16}) check_every_size(make_dims({3, 96}, {96 + gap, 1}, {96, 1}), 400, 288);
  }
  SUBCASE("a transposition of one short axis, and with a gap behind each element") {
    check_every_size(make_dims({3, 700}, {1, 3}, {700, 1}), 2100, 2100);
    check_every_size(make_dims({70, 9, 5}, {45, 1, 9}, {45, 5, 1}), 3150, 3150);
    check_every_size(make_dims({65, 66}, {1, 65}, {132, 2}), 4290, 8580);
  }
  SUBCASE("one long row") { check_every_size(make_dims({70001}, {1}, {1}), 70001, 70001); }
}

TEST_CASE("a strided sum adds where there is an addend and copies where there is none") {
  const int64_t count = 6 * 35 * 24;
  const CopyDims transposed = permutation({6, 35, 24}, {2, 0, 1}), in_rows = permutation({6, 35, 24}, {1, 0, 2});
  for (const CopyDims& d : {transposed, in_rows})
    for (const Device& device : devices())
      for (const auto dtype : {DType::f32, DType::bf16}) {
        const Values from = rounded(random_values("from", count), dtype),
                     base = rounded(random_values("base", count), dtype);
        Values copied(base.size()), added = base;
        for_each_element(d, [&](int64_t f, int64_t t) {
          copied[static_cast<size_t>(t)] = from[static_cast<size_t>(f)];
          added[static_cast<size_t>(t)] += from[static_cast<size_t>(f)];
        });
        Stream stream(device);
        const StreamScope scope(stream);
        const Tensor x = to_tensor(from, {count}, dtype, device), addend = to_tensor(base, {count}, dtype, device);
        const Tensor out = empty_like(x);
        kernels::copy_strided_add(stream, dtype, x.data(), {out.data(), nullptr}, d);
        CHECK(to_values(out) == copied);
        kernels::copy_strided_add(stream, dtype, x.data(), {out.data(), addend.data()}, d);
        CHECK(to_values(out) == rounded(added, dtype));
        kernels::copy_strided_add(stream, dtype, x.data(), {addend.data(), addend.data()}, d);
        CHECK(to_values(addend) == rounded(added, dtype));
        kernels::copy_strided_add(stream, dtype, x.data(), {}, d);
      }
}

TEST_CASE("casts round to nearest even and widen exactly") {
  std::vector<uint8_t> all_bytes(256);
  std::iota(all_bytes.begin(), all_bytes.end(), uint8_t{0});
  const Values all = [&] { return Values(all_bytes.begin(), all_bytes.end()); }();
  for (const Device& device : devices()) {
    CAPTURE(to_string(device));
    Stream stream(device);
    const StreamScope scope(stream);
    for (const int64_t count : {0, 1, 31, 33, 40000}) {
      const Values values = rounded(random_values("cast", count, -1e4, 1e4), DType::f32);
      const Tensor f32 = to_tensor(values, {count}, DType::f32, device), wide = empty_like(f32);
      const Tensor narrow = Tensor::empty({count}, DType::bf16, device);
      kernels::cast(stream, DType::f32, f32.data(), DType::bf16, narrow.data(), count);
      CHECK(to_values(narrow) == rounded(values, DType::bf16));
      kernels::cast(stream, DType::bf16, narrow.data(), DType::f32, wide.data(), count);
      CHECK(to_values(wide) == rounded(values, DType::bf16));
      kernels::cast(stream, DType::f32, f32.data(), DType::f32, wide.data(), count);
      CHECK(to_values(wide) == values);
    }
    const Tensor bytes = to_bytes(all_bytes, device);
    for (const DType dtype : {DType::f32, DType::bf16}) {  // 8 bits fit both
      const Tensor numbers = Tensor::empty({256}, dtype, device);
      kernels::cast(stream, DType::u8, bytes.data(), dtype, numbers.data(), 256);
      CHECK(to_values(numbers) == all);
    }
  }
}

TEST_CASE("a NaN stays one when it is cast") {
  for (const Device& device : devices()) {
    Stream stream(device);
    const StreamScope scope(stream);
    const Tensor values = to_tensor(Values(17, NAN), {17}, DType::f32, device);
    const Tensor narrow = Tensor::empty({17}, DType::bf16, device);
    kernels::cast(stream, DType::f32, values.data(), DType::bf16, narrow.data(), 17);
    for (const double v : to_values(narrow)) CHECK(std::isnan(v));
  }
}
