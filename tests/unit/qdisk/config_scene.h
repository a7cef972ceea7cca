#pragma once
// Nodes with a configuration store each: their files, the witness they share, the messages between
// them, the decisions, and one clock for all, which a test turns.

#include <gmock/gmock.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "qdisk/config_store.h"

namespace holdfast::qdisk {

using namespace std::chrono_literals;

class ConfigScene;

inline ConfigCopies intact(ConfigCopies copies) {
  for (auto& each : copies) {
    if (each && !is_intact(*each)) each.reset();
  }
  return copies;
}

// What outlives a daemon: its disk.
struct ConfigDisk {
  ConfigCopies copies;
  bool full = false;
  bool hangs = false;
  size_t saves = 0;
};

class ConfigNode final : public ConfigHost, public ConfigFiles, public ConfigWitness {
 public:
  ConfigNode(ConfigScene& scene, NodeId id) : self(id), scene_(scene) {}
  ConfigNode(const ConfigNode&) = delete;
  ConfigNode& operator=(const ConfigNode&) = delete;
  ~ConfigNode() override {
    if (store) store->end();
  }

  io::Instant now() const override;
  bool has_lease() const override { return lease; }
  NodeSet live_members() const override { return live; }
  bool witness_usable() const override { return witness; }
  void send(NodeId to, const ConfigMessage& message) override;
  base::Result<> ask(const Change& change) override;
  void forget(const Change& change) override {
    EXPECT_EQ(change, asked.back());
    ++forgotten;
  }
  void on_document() override { ++documents; }

  void load(Loaded done) override;
  void save(const ConfigDocument& document, const ConfigTag& decided, Saved done) override;
  void write(const ConfigDocument& document, unsigned copy, Written done) override;
  void read(Read done) override;

  std::string text() const { return store->document() ? store->document()->bytes : "none"; }

  const NodeId self;
  ConfigDisk disk;
  bool lease = true;
  bool witness = true;
  NodeSet live;
  std::optional<base::Error> ask_error;
  std::vector<Change> asked;
  int forgotten = 0;
  int documents = 0;
  bool running = false;
  std::unique_ptr<ConfigStore> store;

 private:
  ConfigScene& scene_;
};

class ConfigScene {
 public:
  struct Sent {
    NodeId from = kNoNode;
    NodeId to = kNoNode;
    ConfigMessage message;
  };

  // All are members and voters, and the witness votes where their number is even.
  explicit ConfigScene(size_t count, bool with_witness = true) {
    decision.epoch = 1;
    for (NodeId id = 0; id < count; ++id) {
      decision.incarnations[id] = 1;
      decision.voters.add(id);
      nodes.push_back(std::make_unique<ConfigNode>(*this, id));
      nodes.back()->witness = with_witness;
    }
    decision.witness_votes = with_witness && count % 2 == 0;
    for (NodeId id = 0; id < count; ++id) start(id);
    run(200ms);
  }

  ConfigNode& node(NodeId id) { return *nodes[id]; }
  ConfigStore& store(NodeId id) { return *nodes[id]->store; }

  // A life begins, with what it knows to be decided.
  void start(NodeId id) { start(id, decision); }
  void start(NodeId id, const Decision& known) {
    ConfigNode& node = *nodes[id];
    node.store = std::make_unique<ConfigStore>(
        ConfigStore::Services{node, node, has_witness ? &node : nullptr},
        ConfigStore::Options{.self = id}, known);
    node.running = true;
    look_who_lives();
    node.store->start();
  }
  void kill(NodeId id) {
    nodes[id]->running = false;
    nodes[id]->store->end();
    nodes[id]->store.reset();
    look_who_lives();
  }
  void look_who_lives() {
    NodeSet live;
    for (const auto& each : nodes) {
      if (each->running) live.add(each->self);
    }
    for (const auto& each : nodes) each->live = live & decision.members();
  }

  // What a majority has decided; told to all who run, or to these.
  void decide(const ConfigTag& tag, NodeSet told = NodeSet(UINT64_MAX)) {
    ++decision.epoch;
    decision.config = tag;
    tell(told);
  }
  void tell(NodeSet told = NodeSet(UINT64_MAX)) {
    look_who_lives();
    for (const auto& each : nodes) {
      if (each->running && told.has(each->self)) each->store->on_decision(decision);
    }
  }
  void later(std::function<void()> what) { waiting.push_back(std::move(what)); }

