#pragma once
// A TargetNode in a world of virtual time: two shards that write down what they are told, and
// disks, a state store and a network that do what the test says.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "target/target_node.h"
#include "tests/unit/target/fake_loops.h"

namespace holdfast::target {

// What happened, in order: "shard0 publish csv1", "store save", ...
using Journal = std::vector<std::string>;

class FakeShard final : public ShardControl {
 public:
  FakeShard(std::string name, Journal& journal) : name_(std::move(name)), journal_(journal) {}

  ShardLoad load() const override { return load_now; }
  void set_map(std::shared_ptr<const NodeMap> map) override {
    maps.push_back(std::move(map));
    note("map");
  }
  void add_unit(std::shared_ptr<const UnitState> unit) override {
    note("add " + unit->description.name);
    units[unit->id] = std::move(unit);
  }
  void publish_unit(std::shared_ptr<const UnitState> unit) override {
    note("publish " + unit->description.name);
    units[unit->id] = std::move(unit);
  }
  void remove_unit(UnitId unit, Done done) override {
    note("remove " + units.at(unit)->description.name);
    finish(std::move(done));
  }
  void drop_oldest_login() override { note("drop oldest login"); }
  void adopt(io::Socket socket, uint16_t portal_group_tag) override {
    note("adopt " + std::to_string(socket) + " tag " + std::to_string(portal_group_tag));
  }
  void abort_tasks(AbortRequest request, Done done) override {
    note("abort");
    aborts.push_back(std::move(request));
    finish(std::move(done));
  }
  void raise_attention(const AttentionRequest& request) override {
    char code[16];
    std::snprintf(code, sizeof(code), "%02x/%02x", request.sense.asc, request.sense.ascq);
    note(std::string("attention ") + code);
    attentions.push_back(request);
  }
  void drop_session(SessionId session, const char*) override {
    note("drop");
    dropped.push_back(session);
  }
  void request_logout(SessionId session) override { logouts.push_back(session); }
  void close_gate(UnitId, ExclusiveId id, BlockRange, Done done) override {
    note("close " + std::to_string(id));
    finish(std::move(done));
  }
  void open_gate(UnitId, ExclusiveId id) override { note("open " + std::to_string(id)); }
  ShardStatus status() override { return status_now; }
  void begin_shutdown(Done done) override {
    note("shutdown");
    finish(std::move(done));
  }

  // Commands that do not end: drains are held until let_go().
  void let_go() {
    holds = false;
    for (Done& done : std::exchange(held_, {})) done();
  }

  bool holds = false;
  ShardLoad load_now;
  ShardStatus status_now;
  std::map<UnitId, std::shared_ptr<const UnitState>> units;
  std::vector<std::shared_ptr<const NodeMap>> maps;
  std::vector<AbortRequest> aborts;
  std::vector<AttentionRequest> attentions;
  std::vector<SessionId> dropped, logouts;

 private:
  void note(const std::string& what) { journal_.push_back(name_ + " " + what); }
  void finish(Done done) {
    if (holds) {
      held_.push_back(std::move(done));
    } else {
      done();
    }
  }

  std::string name_;
  Journal& journal_;
  std::vector<Done> held_;
};

class FakeStore final : public StateStore {
 public:
  explicit FakeStore(Journal& journal) : journal_(journal) {}

