// A module is a plain struct with `visit(Visitor&)` that names its members; this one list serves load, save, freeze, groups,
// counting and printing. No base class, no registration.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vtl/layers/parameter.h"

namespace vtl::layers {

struct Linear;
struct Conv2d;
struct BatchNorm;

// Override what you need. Names are full: "blocks.0.attn.qkv.weight".
class Visitor {
 public:
  virtual ~Visitor() = default;

  virtual void on_parameter(const std::string& /*name*/, Parameter&) {}
  // Saved and loaded, never learns: running statistics (f32), num_batches_tracked (i64).
  virtual void on_buffer(const std::string& /*name*/, Tensor&) {}
  // Called before the members of such a layer are visited; `name` has no trailing dot.
  virtual void on_linear(const std::string& /*name*/, Linear&) {}
  virtual void on_conv2d(const std::string& /*name*/, Conv2d&) {}
  virtual void on_batchnorm(const std::string& /*name*/, BatchNorm&) {}

  // A member: a module (anything with visit), a vector of modules (`name.0`, `name.1`, ...) or a parameter. An absent
  // parameter is passed over. An empty name adds nothing to the path.
  template <class Member>
  void operator()(std::string_view name, Member& member) {
    if constexpr (std::is_same_v<Member, Parameter>) {
      if (member.present()) on_parameter(path(name), member);
    } else {
      const size_t before = prefix_.size();
      if (!name.empty()) prefix_.append(name).push_back('.');
      if constexpr (requires { member.visit(*this); }) {
        enter(member);
        member.visit(*this);
      } else {
        for (size_t i = 0; i < member.size(); ++i) (*this)(std::to_string(i), member[i]);
      }
      prefix_.resize(before);
    }
  }
  void buffer(std::string_view name, Tensor& tensor) { on_buffer(path(name), tensor); }

 private:
  std::string path(std::string_view name) const { return prefix_ + std::string(name); }
  std::string here() const { return prefix_.empty() ? std::string() : prefix_.substr(0, prefix_.size() - 1); }
  template <class Module>
  void enter(Module& module) {
    if constexpr (std::is_same_v<Module, Linear>) on_linear(here(), module);
    if constexpr (std::is_same_v<Module, Conv2d>) on_conv2d(here(), module);
    if constexpr (std::is_same_v<Module, BatchNorm>) on_batchnorm(here(), module);
  }

  std::string prefix_;
};

}  // namespace vtl::layers
