#include "vtl/layers/tokens.h"

#include <doctest/doctest.h>

#include "vtl/core/error.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;

struct Grid {
  int64_t batch, patches, dim, positions;
  std::vector<int64_t> prefixes;
};

OpCase insert_case(const Grid& s) {
  int64_t prefix = 0;
  OpCase op;
  op.inputs = {{"patches", {s.batch, s.patches, s.dim}}, {"position", {1, s.positions, s.dim}, Kind::parameter}};
  for (const int64_t n : s.prefixes) {
    op.inputs.push_back({concat("prefix", op.inputs.size()), {1, n, s.dim}, Kind::parameter});
    prefix += n;
  }
  op.name =
      concat("insert_tokens ", s.batch, "x", s.patches, "x", s.dim, " positions ", s.positions, " prefix ", prefix);
  op.define = [=](const auto& in) {
    Values rows;  // the prefix tokens, one after the other
    for (size_t i = 2; i < in.size(); ++i) rows.insert(rows.end(), in[i].begin(), in[i].end());
    const int64_t tokens = prefix + s.patches;
    Values y(static_cast<size_t>(s.batch * tokens * s.dim));
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t c = 0; c < s.dim; ++c) {
          double value = t < prefix ? rows[t * s.dim + c] : in[0][(b * s.patches + t - prefix) * s.dim + c];
          const int64_t row = t - (tokens - s.positions);
          if (row >= 0) value += in[1][row * s.dim + c];
          y[(b * tokens + t) * s.dim + c] = value;
        }
    return y;
  };
  op.run = [=](const auto& in) {
    return layers::insert_tokens(in[0], std::span<const Tensor>(in.data() + 2, in.size() - 2),
                                 s.positions ? in[1] : Tensor());
  };
  if (!s.positions) op.inputs[1].kind = Kind::constant;
  op.gradient_terms = static_cast<double>(s.batch) + 1;
  return op;
}

}  // namespace

TEST_CASE("insert_tokens puts prefix tokens in front and adds the position embedding to the last tokens") {
  for (const Grid& s :
       {Grid{1, 1, 1, 2, {1}}, Grid{3, 3, 31, 4, {1}}, Grid{2, 2, 33, 2, {1, 1, 2}}, Grid{5, 3, 8, 5, {1, 1}},
        Grid{2, 3, 5, 3, {}}, Grid{2, 3, 5, 0, {1, 2}}, Grid{0, 3, 5, 4, {1}}, Grid{2, 49, 96, 50, {1}}})
    examine(insert_case(s));
}

TEST_CASE("pool_tokens averages a range of tokens") {
  struct Range {
    int64_t batch, tokens, dim, begin, end;
  };
  for (const Range& s : {Range{1, 1, 1, 0, 1}, Range{3, 5, 31, 0, 1}, Range{2, 5, 33, 0, 2}, Range{4, 7, 300, 1, 7},
                         Range{0, 2, 3, 0, 1}}) {
    OpCase op;
    op.name = concat("pool_tokens ", s.batch, "x", s.tokens, "x", s.dim, " [", s.begin, ", ", s.end, ")");
    op.inputs = {{"x", {s.batch, s.tokens, s.dim}}};
    op.define = [=](const auto& in) {
      Values y(static_cast<size_t>(s.batch * s.dim));
      for (int64_t b = 0; b < s.batch; ++b)
        for (int64_t t = s.begin; t < s.end; ++t)
          for (int64_t c = 0; c < s.dim; ++c)
            y[b * s.dim + c] += in[0][(b * s.tokens + t) * s.dim + c] / static_cast<double>(s.end - s.begin);
      return y;
    };
    op.run = [=](const auto& in) { return layers::pool_tokens(in[0], s.begin, s.end); };
    op.terms = static_cast<double>(s.end - s.begin);
    examine(op);
  }
}
