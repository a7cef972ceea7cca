#include "common/scsi/persistent_reservation.h"

// g++ 12 warns wrongly about inserting into short vectors when it inlines (GCC PR 105329).
#pragma GCC diagnostic ignored "-Warray-bounds"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wstringop-overread"
#endif

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace holdfast::scsi {
namespace {

using Buffer = std::vector<uint8_t>;
constexpr std::string_view kName = "iqn.2026-11.org.example:a";  // 25 characters

// "0102 ff": blanks are for the reader.
Buffer hex(std::string_view text) {
  std::string digits(text);
  std::erase(digits, ' ');
  Buffer out;
  for (size_t i = 0; i < digits.size(); i += 2) {
    out.push_back(static_cast<uint8_t>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  }
  return out;
}

// SPC-4 6.16, service actions.
TEST(PrOutParameters, ParsesTheFields) {
  Buffer list = hex("0102030405060708 1112131415161718 ffffffff 05 ff ffff");
  const auto parsed = parse_pr_out_parameters(list);
  ASSERT_TRUE(parsed.has_value()) << "obsolete and reserved fields are ignored";
  EXPECT_EQ(parsed->key, 0x0102030405060708u);
  EXPECT_EQ(parsed->service_action_key, 0x1112131415161718u);
  EXPECT_TRUE(parsed->all_target_ports);
  EXPECT_TRUE(parsed->aptpl);
  list[20] = 0x01;
  EXPECT_FALSE(parse_pr_out_parameters(list)->all_target_ports);
  list[20] = 0x04;
  EXPECT_FALSE(parse_pr_out_parameters(list)->aptpl);
}

TEST(PrOutParameters, EncodesWhatItParses) {
  for (const bool all : {false, true}) {
    for (const bool aptpl : {false, true}) {
      std::array<uint8_t, kPrOutParameterBytes> list;
      encode_pr_out_parameters(
          {.key = ~1ULL, .service_action_key = 2, .all_target_ports = all, .aptpl = aptpl}, list);
      const auto parsed = parse_pr_out_parameters(list);
      ASSERT_TRUE(parsed.has_value());
      EXPECT_EQ(parsed->key, ~1ULL);
      EXPECT_EQ(parsed->service_action_key, 2u);
      EXPECT_EQ(parsed->all_target_ports, all);
      EXPECT_EQ(parsed->aptpl, aptpl);
    }
  }
}

TEST(PrOutParameters, WrongLength) {
  for (const size_t size : {size_t{0}, size_t{8}, size_t{23}, size_t{25}, size_t{65536}}) {
    const auto parsed = parse_pr_out_parameters(Buffer(size));
    ASSERT_FALSE(parsed.has_value()) << size;
    EXPECT_TRUE(parsed.error().same_code(kParameterListLengthError)) << size;
  }
}

TEST(PrOutParameters, SpecIPtIsRefusedWithItsPlace) {
  Buffer list(24);
  list[20] = 0x08;
  for (const size_t size : {size_t{24}, size_t{28}, size_t{28 + 24}}) {
    list.resize(size);
    const auto parsed = parse_pr_out_parameters(list);
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error(), kInvalidFieldInParameterList.at_parameter(20, uint8_t{3}));
  }
  // Without enough bytes there is no such field.
  EXPECT_TRUE(
      parse_pr_out_parameters(Bytes(list).first(23)).error().same_code(kParameterListLengthError));
}

TEST(PrType, OnlyTheSixCodes) {
  for (unsigned code = 0; code < 256; ++code) {
    const bool valid = code == 1 || code == 3 || (code >= 5 && code <= 8);
    EXPECT_EQ(parse_pr_type(static_cast<uint8_t>(code)).has_value(), valid) << code;
  }
  EXPECT_TRUE(is_write_exclusive(PrType::write_exclusive_all_registrants));
  EXPECT_FALSE(is_write_exclusive(PrType::exclusive_access_registrants_only));
  EXPECT_TRUE(is_registrants_only(PrType::write_exclusive_registrants_only));
  EXPECT_FALSE(is_registrants_only(PrType::write_exclusive_all_registrants));
  EXPECT_TRUE(is_all_registrants(PrType::exclusive_access_all_registrants));
  EXPECT_FALSE(is_all_registrants(PrType::exclusive_access));
  EXPECT_STREQ(to_string(PrType::write_exclusive_registrants_only),
               "Write Exclusive - Registrants Only");
}

// SPC-4 7.6.4.6: 25 + 5 + 12 characters and a NUL, padded to 44.
TEST(TransportIdFormat, PortWithIsid) {
  Buffer out(200, 0xee);
  ASSERT_EQ(transport_id_bytes(kName, 0x00023d000001), 48u);
  encode_transport_id(kName, 0x00023d000001, out);
  Buffer expected = hex("45 00 002c");
  for (const char c : std::string(kName) + ",i,0x00023d000001") {
    expected.push_back(static_cast<uint8_t>(c));
  }
  expected.resize(48, 0);
  EXPECT_TRUE(std::ranges::equal(expected, Bytes(out).first(48)));
  EXPECT_EQ(out[48], 0xee) << "nothing behind it";
}

TEST(TransportIdFormat, NodeWithoutIsid) {
  Buffer out(200, 0xee);
  ASSERT_EQ(transport_id_bytes(kName, std::nullopt), 32u);
  encode_transport_id(kName, std::nullopt, out);
  EXPECT_TRUE(std::ranges::equal(hex("05 00 001c"), Bytes(out).first(4)));
  EXPECT_EQ(out[4 + 25], 0);
  EXPECT_EQ(out[32], 0xee);
}

TEST(TransportIdFormat, ShortNamesArePaddedToTwentyBytes) {
  Buffer out(24, 0xee);
  ASSERT_EQ(transport_id_bytes("iqn.x", std::nullopt), 24u);
  encode_transport_id("iqn.x", std::nullopt, out);
  EXPECT_EQ(out[3], 20);
  EXPECT_TRUE(std::ranges::all_of(Bytes(out).subspan(9), [](uint8_t b) { return b == 0; }));
}

TEST(TransportIdFormat, RoundTripOfEveryLength) {
  for (size_t length = 1; length <= kMaxInitiatorNameBytes; ++length) {
    const std::string name(length, 'n');
    for (const std::optional<uint64_t> isid :
         {std::optional<uint64_t>{}, std::optional<uint64_t>{0}, std::optional{kMaxIsid}}) {
      Buffer out(kMaxTransportIdBytes + 1, 0xee);
      const size_t size = transport_id_bytes(name, isid);
      ASSERT_LE(size, kMaxTransportIdBytes);
      ASSERT_EQ(size % 4, 0u);
      encode_transport_id(name, isid, out);
      const auto parsed = parse_transport_id(out);
      ASSERT_TRUE(parsed.has_value()) << parsed.error().what;
      EXPECT_EQ(parsed->bytes, size);
      EXPECT_EQ(parsed->id, (TransportId{.initiator_name = name, .isid = isid}));
    }
  }
}

Buffer transport_id(uint8_t first_byte, std::string_view text, size_t additional) {
  Buffer out = {first_byte, 0, static_cast<uint8_t>(additional >> 8),
                static_cast<uint8_t>(additional)};
  out.insert(out.end(), text.begin(), text.end());
  out.resize(4 + additional, 0);
  return out;
}

TEST(TransportIdParse, AcceptsWhatOthersSend) {
  const auto upper = parse_transport_id(transport_id(0x45, "iqn.x:y,i,0xABCDEF", 20));
  ASSERT_TRUE(upper.has_value());
  EXPECT_EQ(upper->id.isid, 0xabcdefu) << "capitals, no leading zeroes";
  // The terminator ends it, whatever follows (SPC-4 7.6.4.6).
  const auto tail =
      parse_transport_id(transport_id(0x05, std::string_view("iqn.x\0junk,i,0x", 15), 20));
  ASSERT_TRUE(tail.has_value());
  EXPECT_EQ(tail->id.initiator_name, "iqn.x");
}

TEST(TransportIdParse, RefusesHostileInput) {
  const Buffer good = transport_id(0x45, "iqn.x:y,i,0x000000000001", 28);
  ASSERT_TRUE(parse_transport_id(good).has_value());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(parse_transport_id(Bytes(good).first(size)).has_value()) << size;
  }
  const auto refused = [](const Buffer& in) {
    const auto parsed = parse_transport_id(in);
    return !parsed.has_value() && parsed.error().code == base::Errc::protocol;
  };
  EXPECT_TRUE(refused(transport_id(0x00, "iqn.x", 20))) << "Fibre Channel";
  EXPECT_TRUE(refused(transport_id(0x85, "iqn.x", 20))) << "format 2";
  EXPECT_TRUE(refused(transport_id(0x05, "", 20))) << "no name";
  EXPECT_TRUE(refused(transport_id(0x05, "iqn.x", 16))) << "too short";
  EXPECT_TRUE(refused(transport_id(0x05, "iqn.x", 22))) << "not a multiple of four";
  EXPECT_TRUE(refused(transport_id(0x05, std::string(20, 'n'), 20))) << "no terminator";
  EXPECT_TRUE(refused(transport_id(0x05, std::string(224, 'n'), 228))) << "name too long";
  EXPECT_TRUE(refused(transport_id(0x05, "iqn.x y", 20))) << "a blank";
  EXPECT_TRUE(refused(transport_id(0x05, "iqn.x\ny", 20))) << "a control character";
  EXPECT_TRUE(refused(transport_id(0x05, "iqn.x,i,0x1", 20))) << "format 0 with an ISID";
  EXPECT_TRUE(refused(transport_id(0x45, "iqn.x:y", 20))) << "format 1 without an ISID";
  EXPECT_TRUE(refused(transport_id(0x45, "iqn.x,i,0x", 20))) << "an empty ISID";
  EXPECT_TRUE(refused(transport_id(0x45, "iqn.x,i,0x0g", 20))) << "not hexadecimal";
  EXPECT_TRUE(refused(transport_id(0x45, "iqn.x,i,0x0000000000001", 28))) << "13 digits";
  EXPECT_TRUE(refused(transport_id(0x45, ",i,0x000000000001", 20))) << "no name";
}

class PrInTest : public testing::Test {
 protected:
  // The full data, after proving that each shorter allocation length yields its beginning, and that
  // nothing is written beyond.
  Buffer data(ReserveIn action) const {
    Buffer full(2048, 0xee);
    full.resize(write_pr_in(action, report, full));
    for (size_t allocation = 0; allocation <= full.size() + 8; ++allocation) {
      Buffer out(full.size() + 16, 0xee);
      const size_t written = write_pr_in(action, report, MutableBytes(out).first(allocation));
      EXPECT_EQ(written, std::min(allocation, full.size()));
      EXPECT_TRUE(
          std::equal(out.begin(), out.begin() + static_cast<ptrdiff_t>(written), full.begin()))
          << "allocation length " << allocation;
      EXPECT_TRUE(std::all_of(out.begin() + static_cast<ptrdiff_t>(written), out.end(),
                              [](uint8_t b) { return b == 0xee; }));
    }
    return full;
  }

  const PrRegistration registrations[2] = {{.key = 0x0102030405060708,
                                            .holder = false,
                                            .relative_target_port = 1,
                                            .initiator_name = kName,
                                            .isid = 0x00023d000001},
                                           {.key = 0x1112131415161718,
                                            .holder = true,
                                            .relative_target_port = 0x0203,
                                            .initiator_name = "iqn.x:y",
                                            .isid = 0}};
  PrReport report{.generation = 0x0a0b0c0d, .registrations = registrations};
};

// READ KEYS.
TEST_F(PrInTest, ReadKeys) {
  EXPECT_EQ(data(ReserveIn::read_keys), hex("0a0b0c0d 00000010 0102030405060708 1112131415161718"));
  report.registrations = {};
  EXPECT_EQ(data(ReserveIn::read_keys), hex("0a0b0c0d 00000000"));
}

// READ RESERVATION: 16 bytes more if there is a reservation.
TEST_F(PrInTest, ReadReservation) {
  EXPECT_EQ(data(ReserveIn::read_reservation), hex("0a0b0c0d 00000000"));
  report.type = PrType::exclusive_access_registrants_only;
  EXPECT_EQ(data(ReserveIn::read_reservation),
            hex("0a0b0c0d 00000010 1112131415161718 00000000 00 06 0000"));
  report.type = PrType::write_exclusive_all_registrants;
  EXPECT_EQ(data(ReserveIn::read_reservation),
            hex("0a0b0c0d 00000010 0000000000000000 00000000 00 07 0000"));
}

// REPORT CAPABILITIES: ATP_C, PTPL_C, TMV, ALLOW COMMANDS 011b, all six types.
TEST_F(PrInTest, ReportCapabilities) {
  EXPECT_EQ(data(ReserveIn::report_capabilities), hex("0008 05 b0 ea01 0000"));
  report.aptpl = true;
  EXPECT_EQ(data(ReserveIn::report_capabilities), hex("0008 05 b1 ea01 0000"));
}

// READ FULL STATUS.
TEST_F(PrInTest, FullStatus) {
  report.type = PrType::write_exclusive_registrants_only;
  Buffer expected = hex("0a0b0c0d 00000000 0102030405060708 00000000 00 00 00000000 0001 00000030");
  Buffer id(48);
  encode_transport_id(kName, 0x00023d000001, id);
  expected.insert(expected.end(), id.begin(), id.end());
  const Buffer second = hex("1112131415161718 00000000 01 05 00000000 0203 00000020");
  expected.insert(expected.end(), second.begin(), second.end());
  id.assign(32, 0);
  encode_transport_id("iqn.x:y", 0, id);
  expected.insert(expected.end(), id.begin(), id.end());
  expected[7] = static_cast<uint8_t>(expected.size() - 8);
  EXPECT_EQ(data(ReserveIn::full_status), expected);

  report.registrations = {};
  report.type = std::nullopt;
  EXPECT_EQ(data(ReserveIn::full_status), hex("0a0b0c0d 00000000"));
}

}  // namespace
}  // namespace holdfast::scsi
