// Persistent reservations through multipath devices: a node's key on its paths, nodes that fence
// each other, and the way back. Two nodes write to one unit; a third one only looks.

#include <gtest/gtest.h>

#include <cerrno>
#include <optional>

#include "tests/sim/device_node.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;
using io::ReservationState;
using io::ReservationType;
using mpio::PathState;
using EventKind = DeviceNode::EventKind;
using Kind = DeviceNode::Kind;
using Request = DeviceNode::Request;
using Keys = std::vector<uint64_t>;

constexpr auto kType = ReservationType::write_exclusive_registrants_only;  // 5
constexpr uint64_t kKey1 = 0x1111, kKey2 = 0x2222;
constexpr int32_t kDone = DeviceNode::kBytes;
// An idle path is asked so often; then the keys are read.
constexpr Duration kNotice = mpio::kLan.test_unit + 1s;
constexpr const char* kAddresses[] = {"10.1.0.1", "10.2.0.1"};  // of the first node

class DeviceReservations : public testing::Test {
 public:
  DeviceReservations() {
    target_.start();
    world_.run_for(100ms);
  }
  ~DeviceReservations() override {
    target_.disk(0).release();
    for (DeviceNode* node : started_) EXPECT_TRUE(node->stop());
    EXPECT_TRUE(target_.stop(60s));
  }

  static DeviceNode::Options options(int number) {
    const std::string last = std::to_string(number);
    return {.host = "hv" + last,
            .addresses = {"10.1.0." + last, "10.2.0." + last},
            .no_path_timeout = 2s};
  }
  void start(DeviceNode& node) {
    node.start();
    started_.push_back(&node);
  }
  bool comes_up(const DeviceNode& node) {
    return world_.run_until([&] { return node.up(); }, 20s);
  }
  bool become(const DeviceNode& node, PathState state, Duration within) {
    return world_.run_until([&] { return node.all_in(state); }, within);
  }
  // Both nodes and the one that looks, up, with keys.
  void start_all() {
    for (DeviceNode* node : {&first_, &second_, &looks_}) {
      start(*node);
      ASSERT_TRUE(comes_up(*node));
    }
    ASSERT_TRUE(use_key(first_, kKey1).has_value());
    ASSERT_TRUE(use_key(second_, kKey2).has_value());
  }

  static base::Result<> use_key(DeviceNode& node, uint64_t key) {
    return node.control([key](auto& device, auto done) { device.use_key(key, std::move(done)); });
  }
  static base::Result<> reserve(DeviceNode& node, ReservationType type = kType) {
    return node.control([type](auto& device, auto done) { device.reserve(type, std::move(done)); });
  }
  static base::Result<> preempt(DeviceNode& node, uint64_t victim) {
    return node.control([victim](auto& device, auto done) {
      device.preempt_and_abort(victim, kType, std::move(done));
    });
  }
  static base::Result<> verify(DeviceNode& node) {
    return node.control([](auto& device, auto done) { device.verify_key(std::move(done)); });
  }
  static base::Result<> readmit(DeviceNode& node) {
    return node.control([](auto& device, auto done) { device.readmit(std::move(done)); });
  }
  static base::Result<> clear(DeviceNode& node) {
    return node.control(
        [](auto& device, auto done) { device.clear_reservations(std::move(done)); });
  }
  static ReservationState state_seen_by(DeviceNode& node) {
    auto state = node.control<ReservationState>(
        [](auto& device, auto done) { device.read_reservations(std::move(done)); });
    EXPECT_TRUE(state.has_value());
    if (!state.has_value()) return {};
    std::ranges::sort(state->keys);
    return *state;
  }
  Keys keys() { return state_seen_by(looks_).keys; }

  uint8_t on_medium(uint64_t place) {
    return target_.disk(0).medium().content()[place * DeviceNode::kBytes];
  }
  static uint64_t errors(DeviceNode& node) {
    return node.path(0).counters().errors + node.path(1).counters().errors;
  }

