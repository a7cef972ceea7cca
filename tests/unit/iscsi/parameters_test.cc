#include "common/iscsi/parameters.h"

#include <gtest/gtest.h>

#include "common/iscsi/text_keys.h"

namespace holdfast::iscsi {
namespace {

bool is_negotiated(const KeyInfo& info) {
  return info.rule != Rule::declare && info.rule != Rule::elsewhere && info.rule != Rule::refuse;
}

// The defaults of the table and those of the structure are the same facts.
TEST(Parameters, DefaultsAreThoseOfTheTable) {
  SessionParameters set;
  for (const KeyInfo& info : key_table()) {
    if (!is_negotiated(info)) continue;
    if (info.type == ValueType::boolean) {
      set_boolean(set, info.key, *parse_boolean(info.default_value));
    } else if (info.type == ValueType::number) {
      set_number(set, info.key, static_cast<uint32_t>(*parse_number(info.default_value)));
    } else {
      set_list(set, info.key, info.default_value);
    }
    EXPECT_EQ(set, SessionParameters()) << info.name;
  }
  const auto segment = key_info(Key::max_recv_data_segment_length).default_value;
  EXPECT_EQ(*parse_number(segment), SessionParameters().max_recv_data_segment_length);
  EXPECT_EQ(*parse_number(segment), SessionParameters().max_send_data_segment_length);
}

// Two keys that shared a field, or one that had none, would show here.
TEST(Parameters, EveryNegotiatedKeyHasItsOwnField) {
  for (const KeyInfo& info : key_table()) {
    if (!is_negotiated(info)) continue;
    SessionParameters changed;
    if (info.type == ValueType::boolean) {
      set_boolean(changed, info.key, !*parse_boolean(info.default_value));
    } else if (info.type == ValueType::number) {
      set_number(changed, info.key, info.maximum);
    } else {
      set_list(changed, info.key, info.key == Key::task_reporting ? "ResponseFence" : "CRC32C");
    }
    EXPECT_NE(changed, SessionParameters()) << info.name;
    for (const KeyInfo& other : key_table()) {
      if (!is_negotiated(other) || &other == &info) continue;
      SessionParameters both = changed;
      if (other.type == ValueType::boolean) {
        set_boolean(both, other.key, *parse_boolean(other.default_value));
      } else if (other.type == ValueType::number) {
        set_number(both, other.key, static_cast<uint32_t>(*parse_number(other.default_value)));
      } else {
        set_list(both, other.key, other.default_value);
      }
      EXPECT_EQ(both, changed) << other.name << " has the field of " << info.name;
    }
  }
}

TEST(Parameters, LocalValuesLieInTheRangesOfTheirKeys) {
  const LocalParameters local;
  for (const KeyInfo& info : key_table()) {
    if (!is_negotiated(info)) continue;
    if (info.type == ValueType::number) {
      EXPECT_GE(local_number(local, info.key), info.minimum) << info.name;
      EXPECT_LE(local_number(local, info.key), info.maximum) << info.name;
    } else if (info.type == ValueType::list) {
      EXPECT_TRUE(list_contains(local_list(local, info.key), info.default_value)) << info.name;
    } else {
      (void)local_boolean(local, info.key);
    }
  }
}

TEST(Parameters, DigestChoices) {
  EXPECT_EQ(local_list({.header_digest = DigestChoice::none}, Key::header_digest), "None");
  EXPECT_EQ(local_list({.data_digest = DigestChoice::required}, Key::data_digest), "CRC32C");
  EXPECT_EQ(local_list({.response_fence = false}, Key::task_reporting), "RFC3720");
}

}  // namespace
}  // namespace holdfast::iscsi
