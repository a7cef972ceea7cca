#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>

#include "common/io/network.h"

namespace holdfast::io {
namespace {

Endpoint endpoint(std::string_view text) {
  const auto parsed = Endpoint::parse(text);
  EXPECT_TRUE(parsed.has_value()) << text;
  return parsed.value_or(Endpoint{});
}

AddressRange range(std::string_view text) {
  const auto parsed = AddressRange::parse(text);
  EXPECT_TRUE(parsed.has_value()) << text;
  return parsed.value_or(AddressRange{});
}

TEST(Endpoint, ReadsBothFamilies) {
  const Endpoint v4 = endpoint("10.1.0.10:3260");
  EXPECT_FALSE(v4.is_v6());
  EXPECT_EQ(v4.port(), 3260);
  EXPECT_EQ(v4.to_string(), "10.1.0.10:3260");
  EXPECT_EQ(v4.address_to_string(), "10.1.0.10");
  ASSERT_EQ(v4.address().size(), 4u);
  EXPECT_EQ(v4.address()[0], 10);
  EXPECT_EQ(v4.address()[3], 10);

  const Endpoint v6 = endpoint("[fd00:0:0::1]:860");
  EXPECT_TRUE(v6.is_v6());
  EXPECT_EQ(v6.to_string(), "[fd00::1]:860");
  EXPECT_EQ(v6.address_to_string(), "fd00::1");
  EXPECT_EQ(v6.address().size(), 16u);
}

TEST(Endpoint, RefusesWhatIsNotExactlyAnAddressAndAPort) {
  for (std::string_view text : {"",
                                ":",
                                "10.1.0.10",
                                "10.1.0.10:",
                                ":3260",
                                "10.1.0.10:65536",
                                "10.1.0.10:-1",
                                "10.1.0.10:+1",
                                "10.1.0.10: 1",
                                "10.1.0.10:1 ",
                                "10.1.0.10:0x1",
                                "10.1.0.10:01",
                                "10.1.0:1",
                                "10.1.0.256:1",
                                "10.1.0.10.1:1",
                                "010.1.0.1:1",
                                "fd00::1:3260",
                                "[fd00::1]",
                                "[10.1.0.10]:1",
                                "[fd00::1]:",
                                "[fd00::g]:1",
                                "[fe80::1%eth0]:1",
                                "localhost:3260",
                                "10.1.0.10:99999999999999999999"}) {
    const auto parsed = Endpoint::parse(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code, base::Errc::invalid_argument);
  }
  EXPECT_FALSE(Endpoint::parse(std::string_view("10.1.0.1\0x:1", 12)).has_value());
  EXPECT_FALSE(Endpoint::parse(std::string(100'000, '1') + ":1").has_value());
}

TEST(Endpoint, ComparesAddressAndPort) {
  EXPECT_EQ(endpoint("10.1.0.1:1"), endpoint("10.1.0.1:1"));
  EXPECT_NE(endpoint("10.1.0.1:1"), endpoint("10.1.0.1:2"));
  EXPECT_NE(endpoint("10.1.0.1:1"), endpoint("10.1.0.2:1"));
  EXPECT_NE(endpoint("0.0.0.0:1"), endpoint("[::]:1"));
}

TEST(Endpoint, KnowsTheUnspecifiedAddresses) {
  EXPECT_TRUE(endpoint("0.0.0.0:3260").is_unspecified());
  EXPECT_TRUE(endpoint("[::]:3260").is_unspecified());
  EXPECT_FALSE(endpoint("127.0.0.1:3260").is_unspecified());
  EXPECT_FALSE(endpoint("[::1]:3260").is_unspecified());
  EXPECT_TRUE(endpoint("127.1.2.3:3260").is_loopback());
  EXPECT_TRUE(endpoint("[::1]:3260").is_loopback());
  EXPECT_FALSE(endpoint("10.0.0.127:3260").is_loopback());
  EXPECT_FALSE(endpoint("[fd00::1]:3260").is_loopback());
  EXPECT_FALSE(endpoint("[::]:3260").is_loopback());
}

TEST(Endpoint, SurvivesTheSocketAddress) {
  for (std::string_view text : {"192.0.2.7:3260", "[2001:db8::7]:65535"}) {
    socklen_t length = 0;
    const sockaddr_storage storage = endpoint(text).to_sockaddr(&length);
    EXPECT_EQ(length, text[0] == '[' ? sizeof(sockaddr_in6) : sizeof(sockaddr_in));
    EXPECT_EQ(Endpoint::from(storage), endpoint(text));
  }
}

TEST(Endpoint, MappedIpv4PeerIsAnIpv4Address) {
  const Endpoint mapped = endpoint("[::ffff:10.1.0.1]:5");
  EXPECT_FALSE(mapped.is_v6());
  EXPECT_EQ(mapped, endpoint("10.1.0.1:5"));
}

TEST(AddressRange, HoldsExactlyItsPrefix) {
  const AddressRange net = range("10.2.0.0/24");
  EXPECT_TRUE(net.contains(endpoint("10.2.0.0:1")));
  EXPECT_TRUE(net.contains(endpoint("10.2.0.255:1")));
  EXPECT_FALSE(net.contains(endpoint("10.2.1.0:1")));
  EXPECT_FALSE(net.contains(endpoint("10.1.255.255:1")));

  const AddressRange odd = range("10.2.0.160/27");
  EXPECT_TRUE(odd.contains(endpoint("10.2.0.191:1")));
  EXPECT_FALSE(odd.contains(endpoint("10.2.0.192:1")));
  EXPECT_FALSE(odd.contains(endpoint("10.2.0.159:1")));

  const AddressRange one = range("10.1.0.1");
  EXPECT_TRUE(one.contains(endpoint("10.1.0.1:65535")));
  EXPECT_FALSE(one.contains(endpoint("10.1.0.2:1")));

  const AddressRange v6 = range("2001:db8::/33");
  EXPECT_TRUE(v6.contains(endpoint("[2001:db8:7fff::1]:1")));
  EXPECT_FALSE(v6.contains(endpoint("[2001:db8:8000::1]:1")));
}

TEST(AddressRange, NeverMixesFamilies) {
  EXPECT_TRUE(range("0.0.0.0/0").contains(endpoint("192.0.2.1:1")));
  EXPECT_FALSE(range("0.0.0.0/0").contains(endpoint("[::1]:1")));
  EXPECT_FALSE(range("::/0").contains(endpoint("192.0.2.1:1")));
  EXPECT_TRUE(range("0.0.0.0/0").contains(endpoint("[::ffff:192.0.2.1]:1")));
}

TEST(AddressRange, RefusesBadPrefixes) {
  for (std::string_view text :
       {"", "/", "10.2.0.0/", "10.2.0.0/33", "10.2.0.0/-1", "10.2.0.0/08", "10.2.0.0/8/8",
        "10.2.0.1/24", "2001:db8::/129", "2001:db8::1/64", "10.2.0/24", "*", "any", "10.2.0.0:1"}) {
    EXPECT_FALSE(AddressRange::parse(text).has_value()) << text;
  }
}

TEST(AddressRange, PrintsWhatItReads) {
  for (std::string_view text : {"10.2.0.0/24", "10.1.0.1", "2001:db8::/32", "fd00::1"}) {
    EXPECT_EQ(range(text).to_string(), text);
  }
  EXPECT_EQ(range("10.1.0.1/32").to_string(), "10.1.0.1");
}

}  // namespace
}  // namespace holdfast::io
