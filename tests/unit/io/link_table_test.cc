#include "common/io/link_table.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <cstring>

namespace holdfast::io {
namespace {

constexpr unsigned kLowerUp = 1u << 16;
constexpr unsigned kUp = IFF_UP | IFF_RUNNING | kLowerUp;

Endpoint endpoint(const std::string& text) { return Endpoint::parse(text).value(); }

// A message of rtnetlink without its header.
class Message {
 public:
  template <class T>
  explicit Message(const T& start) {
    append(&start, sizeof(start));
  }
  Message& with(uint16_t type, const void* value, size_t size) {
    const rtattr header{.rta_len = static_cast<uint16_t>(RTA_LENGTH(size)), .rta_type = type};
    append(&header, sizeof(header));
    append(value, size);
    return *this;
  }
  base::Bytes bytes() const { return bytes_; }

 private:
  void append(const void* from, size_t size) {
    const auto* begin = static_cast<const uint8_t*>(from);
    bytes_.insert(bytes_.end(), begin, begin + size);
    bytes_.resize((bytes_.size() + 3) / 4 * 4);
  }
  std::vector<uint8_t> bytes_;
};

Message link(int index, const std::string& name, unsigned flags) {
  ifinfomsg info{};
  info.ifi_index = index;
  info.ifi_flags = flags;
  return Message(info).with(IFLA_IFNAME, name.c_str(), name.size() + 1);
}

Message address(unsigned index, const std::string& text, uint32_t flags = IFA_F_PERMANENT) {
  const Endpoint parsed = endpoint(text);
  ifaddrmsg info{};
  info.ifa_family = parsed.is_v6() ? AF_INET6 : AF_INET;
  info.ifa_index = index;
  return Message(info)
      .with(IFA_ADDRESS, parsed.address().data(), parsed.address().size())
      .with(IFA_FLAGS, &flags, sizeof(flags));
}

class LinkTableTest : public ::testing::Test {
 protected:
  // The changes it makes, as text.
  std::vector<std::string> apply(uint16_t type, const Message& message) {
    LinkTable::Events events;
    table.apply(type, message.bytes(), events);
    return texts(events);
  }
  static std::vector<std::string> texts(const LinkTable::Events& events) {
    std::vector<std::string> all;
    for (const LinkEvent& event : events) {
      std::string text = event.interface + (event.up ? " up" : " down");
      if (event.change == LinkEvent::Change::address_added) text += " +";
      if (event.change == LinkEvent::Change::address_removed) text += " -";
      if (event.change != LinkEvent::Change::link) text += event.address.address_to_string();
      all.push_back(text);
    }
    return all;
  }
  std::string where(const std::string& text) {
    const auto found = table.find(endpoint(text));
    return found ? found->interface + (found->up ? " up" : " down") : "nowhere";
  }