  base::Result<StoredState> load() override {
    if (broken) return base::fail(base::Errc::corrupt, "the database is damaged");
    return state;
  }
  void identify(DiskKey key, io::Loop& reply_to, Identified done) override {
    auto found = std::ranges::find(state.disks, key, &StoredDisk::key);
    if (found == state.disks.end()) {
      state.disks.push_back({.key = key});
      found = std::prev(state.disks.end());
      found->identity[15] = ++last_identity_;
    }
    const DiskRecord record{.identity = found->identity, .served_bytes = found->served_bytes};
    reply_to.post([record, done = std::move(done)]() mutable noexcept { done(record); });
  }
  void renew(DiskKey key, io::Loop& reply_to, Identified done) override {
    std::erase_if(state.disks, [&](const StoredDisk& disk) { return disk.key == key; });
    identify(std::move(key), reply_to, std::move(done));
  }
  void note_served(const DiskIdentity& identity, uint64_t bytes, io::Loop& reply_to,
                   Done done) override {
    base::Result<> result;
    if (fails) {
      result = base::fail(base::Errc::no_space, "the file system is full");
    } else {
      std::ranges::find(state.disks, identity, &StoredDisk::identity)->served_bytes = bytes;
    }
    reply_to.post([result, done = std::move(done)]() mutable noexcept { done(result); });
  }
  void save_reservations(const DiskIdentity& identity, std::vector<uint8_t> bytes,
                         io::Loop& reply_to, Done done) override {
    save("save", reply_to, std::move(done), [this, identity, bytes] {
      for (StoredDisk& disk : state.disks) {
        if (disk.identity == identity) disk.reservations = bytes;
      }
    });
  }
  void save_created_disk(DiskConfig disk, io::Loop& reply_to, Done done) override {
    save("remember " + disk.name, reply_to, std::move(done), [this, disk] {
      std::erase_if(state.created_disks, [&](const auto& old) { return old.name == disk.name; });
      state.created_disks.push_back(disk);
    });
  }
  void forget_created_disk(std::string name, io::Loop& reply_to, Done done) override {
    save("forget " + name, reply_to, std::move(done), [this, name] {
      std::erase_if(state.created_disks, [&](const auto& old) { return old.name == name; });
    });
  }
  void save_alua(uint16_t tag, std::string text, io::Loop& reply_to, Done done) override {
    save("alua", reply_to, std::move(done), [this, tag, text] { state.alua[tag] = text; });
  }
  void let_go() {
    holds = false;
    for (auto& answer : std::exchange(held_, {})) answer();
  }

  StoredState state;
  bool broken = false;
  bool fails = false;
  int doubts = 0;  // so many saves are carried out, and answered with Errc::in_doubt
  bool holds = false;

 private:
  void save(const std::string& what, io::Loop& reply_to, Done done, std::function<void()> change) {
    journal_.push_back("store " + what);
    std::move_only_function<void()> answer = [this, &reply_to, change,
                                              done = std::move(done)]() mutable {
      if (!fails) change();
      base::Result<> result;
      if (fails) result = base::fail(base::Errc::no_space, "the file system is full");
      if (doubts > 0) {
        --doubts;
        result = base::fail(base::Errc::in_doubt, "the journal could not be synced");
      }
      reply_to.post([result, done = std::move(done)]() mutable noexcept { done(result); });
    };
    if (holds) {
      held_.push_back(std::move(answer));
    } else {
      answer();
    }
  }

  Journal& journal_;
  std::vector<std::move_only_function<void()>> held_;
  uint8_t last_identity_ = 0;
};

class FakeBacking final : public io::Backing {
 public:
  FakeBacking(const io::BackingSpec& spec, std::string& undone_calls)
      : undone(undone_calls), info_{.size_bytes = spec.size_bytes} {}
  io::BlockInfo info() const override { return info_; }
  std::unique_ptr<io::BlockDevice> attach(io::Loop&) override { return nullptr; }
  void grow(uint64_t size_bytes, io::Loop& reply_to, Resized done) override {
    base::Result<> result;
    if (hangs) {
      hung.push_back(std::move(done));
      return;
    }
    if (full) {
      result = base::fail(base::Errc::no_space, "the file system is full");
    } else {
      grown_ = size_bytes;
    }
    reply_to.post([result, done = std::move(done)]() mutable noexcept { done(result); });
  }
  void use_grown() override { info_.size_bytes = grown_; }
  void undo_grow() override { undone += "grow "; }
  void undo_open() override { undone += "open "; }
  bool full = false;
  bool hangs = false;
  std::vector<Resized> hung;
  std::string& undone;

 private:
  io::BlockInfo info_;
  uint64_t grown_ = 0;
};

class FakeOpener final : public io::BackingOpener {
 public:
  void open(const io::BackingSpec& spec, io::Loop& reply_to, Opened done) override {
    ++attempts[spec.path];
    const auto error = errors.find(spec.path);
    base::Result<std::shared_ptr<io::Backing>> result =
        std::make_shared<FakeBacking>(spec, undone[spec.path]);
    if (error != errors.end()) {
      result = base::fail(error->second, "cannot be opened");
    } else if (absent.contains(spec.path) && spec.served_bytes > 0) {
      result = base::fail(base::Errc::not_found, "no such file or directory", ENOENT);
    } else {
      opened[spec.path] = std::static_pointer_cast<FakeBacking>(*result);
    }
    reply_to.post([result, done = std::move(done)]() mutable noexcept { done(result); });
  }
  bool is_open(const std::string& path) { return !opened[path].expired(); }

