#include "vtl/kernels/simt/warp.h"

#include <bit>
#include <cstring>

#include "vtl/core/error.h"
#include "vtl/kernels/simt/access.h"

namespace vtl::emulator {
namespace {

template <class Operands>
Operands& operands_of(Block& block, unsigned warp, unsigned lane) {
  return *static_cast<Operands*>(block.thread(warp, lane).operands);
}

template <class Body>
void for_lanes(uint32_t lanes, Body&& body) {
  for (; lanes; lanes &= lanes - 1) body(static_cast<unsigned>(std::countr_zero(lanes)));
}

struct Shuffle {
  uint64_t value, result;
  unsigned source;
};

void complete_shuffle(Block& block, unsigned warp, uint32_t lanes) {
  for_lanes(lanes, [&](unsigned lane) {
    auto& mine = operands_of<Shuffle>(block, warp, lane);
    if (!(lanes >> mine.source & 1u)) {
      const Thread& t = block.thread(warp, lane);
      const bool named = t.mask >> mine.source & 1u;
      return block.stop(
          t, t.site,
          concat("shuffle: reads lane ", mine.source, named ? ", which has ended" : ", which the mask does not name"));
    }
    mine.result = operands_of<Shuffle>(block, warp, mine.source).value;
  });
}

struct Vote {
  bool predicate;
  uint32_t result;
};

void complete_ballot(Block& block, unsigned warp, uint32_t lanes) {
  uint32_t votes = 0;
  for_lanes(lanes, [&](unsigned lane) { votes |= uint32_t{operands_of<Vote>(block, warp, lane).predicate} << lane; });
  for_lanes(lanes, [&](unsigned lane) { operands_of<Vote>(block, warp, lane).result = votes; });
}

struct Mma {
  float* c;
  const uint32_t *a, *b;
};

float bf16_of(uint32_t pair, unsigned which) { return std::bit_cast<float>(which ? pair & 0xffff0000u : pair << 16); }
// The tensor cores do not look at the lower 13 bits.
float tf32_of(uint32_t bits) { return std::bit_cast<float>(bits & 0xffffe000u); }

// c[16][8] += a[16][K] b[K][8], k outermost of the sums of one element.
template <int K>
void multiply(float (&c)[16][8], const float (&a)[16][K], const float (&b)[K][8]) {
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < K; ++k)
      for (int j = 0; j < 8; ++j) c[i][j] += a[i][k] * b[k][j];
}

// Lane l = 4 g + t holds rows g and g + 8 of a and c, column g of b; t chooses among the other dimension.
template <int K, class Spread>
void complete_mma(Block& block, unsigned warp, Spread&& spread) {
  float a[16][K], b[K][8], c[16][8];
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const auto& mine = operands_of<Mma>(block, warp, lane);
    const unsigned g = lane / 4, t = lane % 4;
    spread(mine, g, t, a, b);
    for (unsigned h = 0; h < 4; ++h) c[g + h / 2 * 8][t * 2 + h % 2] = mine.c[h];
  }
  multiply(c, a, b);
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned h = 0; h < 4; ++h) operands_of<Mma>(block, warp, lane).c[h] = c[g + h / 2 * 8][t * 2 + h % 2];
  }
  if (auto* observer = settings().observer) observer->tensor_instruction();
}

void complete_mma_bf16(Block& block, unsigned warp, uint32_t) {
  complete_mma<16>(block, warp, [](const Mma& mine, unsigned g, unsigned t, float(&a)[16][16], float(&b)[16][8]) {
    for (unsigned r = 0; r < 4; ++r)
      for (unsigned h = 0; h < 2; ++h) a[g + r % 2 * 8][r / 2 * 8 + t * 2 + h] = bf16_of(mine.a[r], h);
    for (unsigned r = 0; r < 2; ++r)
      for (unsigned h = 0; h < 2; ++h) b[r * 8 + t * 2 + h][g] = bf16_of(mine.b[r], h);
  });
}

void complete_mma_tf32(Block& block, unsigned warp, uint32_t) {
  complete_mma<8>(block, warp, [](const Mma& mine, unsigned g, unsigned t, float(&a)[16][8], float(&b)[8][8]) {
    for (unsigned r = 0; r < 4; ++r) a[g + r % 2 * 8][r / 2 * 4 + t] = tf32_of(mine.a[r]);
    for (unsigned r = 0; r < 2; ++r) b[r * 4 + t][g] = tf32_of(mine.b[r]);
  });
}

struct Ldmatrix {
  uint32_t* registers;
  const void* row;
  unsigned count;
};

// Register m of lane l: row l / 4, columns 2 (l % 4) and the next of matrix m; transposed: column l / 4, rows 2 (l % 4)
// ...
template <bool Transposed>
void complete_ldmatrix(Block& block, unsigned warp, uint32_t) {
  const auto row = [&](unsigned matrix, unsigned i) {
    return static_cast<const uint16_t*>(operands_of<Ldmatrix>(block, warp, matrix * 8 + i).row);
  };
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const auto& mine = operands_of<Ldmatrix>(block, warp, lane);
    const unsigned i = lane / 4, j = lane % 4 * 2;
    for (unsigned m = 0; m < mine.count; ++m) {
      const uint32_t low = Transposed ? row(m, j)[i] : row(m, i)[j],
                     high = Transposed ? row(m, j + 1)[i] : row(m, i)[j + 1];
      mine.registers[m] = low | high << 16;
    }
  }
}

const WarpOperation kShuffle{"shuffle", false, complete_shuffle}, kBallot{"vote", false, complete_ballot},
    kMmaBf16{"mma m16n8k16 bf16", true, complete_mma_bf16}, kMmaTf32{"mma m16n8k8 tf32", true, complete_mma_tf32},
    kLdmatrix{"ldmatrix", true, complete_ldmatrix<false>},
    kLdmatrixTrans{"ldmatrix.trans", true, complete_ldmatrix<true>};

}  // namespace

uint64_t shuffle(uint32_t mask, uint64_t value, unsigned source, Site site) {
  Shuffle operands{value, 0, source};
  current->block->wait_for_warp(kShuffle, &operands, mask, site);
  return operands.result;
}

uint32_t ballot(uint32_t mask, bool predicate, Site site) {
  Vote operands{predicate, 0};
  current->block->wait_for_warp(kBallot, &operands, mask, site);
  return operands.result;
}

void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
  Mma operands{c, a, b};
  current->block->wait_for_warp(kMmaBf16, &operands, kAllLanes, site);
}

void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
  Mma operands{c, a, b};
  current->block->wait_for_warp(kMmaTf32, &operands, kAllLanes, site);
}

void ldmatrix(uint32_t* registers, const void* row, unsigned count, bool transposed, Site site) {
  constexpr size_t kRowBytes = 16;
  // Of the addresses of other lanes nothing is read.
  if (current->lane < count * 8) check_access(AccessKind::read, row, kRowBytes, kRowBytes, site);
  Ldmatrix operands{registers, row, count};
  current->block->wait_for_warp(transposed ? kLdmatrixTrans : kLdmatrix, &operands, kAllLanes, site);
}

}  // namespace vtl::emulator