  SimWorld world_{1};
  SimFabric fabric_{world_, {.delay_min = 100us, .delay_max = 300us, .partial_per_million = 0}};
  TargetHost target_{world_,
                     fabric_,
                     {.volatile_cache = false, .disks = {.volatile_cache = false}},
                     {{.lun = 0, .path = "/disks/a", .block_size = 512, .blocks = 1024}}};
  DeviceNode first_{world_, fabric_, options(1)};
  DeviceNode second_{world_, fabric_, options(2)};
  DeviceNode looks_{world_, fabric_, options(3)};
  std::vector<DeviceNode*> started_;
};

// --- the key ---

// Another's reservation refuses the writes of a path that has not registered.
TEST_F(DeviceReservations, TheKeyIsOnAPathBeforeItCarriesIo) {
  start(second_);
  ASSERT_TRUE(comes_up(second_));
  ASSERT_TRUE(use_key(second_, kKey2).has_value());
  ASSERT_TRUE(reserve(second_).has_value());
  start(looks_);
  ASSERT_TRUE(comes_up(looks_));

  start(first_);
  const base::Result<> early = use_key(first_, kKey1);
  ASSERT_FALSE(early.has_value()) << "no path is there yet";
  EXPECT_EQ(early.error().code, base::Errc::closed);
  ASSERT_TRUE(world_.run_until([&] { return first_.device().known(); }, 5s));
  Request& writer = first_.make(Kind::write, 1, 0x11);
  writer.again = true;
  first_.submit({&writer});
  ASSERT_TRUE(comes_up(first_));
  EXPECT_EQ(keys(), (Keys{kKey1, kKey1, kKey2, kKey2}));

  // Each path goes and returns, and carries all I/O while the other one is away.
  for (size_t path = 0; path < 2; ++path) {
    fabric_.set_link(kAddresses[path], false);
    world_.run_for(2s);
    EXPECT_FALSE(first_.path(path).carries_io());
    EXPECT_TRUE(first_.path(1 - path).carries_io());
    fabric_.set_link(kAddresses[path], true);
    ASSERT_TRUE(comes_up(first_));
  }
  EXPECT_GT(first_.path(0).counters().writes, 100U);
  EXPECT_GT(first_.path(1).counters().writes, 100U);
  EXPECT_EQ(errors(first_), 0U);
  EXPECT_EQ(first_.count(EventKind::key_lost), 0U);
  EXPECT_EQ(keys(), (Keys{kKey1, kKey1, kKey2, kKey2}));
  writer.again = false;
  EXPECT_EQ(first_.finish(writer, 1s), kDone);
}

TEST_F(DeviceReservations, APathThatWasAwayTakesTheKeyWhenItReturns) {
  fabric_.set_link(kAddresses[1], false);
  start(first_);
  ASSERT_TRUE(world_.run_until([&] { return first_.path(0).carries_io(); }, 5s));
  start(looks_);
  ASSERT_TRUE(comes_up(looks_));
  ASSERT_TRUE(use_key(first_, kKey1).has_value());
  EXPECT_EQ(keys(), (Keys{kKey1}));
  fabric_.set_link(kAddresses[1], true);
  ASSERT_TRUE(comes_up(first_));
  EXPECT_EQ(keys(), (Keys{kKey1, kKey1}));
}

TEST_F(DeviceReservations, AnotherKeyReplacesIt) {
  start_all();
  ASSERT_TRUE(use_key(first_, 0x1112).has_value());
  EXPECT_EQ(keys(), (Keys{0x1112, 0x1112, kKey2, kKey2}));
  ASSERT_TRUE(use_key(first_, 0).has_value());
  EXPECT_EQ(keys(), (Keys{kKey2, kKey2}));
  EXPECT_EQ(first_.finish(first_.submit(Kind::write, 1, 0x11), 1s), kDone);
  EXPECT_TRUE(first_.up());
}

