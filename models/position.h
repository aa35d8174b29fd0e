// Position embeddings of vision transformers on another grid.
#pragma once

#include "vtl/core/tensor.h"

namespace vtl::models {

struct Grid {
  int64_t height = 0, width = 0;

  int64_t count() const { return height * width; }
  friend bool operator==(const Grid&, const Grid&) = default;
};

// embedding: f32 [1, prefix + from.count(), dim] on the host. The prefix stays, the rest is resized as timm does it:
// bicubic with antialias, in f32. Returns [1, prefix + to.count(), dim].
Tensor resample_position(const Tensor& embedding, int64_t prefix, const Grid& from, const Grid& to);

}  // namespace vtl::models