  std::map<std::string, base::Errc> errors;
  std::set<std::string> absent;  // made when it is asked for
  std::map<std::string, int> attempts;
  std::map<std::string, std::string> undone;
  std::map<std::string, std::weak_ptr<FakeBacking>> opened;
};

class FakeNetwork final : public io::Network {
 public:
  explicit FakeNetwork(FakeLoop& loop) : loop_(loop) {}
  base::Result<io::Socket> listen(const io::Endpoint& endpoint) override {
    if (absent.contains(endpoint.to_string())) {
      return base::fail(base::Errc::invalid_argument, "this host does not have the address",
                        EADDRNOTAVAIL);
    }
    if (taken == endpoint.to_string()) {
      return base::fail(base::Errc::busy, "another program listens there", EADDRINUSE);
    }
    listening[endpoint.to_string()] = ++last_socket_;
    return last_socket_;
  }
  base::Result<io::Socket> listen_unix(const std::string&, uint32_t) override {
    return base::fail(base::Errc::unsupported, "no Unix sockets here");
  }
  void unlink_unix(const std::string&) override { FAIL(); }
  base::Result<io::Socket> open_stream(const io::Endpoint&, const io::ConnectOptions&) override {
    return base::fail(base::Errc::unsupported, "a target connects to nobody");
  }
  void connect(io::Op&, io::Socket, const io::Endpoint&) override { FAIL(); }
  base::Result<io::Socket> connect_unix(const std::string&) override {
    return base::fail(base::Errc::unsupported, "no Unix sockets here");
  }
  void accept(io::Op& op, io::Socket listener) override {
    op.begin();
    accepting[listener] = &op;
    ++accepts;
  }
  void receive(io::Op&, io::Socket, std::span<const iovec>) override { FAIL(); }
  void send(io::Op&, io::Socket, std::span<const iovec>) override { FAIL(); }
  void watch_hangup(io::Op&, io::Socket) override { FAIL(); }
  void cancel(io::Op& op) override {
    for (auto& [listener, waiting] : accepting) {
      if (waiting == &op) return complete(listener, -ECANCELED);
    }
  }
  void shutdown(io::Socket) override {}
  void shutdown_send(io::Socket) override {}
  void close(io::Socket socket, bool) override {
    closed.push_back(socket);
    std::erase_if(listening, [&](const auto& entry) { return entry.second == socket; });
  }
  io::Endpoint local_endpoint(io::Socket) override { return {}; }
  io::Endpoint peer_endpoint(io::Socket) override { return {}; }
  io::TransportInfo transport_info(io::Socket) override { return {}; }

  // An accept on the portal completes with this socket or error.
  void arrive(const std::string& portal, int32_t result) { complete(listening.at(portal), result); }

  std::string taken;
  std::set<std::string> absent;  // addresses
  std::map<std::string, io::Socket> listening;
  std::map<io::Socket, io::Op*> accepting;
  std::vector<io::Socket> closed;
  int accepts = 0;

 private:
  void complete(io::Socket listener, int32_t result) {
    io::Op* const op = accepting.at(listener);
    accepting.erase(listener);
    loop_.finish(*op, result);
  }
  FakeLoop& loop_;
  io::Socket last_socket_ = 100;
};

inline constexpr const char* kTarget = "iqn.2026-11.org.holdfast:store";
inline constexpr uint64_t kMiB = 1 << 20;

inline DiskConfig make_disk(const std::string& name, uint64_t size_bytes = 64 * kMiB) {
  DiskConfig disk;
  disk.name = name;
  disk.backing.path = "/srv/" + name;
  disk.backing.size_bytes = size_bytes;
  return disk;
}

inline Config make_config() {
  Config config;
  config.portal_groups = {{.tag = 1, .portals = {io::Endpoint::parse("10.1.0.10:3260").value()}}};
  config.disks = {make_disk("witness"), make_disk("csv1")};
  TargetConfig target;
  target.name = kTarget;
  target.portal_groups = {1};
  target.luns = {{.lun = 0, .disk = "witness"}, {.lun = 1, .disk = "csv1"}};
  InitiatorConfig anyone;
  anyone.name = "*";
  target.initiators = {anyone};
  config.targets = {target};
  return config;
}

template <class T>
using Slot = std::shared_ptr<std::optional<T>>;

class NodeTest : public ::testing::Test {
 protected:
  NodeTest() { make_node(); }
  ~NodeTest() override { destroy_node(); }

