#include "common/iscsi/text_keys.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::iscsi {
namespace {

using base::Errc;

std::string repeat(size_t count, char c) { return std::string(count, c); }

Errc parse_error(const std::string& text) {
  TextMessage message;
  const auto parsed = message.parse(base::as_bytes(std::string_view(text)));
  EXPECT_FALSE(parsed.has_value()) << text;
  return parsed.has_value() ? Errc::io : parsed.error().code;
}

TEST(TextKeys, ParsesAList) {
  const std::string text("InitiatorName=iqn.x\0HeaderDigest=CRC32C,None\0Empty=\0Eq=a=b\0", 59);
  TextMessage message;
  ASSERT_TRUE(message.parse(base::as_bytes(std::string_view(text))).has_value());
  EXPECT_EQ(message.size(), 4u);
  EXPECT_EQ(message.find("InitiatorName"), "iqn.x");
  EXPECT_EQ(message.find("HeaderDigest"), "CRC32C,None");
  EXPECT_EQ(message.find("Empty"), "");
  EXPECT_EQ(message.find("Eq"), "a=b");
  EXPECT_FALSE(message.find("Header").has_value());
}

TEST(TextKeys, NothingIsAnEmptyMessage) {
  TextMessage message;
  ASSERT_TRUE(message.parse({}).has_value());
  EXPECT_EQ(message.size(), 0u);
}

// The last value has no zero of its own to rely on: CVE-2026-90011.
TEST(TextKeys, RefusesWhatIsNotTerminated) {
  EXPECT_EQ(parse_error("A=b"), Errc::protocol);
  EXPECT_EQ(parse_error(std::string("A=b\0C=d", 7)), Errc::protocol);
}

TEST(TextKeys, RefusesWhatIsNotKeyValue) {
  const std::string cases[] = {
      std::string(1, '\0'),          std::string("A=b\0\0", 5),   std::string("A\0", 2),
      std::string("=b\0", 3),        std::string("A b=c\0", 6),   std::string("1A=c\0", 5),
      std::string("A\x80=c\0", 5),   std::string("A\n=c\0", 5),   std::string("A=c\nd\0", 6),
      std::string("A=\x1b[2J\0", 7), std::string("A=c\x7f\0", 5),
  };
  for (const std::string& text : cases) EXPECT_EQ(parse_error(text), Errc::protocol);
}

TEST(TextKeys, RefusesAKeyNamedTwice) {
  EXPECT_EQ(parse_error(std::string("A=1\0B=2\0A=1\0", 12)), Errc::protocol);
}

// Long unknown keys: CVE-2013-2850.
TEST(TextKeys, BoundsKeysAndValues) {
  struct Case {
    std::string key, value;
    bool accepted;
  };
  const Case cases[] = {
      {repeat(kMaxKeyBytes, 'K'), "v", true},
      {repeat(kMaxKeyBytes + 1, 'K'), "v", false},
      {"K", repeat(kMaxSimpleValueBytes, 'v'), true},
      {"K", repeat(kMaxSimpleValueBytes + 1, 'v'), false},
      {"K", repeat(255, 'v') + "," + repeat(255, 'w'), true},
      {"K", "v," + repeat(256, 'w'), false},
      {"K", "0x" + repeat(kMaxValueBytes - 2, 'a'), true},
      {"K", "0x" + repeat(kMaxValueBytes - 1, 'a'), false},
      {"K", "0b" + repeat(4000, 'a'), true},
  };
  for (const Case& c : cases) {
    const std::string text = c.key + "=" + c.value + std::string(1, '\0');
    TextMessage message;
    EXPECT_EQ(message.parse(base::as_bytes(std::string_view(text))).has_value(), c.accepted)
        << c.key.size() << " " << c.value.size();
  }
}

TEST(TextKeys, BoundsTheNumberOfKeys) {
  std::string text;
  for (size_t i = 0; i < kMaxKeysPerMessage; ++i) {
    text += "K" + std::to_string(i) + "=v" + std::string(1, '\0');
  }
  TextMessage message;
  ASSERT_TRUE(message.parse(base::as_bytes(std::string_view(text))).has_value());
  EXPECT_EQ(message.size(), kMaxKeysPerMessage);
  text += "More=v" + std::string(1, '\0');
  EXPECT_EQ(parse_error(text), Errc::limit);
}

TEST(TextKeyWriter, WritesPairs) {
  std::vector<uint8_t> out;
  TextKeyWriter writer(out, 1000);
  ASSERT_TRUE(writer.add("A", "b").has_value());
  ASSERT_TRUE(writer.add_number("N", 18446744073709551615u).has_value());
  ASSERT_TRUE(writer.add_boolean("Y", true).has_value());
  ASSERT_TRUE(writer.add_boolean("Z", false).has_value());
  const uint8_t binary[] = {0x00, 0xfe, 0x1a};
  ASSERT_TRUE(writer.add_binary("C", binary).has_value());
  EXPECT_EQ(base::as_text(out),
            std::string_view("A=b\0N=18446744073709551615\0Y=Yes\0Z=No\0C=0x00fe1a\0", 49));
}

// CVE-2026-63887: output must not grow with input.
TEST(TextKeyWriter, StopsAtItsLimitWithoutWritingHalfAPair) {
  std::vector<uint8_t> out;
  TextKeyWriter writer(out, 10);
  ASSERT_TRUE(writer.add("A", "bc").has_value());  // 5 bytes
  const auto failed = writer.add("D", "efgh");     // 7
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, Errc::limit);
  EXPECT_EQ(out.size(), 5u);
  EXPECT_TRUE(writer.add("D", "ef").has_value());
  EXPECT_EQ(out.size(), 10u);
  EXPECT_FALSE(writer.add("", "").has_value());
}

