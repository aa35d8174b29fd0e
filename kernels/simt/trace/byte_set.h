// A set of addresses.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace vtl::emulator {

class ByteSet {
 public:
  void insert(uint64_t address, uint32_t bytes) {
    for (uint64_t at = address; at < address + bytes;) {
      const uint64_t word_end = (at / kWord + 1) * kWord, end = word_end < address + bytes ? word_end : address + bytes;
      const uint64_t ones = end - at == kWord ? ~uint64_t{0} : (uint64_t{1} << (end - at)) - 1;
      word(at) |= ones << at % kWord;
      at = end;
    }
  }
  uint64_t size() const {
    uint64_t count = 0;
    for (const auto& [page, words] : pages_)
      for (const uint64_t w : words) count += static_cast<uint64_t>(__builtin_popcountll(w));
    return count;
  }
  void clear() {
    pages_.clear();
    last_ = nullptr;
  }

 private:
  static constexpr uint64_t kWord = 64, kPage = 65536;

  uint64_t& word(uint64_t address) {
    if (!last_ || address / kPage != last_page_) {
      last_page_ = address / kPage;
      last_ = &pages_[last_page_];
      if (last_->empty()) last_->resize(kPage / kWord);
    }
    return (*last_)[address % kPage / kWord];
  }

  std::unordered_map<uint64_t, std::vector<uint64_t>> pages_;
  std::vector<uint64_t>* last_ = nullptr;
  uint64_t last_page_ = 0;
};

}  // namespace vtl::emulator
