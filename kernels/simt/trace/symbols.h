// Places in the text for addresses of instructions.
#pragma once

#include <string>

namespace vtl::emulator {

// "kernels/add/add_cuda.cu:12" for a return address into this program: the innermost place in a kernel's or a test's
// text, whatever was inlined there. Needs line tables and binutils; otherwise the address as a number.
std::string place_of(const void* instruction);

}  // namespace vtl::emulator
