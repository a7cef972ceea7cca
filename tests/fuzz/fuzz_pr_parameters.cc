// PERSISTENT RESERVE OUT parameter lists, TransportIDs and the durable state, from hostile bytes.
// The input is read three ways: as a TransportID, as an encoded state, and as a list of commands:
//   byte 0: bits 0-1 initiator, bit 2 port, bit 3: the list is the following 24 bytes, whatever
//   byte 3 byte 1: service action   byte 2: SCOPE and TYPE   byte 3: parameter list length   then
//   the list

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "common/base/assert.h"
#include "target/reservations.h"

namespace holdfast::target {
namespace {

using base::Bytes;

constexpr uint16_t kTags[] = {1, 2};
constexpr size_t kMaxCommands = 200;

void fuzz_transport_id(Bytes in) {
  const auto parsed = scsi::parse_transport_id(in);
  if (!parsed) return;
  ASSERT(parsed->bytes <= in.size());
  const scsi::TransportId& id = parsed->id;
  std::array<uint8_t, scsi::kMaxTransportIdBytes> out;
  ASSERT(scsi::transport_id_bytes(id.initiator_name, id.isid) <= out.size());
  scsi::encode_transport_id(id.initiator_name, id.isid, out);
  const auto again = scsi::parse_transport_id(out);
  ASSERT(again && again->id == id);
}

void check(const Reservations& lu) {
  const std::vector<uint8_t> encoded = lu.encode();
  ASSERT(encoded.size() <= kMaxEncodedReservationsBytes);
  const auto copy = Reservations::decode(encoded);
  ASSERT(copy && *copy == lu);
  // Every answer fits its allocation length, and each nexus has consistent rights.
  std::array<uint8_t, 512> out;
  for (const auto action : {scsi::ReserveIn::read_keys, scsi::ReserveIn::read_reservation,
                            scsi::ReserveIn::report_capabilities, scsi::ReserveIn::full_status}) {
    ASSERT(lu.in(action, out) <= out.size());
  }
  for (const Registrant& r : lu.registrants()) {
    const NexusRights rights = lu.rights_of(r.nexus);
    ASSERT(rights.registered && rights.holder == lu.is_holder(r));
    ASSERT(!rights.holder || (rights.may_read && rights.may_write));
    ASSERT(rights.may_read || !rights.may_write);
  }
}

void fuzz_decode(Bytes in) {
  const auto decoded = Reservations::decode(in);
  if (!decoded) return;
  const std::vector<uint8_t> encoded = decoded->encode();
  ASSERT(std::ranges::equal(encoded, in));
  check(*decoded);
}

void fuzz_commands(Bytes in) {
  Reservations lu;
  for (size_t i = 0; i < kMaxCommands && in.size() >= 4; ++i) {
    const NexusId from{.initiator_name = std::string("iqn.x:") + static_cast<char>('a' + in[0] % 4),
                       .isid = 1,
                       .target_name = "iqn.x:t",
                       .portal_group_tag = kTags[in[0] >> 2 & 1]};
    const size_t asked = (in[0] & 8) != 0 ? scsi::kPrOutParameterBytes : in[3];
    const size_t length = std::min(asked, in.size() - 4);
    const PrOutRequest request{.service_action = static_cast<scsi::ReserveOut>(in[1] & 0x1f),
                               .scope = static_cast<uint8_t>(in[2] >> 4),
                               .type = static_cast<uint8_t>(in[2] & 0xf),
                               .parameter_list = in.subspan(4, length),
                               .portal_group_tags = kTags};
    const Reservations before = lu;
    const PrOutcome outcome = lu.out(from, request);
    if (outcome.status != scsi::Status::good) {
      ASSERT(lu == before && outcome.attentions.empty() && outcome.abort.empty());
      ASSERT(!outcome.must_persist);
    }
    // If a power loss now must show the command's effect, the caller has been told to write it.
    Reservations kept_before = before;
    Reservations kept_after = lu;
    kept_before.power_on();
    kept_after.power_on();
    ASSERT(outcome.must_persist || kept_before == kept_after);
    check(lu);
    in = in.subspan(4 + length);
  }
}

}  // namespace
}  // namespace holdfast::target

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const holdfast::base::Bytes in(data, size);
  holdfast::target::fuzz_transport_id(in);
  holdfast::target::fuzz_decode(in);
  holdfast::target::fuzz_commands(in);
  return 0;
}
