#include "vtl/kernels/gemm/gemm_onednn.h"

#include "vtl/kernels/cpu/onednn.h"
#include "vtl/kernels/gemm/activate_rows.h"

namespace vtl::kernels::onednn {
namespace {

constexpr char kKind = 'g';  // of keys, among those of other primitives

// The layout of a batch of op(X) with `rows` x `cols`.
Md layout(int64_t batch, int64_t rows, int64_t cols, DType dtype, int64_t stride, int64_t batch_stride, Transpose transpose) {
  const int64_t down = transpose == Transpose::yes ? 1 : stride, right = transpose == Transpose::yes ? stride : 1;
  if (batch == 1) return {{rows, cols}, type(dtype), dnnl::memory::dims{down, right}};
  // One matrix for all products is a broadcast dimension.
  if (batch_stride == 0) return {{1, rows, cols}, type(dtype), dnnl::memory::dims{stride * (down == 1 ? cols : rows), down, right}};
  return {{batch, rows, cols}, type(dtype), dnnl::memory::dims{batch_stride, down, right}};
}

struct Layouts {
  Md a, b, c, channel;

  Layouts(const Matrix& left, const Matrix& right, const MatrixOut& out, const GemmDims& d)
      : a(layout(d.batch, d.m, d.k, left.dtype, left.stride, left.batch_stride, left.transpose)),
        b(layout(d.batch, d.k, d.n, right.dtype, right.stride, right.batch_stride, right.transpose)),
        c(layout(d.batch, d.m, d.n, out.dtype, out.stride, out.batch_stride, Transpose::no)) {
    dnnl::memory::dims dims(d.batch == 1 ? 2 : 3, 1);
    dims.back() = d.n;
    channel = Md(dims, type(DType::f32), d.batch == 1 ? dnnl::memory::format_tag::ab : dnnl::memory::format_tag::abc);
  }
};

Key key_of(const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& d, const PostOps& post_ops) {
  Key key(kKind);
  key.add(d.m).add(d.n).add(d.k).add(d.batch);
  key.add(a.dtype).add(a.stride).add(a.transpose).add(a.batch_stride);
  key.add(b.dtype).add(b.stride).add(b.transpose).add(b.batch_stride);
  key.add(c.dtype).add(c.stride).add(c.batch_stride);
  post_ops.add_to(key);
  return key;
}

Compiled make(const Layouts& layouts, const Md& weights, const PostOps& post_ops) {
  const auto attr = post_ops.attributes(layouts.channel, layouts.c);
  const Md bias = post_ops.native_bias() ? layouts.channel : Md();
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc pd(engine(), layouts.a, weights, bias, layouts.c, attr);
#else
  const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(layouts.a, weights, bias, layouts.c), attr, engine());
#endif
  return compile(pd, static_cast<dnnl::matmul*>(nullptr), pd.src_desc(), pd.weights_desc(), pd.dst_desc());
}

// A batch whose matrices lie one below the other is one taller matrix when all share op(B).
bool flattens(const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& d) {
  return d.batch > 1 && b.batch_stride == 0 && a.transpose == Transpose::no && a.batch_stride == d.m * a.stride &&
         c.batch_stride == d.m * c.stride;
}

}  // namespace

bool try_gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
              const Epilogue& epilogue, const PackedWeight* packed) {
  if (dims.k <= 0) return false;
  if (flattens(a, b, c, dims)) {
    const GemmDims flat{dims.m * dims.batch, dims.n, dims.k, 1};
    return try_gemm(stream, a, b, c, flat, alpha, epilogue, packed);
  }
  const PostOps post_ops(epilogue, c.data, alpha);
  const auto* packed_b = dynamic_cast<const PackedMemory*>(packed);
  if (packed_b && packed_b->format[0] != kKind) packed_b = nullptr;  // packed for a convolution that went another way
  const Layouts layouts(a, b, c, dims);
  Key key = key_of(a, b, c, dims, post_ops);
  if (packed_b) key.add(packed_b->format);
  const auto compiled = PrimitiveCache::instance().get(
      key, [&] { return make(layouts, packed_b ? packed_b->layout : layouts.b, post_ops); });
  if (!*compiled) return packed_b ? try_gemm(stream, a, b, c, dims, alpha, epilogue, nullptr) : false;

  void* const out = epilogue.preactivation ? epilogue.preactivation : c.data;
  Arguments arguments{{DNNL_ARG_SRC, memory(layouts.a, a.data)},
                      {DNNL_ARG_WEIGHTS, packed_b ? memory(packed_b->layout, packed_b->data) : memory(layouts.b, b.data)},
                      {DNNL_ARG_DST, memory(layouts.c, out)}};
  post_ops.add_to(arguments, epilogue, layouts.channel, layouts.c);
  if (post_ops.native_bias()) arguments[DNNL_ARG_BIAS] = memory(layouts.channel, epilogue.bias);
  execute(stream, *compiled, std::move(arguments));

  if (epilogue.preactivation)
    for (int64_t i = 0; i < dims.batch; ++i) {
      const int64_t offset = i * c.batch_stride * static_cast<int64_t>(size_of(c.dtype));
      activate_rows(stream, epilogue.activation, c.dtype, static_cast<const char*>(out) + offset,
                    static_cast<char*>(c.data) + offset, dims.m, dims.n, c.stride);
    }
  return true;
}

PackedWeightPtr pack_gemm(Stream&, const Matrix& b, const GemmDims& dims) {
  if (dims.m <= 0 || dims.n <= 0 || dims.k <= 0) return nullptr;
  const GemmDims one{dims.m, dims.n, dims.k, 1};
  const Matrix a{nullptr, b.dtype, dims.k};
  const MatrixOut c{nullptr, b.dtype, dims.n};
  const PostOps post_ops({}, &one, 1);
  const Layouts layouts(a, b, c, one);
  Key key = key_of(a, b, c, one, post_ops).add('p');
  const auto compiled = PrimitiveCache::instance().get(key, [&] {
    return make(layouts, Md({one.k, one.n}, type(b.dtype), dnnl::memory::format_tag::any), post_ops);
  });
  if (!*compiled || compiled->weights == layouts.b) return nullptr;
  auto packed = std::make_shared<PackedMemory>(compiled->weights, key.bytes());
  reorder(key, layouts.b, b.data, packed->layout, packed->data);
  return packed;
}

}  // namespace vtl::kernels::onednn
