#include "vtl/layers/tokens.h"

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/tokens/tokens.h"

namespace vtl::layers {

Tensor insert_tokens(const Tensor& patches, std::span<const Tensor> prefix, const Tensor& position) {
  VTL_CHECK(patches.rank() == 3, "insert_tokens: patches have shape ", patches.shape(), ", expected [batch, count, dim]");
  VTL_CHECK(prefix.size() <= kernels::kMaxPrefixes, "insert_tokens: ", prefix.size(), " prefixes, expected at most ", kernels::kMaxPrefixes);
  const int64_t dim = patches.dim(2);
  kernels::PrefixTokens tokens;
  for (size_t i = 0; i < prefix.size(); ++i) {
    VTL_CHECK(prefix[i].rank() == 3 && prefix[i].dim(2) == dim, "insert_tokens: a prefix of shape ", prefix[i].shape(), ", expected [1, n, ", dim, "]");
    tokens.data[i] = prefix[i].f32();
    tokens.count[i] = prefix[i].dim(1);
  }
  const int64_t total = tokens.total() + patches.dim(1), positions = position.defined() ? position.dim(1) : 0;
  VTL_CHECK(!position.defined() || (position.dim(2) == dim && (positions == total || positions == patches.dim(1))),
            "insert_tokens: the position embedding has shape ", position.defined() ? position.shape() : Shape{}, ", expected ", total, " or ",
            patches.dim(1), " rows of ", dim, "; the input size does not fit the model's grid");
  const kernels::TokensDims dims{patches.dim(0), patches.dim(1), dim, positions};
  Tensor y = Tensor::empty({dims.batch, total, dim}, patches.dtype(), patches.device());
  kernels::insert_tokens_forward(stream(), patches.dtype(), patches.data(), tokens, position.defined() ? position.f32() : nullptr, y.data(), dims);

  std::vector<const Tensor*> inputs{&patches, &position};
  for (const auto& p : prefix) inputs.push_back(&p);
  record("insert_tokens", {&y}, inputs, [tokens, dims, prefixes = prefix.size()](Grads& g) {
    const Tensor dy = g.out();
    kernels::InsertTokensGrads grads;
    grads.dpatches = g.dest(0);
    grads.dpositions = g.dest(1);
    for (size_t i = 0; i < prefixes; ++i) grads.dprefix[i] = g.dest(2 + static_cast<int>(i));
    kernels::insert_tokens_backward(stream(), dy.dtype(), dy.data(), tokens.count, grads, dims);
  });
  return y;
}

Tensor pool_tokens(const Tensor& x, int64_t begin, int64_t end) {
  VTL_CHECK(x.rank() == 3 && 0 <= begin && begin < end && end <= x.dim(1), "pool_tokens: tokens [", begin, ", ", end, ") of an input ", x.shape());
  const kernels::PoolTokensDims dims{x.dim(0), x.dim(1), x.dim(2), begin, end};
  Tensor y = Tensor::empty({dims.batch, dims.dim}, x.dtype(), x.device());
  kernels::pool_tokens_forward(stream(), x.dtype(), x.data(), y.data(), dims);
  record("pool_tokens", {&y}, {&x}, [dims](Grads& g) {
    const Tensor dy = g.out();
    kernels::pool_tokens_backward(stream(), dy.dtype(), dy.data(), g.dest(0), dims);
  });
  return y;
}

}  // namespace vtl::layers
