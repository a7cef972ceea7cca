#pragma once
// ASSERT states what only a bug of ours can break. On in release: stopping beats writing wrong
// data. Never use it on what a peer, a disk or an administrator controls.

namespace holdfast::base {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}

#define ASSERT(expression)       \
  (static_cast<bool>(expression) \
       ? static_cast<void>(0)    \
       : ::holdfast::base::assertion_failed(#expression, __FILE__, __LINE__))
