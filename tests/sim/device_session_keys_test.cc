// Sessions with reservation keys of their own, at a target whose portals are in two groups, where a
// dead session cannot be reinstated through the other: docs/mpio.md, "The fence".

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "mpio/preemption.h"
#include "mpio/reservation_client.h"
#include "mpio/session_keys.h"
#include "tests/sim/device_node.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;
using io::ReservationState;
using io::ReservationType;
using mpio::FenceProof;
using mpio::PathState;
using Kind = DeviceNode::Kind;
using Request = DeviceNode::Request;

constexpr auto kOurs = ReservationType::write_exclusive_all_registrants;
constexpr int32_t kDone = DeviceNode::kBytes;
constexpr Duration kNotice = mpio::kLan.test_unit + 1s;  // an idle path is asked so often
constexpr uint64_t kIsid = 0x80'0000'000000;             // of a node's first path

class DeviceSessionKeys : public testing::Test {
 public:
  DeviceSessionKeys() {
    target_.start();
    world_.run_for(100ms);
    start(looks_);
    EXPECT_TRUE(comes_up(looks_));
  }
  ~DeviceSessionKeys() override {
    target_.disk(0).release();
    fabric_.heal_all();
    for (DeviceNode* node : started_) EXPECT_TRUE(node->stop());
    EXPECT_TRUE(target_.stop(60s));
  }

  static DeviceNode::Options options(int number, bool session_keys) {
    const std::string last = std::to_string(number);
    return {.host = "hv" + last,
            .addresses = {"10.1.0." + last, "10.2.0." + last},
            .session_keys = session_keys};
  }
  void start(DeviceNode& node) {
    node.start();
    started_.push_back(&node);
  }
  bool comes_up(const DeviceNode& node) {
    return world_.run_until([&] { return node.up(); }, 20s);
  }
  void stop(DeviceNode& node) {
    std::erase(started_, &node);
    EXPECT_TRUE(node.stop());
  }

  ReservationState state() {
    auto state = looks_.control<ReservationState>(
        [](auto& device, auto done) { device.read_reservations(std::move(done)); });
    EXPECT_TRUE(state.has_value());
    return state.value_or(ReservationState{});
  }
  std::set<uint64_t> keys() {
    const ReservationState found = state();
    return {found.keys.begin(), found.keys.end()};
  }
  uint64_t key_of(const DeviceNode& node, size_t path) {
    return node.device().session_keys().key_of(node.path(path), node.path(path).session_number());
  }
  static base::Result<> use_key(DeviceNode& node, uint64_t key) {
    return node.control([key](auto& device, auto done) { device.use_key(key, std::move(done)); });
  }

