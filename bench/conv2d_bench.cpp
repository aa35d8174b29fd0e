// Convolutions at the shapes of ResNet-18, ResNet-50 and EfficientNet-Lite0: forward and both gradients.
// Depthwise ones are held against the memory's speed, the others against the matrix product's.
#include "vtl/kernels/conv2d/conv2d.h"

#include <string>

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"

namespace {

using namespace vtl;
using kernels::Conv2dDims;

struct Sizes {
  const char* name;
  int64_t size, in, out, kernel, stride, pad, groups = 1;
};
constexpr Sizes kSizes[] = {{"resnet_stem", 224, 3, 64, 7, 2, 3},
                            {"resnet18_stage1", 56, 64, 64, 3, 1, 1},
                            {"resnet18_stage2_first", 56, 64, 128, 3, 2, 1},
                            {"resnet18_stage2", 28, 128, 128, 3, 1, 1},
                            {"resnet18_stage3", 14, 256, 256, 3, 1, 1},
                            {"resnet18_stage4", 7, 512, 512, 3, 1, 1},
                            {"resnet50_stage1_expand", 56, 64, 256, 1, 1, 0},
                            {"resnet50_stage3_shortcut", 28, 512, 1024, 1, 2, 0},
                            {"resnet50_stage4_reduce", 7, 2048, 512, 1, 1, 0},
                            {"efficientnet_lite0_expand", 28, 40, 240, 1, 1, 0},
                            {"efficientnet_lite0_depthwise_112", 112, 32, 32, 3, 1, 1, 32},
                            {"efficientnet_lite0_depthwise_56", 56, 144, 144, 5, 2, 2, 144},
                            {"efficientnet_lite0_depthwise_14", 14, 672, 672, 5, 1, 2, 672},
                            {"vit_s16_patches", 224, 3, 384, 16, 16, 0}};

Conv2dDims dims_of(const Sizes& s) {
  Conv2dDims d{bench::images(16), s.size, s.size, s.in, s.out, s.kernel, s.kernel};
  d.stride_h = d.stride_w = s.stride;
  d.pad_top = d.pad_bottom = d.pad_left = d.pad_right = s.pad;
  d.groups = s.groups;
  return d;
}

struct Problem {
  Conv2dDims d;
  DType dtype;
  Tensor x, w, y, dw;

  Problem(const Conv2dDims& d, DType dtype)
      : d(d),
        dtype(dtype),
        x(bench::values({d.batch, d.in_h, d.in_w, d.in_channels}, dtype)),
        w(bench::values({d.out_channels, d.kernel_h, d.kernel_w, d.in_channels / d.groups}, dtype)),
        y(bench::values({d.batch, d.out_h(), d.out_w(), d.out_channels}, dtype)),
        dw(bench::values(w.shape(), DType::f32)) {}

  void forward() const { kernels::conv2d_forward(stream(), d, x.data(), dtype, w.data(), dtype, y.data(), dtype); }
  void backward_data() const {
    kernels::conv2d_backward_data(stream(), d, y.data(), dtype, w.data(), dtype, {x.data()}, dtype);
  }
  void backward_weight() const {
    kernels::conv2d_backward_weight(stream(), d, x.data(), dtype, y.data(), dtype, {dw.data()}, {});
  }
  void report(benchmark::State& state) const {
    bench::report_bytes(state, static_cast<double>(x.bytes() + y.bytes() + w.bytes()));
    if (!d.is_depthwise())
      bench::report_flops(state, 2.0 * static_cast<double>(y.numel() * w.numel() / d.out_channels), dtype);
  }
};

[[maybe_unused]] const int kRegistered = [] {
  for (const Sizes& s : kSizes) {
    const auto add = [&](const char* pass, void (Problem::*call)() const) {
      bench::add_for_floats(std::string("conv2d_") + pass + "/" + s.name, [=](benchmark::State& state, DType dtype) {
        const Problem problem(dims_of(s), dtype);
        bench::run(state, [&] { (problem.*call)(); });
        problem.report(state);
      });
    };
    add("forward", &Problem::forward);
    if (s.in > 3) add("backward_data", &Problem::backward_data);  // nothing learns below a stem
    add("backward_weight", &Problem::backward_weight);
  }
  return 0;
}();

}  // namespace
