// What a configuration store makes of messages, also of those that no store of ours sends.

#include "tests/unit/qdisk/config_scene.h"

namespace holdfast::qdisk {
namespace {

ConfigTag tag_of(uint64_t version, const std::string& bytes) {
  return make_document(version, bytes).tag;
}

// Node 2 lacks what is decided; the test answers for the others, who are not there.
class Hostile {
 public:
  Hostile() {
    scene_.isolate(0);
    scene_.isolate(1);
    scene_.decide(document_.tag);
    EXPECT_TRUE(scene_.until([&] { return asks(0); }));
  }
  bool asks(NodeId node) {
    for (auto it = scene_.sent.rbegin(); it != scene_.sent.rend(); ++it) {
      if (it->from == 2 && it->to == node) return true;
    }
    return false;
  }
  void say(const ConfigChunk& chunk, NodeId from = 0) { scene_.store(2).on_message(from, chunk); }
  ConfigChunk chunk(size_t index) const {
    const size_t offset = index * kMaxChunkBytes;
    return {.tag = document_.tag,
            .length = static_cast<uint32_t>(document_.bytes.size()),
            .offset = static_cast<uint32_t>(offset),
            .bytes = document_.bytes.substr(offset, kMaxChunkBytes)};
  }

  const ConfigDocument document_ =
      make_document(1, std::string(kMaxChunkBytes, 'a') + std::string(kMaxChunkBytes, 'b') + "c");
  ConfigScene scene_{3, false};
};

class HostileTest : public Hostile, public ::testing::Test {};

TEST_F(HostileTest, TheRightPartsMakeTheDocument) {
  for (size_t i = 0; i < 3; ++i) say(chunk(i));
  ASSERT_NE(scene_.store(2).document(), nullptr);
  EXPECT_EQ(*scene_.store(2).document(), document_);
}

TEST_F(HostileTest, PartsOfAnotherOffsetOrTagOrNodeAreNotTaken) {
  say(chunk(0));
  say(chunk(0));
  say(chunk(2));
  ConfigChunk other = chunk(1);
  other.bytes = std::string(kMaxChunkBytes, 'x');
  say(other, 9);
  say(other, 1);
  other.tag.version = 2;
  say(other);
  say(chunk(1));
  say(chunk(2));
  EXPECT_EQ(scene_.node(2).text(), document_.bytes);
}

// After each of them the next node is asked, from the beginning.
TEST(ConfigStore, PartsOfTheWrongLengthEndTheTransfer) {
  using Spoil = std::function<void(ConfigChunk&)>;
  const std::vector<Spoil> spoils = {
      [](ConfigChunk& c) { c.length += 1; },
      [](ConfigChunk& c) { c.length = kMaxDocumentBytes; },
      [](ConfigChunk& c) { c.bytes.pop_back(); },
      [](ConfigChunk& c) { c.bytes = "x"; },
      [](ConfigChunk& c) { c.bytes += 'x'; },
      [](ConfigChunk& c) { c.bytes.clear(); },
  };
  for (const Spoil& spoil : spoils) {
    Hostile each;
    each.say(each.chunk(0));
    ConfigChunk bad = each.chunk(1);
    spoil(bad);
    EXPECT_FALSE(each.asks(1));
    each.say(bad);
    EXPECT_TRUE(each.asks(1));
    each.say(each.chunk(1));
    each.say(each.chunk(2));
    EXPECT_EQ(each.scene_.store(2).document(), nullptr);
  }
}

TEST_F(HostileTest, BytesThatAreNotThoseOfTheDigestAreNotUsed) {
  ConfigChunk last = chunk(2);
  last.bytes = "C";
  say(chunk(0));
  say(chunk(1));
  scene_.sent.clear();
  say(last);
  EXPECT_EQ(scene_.store(2).document(), nullptr);
  EXPECT_TRUE(asks(1));
  for (size_t i = 0; i < 3; ++i) say(chunk(i), 1);
  EXPECT_EQ(scene_.node(2).text(), document_.bytes);
  scene_.run(1s);
  EXPECT_EQ(scene_.node(2).disk.copies[0], document_);
}

TEST_F(HostileTest, APartBeyondWhatADocumentMayHaveIsNotTaken) {
  ConfigChunk bad = chunk(0);
  bad.length = UINT32_MAX;
  say(bad);
  EXPECT_LT(scene_.store(2).bytes_held(), 100U);
  EXPECT_TRUE(asks(1));
}

TEST(ConfigStore, MemoryIsBoundedWhateverOthersOffer) {
  ConfigScene scene(3, false);
  scene.set(std::string(kMaxDocumentBytes, '1'));
  size_t most = 0;
  for (int i = 0; i < 40; ++i) {
    const ConfigDocument each =
        make_document(2, std::string(kMaxDocumentBytes, 'x') += std::to_string(i));
    const auto from = static_cast<NodeId>(i % 2);
    scene.store(2).on_message(from, ConfigOffer{each.tag, kMaxDocumentBytes});
    for (size_t part = 0; part < 3; ++part) {
      scene.store(2).on_message(from, ConfigChunk{each.tag, kMaxDocumentBytes,
                                                  static_cast<uint32_t>(part * kMaxChunkBytes),
                                                  std::string(kMaxChunkBytes, 'x')});
    }
    most = std::max(most, scene.store(2).bytes_held());
    scene.run(300ms);
  }
  EXPECT_GT(most, kMaxDocumentBytes) << "nothing was taken at all";
  EXPECT_LE(most, 3 * kMaxDocumentBytes + 4096);
}

TEST(ConfigStore, AnOfferDoesNotDisturbTheTransferOfAnother) {
  ConfigScene scene(3, false);
  scene.store(2).on_message(0, ConfigOffer{tag_of(1, "x"), 1});
  EXPECT_EQ(scene.sent.size(), 1U);
  scene.store(2).on_message(1, ConfigOffer{tag_of(1, "y"), 1});
  EXPECT_EQ(scene.sent.size(), 1U);
  scene.store(2).on_message(0, ConfigChunk{tag_of(1, "x"), 1, 0, "x"});
  scene.run(100ms);
  EXPECT_EQ(scene.node(2).disk.copies[0]->bytes, "x");
}

TEST(ConfigStore, OffersOfOtherVersionsOrStrangersAreNotTaken) {
  ConfigScene scene(3, false);
  scene.set("one");
  const auto offered = [&](NodeId from, uint64_t version) {
    scene.sent.clear();
    scene.store(2).on_message(from, ConfigOffer{tag_of(version, "x"), 1});
    return !scene.sent.empty();
  };
  EXPECT_FALSE(offered(0, 1));
  EXPECT_FALSE(offered(0, 3));
  EXPECT_FALSE(offered(0, UINT64_MAX));
  EXPECT_FALSE(offered(9, 2)) << "it is no member";
  EXPECT_TRUE(offered(0, 2));
}

TEST(ConfigStore, EachRequestForAPartIsOneAnswerOrNone) {
  ConfigScene scene(2);
  scene.set(std::string(kMaxChunkBytes + 5, 'x'));
  const auto answers = [&](const ConfigTag& tag, uint32_t offset) {
    scene.sent.clear();
    scene.store(0).on_message(1, ConfigFetch{tag, offset});
    return scene.sent.size();
  };
  const ConfigTag tag = scene.decision.config;
  EXPECT_EQ(answers(tag, 0), 1U);
  EXPECT_EQ(answers(tag, kMaxChunkBytes), 1U);
  EXPECT_EQ(std::get<ConfigChunk>(scene.sent.back().message).bytes, "xxxxx");
  EXPECT_EQ(answers(tag, kMaxChunkBytes + 5), 0U);
  EXPECT_EQ(answers(tag, UINT32_MAX), 0U);
  EXPECT_EQ(answers(tag_of(1, "another"), 0), 0U);
}

}  // namespace
}  // namespace holdfast::qdisk
