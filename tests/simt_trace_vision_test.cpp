#include "vtl/kernels/batchnorm/batchnorm.h"
#include "vtl/kernels/image/image.h"
#include "vtl/kernels/interpolate/interpolate.h"
#include "vtl/kernels/pool2d/pool2d.h"
#include "vtl/kernels/softmax_xent/softmax_xent.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using kernels::Activation;
using vtl::test::check_cost;
using vtl::test::Simt;

int64_t bytes_of(DType dtype) { return static_cast<int64_t>(size_of(dtype)); }

TEST_CASE("trace: softmax and cross entropy have no races and move what they must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t classes : {1000, 1200}) {
      const int64_t rows = 96, all = rows * classes, size = bytes_of(dtype);
      const Tensor logits = simt.zeros(all, dtype), labels = simt.zeros(rows, DType::i64);
      const Tensor lse = simt.zeros(rows), row_loss = simt.zeros(rows), mean = simt.zeros(1);
      const kernels::XentTarget target{labels.data_as<int64_t>(), nullptr, nullptr, 0.1f};
      const kernels::SoftmaxXentDims dims{rows, classes};
      check_cost("softmax_xent forward", all * size + 2 * rows * 4 + rows * 8 + 4, [&] {
        kernels::softmax_xent_forward(simt.stream(), dtype, logits.data(), target, row_loss.f32(), mean.f32(),
                                      lse.f32(), dims);
      });
      check_cost("softmax_xent backward", 2 * all * size + 2 * rows * 4 + rows * 8 + 4, [&] {
        kernels::softmax_xent_backward(simt.stream(), dtype, logits.data(), target, lse.f32(), row_loss.f32(),
                                       mean.f32(), {logits.data()}, dims);
      });
    }
}

TEST_CASE("trace: batchnorm has no races and moves what it must") {
  Simt simt;
  struct Shape {
    int64_t rows, channels;
  };
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const auto& [rows, channels] : {Shape{28 * 28 * 5, 64}, {14 * 14 * 5, 512}}) {
      const int64_t all = rows * channels, size = bytes_of(dtype), constants = 4 * channels * 4;
      const Tensor x = simt.zeros(all, dtype), y = simt.zeros(all, dtype), dy = simt.zeros(all, dtype),
                   g = simt.zeros(all, dtype);
      const Tensor mean = simt.zeros(channels), weight = simt.zeros(channels), sums = simt.zeros(2 * channels + 1);
      const kernels::BatchNormScale scale{mean.f32(), mean.f32(), weight.f32(), weight.f32()};
      const kernels::BatchNormDims dims{rows, channels};
      const kernels::BatchNormSaved saved{x.data(), nullptr, y.data()};
      check_cost("batchnorm statistics", all * size + (2 * channels + 1) * 4,
                 [&] { kernels::batchnorm_statistics(simt.stream(), dtype, x.data(), sums.f32(), dims); });
      check_cost("batchnorm apply", 2 * all * size + constants, [&] {
        kernels::batchnorm_apply(simt.stream(), dtype, x.data(), scale, nullptr, Activation::silu, y.data(), dims);
      });
      check_cost("batchnorm apply with a residual", 3 * all * size + constants, [&] {
        kernels::batchnorm_apply(simt.stream(), dtype, x.data(), scale, g.data(), Activation::relu, y.data(), dims);
      });
      check_cost("batchnorm backward_reduce", 4 * all * size + constants + 2 * channels * 4, [&] {
        kernels::batchnorm_backward_reduce(simt.stream(), dtype, dy.data(), saved, scale, Activation::relu, sums.f32(),
                                           {}, {}, g.data(), dims);
      });
      check_cost("batchnorm backward_apply", 3 * all * size + constants + 2 * channels * 4, [&] {
        kernels::batchnorm_backward_apply(simt.stream(), dtype, dy.data(), {x.data()}, scale, Activation::none,
                                          sums.f32(), rows, {g.data()}, {}, dims);
      });
      check_cost("batchnorm frozen_backward", 4 * all * size + constants + 2 * channels * 4, [&] {
        kernels::batchnorm_frozen_backward(simt.stream(), dtype, dy.data(), saved, scale, Activation::relu, {g.data()},
                                           {}, {mean.f32()}, {weight.f32()}, dims);
      });
    }
}