  // A write that hangs in the disk, and whose path falls silent.
  Request& write_before_silence() {
    target_.disk(0).hang();
    Request& write = first_.submit(Kind::write, 1, 0x11);
    EXPECT_TRUE(world_.run_until([&] { return target_.disk(0).in_flight() == 1; }, 1s));
    fabric_.isolate("10.1.0.1");
    return write;
  }
  Request& write_into_silence() {
    Request& write = write_before_silence();
    EXPECT_TRUE(world_.run_until([&] { return !first_.device().fences().empty(); }, 3s));
    return write;
  }
  // An administrator on the path that lives, whose commands are sent at once and in this order.
  // Nobody is told: the only other registrant of ours is dead.
  struct ByHand {
    scsi::ReserveOut action;
    scsi::PrType type = mpio::kSessionReservation;
  };
  bool by_hand(const std::vector<ByHand>& commands) {
    const scsi::PrOutParameters own{.key = key_of(first_, 1)};
    std::vector<std::unique_ptr<mpio::ReservationClient>> clients;
    size_t answered = 0, done = 0;
    first_.in_loop([&] {
      for (const ByHand& each : commands) {
        clients.push_back(std::make_unique<mpio::ReservationClient>(first_.loop()));
        clients.back()->run(first_.path(1),
                            scsi::build::persistent_reserve_out(each.action, each.type), &own,
                            [&](base::Result<base::Bytes> result) noexcept {
                              ++answered;
                              if (result.has_value()) ++done;
                            });
      }
    });
    world_.run_until([&] { return answered == commands.size(); }, 10s);
    first_.in_loop([&] { clients.clear(); });
    return done == commands.size();
  }
  void start_with_node_key() {
    start(with_node_key_);
    ASSERT_TRUE(comes_up(with_node_key_));
    ASSERT_TRUE(use_key(with_node_key_, 0x4444).has_value());
  }
  // By another host, for its node.
  bool reserve_in_another_way() {
    return with_node_key_
        .control([](auto& device, auto done) {
          device.reserve(ReservationType::write_exclusive_registrants_only, std::move(done));
        })
        .has_value();
  }
  bool clear_all() {
    return with_node_key_
        .control([](auto& device, auto done) { device.clear_reservations(std::move(done)); })
        .has_value();
  }
  // The options are those of its heir, which has lost a path; the key is that path's.
  uint64_t kill_with_keys(DeviceNode::Options& next) {
    auto killed = std::make_shared<DeviceNode>(world_, fabric_, options(1, true));
    killed->start();
    EXPECT_TRUE(comes_up(*killed));
    const uint64_t orphan = key_of(*killed, 1);
    next = options(1, true);
    next.addresses.pop_back();
    for (size_t path = 0; path < 2; ++path) {
      next.left.push_back({.path = "of an earlier process",
                           .initiator_name = "iqn.2026-11.org.holdfast:hv1",
                           .target = kTargetName,
                           .isid = kIsid + path,
                           .trace = {.portal_group = killed->path(path).portal_group_tag(),
                                     .unit = killed->device().wwid()}});
    }
    killed->kill();
    SimProcess::bury(std::move(killed));
    return orphan;
  }
  FenceProof last_proof(const DeviceNode& node) {
    const auto& last = node.device().last_fence();
    return last.has_value() ? last->proof : FenceProof::none;
  }
  void lose_and_preempt() {
    start(first_);
    ASSERT_TRUE(comes_up(first_));
    Request& write = write_into_silence();
    target_.disk(0).release();
    ASSERT_EQ(first_.finish(write, 3s), kDone);
    ASSERT_EQ(last_proof(first_), FenceProof::preempted);
  }
  uint8_t on_medium(uint64_t place) {
    return target_.disk(0).medium().content()[place * DeviceNode::kBytes];
  }

  SimWorld world_{1};
  SimFabric fabric_{world_, {.delay_min = 100us, .delay_max = 300us, .partial_per_million = 0}};
  TargetHost target_{
      world_,
      fabric_,
      {.volatile_cache = false, .group_each = true, .disks = {.volatile_cache = false}},
      {{.lun = 0, .path = "/disks/a", .block_size = 512, .blocks = 1024}}};
  DeviceNode first_{world_, fabric_, options(1, true)};
  DeviceNode second_{world_, fabric_, options(2, true)};
  DeviceNode with_node_key_{world_, fabric_, options(4, false)};
  DeviceNode looks_{world_, fabric_, options(3, false)};
  std::vector<DeviceNode*> started_;
};

// --- keys and the reservation ---

TEST_F(DeviceSessionKeys, EachSessionHasOneAndWhoHasNoneDoesNotWrite) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  EXPECT_EQ(state().type, kOurs);
  EXPECT_EQ(keys(), (std::set{key_of(first_, 0), key_of(first_, 1)}));
  EXPECT_NE(key_of(first_, 0), key_of(first_, 1));
  for (const uint64_t key : keys()) EXPECT_TRUE(mpio::is_session_key(key));
  EXPECT_EQ(first_.finish(first_.submit(Kind::write, 1, 0x11), 1s), kDone);
  EXPECT_EQ(looks_.finish(looks_.submit(Kind::write, 1, 0x22), 1s), -EBADE);
  EXPECT_EQ(looks_.finish(looks_.submit(Kind::read, 1), 1s), kDone);
}

TEST_F(DeviceSessionKeys, APathThatReturnsHasANewOneInThePlaceOfTheOld) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  const std::set<uint64_t> before = keys();
  const uint64_t lost = key_of(first_, 0);
  fabric_.set_link("10.1.0.1", false);
  world_.run_for(2s);
  EXPECT_EQ(keys(), before) << "its key is there until it is replaced";
  fabric_.set_link("10.1.0.1", true);
  ASSERT_TRUE(comes_up(first_));
  EXPECT_EQ(keys(), (std::set{key_of(first_, 0), key_of(first_, 1)}));
  EXPECT_FALSE(keys().contains(lost));
}

