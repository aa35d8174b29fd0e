#include "vtl/kernels/gemm/gemm_onednn.h"

#include <memory>
#include <string>

#include "vtl/kernels/cpu/onednn.h"
#include "vtl/kernels/gemm/activate_rows.h"

namespace vtl::kernels::onednn {
namespace {

constexpr char kKind = 'g';  // of keys, among those of other primitives

// The layout of a batch of op(X) with `rows` x `cols`.
Md layout(int64_t batch, int64_t rows, int64_t cols, DType dtype, int64_t stride, int64_t batch_stride,
          Transpose transpose) {
  const int64_t down = transpose == Transpose::yes ? 1 : stride, right = transpose == Transpose::yes ? stride : 1;
  if (batch == 1) return {{rows, cols}, type(dtype), dnnl::memory::dims{down, right}};
  // One matrix for all products is a broadcast dimension.
  if (batch_stride == 0)
    return {{1, rows, cols}, type(dtype), dnnl::memory::dims{stride * (down == 1 ? cols : rows), down, right}};
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

// op(B) as a product reads it. `format` names the layout in keys; empty for the caller's own.
struct Weight {
  Md layout;
  const void* data;
  std::string format;
};

// The layout that oneDNN likes best for op(B) with `dims.m` rows of op(A), and its name. Null when that is the caller's
// own.
struct BestLayout {
  Key key;
  std::shared_ptr<const Compiled> compiled;

  BestLayout(const Matrix& b, const GemmDims& dims) : key(kKind) {
    const GemmDims one{dims.m, dims.n, dims.k, 1};
    const Matrix a{nullptr, b.dtype, dims.k};
    const MatrixOut c{nullptr, b.dtype, dims.n};
    const PostOps post_ops({}, &one, 1);
    key = key_of(a, b, c, one, post_ops).add('p');
    compiled = PrimitiveCache::instance().get(key, [&] {
      const Layouts layouts(a, b, c, one);
      Compiled made = make(layouts, Md({one.k, one.n}, type(b.dtype), dnnl::memory::format_tag::any), post_ops);
      return made.weights == layouts.b ? Compiled{} : made;
    });
  }
  explicit operator bool() const { return static_cast<bool>(*compiled); }
  const Md& layout() const { return compiled->weights; }
};

Md own_layout(const Matrix& b, const GemmDims& d) { return layout(1, d.k, d.n, b.dtype, b.stride, 0, b.transpose); }

// With this many rows a copy of op(B) into its best layout pays for itself within the call.
constexpr int64_t kRowsThatPayForPacking = 1024;

// One product, or a batch of them; the activation is not applied when the value before it is saved. False when oneDNN
// has no fast kernel for it.
bool multiply(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
              const Epilogue& epilogue, const Weight& weight) {
  const PostOps post_ops(epilogue, c.data, alpha);
  const Layouts layouts(a, b, c, dims);
  const bool own = weight.format.empty();
  Key key = key_of(a, b, c, dims, post_ops).add(weight.format);
  const auto compiled =
      PrimitiveCache::instance().get(key, [&] { return make(layouts, own ? layouts.b : weight.layout, post_ops); });
  if (!*compiled) return false;
  Arguments arguments{{DNNL_ARG_SRC, memory(layouts.a, a.data)},
                      {DNNL_ARG_WEIGHTS, memory(own ? layouts.b : weight.layout, weight.data)},
                      {DNNL_ARG_DST, memory(layouts.c, epilogue.preactivation ? epilogue.preactivation : c.data)}};
  post_ops.add_to(arguments, epilogue, layouts.channel, layouts.c);
  if (post_ops.native_bias()) arguments[DNNL_ARG_BIAS] = memory(layouts.channel, epilogue.bias);
  execute(stream, *compiled, std::move(arguments));
  return true;
}

// The product with the value before the activation saved.
bool multiply_and_save(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims,
                       float alpha, const Epilogue& epilogue, const Weight& weight) {
  if (!multiply(stream, a, b, c, dims, alpha, epilogue, weight)) return false;
  for (int64_t i = 0; i < dims.batch; ++i) {
    const int64_t offset = i * c.batch_stride * static_cast<int64_t>(size_of(c.dtype));
    activate_rows(stream, epilogue.activation, c.dtype, static_cast<const char*>(epilogue.preactivation) + offset,
                  static_cast<char*>(c.data) + offset, dims.m, dims.n, c.stride);
  }
  return true;
}

}  // namespace

bool try_gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
              const Epilogue& epilogue, const PackedWeight* packed) {
  if (dims.k <= 0) return false;
  const auto run = epilogue.preactivation ? multiply_and_save : multiply;
  const auto* kept = dynamic_cast<const PackedMemory*>(packed);
  // It may have been packed for a convolution that goes another way now.
  if (kept && kept->format[0] == kKind &&
      run(stream, a, b, c, dims, alpha, epilogue, {kept->layout, kept->data, kept->format}))
    return true;
  if (dims.batch == 1 && a.transpose == Transpose::no && dims.m >= kRowsThatPayForPacking) {
    if (const BestLayout best(b, dims); best) {
      const Scratch scratch = stream.scratch(best.layout().get_size());
      reorder(best.key, own_layout(b, dims), b.data, best.layout(), scratch.data());
      if (run(stream, a, b, c, dims, alpha, epilogue, {best.layout(), scratch.data(), best.key.bytes()})) return true;
    }
  }
  return run(stream, a, b, c, dims, alpha, epilogue, {{}, b.data, {}});
}

PackedWeightPtr pack_gemm(Stream&, const Matrix& b, const GemmDims& dims) {
  if (dims.m <= 0 || dims.n <= 0 || dims.k <= 0) return nullptr;
  const BestLayout best(b, dims);
  if (!best) return nullptr;
  auto packed = std::make_shared<PackedMemory>(best.layout(), best.key.bytes());
  reorder(best.key, own_layout(b, dims), b.data, packed->layout, packed->data);
  return packed;
}

}  // namespace vtl::kernels::onednn
