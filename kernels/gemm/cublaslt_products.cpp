#include "vtl/kernels/gemm/cublaslt_products.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "vtl/core/error.h"
#include "vtl/kernels/copy/copy.h"
#include "vtl/kernels/gemm/activate_rows.h"

namespace vtl::kernels::cublaslt {
namespace {

cudaDataType_t type(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

// Sums of parts of k are kept in work memory and added in a fixed order.
constexpr uint32_t kReductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

// What algorithms ask about pointers: up to 256 bytes.
uint32_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer) | 256;
  return static_cast<uint32_t>(address & -address);
}

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ErrorKind::device, "gemm: cuBLASLt: ", what, ": status ", static_cast<int>(status));
}

// Creates with create(&handle, ...).
template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;
template <class Handle, class Create, class... Arguments>
Owned<Handle> make(Create create, cublasStatus_t (*destroy)(Handle), const Arguments&... arguments) {
  Handle handle = nullptr;
  check(create(&handle, arguments...), "creating a descriptor");
  return {handle, destroy};
}
template <class Handle, class Set, class Attribute, class T>
void set(Set function, const Owned<Handle>& handle, Attribute attribute, const T& value) {
  check(function(handle.get(), attribute, &value, sizeof value), "setting an attribute");
}

}  // namespace

// One product as the library sees it, column by column: what we call C, row by row, is C^T there, and is computed as
// op(B)^T op(A)^T. Its first operand is our B, its rows are our columns, and its bias, one value for each row, is ours.
struct Products::Call {
  Device device;
  GemmDims dims;
  Matrix a, b;
  MatrixOut out;
  const void* addend;  // laid out as `out`, or null
  cublasLtEpilogue_t epilogue;
  const void* bias;  // of out.dtype, where the epilogue takes one
  void* saved;       // laid out as `out`: the activation's input, where the epilogue keeps it

  std::vector<int64_t> key() const {
    std::vector<int64_t> all{device.index, dims.m, dims.n, dims.k, dims.batch};
    for (const Matrix& m : {a, b})
      all.insert(all.end(), {static_cast<int64_t>(m.dtype), m.stride, static_cast<int64_t>(m.transpose), m.batch_stride,
                             alignment(m.data)});
    all.insert(all.end(),
               {static_cast<int64_t>(out.dtype), out.stride, out.batch_stride, alignment(out.data), addend != nullptr,
                alignment(addend), static_cast<int64_t>(epilogue), alignment(bias), alignment(saved)});
    return all;
  }
};

struct Products::Plan {
  const Functions& f;
  Owned<cublasLtMatmulDesc_t> desc;
  Owned<cublasLtMatrixLayout_t> first, second, result;
  cublasLtMatmulAlgo_t algorithm{};
  size_t workspace = 0;
  bool usable = false;

  Plan(const Functions& functions, cublasLtHandle_t handle, const Call& call)
      : f(functions),
        desc(make<cublasLtMatmulDesc_t>(f.MatmulDescCreate, f.MatmulDescDestroy, CUBLAS_COMPUTE_32F, CUDA_R_32F)),
        first(operand(call.b, call.dims.k, call.dims.n, call.dims.batch)),
        second(operand(call.a, call.dims.m, call.dims.k, call.dims.batch)),
        result(
            layout(call.out.dtype, call.dims.n, call.dims.m, call.out.stride, call.dims.batch, call.out.batch_stride)) {
    describe(CUBLASLT_MATMUL_DESC_TRANSA, operation(call.b));
    describe(CUBLASLT_MATMUL_DESC_TRANSB, operation(call.a));
    describe(CUBLASLT_MATMUL_DESC_EPILOGUE, call.epilogue);
    if (call.bias) describe(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type(call.out.dtype));
    if (call.saved) {
      describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, call.out.stride);
      if (call.dims.batch > 1) describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, call.out.batch_stride);
    }
    point_at(call);
    choose(handle, call);
  }

  // The pointers that are part of the description.
  void point_at(const Call& call) const {
    if (call.bias) describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias);
    if (call.saved) describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, call.saved);
  }

 private:
  static cublasOperation_t operation(const Matrix& m) {
    return m.transpose == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N;
  }
  template <class T>
  void describe(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
    set(f.MatmulDescSetAttribute, desc, attribute, value);
  }

  // op(m) is rows x cols; its memory, column by column, is the transpose of what lies there row by row.
  Owned<cublasLtMatrixLayout_t> operand(const Matrix& m, int64_t rows, int64_t cols, int64_t batch) const {
    const bool transposed = m.transpose == Transpose::yes;
    return layout(m.dtype, transposed ? rows : cols, transposed ? cols : rows, m.stride, batch, m.batch_stride);
  }
  Owned<cublasLtMatrixLayout_t> layout(DType dtype, int64_t rows, int64_t cols, int64_t stride, int64_t batch,
                                       int64_t batch_stride) const {
    auto made = make<cublasLtMatrixLayout_t>(f.MatrixLayoutCreate, f.MatrixLayoutDestroy, type(dtype),
                                             static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), stride);
    if (batch > 1) {
      set(f.MatrixLayoutSetAttribute, made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batch));
      set(f.MatrixLayoutSetAttribute, made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, batch_stride);
    }
    return made;
  }

  void choose(cublasLtHandle_t handle, const Call& call) {
    const auto preference = make<cublasLtMatmulPreference_t>(f.MatmulPreferenceCreate, f.MatmulPreferenceDestroy);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      set(f.MatmulPreferenceSetAttribute, preference, attribute, value);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kMostWorkspace});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductions);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(call.b.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(call.a.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(call.addend ? call.addend : call.out.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(call.out.data));
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status = f.MatmulAlgoGetHeuristic(handle, desc.get(), first.get(), second.get(), result.get(),
                                                           result.get(), preference.get(), 1, &found, &count);
    usable = status == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
    algorithm = found.algo;
    workspace = found.workspaceSize;
  }
};

