#include "vtl/models/position.h"

#include <cstring>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/layers/interpolate.h"

namespace vtl::models {

Tensor resample_position(const Tensor& embedding, int64_t prefix, const Grid& from, const Grid& to) {
  VTL_CHECK(embedding.rank() == 3 && embedding.dim(1) == prefix + from.count(), "resample_position: an embedding ",
            embedding.shape(), " for a prefix of ", prefix, " and a grid of ", from.height, " x ", from.width);
  NoTapeScope no_tape;
  const int64_t dim = embedding.dim(2);
  const Tensor grid =
      embedding.view(static_cast<size_t>(prefix * dim) * sizeof(float), {1, from.height, from.width, dim}, DType::f32);
  const Tensor resized =
      layers::interpolate(grid, to.height, to.width, kernels::Interpolation::bicubic, kernels::Antialias::on);
  const Tensor made = Tensor::empty({1, prefix + to.count(), dim}, DType::f32, Device::cpu());
  std::memcpy(made.f32(), embedding.f32(), static_cast<size_t>(prefix * dim) * sizeof(float));
  std::memcpy(made.f32() + prefix * dim, resized.f32(), resized.bytes());
  return made;
}

}  // namespace vtl::models
