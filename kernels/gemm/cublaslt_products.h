// Matrix products by the functions of cuBLASLt, wherever these come from: the library, or a test.
#pragma once

#include <cublasLt.h>

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "vtl/kernels/gemm/gemm.h"

namespace vtl::kernels::cublaslt {

#define VTL_CUBLASLT_FUNCTIONS(each)                                                                                  \
  each(Create) each(Destroy) each(Matmul) each(MatmulAlgoGetHeuristic) each(MatmulDescCreate) each(MatmulDescDestroy) \
      each(MatmulDescSetAttribute) each(MatrixLayoutCreate) each(MatrixLayoutDestroy) each(MatrixLayoutSetAttribute)  \
          each(MatmulPreferenceCreate) each(MatmulPreferenceDestroy) each(MatmulPreferenceSetAttribute)

struct Functions {
#define VTL_FIELD(name) decltype(&cublasLt##name) name;
  VTL_CUBLASLT_FUNCTIONS(VTL_FIELD)
#undef VTL_FIELD
};

// The most work memory that an algorithm may ask of the stream's scratch: what NVIDIA recommends for Hopper.
inline constexpr size_t kMostWorkspace = size_t{32} << 20;

// Keeps, for each shape, its descriptors and the algorithm that the library likes best among those that give the same
// bits each time. Any thread may call.
class Products {
 public:
  explicit Products(const Functions& functions);
  ~Products();

  // As kernels::gemm. False, with nothing written, when the library cannot do it.
  bool try_gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims, float alpha,
                const Epilogue& epilogue);

 private:
  struct Plan;
  struct Call;

  cublasLtHandle_t handle_on(Device device);
  const Plan& plan_for(const Call& call);
  bool run(Stream& stream, const Call& call, float alpha);

  const Functions functions_;
  std::mutex mutex_;                         // descriptors hold the pointers of one call
  std::map<int, cublasLtHandle_t> handles_;  // by device; null where the library cannot work
  std::map<std::vector<int64_t>, std::unique_ptr<Plan>> plans_;
};

}  // namespace vtl::kernels::cublaslt