// --- the reservation ---

TEST_F(DeviceReservations, AReservationOfRegistrantsKeepsOthersOut) {
  start_all();
  EXPECT_EQ(state_seen_by(first_).type, ReservationType::none);
  ASSERT_TRUE(reserve(first_).has_value());
  for (DeviceNode* node : {&first_, &second_, &looks_}) {
    const ReservationState state = state_seen_by(*node);
    EXPECT_EQ(state.keys, (Keys{kKey1, kKey1, kKey2, kKey2}));  // both nexuses of each
    EXPECT_EQ(state.type, kType);
    EXPECT_EQ(state.holder_key, kKey1);
    EXPECT_GT(state.generation, 0U);
  }
  EXPECT_EQ(first_.finish(first_.submit(Kind::write, 1, 0x11), 1s), kDone);
  EXPECT_EQ(second_.finish(second_.submit(Kind::write, 2, 0x22), 1s), kDone);
  EXPECT_EQ(looks_.finish(looks_.submit(Kind::write, 3, 0x33), 5s), -EBADE);
  EXPECT_EQ(looks_.finish(looks_.submit(Kind::read, 1), 1s), kDone);
  EXPECT_EQ(on_medium(1), 0x11);
  EXPECT_EQ(on_medium(2), 0x22);
  EXPECT_EQ(on_medium(3), 0x00);
}

TEST_F(DeviceReservations, CallsThatCannotBeAreRefused) {
  start_all();
  ASSERT_TRUE(reserve(first_).has_value());
  EXPECT_TRUE(reserve(first_).has_value()) << "the holder may ask again";
  const auto code = [](const base::Result<>& result) {
    return result.has_value() ? base::Errc{} : result.error().code;
  };
  EXPECT_EQ(code(reserve(second_, ReservationType::exclusive_access)), base::Errc::permission);
  EXPECT_EQ(code(preempt(second_, 0x4444)), base::Errc::permission) << "nobody has that key";
  EXPECT_EQ(code(preempt(second_, kKey2)), base::Errc::invalid_argument) << "its own";
  EXPECT_EQ(code(reserve(looks_)), base::Errc::invalid_argument) << "without a key";
  EXPECT_EQ(keys(), (Keys{kKey1, kKey1, kKey2, kKey2}));
  EXPECT_EQ(state_seen_by(looks_).holder_key, kKey1);
}

// --- fenced by another ---

