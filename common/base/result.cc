#include "common/base/result.h"

namespace holdfast::base {

const char* to_string(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_argument:
      return "invalid argument";
    case Errc::protocol:
      return "protocol error";
    case Errc::digest:
      return "digest mismatch";
    case Errc::corrupt:
      return "corrupt data";
    case Errc::limit:
      return "limit reached";
    case Errc::no_space:
      return "no space";
    case Errc::io:
      return "I/O error";
    case Errc::busy:
      return "busy";
    case Errc::not_found:
      return "not found";
    case Errc::exists:
      return "exists already";
    case Errc::closed:
      return "closed";
    case Errc::timed_out:
      return "timed out";
    case Errc::cancelled:
      return "cancelled";
    case Errc::permission:
      return "permission denied";
    case Errc::unsupported:
      return "not supported";
    case Errc::in_doubt:
      return "in doubt";
  }
  return "unknown error";
}

}  // namespace holdfast::base
