// A place in a kernel's text.
#pragma once

#include <source_location>
#include <string>

namespace vtl::emulator {

using Site = std::source_location;

inline bool same_place(const Site& a, const Site& b) { return a.line() == b.line() && a.file_name() == b.file_name(); }

// "/home/me/vtl/kernels/add/add_cuda.cu:12" -> "kernels/add/add_cuda.cu:12"; what is not in the project stays as it is.
std::string shortened_place(const std::string& place);
std::string describe(const Site& site);

}  // namespace vtl::emulator

// As a default argument: the place of the call.
#define VTL_SIMT_HERE (::std::source_location::current())