  void run(io::Duration duration) {
    for (const io::Instant until = now + duration; now < until;) {
      now += 10ms;
      for (auto todo = std::exchange(waiting, {}); auto& each : todo) each();
      for (auto todo = std::exchange(sent, {}); auto& each : todo) deliver(each);
      if (now.time_since_epoch() % ConfigStore::kTick != 0ns) continue;
      for (const auto& each : nodes) {
        if (each->running) each->store->on_tick();
      }
    }
  }
  bool until(const std::function<bool()>& condition, io::Duration within = 30s) {
    for (io::Duration gone{}; gone < within; gone += 10ms) {
      if (condition()) return true;
      run(10ms);
    }
    return condition();
  }
  void deliver(const Sent& each) {
    if (each.to >= nodes.size() || !nodes[each.to]->running) return;
    if (cut.contains({each.from, each.to})) return;
    if (each.from < nodes.size() && !nodes[each.from]->running) return;
    if (on_message) on_message(each);
    nodes[each.to]->store->on_message(each.from, each.message);
  }
  void isolate(NodeId id, bool is_cut = true) {
    for (NodeId other = 0; other < nodes.size(); ++other) {
      for (const auto& way : {std::pair(id, other), std::pair(other, id)}) {
        if (is_cut) cut.insert(way);
        if (!is_cut) cut.erase(way);
      }
    }
  }

  // What comes of a proposal: "waits", "refused: ...", "done" or why not.
  struct Outcome {
    std::string text = "waits";
    bool waits() const { return text == "waits"; }
  };
  std::shared_ptr<Outcome> propose(NodeId id, const std::string& bytes, uint64_t expected) {
    auto outcome = std::make_shared<Outcome>();
    const auto inside = std::make_shared<bool>(true);
    const auto taken =
        store(id).propose(bytes, expected, [outcome, inside](ConfigStore::Answer answer) noexcept {
          EXPECT_FALSE(*inside) << "answered from inside the call";
          EXPECT_EQ(outcome->text, "waits") << "answered twice";
          outcome->text = answer ? "done" : answer.error();
        });
    *inside = false;
    if (!taken) outcome->text = "refused: " + taken.error();
    return outcome;
  }
  // All have it, and the witness.
  ConfigTag set(const std::string& bytes, NodeId by = 0) {
    const auto outcome = propose(by, bytes, decision.config.version);
    EXPECT_TRUE(until([&] { return !outcome->waits(); }));
    EXPECT_EQ(outcome->text, "done");
    run(500ms);
    return decision.config;
  }

  io::Instant now{1000s};
  Decision decision;
  std::vector<std::unique_ptr<ConfigNode>> nodes;
  ConfigCopies witness;
  bool has_witness = true;
  bool witness_fails = false;
  bool witness_hangs = false;
  std::vector<std::pair<NodeId, unsigned>> witness_writes;
  size_t witness_reads = 0;
  bool decides = true;  // what is asked for
  std::set<std::pair<NodeId, NodeId>> cut;
  std::function<void(const Sent&)> on_message;
  std::deque<Sent> sent;
  std::deque<std::function<void()>> waiting;
};

inline io::Instant ConfigNode::now() const { return scene_.now; }

inline void ConfigNode::send(NodeId to, const ConfigMessage& message) {
  EXPECT_NE(to, self);
  scene_.sent.push_back({self, to, message});
}

inline base::Result<> ConfigNode::ask(const Change& change) {
  if (ask_error) return std::unexpected(*ask_error);
  EXPECT_TRUE(lease);
  asked.push_back(change);
  scene_.later([this, change] {
    if (scene_.decides && pending(change, scene_.decision)) scene_.decide(change.config);
  });
  return {};
}

inline void ConfigNode::load(Loaded done) {
  auto shared = std::make_shared<Loaded>(std::move(done));
  scene_.later([this, shared] { (*shared)(intact(disk.copies)); });
}

inline void ConfigNode::save(const ConfigDocument& document, const ConfigTag& decided, Saved done) {
  if (disk.hangs) return;
  auto shared = std::make_shared<Saved>(std::move(done));
  ++disk.saves;
  scene_.later([this, document, decided, shared] {
    if (disk.full) return (*shared)(std::unexpected(std::string("the disk is full")));
    const ConfigCopies copies = intact(disk.copies);
    for (const auto& each : copies) {
      if (each && each->tag == document.tag) return (*shared)({});
    }
    disk.copies[copy_to_write(copies, decided)] = document;
    (*shared)({});
  });
}

inline void ConfigNode::write(const ConfigDocument& document, unsigned copy, Written done) {
  EXPECT_TRUE(witness);
  scene_.witness_writes.emplace_back(self, copy);
  if (scene_.witness_hangs) return;
  auto shared = std::make_shared<Written>(std::move(done));
  scene_.later([this, document, copy, shared] {
    if (scene_.witness_fails) return (*shared)(base::fail(base::Errc::io, "it does not answer"));
    scene_.witness[copy] = document;
    (*shared)({});
  });
}

inline void ConfigNode::read(Read done) {
  EXPECT_TRUE(witness);
  ++scene_.witness_reads;
  auto shared = std::make_shared<Read>(std::move(done));
  scene_.later([this, shared] {
    if (scene_.witness_fails) return (*shared)(base::fail(base::Errc::io, "it does not answer"));
    (*shared)(intact(scene_.witness));
  });
}

}  // namespace holdfast::qdisk