Products::Products(const Functions& functions) : functions_(functions) {}

Products::~Products() {
  for (const auto& [device, handle] : handles_)
    if (handle) functions_.Destroy(handle);
}

cublasLtHandle_t Products::handle_on(Device device) {
  const auto [at, is_new] = handles_.try_emplace(device.index, nullptr);
  if (is_new && functions_.Create(&at->second) != CUBLAS_STATUS_SUCCESS) at->second = nullptr;
  return at->second;
}

const Products::Plan& Products::plan_for(const Call& call) {
  auto& plan = plans_[call.key()];
  if (!plan) plan = std::make_unique<Plan>(functions_, handle_on(call.device), call);
  return *plan;
}

bool Products::run(Stream& stream, const Call& call, float alpha) {
  const std::lock_guard lock(mutex_);
  if (!handle_on(call.device)) return false;
  const Plan& plan = plan_for(call);
  if (!plan.usable) return false;
  const Scratch workspace = stream.scratch(plan.workspace);
  const float beta = call.addend ? 1 : 0;
  plan.point_at(call);
  check(functions_.Matmul(handle_on(call.device), plan.desc.get(), &alpha, call.b.data, plan.first.get(), call.a.data,
                          plan.second.get(), &beta, call.addend ? call.addend : call.out.data, plan.result.get(),
                          call.out.data, plan.result.get(), &plan.algorithm, workspace.data(), plan.workspace,
                          static_cast<cudaStream_t>(stream.native())),
        "product");
  return true;
}

namespace {

// What the library does to the sum, beside the bias, and what is left for a pass of our own. Its GELU is the one with
// tanh.
struct Fusion {
  int epilogue;         // CUBLASLT_EPILOGUE_...
  bool saves;           // it keeps the activation's input
  bool then_activates;  // we do
};

Fusion fuse(const Epilogue& e, const MatrixOut& c) {
  if (e.activation == Activation::none && !e.preactivation) return {CUBLASLT_EPILOGUE_DEFAULT, false, false};
  if (e.activation == Activation::relu && !e.preactivation) return {CUBLASLT_EPILOGUE_RELU, false, false};
  if (e.activation == Activation::gelu_tanh) {
    if (!e.preactivation) return {CUBLASLT_EPILOGUE_GELU, false, false};
    if (c.stride % 8 == 0 && c.batch_stride % 8 == 0 && alignment(e.preactivation) >= 16)
      return {CUBLASLT_EPILOGUE_GELU_AUX, true, false};
  }
  return {CUBLASLT_EPILOGUE_DEFAULT, false, true};
}

cublasLtEpilogue_t with_bias(int epilogue) {
  return static_cast<cublasLtEpilogue_t>(epilogue == CUBLASLT_EPILOGUE_DEFAULT ? CUBLASLT_EPILOGUE_BIAS
                                                                               : epilogue | CUBLASLT_EPILOGUE_BIAS);
}

}  // namespace

bool Products::try_gemm(Stream& stream, const Matrix& a, const Matrix& b, const MatrixOut& c, const GemmDims& dims,
                        float alpha, const Epilogue& epilogue) {
  if (dims.k <= 0 || epilogue.scale) return false;
  const Fusion fusion = fuse(epilogue, c);
  Call call{stream.device(), dims,   a, b, c, epilogue.residual, static_cast<cublasLtEpilogue_t>(fusion.epilogue),
            nullptr,         nullptr};
  if (fusion.saves) call.saved = epilogue.preactivation;
  if (fusion.then_activates && epilogue.preactivation) call.out.data = epilogue.preactivation;

  // It takes a bias of C's dtype only.
  const bool narrow = epilogue.bias && c.dtype == DType::bf16;
  const Scratch narrow_bias = stream.scratch(narrow ? static_cast<size_t>(dims.n) * sizeof(bf16) : 0);
  if (narrow) cast(stream, DType::f32, epilogue.bias, DType::bf16, narrow_bias.data(), dims.n);
  if (epilogue.bias) {
    call.bias = narrow ? narrow_bias.data() : epilogue.bias;
    call.epilogue = with_bias(fusion.epilogue);
  }
  if (!run(stream, call, alpha)) return false;
  if (!fusion.then_activates) return true;
  for (int64_t i = 0; i < dims.batch; ++i) {
    const int64_t offset = i * c.batch_stride * static_cast<int64_t>(size_of(c.dtype));
    activate_rows(stream, epilogue.activation, c.dtype, static_cast<const char*>(call.out.data) + offset,
                  static_cast<char*>(c.data) + offset, dims.m, dims.n, c.stride);
  }
  return true;
}

}  // namespace vtl::kernels::cublaslt
