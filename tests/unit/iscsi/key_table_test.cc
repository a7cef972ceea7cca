#include "common/iscsi/key_table.h"

#include <gtest/gtest.h>

#include <set>

#include "common/iscsi/limits.h"

namespace holdfast::iscsi {
namespace {

TEST(KeyTable, NamesAreUniqueAndRangesMakeSense) {
  std::set<std::string_view> names;
  for (const KeyInfo& info : key_table()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(find_key(info.name), &info);
    EXPECT_EQ(&key_info(info.key), &info);
    EXPECT_LE(info.name.size(), kMaxKeyBytes);
    EXPECT_LE(info.minimum, info.maximum) << info.name;
    EXPECT_FALSE(info.clause.empty()) << info.name;
    EXPECT_EQ(info.rule == Rule::refuse, !info.fixed_answer.empty()) << info.name;
    const bool boolean = info.rule == Rule::boolean_and || info.rule == Rule::boolean_or;
    EXPECT_TRUE(!boolean || info.type == ValueType::boolean) << info.name;
    EXPECT_TRUE(info.rule != Rule::first_common || info.type == ValueType::list) << info.name;
  }
  EXPECT_EQ(find_key("HeaderDigestX"), nullptr);
  EXPECT_EQ(find_key("headerdigest"), nullptr);
}

// Every key that RFC 7143 13 defines, with its clause, use, default and range there.
TEST(KeyTable, HasTheKeysOfTheRfc) {
  struct Defined {
    std::string_view name, clause;
    Use use;
    std::string_view default_value;
    uint32_t minimum, maximum;
    bool irrelevant_in_discovery;
  };
  constexpr uint32_t kLongest = (1U << 24) - 1;
  using enum Use;
  const Defined defined[] = {
      {"HeaderDigest", "13.1", initialize_only, "None", 0, 0, false},
      {"DataDigest", "13.1", initialize_only, "None", 0, 0, false},
      {"MaxConnections", "13.2", leading_only, "1", 1, 65535, true},
      {"SendTargets", "13.3", full_feature_only, "", 0, 0, false},
      {"TargetName", "13.4", initialize_only, "", 0, 0, false},
      {"InitiatorName", "13.5", initialize_only, "", 0, 0, false},
      {"TargetAlias", "13.6", all, "", 0, 0, false},
      {"InitiatorAlias", "13.7", all, "", 0, 0, false},
      {"TargetAddress", "13.8", all, "", 0, 0, false},
      {"TargetPortalGroupTag", "13.9", initialize_only, "", 0, 65535, false},
      {"InitialR2T", "13.10", leading_only, "Yes", 0, 0, true},
      {"ImmediateData", "13.11", leading_only, "Yes", 0, 0, true},
      {"MaxRecvDataSegmentLength", "13.12", all, "8192", 512, kLongest, false},
      {"MaxBurstLength", "13.13", leading_only, "262144", 512, kLongest, true},
      {"FirstBurstLength", "13.14", leading_only, "65536", 512, kLongest, true},
      {"DefaultTime2Wait", "13.15", leading_only, "2", 0, 3600, false},
      {"DefaultTime2Retain", "13.16", leading_only, "20", 0, 3600, false},
      {"MaxOutstandingR2T", "13.17", leading_only, "1", 1, 65535, true},
      {"DataPDUInOrder", "13.18", leading_only, "Yes", 0, 0, true},
      {"DataSequenceInOrder", "13.19", leading_only, "Yes", 0, 0, true},
      {"ErrorRecoveryLevel", "13.20", leading_only, "0", 0, 2, false},
      {"SessionType", "13.21", leading_only, "Normal", 0, 0, false},
      {"TaskReporting", "13.23", leading_only, "RFC3720", 0, 0, true},
      {"iSCSIProtocolLevel", "13.24", leading_only, "1", 0, 31, true},
      {"X#NodeArchitecture", "13.26", leading_only, "", 0, 0, false},
  };
  for (const Defined& key : defined) {
    const KeyInfo* info = find_key(key.name);
    ASSERT_NE(info, nullptr) << key.name;
    EXPECT_EQ(info->clause, key.clause) << key.name;
    EXPECT_EQ(info->use, key.use) << key.name;
    EXPECT_EQ(info->default_value, key.default_value) << key.name;
    EXPECT_EQ(info->minimum, key.minimum) << key.name;
    EXPECT_EQ(info->maximum, key.maximum) << key.name;
    EXPECT_EQ(info->irrelevant_in_discovery, key.irrelevant_in_discovery) << key.name;
  }
  for (const std::string_view obsolete : {"IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt"}) {
    ASSERT_NE(find_key(obsolete), nullptr);
    EXPECT_EQ(find_key(obsolete)->clause, "13.25");
  }
}

}  // namespace
}  // namespace holdfast::iscsi
