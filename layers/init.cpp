#include "vtl/layers/init.h"

#include <cmath>
#include <vector>

#include "vtl/core/rng.h"

namespace vtl::layers {
namespace {

// FNV-1a: which numbers a parameter gets depends on its name only.
uint32_t hash(std::string_view text) {
  uint32_t h = 2166136261u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 16777619u;
  return h;
}

template <class Next>
Tensor filled(const Shape& shape, Next&& next) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (auto& v : values) v = next();
  return Tensor::from(std::span<const float>(values), shape);
}

}  // namespace

Tensor init_constant(const Shape& shape, float value) {
  return filled(shape, [&] { return value; });
}
Tensor init_zeros(const Shape& shape) { return init_constant(shape, 0.0f); }
Tensor init_ones(const Shape& shape) { return init_constant(shape, 1.0f); }

Tensor init_uniform(const Shape& shape, float bound, uint64_t seed, std::string_view name) {
  RandomSequence random(seed, RandomStream::init, hash(name), 0);
  return filled(shape, [&] { return random.uniform(-bound, bound); });
}

Tensor init_trunc_normal(const Shape& shape, float deviation, uint64_t seed, std::string_view name) {
  RandomSequence random(seed, RandomStream::init, hash(name), 0);
  return filled(shape, [&] {
    float z = random.normal();
    while (std::abs(z) > 2.0f) z = random.normal();
    return z * deviation;
  });
}

Tensor init_he_fan_out(const Shape& shape, int64_t fan_out, uint64_t seed, std::string_view name) {
  RandomSequence random(seed, RandomStream::init, hash(name), 0);
  const float deviation = std::sqrt(2.0f / static_cast<float>(fan_out));
  return filled(shape, [&] { return random.normal() * deviation; });
}

Tensor init_fan_in(const Shape& shape, int64_t fan_in, uint64_t seed, std::string_view name) {
  return init_uniform(shape, 1.0f / std::sqrt(static_cast<float>(fan_in)), seed, name);
}

}  // namespace vtl::layers