  void make_node() {
    node = std::make_unique<TargetNode>(NodeServices{.loop = loop0,
                                                     .network = network,
                                                     .random = random,
                                                     .opener = opener,
                                                     .store = store,
                                                     .version = "1"});
  }
  void destroy_node() {
    if (node == nullptr) return;
    shard0.let_go();
    shard1.let_go();
    store.let_go();
    node->shutdown([](bool) noexcept {});
    world.settle();
    node.reset();
  }

  // Gives every reply a place; a second reply is a failure.
  template <class T>
  static std::pair<Slot<T>, std::move_only_function<void(T) noexcept>> expect() {
    auto slot = std::make_shared<std::optional<T>>();
    return {slot, [slot](T value) noexcept {
              EXPECT_FALSE(slot->has_value()) << "answered twice";
              *slot = std::move(value);
            }};
  }

  NodeControl::Outcome start(const Config& config) {
    auto [slot, reply] = expect<NodeControl::Outcome>();
    node->start(config, {{&shard0, &loop0}, {&shard1, &loop1}}, std::move(reply));
    world.settle();
    if (!slot->has_value()) world.advance(kStartWait);
    EXPECT_TRUE(slot->has_value());
    return slot->value_or(NodeControl::Outcome{});
  }
  void start() { ASSERT_TRUE(start(make_config()).has_value()); }

  NodeControl::Outcome apply(const Config& config) {
    auto [slot, reply] = expect<NodeControl::Outcome>();
    node->apply(config, false, std::move(reply));
    world.settle();
    if (!slot->has_value()) world.advance(std::chrono::seconds(11));
    EXPECT_TRUE(slot->has_value());
    return slot->value_or(NodeControl::Outcome{});
  }

  template <class Call>
  NodeControl::Outcome ask(Call call) {
    auto [slot, reply] = expect<NodeControl::Outcome>();
    call(std::move(reply));
    world.settle();
    if (!slot->has_value()) world.advance(std::chrono::seconds(11));
    EXPECT_TRUE(slot->has_value());
    return slot->value_or(NodeControl::Outcome{});
  }
  size_t count(const std::string& text) const {
    size_t found = 0;
    for (const std::string& entry : journal) found += entry.find(text) != std::string::npos;
    return found;
  }
  const NodeMap& map() { return *shard1.maps.back(); }

  static NexusId nexus(const std::string& initiator, uint64_t isid = 1) {
    return {
        .initiator_name = initiator, .isid = isid, .target_name = kTarget, .portal_group_tag = 1};
  }
  static SessionId session_id(uint32_t shard, uint64_t number) {
    return (SessionId{shard} << 48) | number;
  }
  Slot<AdmitReply> admit(SessionId session, const NexusId& of,
                         const std::string& portal = "10.1.0.10:3260",
                         const std::string& peer = "10.1.0.1:5000") {
    auto [slot, reply] = expect<AdmitReply>();
    node->admit({.session = session,
                 .shard = Shards::shard_of(session),
                 .nexus = of,
                 .portal = io::Endpoint::parse(portal).value(),
                 .peer = io::Endpoint::parse(peer).value()},
                std::move(reply));
    world.settle();
    return slot;
  }

  // What one of them did; between shards there is no order.
  Journal journal_of(const std::string& who) const {
    Journal entries;
    for (const std::string& entry : journal) {
      if (entry.starts_with(who + " ")) entries.push_back(entry.substr(who.size() + 1));
    }
    return entries;
  }

  UnitId unit(const std::string& name) {
    for (const auto& [id, state] : shard0.units) {
      if (state->description.name == name) return id;
    }
    ADD_FAILURE() << "no unit " << name;
    return 0;
  }
  const UnitState& state(const std::string& name, FakeShard& shard) {
    return *shard.units.at(unit(name));
  }
  NodeStatus status() {
    auto [slot, reply] = expect<NodeStatus>();
    node->status(std::move(reply));
    world.settle();
    return slot->value();
  }

  Journal journal;
  FakeWorld world;
  FakeLoop loop0{world};
  FakeLoop loop1{world};
  FakeNetwork network{loop0};
  base::SeededRandom random{1};
  FakeOpener opener;
  FakeStore store{journal};
  FakeShard shard0{"shard0", journal};
  FakeShard shard1{"shard1", journal};
  std::unique_ptr<TargetNode> node;
};

}  // namespace holdfast::target