TEST_F(DeviceReservations, APreemptedNodeIsOutUntilItIsReadmitted) {
  start_all();
  ASSERT_TRUE(reserve(first_).has_value());
  Request& writer = first_.make(Kind::write, 1, 0x11);
  writer.again = true;
  first_.submit({&writer});
  world_.run_for(100ms);
  EXPECT_GT(writer.times, 10U);
  first_.forget_told();
  second_.forget_told();

  ASSERT_TRUE(preempt(second_, kKey1).has_value());
  // From here on nothing of the first node lands.
  EXPECT_EQ(second_.finish(second_.submit(Kind::write, 1, 0x22), 1s), kDone);
  const ReservationState state = state_seen_by(second_);
  EXPECT_EQ(state.keys, (Keys{kKey2, kKey2}));
  EXPECT_EQ(state.type, kType);
  EXPECT_EQ(state.holder_key, kKey2);

  ASSERT_TRUE(become(first_, PathState::unregistered, kNotice));
  EXPECT_EQ(first_.count(EventKind::key_lost), 2U);  // of each path
  for (size_t path = 0; path < 2; ++path) {
    EXPECT_TRUE(first_.first(EventKind::key_lost, first_.path(path).settings().name).has_value());
  }
  EXPECT_GE(first_.count(EventKind::preempted), 1U);
  EXPECT_EQ(first_.count(EventKind::paths_lost), 1U);
  const int32_t ended = first_.finish(writer, 10s);
  EXPECT_TRUE(ended == -EBADE || ended == -ETIMEDOUT) << ended;
  Request& later = first_.submit(Kind::write, 2, 0x11);
  EXPECT_EQ(first_.finish(later, 10ms), -EBADE) << "not when a path is back";

  // Connections drop and return, each by itself and both: it stays out.
  for (size_t round = 0; round < 3; ++round) {
    for (size_t path = 0; path < 2; ++path) {
      if (round == path || round == 2) {
        fabric_.reset_between(kAddresses[path], DeviceNode::kPortals[path]);
      }
    }
    world_.run_for(5s);
    EXPECT_TRUE(first_.all_in(PathState::unregistered)) << "round " << round;
    EXPECT_EQ(keys(), (Keys{kKey2, kKey2})) << "round " << round;
  }
  EXPECT_GE(first_.path(0).session_number(), 3U);
  EXPECT_GE(first_.path(1).session_number(), 3U);
  EXPECT_EQ(first_.count(EventKind::path_restored), 0U);
  EXPECT_EQ(on_medium(1), 0x22);
  EXPECT_EQ(on_medium(2), 0x00);
  EXPECT_TRUE(second_.up());
  EXPECT_EQ(second_.count(EventKind::key_lost), 0U);

  ASSERT_TRUE(readmit(first_).has_value());
  ASSERT_TRUE(comes_up(first_));
  EXPECT_EQ(keys(), (Keys{kKey1, kKey1, kKey2, kKey2}));
  EXPECT_EQ(first_.count(EventKind::path_restored), 2U);
  EXPECT_EQ(first_.count(EventKind::paths_back), 1U);
  EXPECT_EQ(state_seen_by(first_).holder_key, kKey2);
  for (size_t path = 0; path < 2; ++path) {
    fabric_.set_link(kAddresses[1 - path], false);
    world_.run_for(1s);
    const auto value = static_cast<uint8_t>(0x31 + path);
    EXPECT_EQ(first_.finish(first_.submit(Kind::write, 3 + path, value), 1s), kDone);
    EXPECT_EQ(on_medium(3 + path), value);
    fabric_.set_link(kAddresses[1 - path], true);
    ASSERT_TRUE(comes_up(first_));
  }
}

// The answer comes when nothing of the victim is under way any more.
TEST_F(DeviceReservations, APreemptionIsAnsweredAfterTheVictimsWrites) {
  start_all();
  ASSERT_TRUE(reserve(second_).has_value());
  target_.disk(0).hang();
  DeviceNode::Requests writes;
  for (uint64_t i = 0; i < 4; ++i) writes.push_back(&first_.make(Kind::write, i, 0x11));
  first_.submit(writes);
  world_.run_for(50ms);
  EXPECT_EQ(target_.disk(0).in_flight(), writes.size());
  const Duration released = world_.now() + 1s;
  world_.at(released, [this] { target_.disk(0).release(); });
  ASSERT_TRUE(preempt(second_, kKey1).has_value());
  EXPECT_GE(world_.now(), released);
  EXPECT_EQ(target_.disk(0).in_flight(), 0U);
  for (uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(second_.finish(second_.submit(Kind::write, i, 0x22), 1s), kDone);
  }
  world_.run_for(30s);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(on_medium(i), 0x22);
  for (Request* each : writes) {
    ASSERT_TRUE(each->done());
    EXPECT_LT(*each->result, 0);
  }
  EXPECT_TRUE(first_.all_in(PathState::unregistered));
}