TEST_F(DeviceSessionKeys, HostsShareTheReservationAndItOutlastsWhoMadeIt) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  start(second_);
  ASSERT_TRUE(comes_up(second_));
  EXPECT_EQ(keys().size(), 4U);
  stop(first_);
  EXPECT_EQ(keys(), (std::set{key_of(second_, 0), key_of(second_, 1)}));
  EXPECT_EQ(state().type, kOurs);
}

TEST_F(DeviceSessionKeys, AnOrderlyEndLeavesNothing) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  EXPECT_EQ(keys().size(), 2U);
  fabric_.set_link("10.1.0.1", false);  // this one cannot give back its own
  world_.run_for(2s);
  stop(first_);
  EXPECT_EQ(keys(), std::set<uint64_t>());
  EXPECT_EQ(state().type, ReservationType::none);
  EXPECT_TRUE(first_.device().remains().unfenced.empty());
}

TEST_F(DeviceSessionKeys, ADisabledPathGivesItsKeyBack) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  first_.in_loop([&] { first_.path(0).apply(mpio::PathEvent::disable); });
  world_.run_for(1s);
  EXPECT_EQ(keys(), (std::set{key_of(first_, 1)}));
  EXPECT_EQ(state().type, kOurs);
}

TEST_F(DeviceSessionKeys, ARestartedTargetHasThemBeforeTheNextWrite) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  const std::set<uint64_t> before = keys();
  target_.kill();
  target_.start();
  EXPECT_EQ(first_.finish(first_.submit(Kind::write, 1, 0x11), 20s), kDone);
  EXPECT_EQ(state().type, kOurs);
  ASSERT_TRUE(comes_up(first_));
  for (const uint64_t key : keys()) EXPECT_FALSE(before.contains(key));
  EXPECT_EQ(keys().size(), 2U);
}

TEST_F(DeviceSessionKeys, WhatSomebodyClearsIsMadeAnew) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  const std::set<uint64_t> before = keys();
  start_with_node_key();
  ASSERT_TRUE(clear_all());
  EXPECT_EQ(state().type, ReservationType::none);
  world_.run_for(kNotice);
  EXPECT_EQ(state().type, kOurs);
  EXPECT_EQ(keys(), before);
  EXPECT_TRUE(first_.up());
  EXPECT_EQ(first_.finish(first_.submit(Kind::write, 1, 0x11), 1s), kDone);
}

TEST_F(DeviceSessionKeys, BesideAReservationOfAnotherTypeAPathDoesNotComeUpAndSaysWhy) {
  start_with_node_key();
  ASSERT_TRUE(reserve_in_another_way());
  start(first_);
  world_.run_for(3s);
  for (size_t path = 0; path < 2; ++path) {
    EXPECT_FALSE(first_.path(path).carries_io());
    EXPECT_NE(std::string(first_.path(path).machine().reason()).find("reserved in another way"),
              std::string::npos)
        << first_.path(path).machine().reason();
  }
  EXPECT_EQ(keys(), (std::set<uint64_t>{0x4444})) << "it left nothing of its own";
  EXPECT_EQ(first_.device().session_keys().in_force(), false);
}

TEST_F(DeviceSessionKeys, ANodesKeyIsRefused) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  const base::Result<> refused = use_key(first_, 0x1111);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(std::string(refused.error().what).find("session_keys"), std::string::npos);
  EXPECT_FALSE(keys().contains(0x1111));
}

// In a cluster the key is the node's. The program decides that: no configuration can ask for both.
TEST_F(DeviceSessionKeys, ADeviceOfAClusterHasNone) {
  DeviceNode::Options both = options(5, true);
  both.in_cluster = true;
  EXPECT_DEATH(DeviceNode(world_, fabric_, both), "in_cluster");
}

// --- the fence ---

