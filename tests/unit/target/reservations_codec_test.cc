// The durable form, what it refuses, and PERSISTENT RESERVE IN of a state.

#include <gtest/gtest.h>

#include <vector>

#include "common/base/crc32c.h"
#include "target/reservations.h"
#include "tests/unit/target/reservations_fixture.h"

namespace holdfast::target {
namespace {

using base::Errc;

constexpr size_t kVersionAt = 8;
constexpr size_t kLengthAt = 12;
constexpr size_t kTypeAt = 20;
constexpr size_t kFlagsAt = 21;
constexpr size_t kCountAt = 22;
constexpr size_t kEntry =
    24;  // the first registrant: key, isid, tag, flags, name lengths, reserved

Reservations sample() {
  Reservations lu;
  send(lu, nexus('a'), {.action = Action::register_key, .service_action_key = 1});
  send(lu, nexus('b'),
       {.action = Action::register_key,
        .service_action_key = 0x1122334455667788,
        .aptpl = true,
        .all_target_ports = true});
  send(lu, nexus('a'), {.action = Action::reserve, .key = 1, .type = 5});
  return lu;
}

// A forger with the right checksum: structure alone must be enough to refuse.
void seal(std::vector<uint8_t>& bytes) {
  const base::le32 length = static_cast<uint32_t>(bytes.size());
  base::store(base::MutableBytes(bytes).subspan(kLengthAt), length);
  const base::le32 crc = base::crc32c(base::Bytes(bytes).subspan(kVersionAt));
  base::store(base::MutableBytes(bytes).subspan(4), crc);
}

Errc refused(const std::vector<uint8_t>& bytes) {
  const auto decoded = Reservations::decode(bytes);
  EXPECT_FALSE(decoded.has_value());
  return decoded.has_value() ? Errc{} : decoded.error().code;
}

TEST(ReservationsCodec, RoundTrip) {
  for (const Reservations& lu : {Reservations{}, sample()}) {
    const std::vector<uint8_t> bytes = lu.encode();
    const auto decoded = Reservations::decode(bytes);
    ASSERT_TRUE(decoded.has_value()) << decoded.error().what;
    EXPECT_EQ(*decoded, lu);
    EXPECT_EQ(decoded->encode(), bytes);
  }
}

TEST(ReservationsCodec, EqualStatesHaveEqualEncodingsWhateverTheOrderOfEvents) {
  Reservations one;
  Reservations two;
  for (const char who : {'a', 'b'}) {
    send(one, nexus(who), {.action = Action::register_key, .service_action_key = 1});
  }
  for (const char who : {'b', 'a'}) {
    send(two, nexus(who), {.action = Action::register_key, .service_action_key = 1});
  }
  EXPECT_EQ(one, two);
  EXPECT_EQ(one.encode(), two.encode());
}

TEST(ReservationsCodec, TheLargestState) {
  Reservations lu;
  NexusId id{.initiator_name = std::string(scsi::kMaxInitiatorNameBytes, 'i'),
             .isid = scsi::kMaxIsid,
             .target_name = std::string(scsi::kMaxInitiatorNameBytes, 't'),
             .portal_group_tag = 0xffff};
  for (size_t i = 0; i < kMaxRegistrants; ++i) {
    id.initiator_name.replace(0, 3, fmt::format("{:03}", i));
    ASSERT_EQ(text(send(lu, id, {.action = Action::register_key, .service_action_key = ~0ULL})),
              "GOOD");
  }
  const auto bytes = lu.encode();
  EXPECT_EQ(bytes.size(), kMaxEncodedReservationsBytes);
  const auto decoded = Reservations::decode(bytes);
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(*decoded, lu);
}

TEST(ReservationsCodec, EveryFlippedBitAndEveryTruncationIsRefused) {
  const std::vector<uint8_t> good = sample().encode();
  for (size_t i = 0; i < good.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      std::vector<uint8_t> bad = good;
      bad[i] = static_cast<uint8_t>(bad[i] ^ (1U << bit));
      ASSERT_FALSE(Reservations::decode(bad).has_value()) << i;
    }
    ASSERT_FALSE(Reservations::decode(base::Bytes(good).first(i)).has_value()) << i;
  }
  std::vector<uint8_t> longer = good;
  longer.push_back(0);
  EXPECT_EQ(refused(longer), Errc::digest);
  EXPECT_EQ(refused(std::vector<uint8_t>(kMaxEncodedReservationsBytes + 1)), Errc::corrupt);
}

TEST(ReservationsCodec, UnknownVersionAndBadChecksumAreToldApart) {
  std::vector<uint8_t> bytes = sample().encode();
  bytes[kVersionAt] = 2;
  seal(bytes);
  EXPECT_EQ(refused(bytes), Errc::unsupported);
  bytes = sample().encode();
  bytes.back() ^= 1;
  EXPECT_EQ(refused(bytes), Errc::digest);
  bytes = sample().encode();
  bytes[0] ^= 1;
  EXPECT_EQ(refused(bytes), Errc::corrupt);
}

TEST(ReservationsCodec, SealedNonsenseIsRefused) {
  const auto with = [](size_t at, uint8_t value) {
    std::vector<uint8_t> bytes = sample().encode();
    bytes[at] = value;
    seal(bytes);
    return bytes;
  };
  EXPECT_TRUE(Reservations::decode(with(kTypeAt, 5)).has_value()) << "the unchanged one";
  EXPECT_EQ(refused(with(kTypeAt, 0)), Errc::corrupt) << "a holder without a reservation";
  EXPECT_EQ(refused(with(kTypeAt, 2)), Errc::corrupt) << "a reserved type";
  EXPECT_EQ(refused(with(kTypeAt, 7)), Errc::corrupt) << "a single holder of all registrants";
  EXPECT_EQ(refused(with(kFlagsAt, 0x80)), Errc::corrupt) << "an unknown flag";
  EXPECT_EQ(refused(with(kCountAt, 2)), Errc::corrupt) << "bytes left over";
  EXPECT_EQ(refused(with(kCountAt, 4)), Errc::corrupt) << "a registrant too many";
  EXPECT_EQ(refused(with(kCountAt + 1, 0xff)), Errc::corrupt);
  EXPECT_EQ(refused(with(kEntry, 0)), Errc::corrupt) << "key zero";
  EXPECT_EQ(refused(with(kEntry + 15, 1)), Errc::corrupt) << "an ISID beyond 48 bits";
  EXPECT_EQ(refused(with(kEntry + 18, 0)), Errc::corrupt) << "a reservation without holder";
  EXPECT_EQ(refused(with(kEntry + 18, 2)), Errc::corrupt) << "an unknown flag";
  EXPECT_EQ(refused(with(kEntry + 19, 0)), Errc::corrupt) << "an empty name";
  EXPECT_EQ(refused(with(kEntry + 19, 224)), Errc::corrupt) << "a name too long";
  EXPECT_EQ(refused(with(kEntry + 20, 223)), Errc::corrupt) << "a name beyond the end";
  EXPECT_EQ(refused(with(kEntry + 23, 1)), Errc::corrupt) << "a reserved byte";
  // The first initiator's last character: 'c' puts it behind the second, out of order.
  const size_t name_end = kEntry + 24 + nexus('a').initiator_name.size() - 1;
  EXPECT_EQ(refused(with(name_end, 'c')), Errc::corrupt);
}

TEST(ReservationsCodec, TwoHoldersAreRefused) {
  std::vector<uint8_t> bytes = sample().encode();
  const size_t second =
      kEntry + 24 + nexus('a').initiator_name.size() + nexus('a').target_name.size();
  bytes[second + 18] = 1;
  seal(bytes);
  EXPECT_EQ(refused(bytes), Errc::corrupt);
}

TEST(ReservationsCodec, AReservationWithoutRegistrantsIsRefused) {
  std::vector<uint8_t> bytes = Reservations{}.encode();
  bytes[kTypeAt] = 7;
  seal(bytes);
  EXPECT_EQ(refused(bytes), Errc::corrupt);
}

uint64_t number(base::Bytes bytes) {
  uint64_t value = 0;
  for (const uint8_t byte : bytes) value = value << 8 | byte;
  return value;
}

TEST(ReservationsIn, ReportsTheState) {
  const Reservations lu = sample();
  std::vector<uint8_t> buffer(4096, 0xee);
  const base::Bytes out(buffer);
  ASSERT_EQ(lu.in(scsi::ReserveIn::read_keys, buffer), 8u + 3 * 8);
  EXPECT_EQ(number(out.first(4)), 2u);
  EXPECT_EQ(number(out.subspan(4, 4)), 24u);
  EXPECT_EQ(number(out.subspan(8, 8)), 1u);
  EXPECT_EQ(number(out.subspan(16, 8)), 0x1122334455667788u);
  EXPECT_EQ(number(out.subspan(24, 8)), 0x1122334455667788u) << "once for each registration";

  ASSERT_EQ(lu.in(scsi::ReserveIn::read_reservation, buffer), 24u);
  EXPECT_EQ(number(out.subspan(8, 8)), 1u);
  EXPECT_EQ(out[21], 5);

  ASSERT_EQ(lu.in(scsi::ReserveIn::report_capabilities, buffer), 8u);
  EXPECT_EQ(out[3] & 1, 1) << "PTPL_A";

  const size_t size = lu.in(scsi::ReserveIn::full_status, buffer);
  EXPECT_EQ(number(out.subspan(4, 4)), size - 8);
  size_t at = 8;
  for (const char* expected : {"a1", "b1", "b2"}) {
    const auto id = scsi::parse_transport_id(out.subspan(at + 24, size - at - 24));
    ASSERT_TRUE(id.has_value());
    EXPECT_EQ(number(out.subspan(at + 20, 4)), id->bytes);
    const NexusId who = nexus(expected[0], static_cast<uint16_t>(expected[1] - '0'));
    EXPECT_EQ(id->id.initiator_name, who.initiator_name);
    EXPECT_EQ(id->id.isid, who.isid);
    EXPECT_EQ(number(out.subspan(at + 18, 2)), who.portal_group_tag);
    EXPECT_EQ(out[at + 12], expected[0] == 'a' ? 1 : 0) << "R_HOLDER";
    EXPECT_EQ(out[at + 13], expected[0] == 'a' ? 5 : 0) << "SCOPE and TYPE";
    at += 24 + id->bytes;
  }
  EXPECT_EQ(at, size);
}

// Reporting the persistent reservation, holder: key zero, and everybody is a holder.
TEST(ReservationsIn, AllRegistrantsReportNoKeyAndAllHolders) {
  Reservations lu;
  send(lu, nexus('a'), {.action = Action::register_key, .service_action_key = 1});
  send(lu, nexus('b'), {.action = Action::register_key, .service_action_key = 2});
  send(lu, nexus('a'), {.action = Action::reserve, .key = 1, .type = 8});
  std::vector<uint8_t> out(4096, 0xee);
  ASSERT_EQ(lu.in(scsi::ReserveIn::read_reservation, out), 24u);
  EXPECT_EQ(number(base::Bytes(out).subspan(8, 8)), 0u);
  EXPECT_EQ(out[21], 8);
  lu.in(scsi::ReserveIn::full_status, out);
  const size_t first = 24 + scsi::transport_id_bytes(nexus('a').initiator_name, 1);
  EXPECT_EQ(out[8 + 12], 1);
  EXPECT_EQ(out[8 + 13], 8);
  EXPECT_EQ(out[8 + first + 12], 1);
  EXPECT_EQ(out[8 + first + 13], 8);
}

}  // namespace
}  // namespace holdfast::target
