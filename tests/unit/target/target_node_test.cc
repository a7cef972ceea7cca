// Sessions, reservations, resets and exclusive ranges across shards.

#include "target/target_node.h"

#include <algorithm>

#include "common/scsi/persistent_reservation.h"
#include "tests/unit/target/node_fakes.h"

namespace holdfast::target {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class TargetNodeTest : public NodeTest {
 protected:
  // Where the first entry that contains the text stands; -1: nowhere.
  int place(const std::string& text) const {
    for (size_t i = 0; i < journal.size(); ++i) {
      if (journal[i].find(text) != std::string::npos) return static_cast<int>(i);
    }
    return -1;
  }

  Slot<PrOutReply> pr_out(const std::string& initiator, scsi::ReserveOut action, uint64_t key,
                          uint64_t action_key, bool aptpl = false) {
    PrOutCall call{.shard = 0,
                   .unit = unit("csv1"),
                   .nexus = nexus(initiator),
                   .session = session_id(0, static_cast<uint8_t>(initiator.back())),
                   .task = 77,
                   .service_action = static_cast<uint8_t>(action),
                   .type = 5,
                   .parameter_list = std::vector<uint8_t>(scsi::kPrOutParameterBytes)};
    scsi::encode_pr_out_parameters({.key = key, .service_action_key = action_key, .aptpl = aptpl},
                                   call.parameter_list);
    auto [slot, reply] = expect<PrOutReply>();
    node->pr_out(std::move(call), std::move(reply));
    return slot;
  }
  scsi::Status finished(const Slot<PrOutReply>& slot) {
    world.settle();
    EXPECT_TRUE(slot->has_value());
    return slot->has_value() ? (*slot)->status : scsi::Status::busy;
  }
  void register_two() {
    using enum scsi::ReserveOut;
    ASSERT_EQ(finished(pr_out("iqn.a", register_key, 0, 0xa, true)), scsi::Status::good);
    ASSERT_EQ(finished(pr_out("iqn.b", register_key, 0, 0xb, true)), scsi::Status::good);
    journal.clear();
  }