// It finds out when it returns, and asks nobody to let it in.
TEST_F(DeviceReservations, ANodeThatIsPreemptedWhileItIsAwayStaysOut) {
  start_all();
  ASSERT_TRUE(reserve(second_).has_value());
  for (const char* address : kAddresses) fabric_.set_link(address, false);
  world_.run_for(500ms);
  for (size_t path = 0; path < 2; ++path) {
    ASSERT_FALSE(mpio::in_service(first_.path(path).state())) << "its session is over";
  }
  Request& waits = first_.submit(Kind::write, 1, 0x11);
  ASSERT_TRUE(preempt(second_, kKey1).has_value());
  first_.forget_told();
  for (const char* address : kAddresses) fabric_.set_link(address, true);
  ASSERT_TRUE(become(first_, PathState::unregistered, 20s));
  EXPECT_EQ(first_.count(EventKind::key_lost), 2U);
  EXPECT_EQ(first_.count(EventKind::path_restored), 0U);
  EXPECT_LT(first_.finish(waits, 10s), 0);
  EXPECT_EQ(keys(), (Keys{kKey2, kKey2}));
  EXPECT_EQ(on_medium(1), 0x00);
  ASSERT_TRUE(readmit(first_).has_value());
  ASSERT_TRUE(comes_up(first_));
  EXPECT_EQ(keys(), (Keys{kKey1, kKey1, kKey2, kKey2}));
}

TEST_F(DeviceReservations, WhoAsksForItsKeyLearnsThatItIsGone) {
  start_all();
  ASSERT_TRUE(reserve(second_).has_value());
  EXPECT_TRUE(verify(first_).has_value());
  EXPECT_EQ(verify(looks_).error().code, base::Errc::invalid_argument) << "it has none";
  ASSERT_TRUE(preempt(second_, kKey1).has_value());
  EXPECT_EQ(verify(first_).error().code, base::Errc::permission);
  EXPECT_TRUE(first_.all_in(PathState::unregistered));
  EXPECT_EQ(first_.finish(first_.submit(Kind::write, 1, 0x11), 10ms), -EBADE);
  EXPECT_EQ(verify(first_).error().code, base::Errc::permission);
}

// --- a path that comes up while others change reservations ---

// The first node is registered by one path; the other, whose nexus is new, has just logged in.
struct PathComing : DeviceReservations {
  PathComing() {
    fabric_.set_link(kAddresses[1], false);
    for (DeviceNode* node : {&first_, &second_, &looks_}) start(*node);
    EXPECT_TRUE(comes_up(second_) && comes_up(looks_));
    EXPECT_TRUE(world_.run_until([&] { return first_.device().known(); }, 5s));
    EXPECT_TRUE(use_key(first_, kKey1).has_value());
    EXPECT_TRUE(use_key(second_, kKey2).has_value());
    EXPECT_TRUE(reserve(second_).has_value());
    world_.run_for(2s);
    fabric_.set_link(kAddresses[1], true);
    EXPECT_TRUE(world_.run_until([&] { return first_.path(1).state() == PathState::probe; }, 30s));
  }
  void TestBody() override {}

  // Its connection is lost then; a time without one: not at all.
  void lose_it_at(std::optional<Duration> after) {
    if (!after) return;
    world_.after(*after, [this] { fabric_.reset_between(kAddresses[1], DeviceNode::kPortals[1]); });
  }
  void expect_out() {
    world_.run_for(15s);
    EXPECT_EQ(keys(), (Keys{kKey2, kKey2})) << "it has registered again by itself";
    EXPECT_EQ(first_.finish(first_.submit(Kind::write, 1, 0x11), 10ms), -EBADE);
    EXPECT_EQ(on_medium(1), 0);
  }
  void expect_in() {
    EXPECT_TRUE(comes_up(first_));
    EXPECT_EQ(first_.count(EventKind::key_lost), 0U);
    EXPECT_EQ(keys(), (Keys{kKey1, kKey1, kKey2, kKey2}));
  }
};

constexpr Duration kComingUp = 15ms;  // until it is registered, and some more