TEST(TextValues, Numbers) {
  EXPECT_EQ(parse_number("0"), 0u);
  EXPECT_EQ(parse_number("8192"), 8192u);
  EXPECT_EQ(parse_number("0x2000"), 8192u);
  EXPECT_EQ(parse_number("0XfF"), 255u);
  EXPECT_EQ(parse_number("18446744073709551615"), 18446744073709551615u);
  for (const std::string_view text :
       {"", "-1", "+1", " 1", "1 ", "01", "0x", "0x-1", "1.5", "0b1", "x", "18446744073709551616",
        "0x10000000000000000", "1,2", "Reject"}) {
    EXPECT_FALSE(parse_number(text).has_value()) << text;
  }
}

TEST(TextValues, Booleans) {
  EXPECT_EQ(parse_boolean("Yes"), true);
  EXPECT_EQ(parse_boolean("No"), false);
  for (const std::string_view text : {"", "yes", "YES", "1", "Yes ", "No,Yes"}) {
    EXPECT_FALSE(parse_boolean(text).has_value()) << text;
  }
}

TEST(TextValues, Lists) {
  EXPECT_TRUE(list_contains("CHAP,None", "None"));
  EXPECT_TRUE(list_contains("None", "None"));
  EXPECT_FALSE(list_contains("NoneSuch,XNone", "None"));
  EXPECT_FALSE(list_contains("", "None"));
  ListReader items("a,,b,");
  EXPECT_EQ(items.next(), "a");
  EXPECT_EQ(items.next(), "");
  EXPECT_EQ(items.next(), "b");
  EXPECT_EQ(items.next(), "");
  EXPECT_FALSE(items.next().has_value());
}

TEST(TextValues, Binary) {
  struct Case {
    std::string_view text;
    std::vector<uint8_t> bytes;
  };
  const Case cases[] = {
      {"0x00ff1A", {0x00, 0xff, 0x1a}}, {"0Xab", {0xab}},   {"0bAP8a", {0x00, 0xff, 0x1a}},
      {"0BAP8=", {0x00, 0xff}},         {"0bAA==", {0x00}}, {"0b+/+/", {0xfb, 0xff, 0xbf}},
  };
  for (const Case& c : cases) {
    std::vector<uint8_t> out(16);
    const auto length = decode_binary(c.text, out);
    ASSERT_TRUE(length.has_value()) << c.text;
    out.resize(*length);
    EXPECT_EQ(out, c.bytes) << c.text;
  }
}

TEST(TextValues, RefusesBadBinary) {
  for (const std::string_view text :
       {"",       "0",      "0x",         "0b",     "ff",     "0xf",    "0xfff",
        "0xgg",   "0x f",   "0x-1",       "0bA",    "0bAA",   "0bAAA",  "0bAA=A",
        "0bA===", "0b====", "0bAA==AA==", "0bAB==", "0bAAB=", "0bAA-_", "1xff"}) {
    std::vector<uint8_t> out(16);
    EXPECT_FALSE(decode_binary(text, out).has_value()) << text;
  }
}

// CVE-2018-14633 (hexadecimal, stack), CVE-2026-63886 (base64, heap), CVE-2021-38575: the length is
// known before a byte is written.
TEST(TextValues, ChecksTheDecodedLengthBeforeDecoding) {
  const struct {
    std::string text;
    size_t decoded;
  } cases[] = {
      {"0x" + repeat(34, 'a'), 17},     {"0x" + repeat(4096, 'a'), 2048},
      {"0b" + repeat(24, 'A'), 18},     {"0b" + repeat(22, 'A') + "==", 16},
      {"0b" + repeat(8188, 'A'), 6141}, {"0b" + repeat(23, 'A') + "=", 17},
  };
  for (const auto& c : cases) {
    for (const size_t room : {size_t{0}, size_t{15}, size_t{16}, size_t{17}, c.decoded}) {
      std::vector<uint8_t> out(room + 1, 0xee);
      const auto length = decode_binary(c.text, base::MutableBytes(out).first(room));
      EXPECT_EQ(length.has_value(), c.decoded <= room) << c.text.size() << " " << room;
      if (length.has_value()) {
        EXPECT_EQ(*length, c.decoded);
      } else {
        EXPECT_EQ(length.error().code, Errc::limit);
        EXPECT_EQ(out, std::vector<uint8_t>(room + 1, 0xee)) << "something was written";
      }
      EXPECT_EQ(out.back(), 0xee);
    }
  }
}

}  // namespace
}  // namespace holdfast::iscsi
