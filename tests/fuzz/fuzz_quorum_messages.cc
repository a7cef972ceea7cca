// What a node may be sent by another about who lives, and about the configuration. What is taken
// must be a value that can be sent on: it comes back as it is.
//
// Input: what kind of message; its bytes.

#include <cstdint>

#include "common/base/assert.h"
#include "qdisk/wire.h"

using namespace holdfast::qdisk;  // NOLINT(google-build-using-namespace): a program of one file
namespace base = holdfast::base;

namespace {

template <class T>
void check(base::Bytes bytes, base::Result<T> (*decode)(base::Bytes)) {
  const base::Result<T> value = decode(bytes);
  if (!value.has_value()) {
    ASSERT(value.error().code == base::Errc::protocol && *value.error().what != '\0');
    return;
  }
  const base::Result<T> again = decode(base::as_bytes(encode(*value)));
  ASSERT(again.has_value() && *again == *value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const base::Bytes bytes(data + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      check(bytes, decode_heartbeat);
      break;
    case 1:
      check(bytes, decode_request);
      break;
    case 2:
      check(bytes, decode_reply);
      break;
    default:
      check(bytes, decode_config_message);
      break;
  }
  return 0;
}
