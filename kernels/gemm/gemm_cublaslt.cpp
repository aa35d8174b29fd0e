#include "vtl/kernels/gemm/gemm_cublaslt.h"

#include <dlfcn.h>

#include <optional>

#include "vtl/kernels/gemm/cublaslt_products.h"

namespace vtl::kernels::cublaslt {
namespace {

// Its functions and their constants have been the same since version 12. Never closed: products may run at exit.
void* open_library() {
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"})
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  return nullptr;
}

std::optional<Functions> find_functions() {
  void* const library = open_library();
  if (!library) return {};
  Functions found{};
  bool all = true;
  const auto find = [&]<class Fn>(Fn*& function, const char* name) {
    function = reinterpret_cast<Fn*>(dlsym(library, name));
    all = all && function;
  };
#define VTL_FIND(name) find(found.name, "cublasLt" #name);
  VTL_CUBLASLT_FUNCTIONS(VTL_FIND)
#undef VTL_FIND
  if (!all) return {};
  return found;
}

// Null without the library.
Products* products() {
  static Products* const found = [] {
    const std::optional<Functions> functions = find_functions();
    return functions ? new Products(*functions) : nullptr;  // outlives everything that could run a product
  }();
  return found;
}

}  // namespace

bool is_there() { return products() != nullptr; }

bool try_gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
              const Epilogue& epilogue) {
  return is_there() && products()->try_gemm(stream, a, b, c, dims, alpha, epilogue);
}

}  // namespace vtl::kernels::cublaslt