TEST_F(DeviceSessionKeys, ADeadSessionIsPreemptedLongBeforeTheHold) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  const uint64_t dead = key_of(first_, 0);
  Request& write = write_into_silence();
  EXPECT_EQ(first_.finish(write, 3s), -EINPROGRESS) << "the target has not drained";
  EXPECT_FALSE(keys().contains(dead));
  target_.disk(0).release();
  EXPECT_EQ(first_.finish(write, 1s), kDone);
  EXPECT_EQ(last_proof(first_), FenceProof::preempted);
  EXPECT_LT(first_.device().last_fence()->took, 5s);
  EXPECT_EQ(first_.device().counters().fences_by_preempt, 1U);
  EXPECT_EQ(first_.finish(first_.submit(Kind::write, 1, 0x22), 1s), kDone);
  world_.run_for(20s);
  EXPECT_EQ(on_medium(1), 0x22);
}

TEST_F(DeviceSessionKeys, WithoutThemItIsHeldForItsTime) {
  start(with_node_key_);
  ASSERT_TRUE(comes_up(with_node_key_));
  target_.disk(0).hang();
  Request& write = with_node_key_.submit(Kind::write, 1, 0x11);
  world_.run_for(100ms);
  fabric_.isolate("10.1.0.4");
  world_.run_for(2s);
  target_.disk(0).release();
  EXPECT_EQ(with_node_key_.finish(write, 10s), -EINPROGRESS);
  EXPECT_EQ(with_node_key_.finish(write, 10s), kDone);
  EXPECT_EQ(last_proof(with_node_key_), FenceProof::late_reset);
}

// The target gives up its drain after ten seconds: the key is gone, but that proves nothing.
TEST_F(DeviceSessionKeys, ADiskThatHangsForLongerThanTheTargetDrainsIsWaitedFor) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  Request& write = write_into_silence();
  EXPECT_EQ(first_.finish(write, 40s), -EINPROGRESS);
  target_.disk(0).release();
  EXPECT_EQ(first_.finish(write, 20s), kDone);
  EXPECT_EQ(last_proof(first_), FenceProof::preempted_then_reset);
}

// Somebody has taken the reservation away: preempting would keep nothing out.
TEST_F(DeviceSessionKeys, WithoutTheReservationItIsMadeAnewBeforeThePreemptionCounts) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  const uint64_t dead = key_of(first_, 0);
  Request& write = write_before_silence();
  EXPECT_TRUE(by_hand({{scsi::ReserveOut::release}}));
  EXPECT_EQ(state().type, ReservationType::none);
  world_.run_for(3s);
  EXPECT_FALSE(keys().contains(dead));
  EXPECT_EQ(state().type, kOurs) << "preempted without a reservation";
  target_.disk(0).release();
  EXPECT_EQ(first_.finish(write, 1s), kDone);
  EXPECT_EQ(last_proof(first_), FenceProof::preempted);
}

// Whoever holds it may end it at any time.
TEST_F(DeviceSessionKeys, UnderAReservationOfAnotherTypeNothingIsPreempted) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  start_with_node_key();
  const uint64_t dead = key_of(first_, 0);
  Request& write = write_before_silence();
  EXPECT_TRUE(by_hand({{scsi::ReserveOut::release}}));
  ASSERT_TRUE(reserve_in_another_way());
  world_.run_for(5s);
  EXPECT_FALSE(first_.device().fences().empty());
  EXPECT_TRUE(keys().contains(dead));
  target_.disk(0).release();
  ASSERT_TRUE(clear_all());
  EXPECT_EQ(first_.finish(write, 20s), kDone);
  EXPECT_EQ(last_proof(first_), FenceProof::preempted_then_reset);
}

// The fence has looked for it; what takes it away comes to the target before the preemption.
TEST_F(DeviceSessionKeys, APreemptionWithoutTheReservationDoesNotCount) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  const uint64_t dead = key_of(first_, 0);
  Request& write = write_into_silence();
  EXPECT_TRUE(by_hand({{scsi::ReserveOut::release}}));
  world_.run_for(500ms);
  EXPECT_EQ(state().type, ReservationType::none);
  EXPECT_FALSE(keys().contains(dead)) << "it drains";
  target_.disk(0).release();
  EXPECT_EQ(first_.finish(write, 20s), kDone);
  EXPECT_EQ(last_proof(first_), FenceProof::preempted_then_reset);
  EXPECT_EQ(state().type, kOurs);
}

