// The messages about the configuration document, as bytes.

#include <gmock/gmock.h>

#include <functional>
#include <string>
#include <vector>

#include "qdisk/messages.pb.h"
#include "qdisk/wire.h"
#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

using ::testing::HasSubstr;

const ConfigTag kTag{.version = 12, .digest = sample_digest(0x40)};

ConfigChunk sample_chunk() {
  return {.tag = kTag, .length = 100'000, .offset = 65'536, .bytes = "some bytes"};
}

std::vector<ConfigMessage> samples() {
  return {ConfigOffer{.tag = kTag, .length = 1}, ConfigFetch{.tag = kTag},
          ConfigFetch{.tag = kTag, .offset = kMaxDocumentBytes - 1}, sample_chunk(),
          ConfigHave{.tag = kTag}};
}

base::Result<ConfigMessage> decoded(const std::string& bytes) {
  return decode_config_message(base::as_bytes(std::string_view(bytes)));
}

TEST(WireConfig, WhatIsSentIsRead) {
  for (const ConfigMessage& each : samples()) EXPECT_EQ(decoded(encode(each)).value(), each);
}

TEST(WireConfig, TheLongestPartIsOneMessage) {
  const ConfigMessage longest = ConfigChunk{.tag = {.version = UINT64_MAX, .digest = kTag.digest},
                                            .length = kMaxDocumentBytes,
                                            .offset = kMaxDocumentBytes - kMaxChunkBytes,
                                            .bytes = std::string(kMaxChunkBytes, '\0')};
  const std::string bytes = encode(longest);
  EXPECT_LE(bytes.size(), kMaxMessageBytes);
  EXPECT_EQ(decoded(bytes).value(), longest);
  EXPECT_STREQ(decoded(std::string(kMaxMessageBytes + 1, '\0')).error().what,
               "the message is too long");
}

TEST(WireConfig, CutAnywhereItIsAnotherMessageOrNone) {
  for (const ConfigMessage& each : samples()) {
    const std::string bytes = encode(each);
    for (size_t length = 0; length < bytes.size(); ++length) {
      const auto cut = decoded(bytes.substr(0, length));
      if (cut) {
        EXPECT_NE(*cut, each) << length;
      }
    }
  }
}

struct Case {
  const char* why;
  std::function<void(messages::Config&)> spoil;
};

void refuses(const ConfigMessage& good, const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    messages::Config message;
    ASSERT_TRUE(message.ParseFromString(encode(good)));
    each.spoil(message);
    const auto read = decoded(message.SerializeAsString());
    ASSERT_FALSE(read) << each.why;
    EXPECT_EQ(read.error().code, base::Errc::protocol);
    EXPECT_THAT(read.error().what, HasSubstr(each.why));
  }
}

TEST(WireConfig, ValuesOutOfRange) {
  using M = messages::Config;
  for (const ConfigMessage& each : samples()) {
    refuses(each, {{"version 0", [](M& m) { m.clear_tag(); }},
                   {"version 0", [](M& m) { m.mutable_tag()->set_version(0); }},
                   {"digest", [](M& m) { m.mutable_tag()->clear_digest(); }},
                   {"digest", [](M& m) { m.mutable_tag()->set_digest(std::string(33, 'x')); }},
                   {"nothing", [](M& m) { m.clear_body(); }}});
  }
  refuses(ConfigOffer{.tag = kTag, .length = 1},
          {{"this length", [](M& m) { m.mutable_offer()->set_length(0); }},
           {"this length", [](M& m) { m.mutable_offer()->set_length(kMaxDocumentBytes + 1); }}});
  refuses(ConfigFetch{.tag = kTag},
          {{"so long", [](M& m) { m.mutable_fetch()->set_offset(kMaxDocumentBytes); }}});
  refuses(sample_chunk(),
          {{"this length", [](M& m) { m.mutable_chunk()->set_length(0); }},
           {"this length", [](M& m) { m.mutable_chunk()->set_length(kMaxDocumentBytes + 1); }},
           {"no part", [](M& m) { m.mutable_chunk()->clear_bytes(); }},
           {"no part",
            [](M& m) { m.mutable_chunk()->set_bytes(std::string(kMaxChunkBytes + 1, 'x')); }},
           {"beyond the end", [](M& m) { m.mutable_chunk()->set_offset(100'000); }},
           {"beyond the end", [](M& m) { m.mutable_chunk()->set_offset(UINT32_MAX); }},
           {"beyond the end", [](M& m) { m.mutable_chunk()->set_length(65'536 + 9); }}});
}

}  // namespace
}  // namespace holdfast::qdisk
