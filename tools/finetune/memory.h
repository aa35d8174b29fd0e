// What the process takes of the machine's memory.
#pragma once

#include <cstddef>

namespace vtl::finetune {

// Resident now, and the most ever, in bytes; 0 where the system does not say.
size_t resident_memory_bytes();
size_t peak_resident_memory_bytes();
// What the process may still take: of the machine, and of the limit of its control group.
size_t available_memory_bytes();

}  // namespace vtl::finetune
