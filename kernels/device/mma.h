// Tensor-core products of a warp, and the loads that feed them. With g = lane / 4 and t = lane % 4, a lane holds
//   c, 16 x 8 f32:   c[0], c[1]: row g, columns 2t, 2t + 1;  c[2], c[3]: row g + 8
//   a, 16 x 16 bf16: a[0]: row g, columns 2t, 2t + 1;  a[1]: row g + 8;  a[2], a[3]: the same, columns + 8
//   b, 16 x 8 bf16:  b[0]: rows 2t, 2t + 1 of column g;  b[1]: rows + 8
//   a, 16 x 8 tf32:  a[0]: row g, column t;  a[1]: row g + 8;  a[2], a[3]: the same, columns + 4
//   b, 8 x 8 tf32:   b[0]: row t of column g;  b[1]: row t + 4
#pragma once

#include "vtl/kernels/device/portable.h"

#if !defined(__CUDACC__)
#include "vtl/kernels/simt/warp.h"
#endif

namespace vtl::kernels::VTL_GPU {

// c += a b. All 32 lanes take part.
VTL_DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                         [[maybe_unused]] Site site = VTL_HERE) {
#if defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  ::vtl::emulator::mma_bf16(c, a, b, site);
#endif
}
VTL_DEVICE void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                         [[maybe_unused]] Site site = VTL_HERE) {
#if defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  ::vtl::emulator::mma_tf32(c, a, b, site);
#endif
}

// Count (1, 2 or 4) matrices of 8 x 8 bf16 from shared memory. Lane 8 m + i gives the address of row i of matrix m, 16
// bytes aligned to 16; registers[m] gets row g, columns 2t and 2t + 1 of it.
template <int Count>
VTL_DEVICE void ldmatrix(uint32_t (&registers)[Count], const void* row, [[maybe_unused]] Site site = VTL_HERE) {
  static_assert(Count == 1 || Count == 2 || Count == 4);
#if defined(__CUDACC__)
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Count == 1)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(registers[0]) : "r"(at) : "memory");
  else if constexpr (Count == 2)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(at)
                 : "memory");
#else
  ::vtl::emulator::ldmatrix(registers, row, Count, false, site);
#endif
}
// The same of the transposed matrices: registers[m] gets column g, rows 2t and 2t + 1.
template <int Count>
VTL_DEVICE void ldmatrix_trans(uint32_t (&registers)[Count], const void* row, [[maybe_unused]] Site site = VTL_HERE) {
  static_assert(Count == 1 || Count == 2 || Count == 4);
#if defined(__CUDACC__)
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Count == 1)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(registers[0])
                 : "r"(at)
                 : "memory");
  else if constexpr (Count == 2)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(at)
                 : "memory");
#else
  ::vtl::emulator::ldmatrix(registers, row, Count, true, site);
#endif
}

}  // namespace vtl::kernels::VTL_GPU
