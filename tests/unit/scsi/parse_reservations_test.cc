#include "common/scsi/parse_reservations.h"

#include "tests/unit/scsi/hex.h"
#include "tests/unit/scsi/hostile.h"

namespace holdfast::scsi {
namespace {

constexpr std::string_view kName = "iqn.2026-11.org.example:a";

class ParseReservations : public testing::Test {
 protected:
  std::vector<uint8_t> answer(ReserveIn action) const {
    std::vector<uint8_t> out(4096);
    out.resize(write_pr_in(action, report, out));
    return out;
  }

  const PrRegistration registrations[3] = {{.key = 0x0102030405060708,
                                            .relative_target_port = 1,
                                            .initiator_name = kName,
                                            .isid = 0x00023d000001},
                                           {.key = 0x1112131415161718,
                                            .holder = true,
                                            .relative_target_port = 0x0203,
                                            .initiator_name = "iqn.x:y",
                                            .isid = 0},
                                           {.key = 0x0102030405060708,
                                            .relative_target_port = 2,
                                            .initiator_name = kName,
                                            .isid = 0x00023d000002}};
  PrReport report{.generation = 0x0a0b0c0d, .registrations = registrations};
};

TEST_F(ParseReservations, Keys) {
  const auto parsed = parse_read_keys(answer(ReserveIn::read_keys));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->generation, 0x0a0b0c0dU);
  EXPECT_EQ(parsed->keys,
            (std::vector<uint64_t>{0x0102030405060708, 0x1112131415161718, 0x0102030405060708}));
  EXPECT_EQ(parsed->full_length, 32U);
  EXPECT_TRUE(parsed->complete);
  report.registrations = {};
  const auto none = parse_read_keys(answer(ReserveIn::read_keys));
  ASSERT_TRUE(none.has_value());
  EXPECT_TRUE(none->keys.empty());
  EXPECT_TRUE(none->complete);
}

// A missing key means "fenced": never to be concluded from a part of the list.
TEST_F(ParseReservations, KeysThatAreCutAreNotComplete) {
  const std::vector<uint8_t> whole = answer(ReserveIn::read_keys);
  const std::vector<uint64_t> keys = parse_read_keys(whole)->keys;
  for_each_truncation(whole, [&](Bytes part) {
    const auto cut = parse_read_keys(part);
    ASSERT_EQ(cut.has_value(), part.size() >= 8);
    if (!cut.has_value()) return;
    EXPECT_FALSE(cut->complete);
    EXPECT_EQ(cut->full_length, whole.size());
    ASSERT_EQ(cut->keys.size(), (part.size() - 8) / 8);
    EXPECT_TRUE(std::equal(cut->keys.begin(), cut->keys.end(), keys.begin()));
  });
}

TEST_F(ParseReservations, KeyLengthsThatLie) {
  const auto much = parse_read_keys(from_hex("00000001 ffffffff 0000000000000005"));
  ASSERT_TRUE(much.has_value());
  EXPECT_EQ(much->keys, std::vector<uint64_t>{5});
  EXPECT_FALSE(much->complete);
  EXPECT_EQ(much->full_length, 0xffffffffULL + 8);
  const auto little =
      parse_read_keys(from_hex("00000001 00000008 0000000000000005"
                               "0000000000000006"));
  ASSERT_TRUE(little.has_value());
  EXPECT_EQ(little->keys, std::vector<uint64_t>{5}) << "what lies behind is no key";
  EXPECT_TRUE(little->complete);
  const auto odd = parse_read_keys(from_hex("00000001 0000000c 0000000000000005 00000000"));
  ASSERT_TRUE(odd.has_value());
  EXPECT_FALSE(odd->complete);
}

TEST_F(ParseReservations, Reservation) {
  const auto none = parse_read_reservation(answer(ReserveIn::read_reservation));
  ASSERT_TRUE(none.has_value());
  EXPECT_EQ(none->held, std::nullopt);
  EXPECT_EQ(none->generation, 0x0a0b0c0dU);
  for (const PrType type : kPrTypes) {
    report.type = type;
    const std::vector<uint8_t> whole = answer(ReserveIn::read_reservation);
    const auto parsed = parse_read_reservation(whole);
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(parsed->held,
              (HeldReservation{.type = type,
                               .key = is_all_registrants(type) ? 0U : 0x1112131415161718U}));
    // "There is none" must not come from an answer that was cut.
    for_each_truncation(whole,
                        [](Bytes part) { EXPECT_FALSE(parse_read_reservation(part).has_value()); });
  }
}

TEST_F(ParseReservations, ReservationOfUnknownScopeOrType) {
  report.type = PrType::write_exclusive;
  const std::vector<uint8_t> good = answer(ReserveIn::read_reservation);
  for (unsigned value = 0; value < 256; ++value) {
    std::vector<uint8_t> data = good;
    data[21] = static_cast<uint8_t>(value);
    const auto type = parse_pr_type(data[21]);
    const auto parsed = parse_read_reservation(data);
    ASSERT_EQ(parsed.has_value(), type.has_value()) << value;
    if (parsed.has_value()) {
      EXPECT_EQ(parsed->held->type, *type);
    } else {
      EXPECT_EQ(parsed.error().code, base::Errc::unsupported);
    }
  }
}

TEST_F(ParseReservations, Capabilities) {
  for (const bool aptpl : {false, true}) {
    report.aptpl = aptpl;
    const auto parsed = parse_report_capabilities(answer(ReserveIn::report_capabilities));
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(*parsed, (PrCapabilities{.all_target_ports = true,
                                       .persist_capable = true,
                                       .persist_active = aptpl,
                                       .type_mask = 0xea01}));
    for (const PrType type : kPrTypes) EXPECT_EQ(parsed->supports(type), true);
  }
  EXPECT_TRUE(parse_report_capabilities(from_hex("0008 08 00 0000 0000"))->specify_ports);
  EXPECT_EQ(parse_report_capabilities(from_hex("0008 00 00 ffff 0000"))
                ->supports(PrType::write_exclusive),
            std::nullopt)
      << "TMV=0: the mask says nothing";
  for_each_truncation(answer(ReserveIn::report_capabilities), [](Bytes part) {
    EXPECT_FALSE(parse_report_capabilities(part).has_value());
  });
}

// SPC-4 table 209.
TEST_F(ParseReservations, EachTypeHasItsBit) {
  const std::pair<PrType, std::string_view> table[] = {
      {PrType::write_exclusive, "0200"},
      {PrType::exclusive_access, "0800"},
      {PrType::write_exclusive_registrants_only, "2000"},
      {PrType::exclusive_access_registrants_only, "4000"},
      {PrType::write_exclusive_all_registrants, "8000"},
      {PrType::exclusive_access_all_registrants, "0001"},
  };
  for (const auto& [type, mask] : table) {
    const auto parsed =
        parse_report_capabilities(from_hex("0008 00 80" + std::string(mask) + "0000"));
    for (const PrType each : kPrTypes) EXPECT_EQ(parsed->supports(each), each == type);
  }
}

TEST_F(ParseReservations, FullStatus) {
  report.type = PrType::write_exclusive_registrants_only;
  const auto parsed = parse_full_status(answer(ReserveIn::full_status));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->complete);
  ASSERT_EQ(parsed->entries.size(), std::size(registrations));
  for (size_t i = 0; i < std::size(registrations); ++i) {
    const PrRegistration& wanted = registrations[i];
    const FullStatusEntry& entry = parsed->entries[i];
    EXPECT_EQ(entry.key, wanted.key);
    EXPECT_EQ(entry.holder, wanted.holder);
    EXPECT_EQ(entry.type, wanted.holder ? report.type : std::nullopt);
    EXPECT_FALSE(entry.all_target_ports);
    EXPECT_EQ(entry.relative_target_port, wanted.relative_target_port);
    ASSERT_TRUE(entry.initiator.has_value());
    EXPECT_EQ(*entry.initiator, (TransportId{.initiator_name = std::string(wanted.initiator_name),
                                             .isid = wanted.isid}));
  }
}

