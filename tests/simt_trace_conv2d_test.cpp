// What convolutions cost a GPU.
#include "vtl/core/error.h"
#include "vtl/kernels/conv2d/conv2d.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using kernels::Conv2dDims;
using test::check_cost;
using test::CostLimits;
using test::Simt;

Conv2dDims square(int64_t batch, int64_t size, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                  int64_t groups = 1) {
  Conv2dDims d{batch, size, size, in, out, kernel, kernel};
  d.stride_h = d.stride_w = stride;
  d.pad_top = d.pad_bottom = d.pad_left = d.pad_right = kernel / 2;
  d.groups = groups;
  return d;
}

struct Limits {
  CostLimits forward{}, backward_data{}, backward_weight{};
};

// All three passes, in f32 and bf16.
void check_costs(const Conv2dDims& d, const Limits& limits = {}) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Simt simt;
    const int64_t size = static_cast<int64_t>(size_of(dtype));
    const int64_t in = d.batch * d.in_h * d.in_w * d.in_channels,
                  out = d.batch * d.out_h() * d.out_w() * d.out_channels;
    const int64_t filters = d.out_channels * d.kernel_h * d.kernel_w * (d.in_channels / d.groups);
    const Tensor x = simt.zeros(in, dtype), y = simt.zeros(out, dtype), w = simt.zeros(filters, dtype),
                 bias = simt.zeros(d.out_channels), dweight = simt.zeros(filters);
    const std::string what = concat(name(dtype), " ", d.in_h, "x", d.in_w, "x", d.in_channels, " -> ", d.out_channels,
                                    " kernel ", d.kernel_h, " stride ", d.stride_h);
    check_cost(
        what + " forward", (in + out + filters) * size + d.out_channels * 4,
        [&] {
          kernels::conv2d_forward(simt.stream(), d, x.data(), dtype, w.data(), dtype, y.data(), dtype,
                                  {.bias = bias.f32(), .activation = kernels::Activation::relu});
        },
        limits.forward);
    check_cost(
        what + " backward_data", (in + out + filters) * size,
        [&] { kernels::conv2d_backward_data(simt.stream(), d, y.data(), dtype, w.data(), dtype, {x.data()}, dtype); },
        limits.backward_data);
    check_cost(
        what + " backward_weight", (in + out) * size + filters * 4,
        [&] {
          kernels::conv2d_backward_weight(simt.stream(), d, x.data(), dtype, y.data(), dtype, {dweight.data()}, {});
        },
        limits.backward_weight);
  }
}

TEST_CASE("trace: depthwise convolutions of EfficientNet have no races and move what they must") {
  // With few images there are partial sums for the sake of parallelism, not small beside the images; and a thread has
  // one item only, beside which filters and the conflicts of those who bring them to shared memory count.
  const Limits limits{{.wavefronts = 1.25}, {.wavefronts = 1.25}, {.bytes = 1.3}};
  check_costs(square(1, 56, 32, 32, 3, 1, 32), limits);
  check_costs(square(1, 56, 96, 96, 3, 2, 96), limits);
  check_costs(square(2, 28, 144, 144, 5, 1, 144), limits);
  check_costs(square(4, 14, 240, 240, 5, 2, 240), limits);
  check_costs(square(8, 7, 192, 192, 7, 1, 192), limits);
}

}  // namespace
