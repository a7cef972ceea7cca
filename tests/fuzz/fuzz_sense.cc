// Sense data of a hostile unit. What decodes must survive our own encoder, as far as it can tell
// it.

#include <array>
#include <cstdint>

#include "common/base/assert.h"
#include "common/scsi/sense.h"

using namespace holdfast::scsi;  // NOLINT(google-build-using-namespace): a program of one file

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Sense sense = decode_sense({data, size});
  ASSERT(!sense.field.has_value() || sense.key == SenseKey::illegal_request);
  ASSERT(!sense.progress.has_value() || sense.key == SenseKey::not_ready ||
         sense.key == SenseKey::no_sense);
  std::array<uint8_t, kMaxSenseLength> out{};
  sense.deferred = false;
  const size_t length = encode(sense, true, out);
  ASSERT(length <= out.size());
  ASSERT(decode_sense(Bytes(out).first(length)) == sense);
  // Each shorter piece is sense data too.
  for (size_t n = 0; n < length; ++n) {
    const Sense cut = decode_sense(Bytes(out).first(n));
    ASSERT(!cut.information.has_value() || cut.information == sense.information);
  }
  return 0;
}