  Slot<bool> reset(iscsi::TaskFunction function) {
    auto [slot, reply] = expect<bool>();
    node->reset({.shard = 0,
                 .function = function,
                 .unit = unit("csv1"),
                 .target = kTarget,
                 .session = session_id(0, 1)},
                std::move(reply));
    world.settle();
    return slot;
  }
};

// --- logins

TEST_F(TargetNodeTest, ALoginThatReinstatesNothingIsAnsweredWhateverABackingDoes) {
  start();
  shard0.holds = shard1.holds = true;
  const auto reply = admit(session_id(1, 1), nexus("iqn.a"));
  ASSERT_TRUE(reply->has_value());
  EXPECT_EQ((*reply)->status, iscsi::LoginStatus::success);
  EXPECT_FALSE((*reply)->reinstated);
}

TEST_F(TargetNodeTest, ReinstatementWaitsForTheOldSessionOnly) {
  start();
  admit(session_id(0, 1), nexus("iqn.a"));
  const auto waiting = admit(session_id(1, 2), nexus("iqn.a"));
  EXPECT_FALSE(waiting->has_value());
  EXPECT_THAT(shard0.dropped, ElementsAre(session_id(0, 1)));  // dead at once
  EXPECT_THAT(shard1.dropped, IsEmpty());
  EXPECT_TRUE(admit(session_id(1, 3), nexus("iqn.b"))->has_value());
  world.advance(9s);
  EXPECT_FALSE(waiting->has_value());

  node->session_gone(session_id(0, 1));
  world.settle();
  ASSERT_TRUE(waiting->has_value());
  EXPECT_EQ((*waiting)->status, iscsi::LoginStatus::success);
  EXPECT_TRUE((*waiting)->reinstated);
}

TEST_F(TargetNodeTest, AfterTheDrainDeadlineTheLoginIsRefusedAndTheOldSessionStays) {
  start();
  admit(session_id(0, 1), nexus("iqn.a"));
  const auto waiting = admit(session_id(1, 2), nexus("iqn.a"));
  world.advance(9999ms);
  EXPECT_FALSE(waiting->has_value());
  world.advance(1ms);
  ASSERT_TRUE(waiting->has_value());
  EXPECT_EQ((*waiting)->status, iscsi::LoginStatus::out_of_resources);
  const auto again = admit(session_id(1, 3), nexus("iqn.a"));
  EXPECT_FALSE(again->has_value());
  node->session_gone(session_id(0, 1));
  world.settle();
  EXPECT_TRUE(again->has_value());
}

TEST_F(TargetNodeTest, NoAnswerAfterTheWaitingSessionItselfIsGone) {
  start();
  admit(session_id(0, 1), nexus("iqn.a"));
  const auto waiting = admit(session_id(1, 2), nexus("iqn.a"));
  node->session_gone(session_id(1, 2));
  world.settle();
  node->session_gone(session_id(0, 1));
  world.advance(20s);
  EXPECT_FALSE(waiting->has_value());
}

TEST_F(TargetNodeTest, ALoginIsCheckedAgainstTheConfigurationOfNow) {
  Config config = make_config();
  config.targets[0].initiators[0].name = "iqn.a";
  ASSERT_TRUE(start(config).has_value());
  EXPECT_EQ((*admit(session_id(0, 1), nexus("iqn.b")))->status,
            iscsi::LoginStatus::authorization_failure);
  NexusId elsewhere = nexus("iqn.a");
  elsewhere.portal_group_tag = 2;
  EXPECT_EQ((*admit(session_id(0, 2), elsewhere))->status, iscsi::LoginStatus::not_found);
  EXPECT_EQ((*admit(session_id(0, 3), nexus("iqn.a")))->status, iscsi::LoginStatus::success);
}

// A login that was let in before the reload must not get in after it, nor end a session.
TEST_F(TargetNodeTest, PortalAndAddressAreCheckedAgainToo) {
  Config config = make_config();
  config.targets[0].initiators[0].addresses = {io::AddressRange::parse("10.1.0.0/24").value()};
  ASSERT_TRUE(start(config).has_value());
  ASSERT_EQ((*admit(session_id(0, 1), nexus("iqn.a")))->status, iscsi::LoginStatus::success);
  EXPECT_EQ((*admit(session_id(0, 2), nexus("iqn.a"), "10.1.0.11:3260"))->status,
            iscsi::LoginStatus::not_found);
  EXPECT_EQ((*admit(session_id(0, 3), nexus("iqn.a"), "10.1.0.10:3260", "10.9.0.1:1"))->status,
            iscsi::LoginStatus::authorization_failure);
  EXPECT_THAT(shard0.dropped, IsEmpty());
}

// --- persistent reservations

TEST_F(TargetNodeTest, ARegistrationIsDurableBeforeAnybodyIsTold) {
  start();
  journal.clear();
  store.holds = true;
  const auto reply = pr_out("iqn.a", scsi::ReserveOut::register_key, 0, 0xa, true);
  world.settle();
  EXPECT_THAT(journal, ElementsAre("store save"));
  EXPECT_FALSE(reply->has_value());
  store.let_go();
  EXPECT_EQ(finished(reply), scsi::Status::good);
  EXPECT_THAT(journal_of("store"), ElementsAre("save"));
  EXPECT_THAT(journal_of("shard0"), ElementsAre("publish csv1"));
  EXPECT_THAT(journal_of("shard1"), ElementsAre("publish csv1"));
  EXPECT_THAT(state("csv1", shard1).reservations.registrants(), SizeIs(1));
}

TEST_F(TargetNodeTest, WhatCannotBeStoredChangesNothing) {
  start();
  register_two();
  store.fails = true;
  const auto reply = pr_out("iqn.a", scsi::ReserveOut::reserve, 0xa, 0);
  EXPECT_EQ(finished(reply), scsi::Status::check_condition);
  EXPECT_TRUE((*reply)->sense.same_code(scsi::kInternalTargetFailure));
  EXPECT_FALSE(state("csv1", shard0).reservations.type().has_value());
  EXPECT_THAT(journal, ElementsAre("store save"));
  // And the next one starts from there.
  store.fails = false;
  EXPECT_EQ(finished(pr_out("iqn.b", scsi::ReserveOut::reserve, 0xb, 0)), scsi::Status::good);
}

// Answered only when it is known what a restart would find.
TEST_F(TargetNodeTest, WhatMayBeStoredOrNotIsStoredAgain) {
  start();
  store.doubts = 2;
  const auto first = pr_out("iqn.a", scsi::ReserveOut::register_key, 0, 0xa, true);
  world.settle();
  const auto second = pr_out("iqn.b", scsi::ReserveOut::register_key, 0, 0xb, true);
  world.advance(2 * kDoubtRetry - 1ms);
  EXPECT_FALSE(first->has_value());
  EXPECT_THAT(journal_of("store"), ElementsAre("save", "save"));
  world.advance(1ms);
  EXPECT_EQ(finished(first), scsi::Status::good);
  EXPECT_EQ(finished(second), scsi::Status::good);
  EXPECT_THAT(journal_of("store"), ElementsAre("save", "save", "save", "save"));
  EXPECT_THAT(state("csv1", shard0).reservations.registrants(), SizeIs(2));
}

TEST_F(TargetNodeTest, AStoreThatStaysInDoubtIsLikeASilentOne) {
  start();
  store.doubts = 1000;
  const auto first = pr_out("iqn.a", scsi::ReserveOut::register_key, 0, 0xa, true);
  world.advance(10s);
  EXPECT_EQ(finished(first), scsi::Status::check_condition);
  const auto second = pr_out("iqn.b", scsi::ReserveOut::register_key, 0, 0xb, true);
  world.advance(10s);
  EXPECT_EQ(finished(second), scsi::Status::busy);  // never begun
  store.doubts = 0;
  world.advance(kDoubtRetry);
  EXPECT_THAT(state("csv1", shard0).reservations.registrants(), SizeIs(1));
}

TEST_F(TargetNodeTest, AConflictIsAnsweredWithoutAWrite) {
  start();
  register_two();
  EXPECT_EQ(finished(pr_out("iqn.a", scsi::ReserveOut::reserve, 0xbad, 0)),
            scsi::Status::reservation_conflict);
  EXPECT_THAT(journal, IsEmpty());
}

TEST_F(TargetNodeTest, PreemptAndAbortAnswersAfterTheDrain) {
  start();
  register_two();
  shard1.holds = true;
  const auto reply = pr_out("iqn.a", scsi::ReserveOut::preempt_and_abort, 0xa, 0xb);
  world.advance(5s);
  EXPECT_FALSE(reply->has_value());
  // On each shard: the state, then the attention, then the abort.
  EXPECT_EQ(place("store save"), 0);
  for (const std::string shard : {"shard0", "shard1"}) {
    EXPECT_LT(0, place(shard + " publish csv1"));
    EXPECT_LT(place(shard + " publish csv1"), place(shard + " attention 2a/05"));
    EXPECT_LT(place(shard + " attention 2a/05"), place(shard + " abort"));
  }
  ASSERT_THAT(shard1.aborts, SizeIs(1));
  EXPECT_THAT(shard1.aborts[0].nexuses, ElementsAre(nexus("iqn.b")));
  EXPECT_EQ(shard1.aborts[0].unit, unit("csv1"));
  EXPECT_EQ(shard1.aborts[0].spared_task, 77u);
  EXPECT_THAT(shard1.attentions.back().nexuses, ElementsAre(nexus("iqn.b")));
  shard1.let_go();
  EXPECT_EQ(finished(reply), scsi::Status::good);
}

TEST_F(TargetNodeTest, PreemptAndAbortGivesUpAtTheDeadlineAndTheNextOneGoesOn) {
  start();
  register_two();
  shard1.holds = true;
  const auto reply = pr_out("iqn.a", scsi::ReserveOut::preempt_and_abort, 0xa, 0xb);
  world.advance(4s);
  const auto next = pr_out("iqn.a", scsi::ReserveOut::reserve, 0xa, 0);
  world.advance(5999ms);
  EXPECT_FALSE(reply->has_value());
  world.advance(1ms);
  EXPECT_EQ(finished(reply), scsi::Status::check_condition);
  EXPECT_TRUE((*reply)->sense.same_code(scsi::kInternalTargetFailure));
  // The registration is gone all the same.
  EXPECT_THAT(state("csv1", shard0).reservations.registrants(), SizeIs(1));
  EXPECT_EQ(finished(next), scsi::Status::good);
  shard1.let_go();
  world.settle();
}

TEST_F(TargetNodeTest, OneAtATimeAndInOrder) {
  start();
  store.holds = true;
  const auto first = pr_out("iqn.a", scsi::ReserveOut::register_key, 0, 0xa, true);
  const auto second = pr_out("iqn.a", scsi::ReserveOut::register_key, 0, 0xc, true);
  world.settle();
  store.let_go();
  EXPECT_EQ(finished(first), scsi::Status::good);
  EXPECT_EQ(finished(second), scsi::Status::reservation_conflict);  // it saw the first one's key
}

TEST_F(TargetNodeTest, ASilentStoreDoesNotHoldTheCommandForEver) {
  start();
  store.holds = true;
  const auto first = pr_out("iqn.a", scsi::ReserveOut::register_key, 0, 0xa, true);
  world.settle();
  const auto second = pr_out("iqn.b", scsi::ReserveOut::register_key, 0, 0xb, true);
  world.advance(10s);
  EXPECT_EQ(finished(first), scsi::Status::check_condition);
  EXPECT_EQ(finished(second), scsi::Status::busy);  // never carried out
  // What is durable in the end is what holds.
  store.let_go();
  world.settle();
  EXPECT_THAT(state("csv1", shard0).reservations.registrants(), SizeIs(1));
}

TEST_F(TargetNodeTest, TheQueueIsBounded) {
  start();
  store.holds = true;
  std::vector<Slot<PrOutReply>> replies;
  for (size_t i = 0; i <= kMaxWaitingPrOut + 1; ++i) {
    replies.push_back(pr_out("iqn.a", scsi::ReserveOut::register_key, 0, i + 1, true));
  }
  world.settle();
  EXPECT_FALSE(replies[kMaxWaitingPrOut]->has_value());
  EXPECT_EQ(finished(replies.back()), scsi::Status::busy);
}

TEST_F(TargetNodeTest, AnAbortedCommandThatWaitsForItsTurnIsNotCarriedOut) {
  start();
  register_two();
  store.holds = true;
  const auto preempt = pr_out("iqn.a", scsi::ReserveOut::preempt_and_abort, 0xa, 0xb);
  const auto victim = pr_out("iqn.b", scsi::ReserveOut::preempt_and_abort, 0xb, 0xa);
  world.settle();
  store.let_go();
  EXPECT_EQ(finished(preempt), scsi::Status::good);
  EXPECT_EQ(finished(victim), scsi::Status::task_aborted);
  EXPECT_THAT(state("csv1", shard0).reservations.registrants(), SizeIs(1));
}

TEST_F(TargetNodeTest, NothingOfADeadSessionIsCarriedOut) {
  start();
  const SessionId old = session_id(0, 'a');
  admit(old, nexus("iqn.a"));
  store.holds = true;
  pr_out("iqn.b", scsi::ReserveOut::register_key, 0, 0xb, true);
  const auto waiting = pr_out("iqn.a", scsi::ReserveOut::register_key, 0, 0xa, true);
  world.settle();
  admit(session_id(1, 9), nexus("iqn.a"));
  EXPECT_EQ(finished(waiting), scsi::Status::task_aborted);
  store.let_go();
  world.settle();
  EXPECT_THAT(state("csv1", shard0).reservations.registrants(), SizeIs(1));
}

TEST_F(TargetNodeTest, ReservationsAndIdentityComeBackAfterARestart) {
  start();
  register_two();
  ASSERT_EQ(finished(pr_out("iqn.a", scsi::ReserveOut::reserve, 0xa, 0)), scsi::Status::good);
  const auto uuid = state("csv1", shard0).description.uuid;
  EXPECT_NE(uuid, state("witness", shard0).description.uuid);
  destroy_node();
  shard0.units.clear();
  make_node();
  start();
  const Reservations& after = state("csv1", shard0).reservations;
  EXPECT_EQ(after.type(), scsi::PrType::write_exclusive_registrants_only);
  EXPECT_THAT(after.registrants(), SizeIs(2));
  EXPECT_EQ(state("csv1", shard0).description.uuid, uuid);
}

TEST_F(TargetNodeTest, DamagedReservationsAreNotServed) {
  start();
  register_two();
  destroy_node();
  for (StoredDisk& disk : store.state.disks) {
    if (!disk.reservations.empty()) disk.reservations[10] ^= 1;
  }
  make_node();
  const auto outcome = start(make_config());
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error(), ElementsAre(HasSubstr("disk `csv1`")));
}