TEST_F(ParseReservations, FullStatusOfOtherTargets) {
  // ALL_TG_PT, and a TransportID of Fibre Channel.
  const auto parsed =
      parse_full_status(from_hex("00000001 00000030"
                                 "0000000000000005 00000000 02 00 00000000 0000 00000018"
                                 "00 00000000000000 0102030405060708 0000000000000000"));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->complete);
  ASSERT_EQ(parsed->entries.size(), 1U);
  EXPECT_TRUE(parsed->entries[0].all_target_ports);
  EXPECT_EQ(parsed->entries[0].initiator, std::nullopt);
  EXPECT_EQ(parsed->entries[0].key, 5U);
}

TEST_F(ParseReservations, FullStatusThatIsCutIsNotComplete) {
  const std::vector<uint8_t> whole = answer(ReserveIn::full_status);
  for_each_truncation(whole, [&](Bytes part) {
    const auto cut = parse_full_status(part);
    ASSERT_EQ(cut.has_value(), part.size() >= 8);
    if (!cut.has_value()) return;
    EXPECT_FALSE(cut->complete);
    ASSERT_LT(cut->entries.size(), std::size(registrations));
    for (size_t i = 0; i < cut->entries.size(); ++i) {
      EXPECT_EQ(cut->entries[i].key, registrations[i].key);
    }
  });
}

TEST_F(ParseReservations, FullStatusDescriptorThatLies) {
  std::vector<uint8_t> data = answer(ReserveIn::full_status);
  data[8 + 20] = 0xff;  // ADDITIONAL DESCRIPTOR LENGTH of the first
  const auto parsed = parse_full_status(data);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->entries.empty());
  EXPECT_FALSE(parsed->complete);
}

TEST_F(ParseReservations, Damage) {
  report.type = PrType::write_exclusive_registrants_only;
  size_t entries = 0;
  for (const auto action : {ReserveIn::read_keys, ReserveIn::read_reservation,
                            ReserveIn::report_capabilities, ReserveIn::full_status}) {
    for_each_damage(answer(action), [&](Bytes data) {
      (void)parse_read_reservation(data);
      (void)parse_report_capabilities(data);
      if (const auto keys = parse_read_keys(data)) {
        EXPECT_LE(keys->keys.size() * 8 + 8, data.size());
      }
      if (const auto status = parse_full_status(data)) {
        EXPECT_LE(status->entries.size() * 24 + 8, data.size());
        entries += status->entries.size();
      }
    });
  }
  EXPECT_GT(entries, 0U) << "nothing got past the header";
}

}  // namespace
}  // namespace holdfast::scsi
