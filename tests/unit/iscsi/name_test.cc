#include "common/iscsi/name.h"

#include <gtest/gtest.h>

#include "common/iscsi/limits.h"

namespace holdfast::iscsi {
namespace {

TEST(Name, AcceptsAndNormalisesTheThreeForms) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"iqn.2026-11.org.holdfast:hv1", "iqn.2026-11.org.holdfast:hv1"},
      {"IQN.2026-11.Org.Holdfast:HV1", "iqn.2026-11.org.holdfast:hv1"},
      {"iqn.2008-11.org.linux-kvm", "iqn.2008-11.org.linux-kvm"},
      {"iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test",
       "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test"},
      {"eui.02004567A425678D", "eui.02004567a425678d"},
      {"naa.52004567BA64678D", "naa.52004567ba64678d"},
      {"naa.62004567BA64678D0123456789ABCDEF", "naa.62004567ba64678d0123456789abcdef"},
  };
  for (const auto& [given, normal] : cases) {
    const auto name = normalize_name(given);
    ASSERT_TRUE(name.has_value()) << given;
    EXPECT_EQ(*name, normal);
  }
}

// Names go into logs, paths and answers: CVE-2026-44943.
TEST(Name, RefusesEverythingElse) {
  const std::string_view cases[] = {
      "",
      "hv1",
      "iqn.",
      "iqn.2026-11.",
      "iqn.2026-1.org",
      "iqn.26-11.org.x",
      "iqn.2026.11.org",
      "eui.02004567A425678",
      "eui.02004567A425678G",
      "eui.02004567A425678D0",
      "naa.0",
      "naa.52004567BA64678D01",
      "iqn.2026-11.org:../../etc/passwd",
      "iqn.2026-11.org:a b",
      "iqn.2026-11.org:a\tb",
      "iqn.2026-11.org:a\nb",
      "iqn.2026-11.org:a%sb",
      "iqn.2026-11.org:caf\xc3\xa9",
      std::string_view("iqn.2026-11.org:a\0b", 19),
      " iqn.2026-11.org:a",
  };
  for (const std::string_view name : cases) {
    EXPECT_FALSE(normalize_name(name).has_value()) << name;
  }
}

TEST(Name, IsAtMost223Bytes) {
  std::string name = "iqn.2026-11.org:";
  name.append(kMaxNameBytes - name.size(), 'a');
  EXPECT_TRUE(normalize_name(name).has_value());
  name += 'a';
  EXPECT_FALSE(normalize_name(name).has_value());
}

}  // namespace
}  // namespace holdfast::iscsi
