#include "common/iscsi/send_targets.h"

#include <gtest/gtest.h>

#include <string>

#include "common/iscsi/limits.h"
#include "common/iscsi/text_server.h"

namespace holdfast::iscsi {
namespace {

using base::Errc;

std::string wire(std::string_view list) {
  std::string text(list);
  for (char& c : text) c = c == ' ' ? '\0' : c;
  return text;
}

base::Result<SendTargetsAnswer> parse(std::string_view list) {
  const std::string text = wire(list);
  return parse_send_targets(base::as_bytes(std::string_view(text)));
}

// "name address,tag address;name ...", as an administrator would list it.
std::string shown(const SendTargetsAnswer& answer) {
  std::string text;
  for (const DiscoveredTarget& target : answer.targets) {
    text += target.name;
    for (const TargetAddress& portal : target.portals) {
      text += " " + portal.to_string();
      if (portal.portal_group_tag) text += "," + std::to_string(*portal.portal_group_tag);
    }
    text += ";";
  }
  return text;
}

TEST(SendTargets, ReadsWhatTargetsInUseSend) {
  const std::pair<std::string_view, std::string_view> table[] = {
      {"", ""},
      // tgt
      {"TargetName=iqn.2026-11.org:a TargetAddress=10.1.0.10:3260,1 "
       "TargetAddress=10.2.0.10:3260,1 TargetName=iqn.2026-11.org:b "
       "TargetAddress=[fd00::1]:3260,1 ",
       "iqn.2026-11.org:a 10.1.0.10:3260,1 10.2.0.10:3260,1;iqn.2026-11.org:b [fd00::1]:3260,1;"},
      // a name with each portal, a portal twice
      {"TargetName=iqn.2026-11.org:a TargetAddress=10.1.0.10,1 TargetName=iqn.2026-11.org:b "
       "TargetName=iqn.2026-11.org:a TargetAddress=10.2.0.10,2 TargetAddress=10.1.0.10:3260,1 ",
       "iqn.2026-11.org:a 10.1.0.10:3260,1 10.2.0.10:3260,2;iqn.2026-11.org:b;"},
      // no addresses: the portal that was asked
      {"TargetName=iqn.2026-11.org:a ", "iqn.2026-11.org:a;"},
      // other keys, capitals, no tag, a host name
      {"TargetName=IQN.2026-11.org:A TargetAlias=x TargetAddress=store.example:860 ",
       "iqn.2026-11.org:a store.example:860;"},
  };
  for (const auto& [list, expected] : table) {
    const auto answer = parse(list);
    ASSERT_TRUE(answer.has_value()) << list << ": " << answer.error().what;
    EXPECT_EQ(shown(*answer), expected);
    EXPECT_EQ(answer->skipped, 0u);
  }
}

TEST(SendTargets, OneOddTargetDoesNotHideTheOthers) {
  const auto answer = parse(
      "TargetName=iqn.2026-11.org:../../etc TargetAddress=10.9.0.10,1 TargetName=plain "
      "TargetName=iqn.2026-11.org:a TargetAddress=/run/x TargetAddress=10.1.0.10,1 ");
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(shown(*answer), "iqn.2026-11.org:a 10.1.0.10:3260,1;");
  EXPECT_EQ(answer->skipped, 3u);
}

TEST(SendTargets, RefusesWhatIsNoAnswer) {
  for (const std::string_view list :
       {"TargetAddress=10.1.0.10:3260,1 ", "TargetName=iqn.2026-11.org:a", "TargetName ", " ",
        "TargetName=iqn.2026-11.org:a\n ", "TargetName=iqn.2026-11.org:a TargetAddress=\x1b[2J ",
        "Target/Name=iqn.2026-11.org:a "}) {
    const auto answer = parse(list);
    ASSERT_FALSE(answer.has_value()) << list;
    EXPECT_EQ(answer.error().code, Errc::protocol);
  }
}

std::string targets(size_t count) {
  std::string list;
  for (size_t i = 0; i < count; ++i) {
    list += "TargetName=iqn.2026-11.org:" + std::to_string(i) + " ";
  }
  return list;
}

TEST(SendTargets, IsBounded) {
  const auto most = parse(targets(kMaxDiscoveredTargets));
  ASSERT_TRUE(most.has_value());
  EXPECT_EQ(most->targets.size(), kMaxDiscoveredTargets);
  EXPECT_EQ(parse(targets(kMaxDiscoveredTargets + 1)).error().code, Errc::limit);

  std::string portals = "TargetName=iqn.2026-11.org:a ";
  for (size_t i = 1; i <= kMaxPortalsPerTarget; ++i) {
    portals += "TargetAddress=10.0.0.1:" + std::to_string(i) + ",1 ";
  }
  ASSERT_TRUE(parse(portals).has_value());
  EXPECT_EQ(parse(portals)->targets[0].portals.size(), kMaxPortalsPerTarget);
  EXPECT_EQ(parse(portals + "TargetAddress=10.0.0.2,1 ").error().code, Errc::limit);

  std::string filler = "TargetName=iqn.2026-11.org:a ";
  while (filler.size() <= kMaxSendTargetsBytes) filler += "X-a=" + std::string(250, 'b') + " ";
  EXPECT_EQ(parse(filler).error().code, Errc::limit);
}

TEST(SendTargets, ReadsWhatOurTargetWrites) {
  std::vector<uint8_t> text;
  TextKeyWriter out(text, kMaxTextResponseBytes);
  TargetListWriter list(out);
  ASSERT_TRUE(list.add_target("iqn.2026-11.org.holdfast:store").has_value());
  ASSERT_TRUE(list.add_portal("10.1.0.10:3260", 1).has_value());
  ASSERT_TRUE(list.add_portal("[fd00::1]:3260", 65535).has_value());
  const auto answer = parse_send_targets(text);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(shown(*answer),
            "iqn.2026-11.org.holdfast:store 10.1.0.10:3260,1 [fd00::1]:3260,65535;");
}

}  // namespace
}  // namespace holdfast::iscsi