// --- task management

TEST_F(TargetNodeTest, LogicalUnitReset) {
  start();
  auto [mode, mode_reply] = expect<scsi::Status>();
  node->mode_select(0, unit("csv1"), {.software_write_protect = true}, nexus("iqn.a"),
                    std::move(mode_reply));
  world.settle();
  ASSERT_EQ(*mode, scsi::Status::good);
  EXPECT_EQ(shard1.attentions.back().except, nexus("iqn.a"));
  EXPECT_TRUE(shard1.attentions.back().sense.same_code(scsi::kModeParametersChanged));
  EXPECT_TRUE(state("csv1", shard1).mode.software_write_protect);

  journal.clear();
  shard1.holds = true;
  const auto reply = reset(iscsi::TaskFunction::logical_unit_reset);
  EXPECT_FALSE(reply->has_value());
  EXPECT_FALSE(state("csv1", shard1).mode.software_write_protect);
  EXPECT_THAT(shard0.aborts.back().nexuses, IsEmpty());
  EXPECT_EQ(shard0.aborts.back().unit, unit("csv1"));
  EXPECT_TRUE(shard0.attentions.back().sense.same_code(scsi::kBusDeviceReset));
  EXPECT_EQ(shard0.attentions.back().except_session, 0u);
  shard1.let_go();
  world.settle();
  EXPECT_EQ(*reply, true);
}

