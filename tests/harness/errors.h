// What a call throws.
#pragma once

#include <doctest/doctest.h>

#include <functional>

#include "vtl/core/error.h"

namespace vtl::test {

// The kind of the vtl::Error that `action` throws; the test fails when it throws nothing.
inline ErrorKind kind_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("nothing was thrown");
  return ErrorKind::internal;
}

}  // namespace vtl::test