  LinkTable table;
};

using Texts = std::vector<std::string>;

TEST_F(LinkTableTest, UpIsAdministratorCarrierAndOperationalState) {
  EXPECT_EQ(apply(RTM_NEWLINK, link(2, "san0", IFF_UP)), Texts({"san0 down"}));
  EXPECT_EQ(apply(RTM_NEWLINK, link(2, "san0", IFF_UP | kLowerUp)), Texts());  // dormant
  EXPECT_EQ(apply(RTM_NEWLINK, link(2, "san0", kUp)), Texts({"san0 up"}));
  EXPECT_EQ(apply(RTM_NEWLINK, link(2, "san0", kUp)), Texts());
  EXPECT_EQ(apply(RTM_NEWLINK, link(2, "san0", kUp & ~static_cast<unsigned>(IFF_UP))),
            Texts({"san0 down"}));
}

TEST_F(LinkTableTest, FindsTheInterfaceOfAnAddress) {
  apply(RTM_NEWLINK, link(2, "san0", kUp));
  EXPECT_EQ(where("10.1.0.1:0"), "nowhere");
  EXPECT_EQ(apply(RTM_NEWADDR, address(2, "10.1.0.1:0")), Texts({"san0 up +10.1.0.1"}));
  EXPECT_EQ(apply(RTM_NEWADDR, address(2, "10.1.0.1:0")), Texts());  // its lifetime, perhaps
  EXPECT_EQ(where("10.1.0.1:3260"), "san0 up");                      // the port does not matter
  EXPECT_EQ(where("10.1.0.2:0"), "nowhere");
  apply(RTM_NEWLINK, link(2, "san0", IFF_UP));
  EXPECT_EQ(where("10.1.0.1:0"), "san0 down");
  EXPECT_EQ(apply(RTM_DELADDR, address(2, "10.1.0.1:0")), Texts({"san0 down -10.1.0.1"}));
  EXPECT_EQ(where("10.1.0.1:0"), "nowhere");
}

TEST_F(LinkTableTest, OfTwoInterfacesWithOneAddressTheOneThatIsUpCounts) {
  apply(RTM_NEWLINK, link(2, "san0", IFF_UP));
  apply(RTM_NEWLINK, link(3, "san1", kUp));
  apply(RTM_NEWADDR, address(2, "[fe80::1]:0"));
  apply(RTM_NEWADDR, address(3, "[fe80::1]:0"));
  EXPECT_EQ(where("[fe80::1]:0"), "san1 up");
}

TEST_F(LinkTableTest, APointToPointAddressIsTheLocalOne) {
  apply(RTM_NEWLINK, link(2, "san0", kUp));
  Message message = address(2, "10.1.0.9:0");
  const Endpoint local = endpoint("10.1.0.1:0");
  message.with(IFA_LOCAL, local.address().data(), local.address().size());
  EXPECT_EQ(apply(RTM_NEWADDR, message), Texts({"san0 up +10.1.0.1"}));
}

TEST_F(LinkTableTest, AnAddressCountsOnceNobodyElseIsKnownToHaveIt) {
  apply(RTM_NEWLINK, link(2, "san0", kUp));
  EXPECT_EQ(apply(RTM_NEWADDR, address(2, "[fd00::1]:0", IFA_F_TENTATIVE)), Texts());
  EXPECT_EQ(where("[fd00::1]:0"), "nowhere");
  EXPECT_EQ(apply(RTM_NEWADDR, address(2, "[fd00::1]:0")), Texts({"san0 up +fd00::1"}));
  EXPECT_EQ(apply(RTM_NEWADDR, address(2, "[fd00::1]:0", IFA_F_DADFAILED)),
            Texts({"san0 up -fd00::1"}));
}

TEST_F(LinkTableTest, AnInterfaceTakesItsAddressesWithIt) {
  apply(RTM_NEWLINK, link(2, "san0", kUp));
  apply(RTM_NEWLINK, link(3, "san1", kUp));
  apply(RTM_NEWADDR, address(2, "10.1.0.1:0"));
  apply(RTM_NEWADDR, address(3, "10.2.0.1:0"));
  EXPECT_EQ(apply(RTM_DELLINK, link(2, "san0", 0)), Texts({"san0 down -10.1.0.1", "san0 down"}));
  EXPECT_EQ(where("10.1.0.1:0"), "nowhere");
  EXPECT_EQ(where("10.2.0.1:0"), "san1 up");
  EXPECT_EQ(apply(RTM_DELLINK, link(2, "san0", 0)), Texts());
}

TEST_F(LinkTableTest, ADumpTellsWhatWasMissed) {
  apply(RTM_NEWLINK, link(2, "san0", kUp));
  apply(RTM_NEWLINK, link(3, "san1", kUp));
  apply(RTM_NEWADDR, address(2, "10.1.0.1:0"));
  apply(RTM_NEWADDR, address(2, "10.1.0.2:0"));
  table.begin_dump();
  EXPECT_EQ(apply(RTM_NEWLINK, link(2, "san0", IFF_UP)), Texts({"san0 down"}));
  EXPECT_EQ(apply(RTM_NEWADDR, address(2, "10.1.0.2:0")), Texts());
  LinkTable::Events events;
  table.end_dump(events);
  EXPECT_EQ(texts(events), Texts({"san0 down -10.1.0.1", "san1 down"}));
  EXPECT_EQ(where("10.1.0.2:0"), "san0 down");
}

TEST_F(LinkTableTest, WhatIsNoWholeMessageChangesNothing) {
  apply(RTM_NEWLINK, link(2, "san0", kUp));
  LinkTable::Events events;
  const Message whole = address(2, "10.1.0.1:0");
  // Cut before its address is complete: a header of 8 bytes, an attribute's of 4 and 4.
  for (size_t size = 0; size < 16; ++size) {
    table.apply(RTM_NEWADDR, whole.bytes().first(size), events);
  }
  const Message next = link(3, "san1", kUp);
  for (size_t size = 0; size < 20; ++size) {
    table.apply(RTM_NEWLINK, next.bytes().first(size), events);
  }
  ifinfomsg of_bridge{};
  of_bridge.ifi_family = AF_BRIDGE;
  of_bridge.ifi_index = 2;
  table.apply(RTM_DELLINK, Message(of_bridge).bytes(), events);
  table.apply(RTM_NEWROUTE, whole.bytes(), events);
  EXPECT_EQ(texts(events), Texts());
  EXPECT_EQ(apply(RTM_NEWADDR, address(7, "10.1.0.1:0")), Texts());  // of an unknown interface
}

TEST_F(LinkTableTest, IsBounded) {
  for (size_t i = 1; i <= kMaxLinks + 2; ++i) {
    const auto index = static_cast<int>(i);
    apply(RTM_NEWLINK, link(index, "c" + std::to_string(i), kUp));
  }
  const auto beyond = static_cast<unsigned>(kMaxLinks + 1);
  EXPECT_EQ(apply(RTM_NEWADDR, address(beyond, "10.1.0.1:0")), Texts());
  EXPECT_EQ(apply(RTM_NEWADDR, address(beyond - 1, "10.1.0.1:0")).size(), 1u);
}

}  // namespace
}  // namespace holdfast::io
