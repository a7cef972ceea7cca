#include "mpio/link_sources.h"

#include <gmock/gmock.h>

namespace holdfast::mpio {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Change = io::LinkEvent::Change;

io::Endpoint endpoint(const std::string& text) { return io::Endpoint::parse(text).value(); }

// 10.1.0.1 is on san0, the others nowhere.
class Links final : public io::LinkWatch {
 public:
  std::optional<Where> find(const io::Endpoint& address) const override {
    if (address.address_to_string() != "10.1.0.1") return std::nullopt;
    return Where{.interface = "san0", .up = true};
  }
  bool ready() const override { return true; }
};

std::vector<std::string> told(const io::LinkEvent& event) {
  DeviceConfig first, second;
  first.portals = {{.address = endpoint("10.1.0.10:3260"), .source = endpoint("10.1.0.1:0")},
                   {.address = endpoint("10.2.0.10:3260"), .source = endpoint("10.2.0.1:0")},
                   {.address = endpoint("10.9.0.10:3260"), .source = std::nullopt}};
  second.portals = first.portals;
  const Links links;
  std::vector<std::string> out;
  for_each_source({first, second}, links, event, [&](const io::Endpoint& source, bool up) {
    out.push_back(source.address_to_string() + (up ? " up" : " down"));
  });
  return out;
}

TEST(LinkSources, AnInterfaceConcernsTheSourceThatIsOnItOnce) {
  EXPECT_THAT(told({.change = Change::link, .interface = "san0", .up = false}),
              ElementsAre("10.1.0.1 down"));
  EXPECT_THAT(told({.change = Change::link, .interface = "san0", .up = true}),
              ElementsAre("10.1.0.1 up"));
  EXPECT_THAT(told({.change = Change::link, .interface = "san1", .up = false}), IsEmpty());
}

TEST(LinkSources, AnAddressThatComesOrGoesIsTold) {
  EXPECT_THAT(
      told({.change = Change::address_added, .up = true, .address = endpoint("10.2.0.1:0")}),
      ElementsAre("10.2.0.1 up"));
  EXPECT_THAT(
      told({.change = Change::address_added, .up = false, .address = endpoint("10.2.0.1:0")}),
      ElementsAre("10.2.0.1 down"));
  EXPECT_THAT(
      told({.change = Change::address_removed, .up = true, .address = endpoint("10.2.0.1:0")}),
      ElementsAre("10.2.0.1 down"));
  EXPECT_THAT(
      told({.change = Change::address_added, .up = true, .address = endpoint("10.3.0.1:0")}),
      IsEmpty());
}

}  // namespace
}  // namespace holdfast::mpio
