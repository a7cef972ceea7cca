#include "qdisk/config_document.h"

#include <gtest/gtest.h>

namespace holdfast::qdisk {
namespace {

// printf abc | sha256sum
constexpr Sha256 kDigestOfAbc = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};

TEST(ConfigDocument, ItsTagIsItsVersionAndTheSha256OfItsBytes) {
  const ConfigDocument made = make_document(7, "abc");
  EXPECT_EQ(made.tag.version, 7U);
  EXPECT_EQ(made.tag.digest, kDigestOfAbc);
  EXPECT_EQ(made.bytes, "abc");
  EXPECT_TRUE(is_intact(made));
}

TEST(ConfigDocument, EveryByteCounts) {
  const std::string zeroes(3, '\0');
  EXPECT_NE(make_document(1, zeroes).tag, make_document(1, zeroes + '\0').tag);
  ConfigDocument changed = make_document(7, "abc");
  changed.bytes[1] = 'B';
  EXPECT_FALSE(is_intact(changed));
  changed = make_document(7, "abc");
  changed.bytes.pop_back();
  EXPECT_FALSE(is_intact(changed));
  changed = make_document(7, "abc");
  changed.tag.digest[31] ^= 1;
  EXPECT_FALSE(is_intact(changed));
}

TEST(ConfigDocument, HasAVersionAndALength) {
  EXPECT_FALSE(is_intact(make_document(0, "abc")));
  EXPECT_FALSE(is_intact(make_document(1, "")));
  EXPECT_TRUE(is_intact(make_document(1, std::string(kMaxDocumentBytes, 'x'))));
  EXPECT_FALSE(is_intact(make_document(1, std::string(kMaxDocumentBytes + 1, 'x'))));
  EXPECT_FALSE(names_document(ConfigTag{}));
}

TEST(ConfigDocument, AHeaderThatSaysMoreThanCanBeHeldIsOfNoUse) {
  const ConfigHeader good = header_of(make_document(7, "abc"));
  EXPECT_EQ(good.length, 3U);
  EXPECT_TRUE(is_usable(good));
  ConfigHeader header = good;
  header.length = 0;
  EXPECT_FALSE(is_usable(header));
  header.length = kMaxDocumentBytes + 1;
  EXPECT_FALSE(is_usable(header));
  header = good;
  header.tag.version = 0;
  EXPECT_FALSE(is_usable(header));
  header = good;
  header.sha256[0] ^= 1;
  EXPECT_FALSE(is_usable(header));
}

TEST(ConfigDocument, WhatIsDecidedIsNotWrittenOver) {
  const ConfigDocument one = make_document(1, "1");
  const ConfigDocument two = make_document(2, "2");
  const ConfigDocument three = make_document(3, "3");
  EXPECT_EQ(copy_to_write({one, two}, two.tag), 0U);
  EXPECT_EQ(copy_to_write({two, one}, two.tag), 1U);
  EXPECT_EQ(copy_to_write({two, three}, two.tag), 1U);
  EXPECT_EQ(copy_to_write({three, two}, two.tag), 0U);
  EXPECT_EQ(copy_to_write({two, std::nullopt}, two.tag), 1U);
  EXPECT_EQ(copy_to_write({std::nullopt, two}, two.tag), 0U);
  // Where neither is, the one of less use.
  EXPECT_EQ(copy_to_write({one, two}, three.tag), 0U);
  EXPECT_EQ(copy_to_write({two, one}, three.tag), 1U);
  EXPECT_EQ(copy_to_write({one, std::nullopt}, three.tag), 1U);
  EXPECT_EQ(copy_to_write({std::nullopt, one}, three.tag), 0U);
  EXPECT_EQ(copy_to_write({}, three.tag), 0U);
}

}  // namespace
}  // namespace holdfast::qdisk