TEST_F(TargetNodeTest, AResetThatDoesNotDrainSaysSo) {
  start();
  shard1.holds = true;
  const auto reply = reset(iscsi::TaskFunction::logical_unit_reset);
  world.advance(10s);
  EXPECT_EQ(*reply, false);
}

// The others learn of it by TASK ABORTED (TAS=1).
TEST_F(TargetNodeTest, ClearTaskSetRaisesNoAttention) {
  start();
  const size_t before = shard0.attentions.size();
  EXPECT_EQ(*reset(iscsi::TaskFunction::clear_task_set), true);
  EXPECT_EQ(shard0.attentions.size(), before);
  EXPECT_EQ(shard0.aborts.back().unit, unit("csv1"));
}

TEST_F(TargetNodeTest, TargetResetsTakeAllUnitsAndTheColdOneTheSessions) {
  start();
  admit(session_id(1, 5), nexus("iqn.a"));
  EXPECT_EQ(*reset(iscsi::TaskFunction::target_warm_reset), true);
  EXPECT_THAT(shard0.aborts, SizeIs(2));
  EXPECT_THAT(shard1.dropped, IsEmpty());
  EXPECT_EQ(*reset(iscsi::TaskFunction::target_cold_reset), true);
  EXPECT_THAT(shard1.dropped, ElementsAre(session_id(1, 5)));
}

