// What the lanes of a warp do together, as kernels/device asks for it.
#pragma once

#include <cstdint>

#include "vtl/kernels/simt/block.h"

namespace vtl::emulator {

// The value of lane `source`. Reading a lane that has ended, or that the mask does not name, ends the block.
uint64_t shuffle(uint32_t mask, uint64_t value, unsigned source, Site site);
// Bit i: the predicate of lane i.
uint32_t ballot(uint32_t mask, bool predicate, Site site);
// The lanes of the mask that have not ended: whom a vote asks.
uint32_t voters(uint32_t mask);

// c += a b, in f32. m16n8k16 with bf16 and m16n8k8 with tf32 operands, fragments as the PTX manual lays them out.
void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site);
void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site);

// `count` (1, 2, 4) matrices of 8 x 8 16-bit values: lane 8 m + i gives the address of row i of matrix m.
void ldmatrix(uint32_t* registers, const void* row, unsigned count, bool transposed, Site site);

}  // namespace vtl::emulator
