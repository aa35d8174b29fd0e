#include "vtl/core/stream.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "vtl/core/allocator.h"
#include "vtl/core/runtime.h"

namespace vtl {

// Bump memory in pieces. A request that does not fit opens a new piece; when all scopes are closed, the pieces become
// one that is large enough for all of them.
struct Stream::Arena {
  struct Piece {
    char* data;
    size_t bytes, used;
  };
  std::vector<Piece> pieces;
  size_t in_use = 0, peak = 0;
};

Scratch::Scratch(Scratch&& other) noexcept
    : stream_(std::exchange(other.stream_, nullptr)), data_(other.data_) {}

Scratch::~Scratch() {
  if (!stream_) return;
  auto& arena = *stream_->arena_;
  auto& piece = arena.pieces.back();
  const size_t begin = static_cast<size_t>(static_cast<char*>(data_) - piece.data);
  const Device device = stream_->device_;
  if (const auto take_back = runtime(device).take_back) take_back(device, stream_->queue_, data_, piece.used - begin);
  arena.in_use -= piece.used - begin;
  piece.used = begin;
  if (piece.used > 0 || arena.pieces.size() == 1) return;
  // The piece is empty: keep it only when it replaces all others.
  if (arena.in_use == 0) {
    for (auto& p : arena.pieces) deallocate(stream_->device_, p.data);
    arena.pieces.clear();
  } else {
    deallocate(stream_->device_, piece.data);
    arena.pieces.pop_back();
  }
}

Stream::Stream(Device device)
    : device_(device), queue_(runtime(device).create_queue(device)), arena_(std::make_unique<Arena>()) {}

Stream::~Stream() {
  for (auto& piece : arena_->pieces) deallocate(device_, piece.data);
  runtime(device_).destroy_queue(device_, queue_);
}

Scratch Stream::scratch(size_t bytes) {
  auto& arena = *arena_;
  const Runtime& table = runtime(device_);
  const size_t need = std::max<size_t>((bytes + 255) / 256 * 256, 256);
  if (arena.pieces.empty() || arena.pieces.back().used + need > arena.pieces.back().bytes) {
    if (arena.in_use == 0) {
      for (auto& piece : arena.pieces) deallocate(device_, piece.data);
      arena.pieces.clear();
    }
    const size_t size = std::max(need, arena.pieces.empty() ? arena.peak : need);
    arena.pieces.push_back({static_cast<char*>(allocate(device_, size)), size, 0});
    // Lent bit by bit.
    if (table.take_back) table.take_back(device_, queue_, arena.pieces.back().data, size);
  }
  auto& piece = arena.pieces.back();
  char* data = piece.data + piece.used;
  piece.used += need;
  arena.in_use += need;
  arena.peak = std::max(arena.peak, arena.in_use);
  if (table.lend) table.lend(device_, queue_, data, bytes);
  return Scratch(this, data);
}

size_t Stream::scratch_peak() const { return arena_->peak; }

void Stream::synchronize() { runtime(device_).synchronize(device_, queue_); }

}  // namespace vtl
