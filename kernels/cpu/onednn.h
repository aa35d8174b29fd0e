// What the rooms on oneDNN share: the engine, a cache of primitives, epilogues as post-ops. Compiles with oneDNN 2.6
// and 3.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include <dnnl.hpp>

#include "vtl/core/allocator.h"
#include "vtl/core/cpu.h"
#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/epilogue.h"

namespace vtl::kernels::onednn {

using Arguments = std::unordered_map<int, dnnl::memory>;
using Md = dnnl::memory::desc;

// Limits oneDNN to cpu_level() before it compiles its first kernel.
inline const dnnl::engine& engine() {
  static const dnnl::engine cpu = [] {
    if (cpu_level() == CpuLevel::avx2) dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
    if (cpu_level() == CpuLevel::avx512) dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core);
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return cpu;
}

inline dnnl::stream& queue() {
  thread_local dnnl::stream cpu(engine());
  return cpu;
}

inline dnnl::memory::data_type type(DType dtype) {
  return dtype == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

inline dnnl::memory memory(const Md& md, const void* data) { return {md, engine(), const_cast<void*>(data)}; }

// Names a primitive: the bytes of everything that it was made for. The number of threads is always part of it.
class Key {
 public:
  explicit Key(char kind) {
    add(kind);
    add(compute_threads());
  }
  template <class T>
  Key& add(const T& value) {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>, "padding has no fixed bytes");
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Key& add(const std::string& bytes) {
    bytes_ += bytes;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// A compiled primitive and the layouts that it chose. Without a primitive: oneDNN has no fast one.
struct Compiled {
  dnnl::primitive primitive;
  Md src, weights, dst, scratchpad;
  std::string implementation;

  explicit operator bool() const { return static_cast<bool>(primitive); }
};

// The last kCapacity primitives that were asked for: making one takes longer than a small product.
class PrimitiveCache {
 public:
  static PrimitiveCache& instance() {
    static PrimitiveCache cache;
    return cache;
  }
  // `make` may throw dnnl::error, which means that there is none.
  template <class Make>
  std::shared_ptr<const Compiled> get(const Key& key, Make&& make) {
    const std::lock_guard lock(mutex_);
    if (const auto found = index_.find(key.bytes()); found != index_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->second;
    }
    auto compiled = std::make_shared<Compiled>();
    try {
      *compiled = make();
    } catch (const dnnl::error&) {
    }
    entries_.emplace_front(key.bytes(), std::move(compiled));
    index_[key.bytes()] = entries_.begin();
    if (entries_.size() > kCapacity) {
      index_.erase(entries_.back().first);
      entries_.pop_back();
    }
    return entries_.front().second;
  }

 private:
  static constexpr size_t kCapacity = 1024;
  using Entry = std::pair<std::string, std::shared_ptr<const Compiled>>;
  std::mutex mutex_;
  std::list<Entry> entries_;
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
};

// oneDNN's reference kernels are slower than ours by orders of magnitude: they count as no kernel.
template <class PrimitiveDesc, class Primitive>
Compiled compile(const PrimitiveDesc& pd, Primitive*, const Md& src, const Md& weights, const Md& dst) {
  const std::string implementation = pd.impl_info_str();
  if (implementation.find("ref") != std::string::npos) return {};
  return {Primitive(pd), src, weights, dst, pd.scratchpad_desc(), implementation};
}

inline void execute(Stream& stream, const Compiled& compiled, Arguments arguments) {
  const Scratch scratch = stream.scratch(compiled.scratchpad.get_size());
  arguments[DNNL_ARG_SCRATCHPAD] = memory(compiled.scratchpad, scratch.data());
  try {
    compiled.primitive.execute(queue(), arguments);
    queue().wait();
  } catch (const dnnl::error& error) {
    fail(ErrorKind::internal, "oneDNN (", compiled.implementation, "): ", error.what());
  }
}

// Copies between layouts; Sum::add adds to what is there. `name` says which two layouts these are.
enum class Sum { overwrite, add };
inline void reorder(const Key& name, const Md& from_layout, const void* from, const Md& to_layout, void* to,
                    Sum mode = Sum::overwrite) {
  Key key = name;
  const auto compiled = PrimitiveCache::instance().get(key.add('r').add(mode), [&] {
    dnnl::primitive_attr attr;
    if (mode == Sum::add) {
      dnnl::post_ops ops;
      ops.append_sum(1.0f);
      attr.set_post_ops(ops);
    }
    const dnnl::reorder::primitive_desc pd(engine(), from_layout, engine(), to_layout, attr);
    return Compiled{dnnl::reorder(pd), from_layout, {}, to_layout, {}, pd.impl_info_str()};
  });
  if (!*compiled) fail(ErrorKind::internal, "oneDNN has no copy between two layouts of a weight");
  try {
    compiled->primitive.execute(queue(),
                                {{DNNL_ARG_FROM, memory(from_layout, from)}, {DNNL_ARG_TO, memory(to_layout, to)}});
    queue().wait();
  } catch (const dnnl::error& error) {
    fail(ErrorKind::internal, "oneDNN (reorder): ", error.what());
  }
}

// A weight in a layout that oneDNN chose for `compiled`.
class PackedMemory : public PackedWeight {
 public:
  PackedMemory(Md layout, std::string format)
      : layout(std::move(layout)), format(std::move(format)), data(allocate(Device::cpu(), this->layout.get_size())) {}
  ~PackedMemory() override { deallocate(Device::cpu(), data); }
  PackedMemory(const PackedMemory&) = delete;
  PackedMemory& operator=(const PackedMemory&) = delete;

  const Md layout;
  const std::string format;  // the key that led to the layout, which therefore names it
  void* const data;
};

// What an epilogue asks of a primitive. The value before the activation cannot be saved by a post-op: then the
// primitive writes it, and the activation follows on its own.
struct PostOps {
  bool scale, bias, residual, in_place;
  Activation activation;
  float alpha;

  PostOps(const Epilogue& e, const void* out, float alpha)
      : scale(e.scale),
        bias(e.bias),
        residual(e.residual),
        in_place(e.residual == (e.preactivation ? e.preactivation : out)),
        activation(e.preactivation ? Activation::none : e.activation),
        alpha(alpha) {}

  // The bias can be the primitive's own argument: nothing comes between it and the sum.
  bool native_bias() const { return bias && !scale && alpha == 1; }

  void add_to(Key& key) const { key.add(scale).add(bias).add(residual).add(in_place).add(activation).add(alpha); }

  // `channel`: the layout of scale and bias, broadcast to the output; `out`: that of the output.
  dnnl::primitive_attr attributes(const Md& channel, const Md& out) const {
    dnnl::post_ops ops;
    if (alpha != 1) append(ops, dnnl::algorithm::eltwise_linear, alpha, 0);
    if (scale) ops.append_binary(dnnl::algorithm::binary_mul, channel);
    if (bias && !native_bias()) ops.append_binary(dnnl::algorithm::binary_add, channel);
    if (residual && in_place) ops.append_sum(1.0f);
    if (residual && !in_place) ops.append_binary(dnnl::algorithm::binary_add, out);
    switch (activation) {
      case Activation::none:
        break;
      case Activation::relu:
        append(ops, dnnl::algorithm::eltwise_relu, 0, 0);
        break;
      case Activation::relu6:
        append(ops, dnnl::algorithm::eltwise_clip, 0, 6);
        break;
      case Activation::silu:
        append(ops, dnnl::algorithm::eltwise_swish, 1, 0);
        break;
      case Activation::gelu_erf:
        append(ops, dnnl::algorithm::eltwise_gelu_erf, 0, 0);
        break;
      case Activation::gelu_tanh:
        append(ops, dnnl::algorithm::eltwise_gelu_tanh, 0, 0);
        break;
      case Activation::gelu_quick:
        append(ops, dnnl::algorithm::eltwise_swish, 1.702f, 0);
        break;
      case Activation::sigmoid:
        append(ops, dnnl::algorithm::eltwise_logistic, 0, 0);
        break;
    }
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attr;
  }

  // The operands of attributes(), in the same order. A native bias is left to the caller.
  void add_to(Arguments& arguments, const Epilogue& e, const Md& channel, const Md& out) const {
    int index = alpha != 1 ? 1 : 0;
    const auto next = [&](const Md& md, const void* data) {
      arguments[DNNL_ARG_ATTR_MULTIPLE_POST_OP(index++) | DNNL_ARG_SRC_1] = memory(md, data);
    };
    if (scale) next(channel, e.scale);
    if (bias && !native_bias()) next(channel, e.bias);
    if (residual && !in_place) next(out, e.residual);
  }

 private:
  static void append(dnnl::post_ops& ops, dnnl::algorithm algorithm, float alpha, float beta) {
#if DNNL_VERSION_MAJOR >= 3
    ops.append_eltwise(algorithm, alpha, beta);
#else
    ops.append_eltwise(1.0f, algorithm, alpha, beta);
#endif
  }
};

}  // namespace vtl::kernels::onednn
