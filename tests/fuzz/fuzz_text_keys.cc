// Text keys, values and negotiation: byte 0 chooses role, stage and what the local side wants; the
// rest is one or several messages, parted by the byte 0xff.

#include <algorithm>
#include <array>
#include <vector>

#include "common/base/assert.h"
#include "common/iscsi/name.h"
#include "common/iscsi/negotiation.h"
#include "common/iscsi/text_keys.h"

namespace {

using holdfast::base::Bytes;
using namespace holdfast::iscsi;  // NOLINT(google-build-using-namespace): a program of one file

constexpr size_t kMostOwnKeys = 20;  // declared and offered by us in one message

LocalParameters local_of(uint8_t mode) {
  LocalParameters local;
  if ((mode & 0x10) != 0) local.header_digest = DigestChoice::required;
  if ((mode & 0x20) != 0) local.immediate_data = false;
  if ((mode & 0x40) != 0) local.max_burst_length = local.first_burst_length = 4096;
  return local;
}

void check_values(const TextMessage& message) {
  for (const KeyValue& entry : message) {
    ASSERT(!entry.key.empty() && entry.key.size() <= kMaxKeyBytes);
    ASSERT(entry.value.size() <= kMaxValueBytes);
    (void)parse_number(entry.value);
    (void)parse_boolean(entry.value);
    if (const auto name = normalize_name(entry.value); name.has_value()) {
      ASSERT(name->size() <= kMaxNameBytes && normalize_name(*name) == *name);
    }
    std::array<uint8_t, 64> out;
    const size_t room = entry.value.size() % out.size();
    const auto decoded = decode_binary(entry.value, std::span(out).first(room));
    ASSERT(!decoded.has_value() || *decoded <= room);
  }
}

void check_parameters(const SessionParameters& active) {
  ASSERT(active.first_burst_length <= active.max_burst_length);
  ASSERT(active.max_connections == 1 && active.error_recovery_level == 0);
  ASSERT(active.max_send_data_segment_length >= kMinDataSegmentBytes);
  ASSERT(active.max_send_data_segment_length <= kMaxDataSegmentBytes);
  ASSERT(active.max_outstanding_r2t >= 1 && active.protocol_level <= 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const uint8_t mode = data[0];
  Bytes rest(data + 1, size - 1);
  Negotiation negotiation((mode & 1) != 0 ? Role::initiator : Role::target, local_of(mode));
  const auto phase = static_cast<NegotiationPhase>((mode >> 1 & 3) % 3);
  // Only logins have offers of the answering side.
  const bool offering = (mode & 8) != 0 && phase == NegotiationPhase::operational;
  while (!rest.empty()) {
    const auto end = std::ranges::find(rest, uint8_t{0xff});
    const Bytes text(rest.begin(), end);
    rest = rest.subspan(std::min(rest.size(), text.size() + 1));
    TextMessage message;
    if (!message.parse(text).has_value()) return 0;
    check_values(message);
    std::vector<uint8_t> answer;
    TextKeyWriter out(answer, kMaxLoginResponseBytes);
    const bool received = negotiation.receive(message, phase, out).has_value();
    const bool done =
        received &&
        (!offering || (negotiation.declare(out).has_value() && negotiation.offer(out).has_value()));
    ASSERT(answer.size() <= kMaxLoginResponseBytes);
    if (!done) return 0;
    check_parameters(negotiation.parameters());
    // What we send, we can read, unless what is our own comes on top of answers to a full message.
    TextMessage ours;
    const auto read = ours.parse(answer);
    const auto keys = static_cast<size_t>(std::ranges::count(answer, uint8_t{0}));
    ASSERT(keys <= message.size() + kMostOwnKeys);
    ASSERT(read.has_value() != (keys > kMaxKeysPerMessage));
  }
  return 0;
}