TEST_F(TargetNodeTest, AResetEndsReservationCommandsThatWait) {
  start();
  store.holds = true;
  const auto running = pr_out("iqn.a", scsi::ReserveOut::register_key, 0, 0xa, true);
  const auto waiting = pr_out("iqn.b", scsi::ReserveOut::register_key, 0, 0xb, true);
  world.settle();
  reset(iscsi::TaskFunction::logical_unit_reset);
  EXPECT_EQ(finished(waiting), scsi::Status::task_aborted);
  EXPECT_FALSE(running->has_value());
}

// --- exclusive ranges

TEST_F(TargetNodeTest, AnExclusiveRangeIsGivenWhenEveryShardHasClosedItsGate) {
  start();
  journal.clear();
  auto [first, first_reply] = expect<ExclusiveId>();
  auto [second, second_reply] = expect<ExclusiveId>();
  auto [other, other_reply] = expect<ExclusiveId>();
  shard1.holds = true;
  node->acquire_exclusive(0, unit("csv1"), {0, 8}, std::move(first_reply));
  node->acquire_exclusive(1, unit("csv1"), {4, 8}, std::move(second_reply));
  node->acquire_exclusive(1, unit("witness"), {4, 8}, std::move(other_reply));
  world.settle();
  EXPECT_FALSE(first->has_value());
  shard1.let_go();
  world.settle();
  ASSERT_TRUE(first->has_value());
  EXPECT_TRUE(other->has_value());  // another unit's blocks are others
  EXPECT_FALSE(second->has_value());

  journal.clear();
  node->release_exclusive(unit("csv1"), **first);
  world.settle();
  ASSERT_TRUE(second->has_value());
  for (const char* shard : {"shard0", "shard1"}) {
    EXPECT_THAT(journal_of(shard), ElementsAre("open " + std::to_string(**first),
                                               "close " + std::to_string(**second)));
  }
  node->release_exclusive(unit("csv1"), **first);  // stale: nothing happens
  world.settle();
  EXPECT_EQ(journal.size(), 4u);
}

}  // namespace
}  // namespace holdfast::target
