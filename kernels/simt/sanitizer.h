// What the address sanitizer is told of memory that the emulator hands out itself. Nothing in other builds.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace vtl::emulator {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
inline void allow_access(const void* memory, size_t bytes) { __asan_unpoison_memory_region(memory, bytes); }
inline void forbid_access(const void* memory, size_t bytes) { __asan_poison_memory_region(memory, bytes); }
#else
inline constexpr bool kAddressSanitizer = false;
inline void allow_access(const void*, size_t) {}
inline void forbid_access(const void*, size_t) {}
#endif

}  // namespace vtl::emulator