TEST_F(DeviceSessionKeys, NorUnderOneOfAnotherType) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  Request& write = write_into_silence();
  EXPECT_TRUE(
      by_hand({{scsi::ReserveOut::release},
               {scsi::ReserveOut::reserve, scsi::PrType::write_exclusive_registrants_only}}));
  world_.run_for(500ms);
  EXPECT_EQ(state().type, ReservationType::write_exclusive_registrants_only);
  target_.disk(0).release();
  EXPECT_EQ(first_.finish(write, 20s), kDone);
  EXPECT_EQ(last_proof(first_), FenceProof::preempted_then_reset);
  EXPECT_EQ(state().type, kOurs);
}

// --- ends ---

// Nothing but the reservation keeps out what the target has not read yet.
TEST_F(DeviceSessionKeys, AnEndWithinTheHoldKeepsTheReservation) {
  lose_and_preempt();
  const uint64_t survivor = key_of(first_, 1);
  stop(first_);
  EXPECT_EQ(keys(), (std::set{survivor}));
  EXPECT_EQ(state().type, kOurs);
  EXPECT_EQ(first_.device().remains().unfenced, (std::vector{kIsid + 1}));
}

TEST_F(DeviceSessionKeys, AnEndAfterTheHoldLeavesNothing) {
  lose_and_preempt();
  world_.run_for(15s);
  stop(first_);
  EXPECT_EQ(keys(), std::set<uint64_t>());
  EXPECT_EQ(state().type, ReservationType::none);
}

// The target answers nothing about reservations until it has drained.
TEST_F(DeviceSessionKeys, AnEndWhileTheTargetDrainsNotesTheKeyThatStays) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  write_into_silence();
  world_.run_for(500ms);
  stop(first_);
  EXPECT_EQ(state().type, kOurs) << "it could not give back its key";
  EXPECT_EQ(first_.device().remains().unfenced, (std::vector{kIsid, kIsid + 1}))
      << "the next start would not remove it";
}

// It has ended the old one: nothing has to be kept out.
TEST_F(DeviceSessionKeys, AnEndAfterThePathsOwnLoginLeavesNothing) {
  lose_and_preempt();
  fabric_.heal_all();
  ASSERT_TRUE(comes_up(first_));
  stop(first_);
  EXPECT_EQ(keys(), std::set<uint64_t>());
  EXPECT_EQ(state().type, ReservationType::none);
  EXPECT_TRUE(first_.device().remains().unfenced.empty());
}

// The key of a path that is not there any more goes once its session is known to be fenced.
TEST_F(DeviceSessionKeys, WhatAKilledProcessLeftIsRemovedWhenItIsFenced) {
  DeviceNode::Options next;
  const uint64_t orphan = kill_with_keys(next);
  EXPECT_TRUE(keys().contains(orphan));
  DeviceNode heir(world_, fabric_, next);
  start(heir);
  ASSERT_TRUE(comes_up(heir));
  world_.run_for(5s);
  EXPECT_EQ(keys(), (std::set{key_of(heir, 0), orphan})) << "its session may still write";
  world_.run_for(15s);
  EXPECT_EQ(keys(), (std::set{key_of(heir, 0)}));
  stop(heir);
}

TEST_F(DeviceSessionKeys, AndNotByAnEndBefore) {
  DeviceNode::Options next;
  const uint64_t orphan = kill_with_keys(next);
  DeviceNode heir(world_, fabric_, next);
  start(heir);
  ASSERT_TRUE(comes_up(heir));
  stop(heir);
  EXPECT_EQ(keys(), (std::set{orphan}));
}

TEST_F(DeviceSessionKeys, AnEndLeavesTheKeyOfADeadSessionThatIsNotFenced) {
  start(first_);
  ASSERT_TRUE(comes_up(first_));
  const uint64_t dead = key_of(first_, 0);
  write_before_silence();
  first_.in_loop([&] {
    first_.path(1).apply(mpio::PathEvent::disable);  // no survivor to preempt it
    first_.path(0).apply(mpio::PathEvent::lost, "the test");
  });
  world_.run_for(1s);
  EXPECT_EQ(keys(), (std::set{dead}));
}

}  // namespace
}  // namespace holdfast::sim