TEST_CASE("trace: pooling has no races and moves what it must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t size = bytes_of(dtype);
    const kernels::Pool2dDims d{2, 28, 28, 64, 14, 14, 3, 3, 2, 2, 1, 1, 1, 1};
    const int64_t in = 2 * 28 * 28 * 64, out = 2 * 14 * 14 * 64;
    const Tensor x = simt.zeros(in, dtype), y = simt.zeros(out, dtype), argmax = simt.zeros(out, DType::u8);
    auto* const winner = argmax.data_as<uint8_t>();
    check_cost("max_pool2d forward", (in + out) * size + out,
               [&] { kernels::max_pool2d_forward(simt.stream(), dtype, x.data(), y.data(), winner, d); });
    check_cost("max_pool2d backward", (in + out) * size + out,
               [&] { kernels::max_pool2d_backward(simt.stream(), dtype, y.data(), winner, {x.data()}, d); });
    const auto divisor = kernels::PoolDivisor::without_padding;
    check_cost("average_pool2d forward", (in + out) * size,
               [&] { kernels::average_pool2d_forward(simt.stream(), dtype, x.data(), y.data(), divisor, d); });
    check_cost("average_pool2d backward", (2 * in + out) * size, [&] {
      kernels::average_pool2d_backward(simt.stream(), dtype, y.data(), {x.data(), x.data()}, divisor, d);
    });
  }
}

TEST_CASE("trace: the global average has no races and moves what it must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const kernels::AdaptivePool2dDims d :
         {kernels::AdaptivePool2dDims{3, 7, 7, 1280}, kernels::AdaptivePool2dDims{2, 56, 56, 24}}) {
      const int64_t size = bytes_of(dtype), in = d.batch * d.height * d.width * d.channels, out = d.batch * d.channels;
      const Tensor x = simt.zeros(in, dtype), y = simt.zeros(out, dtype);
      check_cost("global average forward", (in + out) * size,
                 [&] { kernels::adaptive_average_pool2d_forward(simt.stream(), dtype, x.data(), y.data(), d); });
      check_cost("global average backward", (in + out) * size,
                 [&] { kernels::adaptive_average_pool2d_backward(simt.stream(), dtype, y.data(), {x.data()}, d); });
    }
}

TEST_CASE("trace: normalising images has no races and moves what it must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t pixels = 2 * 100 * 100, all = pixels * 3;
    const Tensor image = simt.zeros(all, DType::u8), y = simt.zeros(all, dtype), mean = simt.zeros(3);
    check_cost("image_normalize", all * (1 + bytes_of(dtype)), [&] {
      kernels::image_normalize(simt.stream(), dtype, image.data_as<uint8_t>(), y.data(), mean.f32(), mean.f32(),
                               {pixels, 3});
    });
  }
}

TEST_CASE("trace: interpolation has no races and moves what it must") {
  Simt simt;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const kernels::InterpolateDims d :
         {kernels::InterpolateDims{1, 14, 14, 384, 24, 24}, kernels::InterpolateDims{2, 24, 24, 192, 14, 14}}) {
      const int64_t in = d.outer * d.height * d.width * d.channels,
                    out = d.outer * d.out_height * d.out_width * d.channels;
      const Tensor x = simt.zeros(in, dtype), y = simt.zeros(out, dtype);
      const auto filter = kernels::Interpolation::bicubic;
      const test::CostLimits tables_are_small{.small = 0.01};
      const auto least_bytes = (in + out) * bytes_of(dtype);
      const auto forward = [&] {
        kernels::interpolate_forward(simt.stream(), dtype, x.data(), y.data(), filter, kernels::Antialias::on, d);
      };
      const auto backward = [&] {
        kernels::interpolate_backward(simt.stream(), dtype, y.data(), {x.data()}, filter, kernels::Antialias::on, d);
      };
      check_cost("interpolate forward", least_bytes, forward, tables_are_small);
      check_cost("interpolate backward", least_bytes, backward, tables_are_small);
    }
}

}  // namespace
