#pragma once
// Error handling of all Holdfast code: docs/style.md, "Errors".
// An operating error is a value; our own bug is an ASSERT; a protocol outcome is a type of its own.

#include <cstdint>
#include <expected>
#include <utility>

namespace holdfast::base {

enum class Errc : uint16_t {
  invalid_argument = 1,  // the caller's or the administrator's input is wrong
  protocol,              // a peer broke its protocol; the connection must end
  digest,                // a checksum does not match
  corrupt,               // durable data is not what was written
  limit,                 // a stated bound was reached
  no_space,
  io,
  busy,
  not_found,
  exists,
  closed,
  timed_out,
  cancelled,
  permission,
  unsupported,
  in_doubt,  // whether it was done is not known
};

const char* to_string(Errc code) noexcept;

// 16 bytes, no allocation. `what` is static text: what failed and, where it helps, what to do.
struct Error {
  Errc code = Errc::io;
  int32_t sys = 0;  // errno where the kernel said why, else 0
  const char* what = "";
};
static_assert(sizeof(Error) == 16);

template <class T = void>
using Result = std::expected<T, Error>;

[[nodiscard]] inline std::unexpected<Error> fail(Errc code, const char* what, int32_t sys = 0) {
  return std::unexpected(Error{code, sys, what});
}

}  // namespace holdfast::base

#define HOLDFAST_CONCAT2(a, b) a##b
#define HOLDFAST_CONCAT(a, b) HOLDFAST_CONCAT2(a, b)

// TRY(expr): returns the error of a Result from the enclosing function, else goes on.
#define TRY(expr)                                            \
  do {                                                       \
    if (auto try_result = (expr); !try_result.has_value()) { \
      return std::unexpected(try_result.error());            \
    }                                                        \
  } while (false)

// TRY_ASSIGN(const Bhs bhs, parse(in)): the same, and keeps the value.
#define TRY_ASSIGN(declaration, expr) \
  TRY_ASSIGN_NAMED(HOLDFAST_CONCAT(try_value_, __LINE__), declaration, expr)
#define TRY_ASSIGN_NAMED(name, declaration, expr)              \
  auto name = (expr);                                          \
  if (!name.has_value()) return std::unexpected(name.error()); \
  declaration = std::move(*name)
