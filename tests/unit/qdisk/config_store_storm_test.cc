// Random faults: nodes die and come back, are cut off, change the configuration at the same time;
// the witness is damaged, a disk is full. Whatever a node uses is what it knows to be decided, and
// what was decided is never lost.

#include "common/base/random.h"
#include "tests/unit/qdisk/config_scene.h"

namespace holdfast::qdisk {
namespace {

class Storm {
 public:
  Storm(uint64_t seed, size_t count)
      : random_(seed), count_(count), scene_(count, count % 2 == 0), cut_(count) {}

  void blow() {
    for (int step = 0; step < 60; ++step) {
      disturb();
      set_leases();
      scene_.run(std::chrono::milliseconds(10 * (1 + below(200))));
      check();
    }
  }
  void calm() {
    scene_.witness_fails = false;
    scene_.decides = true;
    // Without a witness, which is damaged at will, any majority must be enough.
    NodeSet gone;
    while (count_ % 2 != 0 && static_cast<size_t>(gone.count()) < count_ / 2) gone.add(any());
    for (const NodeId id : gone) {
      if (scene_.node(id).running) scene_.kill(id);
    }
    for (NodeId id = 0; id < count_; ++id) {
      if (gone.has(id)) continue;
      by_ = id;
      scene_.node(id).disk.full = false;
      cut_[id] = false;
      scene_.isolate(id, false);
      if (!scene_.node(id).running) scene_.start(id);
    }
    set_leases();
    scene_.tell();
    scene_.run(45s);  // with what is held back, and the healing
    for (NodeId id = 0; id < count_; ++id) {
      if (gone.has(id)) continue;
      EXPECT_EQ(scene_.store(id).missing(), "");
      EXPECT_EQ(scene_.store(id).version(), scene_.decision.config.version);
    }
    check();
    if (count_ % 2 == 0 && scene_.decision.config.version > 0) {
      EXPECT_TRUE(on_witness()) << "it was not healed";
    }
    EXPECT_GT(scene_.set("after the storm", by_).version, 0U);
  }
  uint64_t version() const { return scene_.decision.config.version; }

 private:
  uint64_t below(uint64_t bound) { return random_.below(bound); }
  NodeId any() { return static_cast<NodeId>(below(count_)); }

  void disturb() {
    const NodeId id = any();
    ConfigNode& node = scene_.node(id);
    switch (below(9)) {
      case 0:
        if (node.running) scene_.kill(id);
        break;
      case 1:
      case 2:
        if (!node.running) scene_.start(id);
        break;
      case 3:
        cut_[id] = !cut_[id];
        scene_.isolate(id, cut_[id]);
        break;
      case 4:
        if (auto& copy = scene_.witness[below(2)]; copy) copy->bytes[0] ^= 1;
        break;
      case 5:
        scene_.witness_fails = below(4) == 0;
        scene_.decides = below(4) != 0;
        break;
      case 6:
        node.disk.full = !node.disk.full;
        break;
      default:
        propose(id);
        if (below(2) == 0) propose(any());
        break;
    }
    // Who is not cut off learns of what was decided meanwhile.
    NodeSet reached;
    for (NodeId each = 0; each < count_; ++each) {
      if (!cut_[each]) reached.add(each);
    }
    scene_.tell(reached);
  }
  void propose(NodeId id) {
    if (!scene_.node(id).running) return;
    const std::string bytes(1 + below(2 * kMaxChunkBytes), static_cast<char>('a' + below(26)));
    scene_.propose(id, bytes, scene_.store(id).version());
  }
  // A majority that hear each other; the witness is reached by all.
  void set_leases() {
    size_t together = 0;
    for (NodeId id = 0; id < count_; ++id) {
      if (scene_.node(id).running && !cut_[id]) ++together;
    }
    const size_t witness = count_ % 2 == 0 && !scene_.witness_fails ? 1 : 0;
    for (NodeId id = 0; id < count_; ++id) {
      scene_.node(id).lease =
          !cut_[id] && together + witness > (count_ + (count_ % 2 == 0 ? 1 : 0)) / 2;
    }
  }
  void check() {
    for (NodeId id = 0; id < count_; ++id) {
      if (!scene_.node(id).running) continue;
      const ConfigStore& store = scene_.store(id);
      EXPECT_LE(store.bytes_held(), 3 * kMaxDocumentBytes);
      EXPECT_EQ(store.document() == nullptr, store.version() == 0 || !store.missing().empty());
      if (store.document() == nullptr) continue;
      EXPECT_TRUE(is_intact(*store.document()));
      EXPECT_EQ(store.document()->tag.version, store.version());
      if (store.version() == scene_.decision.config.version) {
        EXPECT_EQ(store.document()->tag, scene_.decision.config);
      }
    }
  }
  bool on_witness() const {
    for (const auto& copy : intact(scene_.witness)) {
      if (copy && copy->tag == scene_.decision.config) return true;
    }
    return false;
  }

  base::SeededRandom random_;
  const size_t count_;
  ConfigScene scene_;
  std::vector<bool> cut_;
  NodeId by_ = 0;
};

TEST(ConfigStoreStorm, WhatIsDecidedIsUsedAndNeverLost) {
  uint64_t versions = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    Storm storm(seed, 2 + seed % 4);
    storm.blow();
    versions += storm.version();
    storm.calm();
    if (::testing::Test::HasFailure()) break;
  }
  EXPECT_GT(versions, 100U) << "nothing was decided: it was no test";
}

}  // namespace
}  // namespace holdfast::qdisk