TEST(DevicePathComing, AlsoWhenItIsPreemptedMeanwhileItStaysOut) {
  for (Duration at = 0ms; at < kComingUp; at += 100us) {
    SCOPED_TRACE(at.count());
    PathComing scene;
    scene.world_.run_for(at);
    ASSERT_TRUE(PathComing::preempt(scene.second_, kKey1).has_value());
    scene.expect_out();
  }
}

TEST(DevicePathComing, AlsoWhenItsConnectionIsLostBesides) {
  for (Duration at = 3ms; at < kComingUp; at += 250us) {
    for (const Duration lost : {100us, 400us, 800us, 1200us}) {
      for (const bool first : {true, false}) {  // the loss
        SCOPED_TRACE(at.count());
        PathComing scene;
        scene.lose_it_at(first ? at - lost : at + lost);
        scene.world_.run_for(at);
        ASSERT_TRUE(PathComing::preempt(scene.second_, kKey1).has_value());
        scene.expect_out();
      }
    }
  }
}

// What it may have registered last is still there, and says nothing: the path that stayed tells.
TEST(DevicePathComing, AlsoWhenItIsLostForGoodAndOnlyTheOtherPathCanTell) {
  for (Duration at = 3ms; at < kComingUp; at += 250us) {
    for (const Duration lost : {100us, 400us, 800us, 1200us, 1600us}) {
      SCOPED_TRACE(at.count());
      PathComing scene;
      scene.world_.run_for(at);
      scene.world_.after(lost, [&] { scene.fabric_.set_link(kAddresses[1], false); });
      ASSERT_TRUE(PathComing::preempt(scene.second_, kKey1).has_value());
      const base::Result<> key = PathComing::verify(scene.first_);
      ASSERT_FALSE(key.has_value()) << "it says that its key is there";
      EXPECT_EQ(key.error().code, base::Errc::permission);
      EXPECT_EQ(scene.first_.finish(scene.first_.submit(Kind::write, 1, 0x11), 10ms), -EBADE);
      EXPECT_EQ(scene.on_medium(1), 0);
    }
  }
}

TEST(DevicePathComing, ARegistrationOfAnotherNodeKeepsNobodyOut) {
  for (Duration at = 0ms; at < kComingUp; at += 250us) {
    for (const std::optional<Duration> lost : {std::optional<Duration>(), {at}, {at + 500us}}) {
      SCOPED_TRACE(at.count());
      PathComing scene;
      scene.lose_it_at(lost);
      scene.world_.run_for(at);
      ASSERT_TRUE(PathComing::use_key(scene.second_, kKey2).has_value());
      scene.expect_in();
    }
  }
}

// --- the end of it ---

TEST_F(DeviceReservations, ClearedIsTheReservationWithAllKeys) {
  start_all();
  ASSERT_TRUE(reserve(first_).has_value());
  first_.forget_told();
  second_.forget_told();
  ASSERT_TRUE(clear(second_).has_value());
  const ReservationState state = state_seen_by(looks_);
  EXPECT_TRUE(state.keys.empty());
  EXPECT_EQ(state.type, ReservationType::none);
  EXPECT_EQ(looks_.finish(looks_.submit(Kind::write, 1, 0x33), 1s), kDone);
  // Who had a key is told that it is gone, and is out like one that was preempted.
  ASSERT_TRUE(become(first_, PathState::unregistered, kNotice));
  EXPECT_EQ(first_.count(EventKind::key_lost), 2U);
  EXPECT_GE(first_.count(EventKind::preempted), 1U);
  for (DeviceNode* node : {&first_, &second_}) {
    ASSERT_TRUE(readmit(*node).has_value());
    ASSERT_TRUE(comes_up(*node));
    EXPECT_EQ(node->finish(node->submit(Kind::write, 2, 0x44), 1s), kDone);
  }
  EXPECT_EQ(keys(), (Keys{kKey1, kKey1, kKey2, kKey2}));
}

}  // namespace
}  // namespace holdfast::sim
