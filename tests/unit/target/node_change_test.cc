// What apply and the disk and ALUA commands do and refuse.

#include "target/node_change.h"

#include "tests/unit/target/node_fakes.h"

namespace holdfast::target {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class NodeChangeTest : public NodeTest {
 protected:
  NodeControl::Outcome create(const DiskConfig& disk) {
    return ask([&](auto reply) { node->disk_create(disk, std::move(reply)); });
  }
  NodeControl::Outcome resize(const std::string& name, uint64_t size_bytes) {
    return ask([&](auto reply) { node->disk_resize(name, size_bytes, std::move(reply)); });
  }
  NodeControl::Outcome remove(const std::string& name) {
    return ask([&](auto reply) { node->disk_remove(name, std::move(reply)); });
  }
};

// --- apply

TEST_F(NodeChangeTest, NothingToChange) {
  start();
  journal.clear();
  EXPECT_THAT(apply(make_config()).value(), ElementsAre("nothing to change"));
  EXPECT_THAT(journal, IsEmpty());
}

TEST_F(NodeChangeTest, ARefusedConfigurationChangesNothing) {
  start();
  journal.clear();
  Config config = make_config();
  config.threads = 9;
  config.disks.push_back(make_disk("new"));
  const auto outcome = apply(config);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error(), ElementsAre(HasSubstr("`threads`")));
  EXPECT_THAT(journal, IsEmpty());
  EXPECT_EQ(opener.attempts["/srv/new"], 0);
}

TEST_F(NodeChangeTest, ANewLunIsOpenBeforeItIsNamedAndSessionsAreToldOnce) {
  start();
  admit(session_id(0, 1), nexus("iqn.a"));
  journal.clear();
  Config config = make_config();
  config.disks.push_back(make_disk("new"));
  config.targets[0].luns.push_back({.lun = 2, .disk = "new"});
  ASSERT_TRUE(apply(config).has_value());
  for (const char* shard : {"shard0", "shard1"}) {
    EXPECT_THAT(journal_of(shard), ElementsAre("add new", "map", "attention 3f/0e"));
  }
  EXPECT_EQ(shard0.attentions.back().target, kTarget);
  EXPECT_EQ(map().find_target(kTarget)->luns.at(2), unit("new"));
  EXPECT_THAT(shard0.dropped, IsEmpty());
}

TEST_F(NodeChangeTest, IfOneNewDiskFailsNothingChanges) {
  start();
  journal.clear();
  opener.errors["/srv/bad"] = base::Errc::io;
  Config config = make_config();
  config.disks.push_back(make_disk("good"));
  config.disks.push_back(make_disk("bad"));
  config.disks[0].backing.size_bytes *= 2;
  const auto outcome = apply(config);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error(), ElementsAre(HasSubstr("disk `bad`")));
  EXPECT_THAT(journal, IsEmpty());
  EXPECT_FALSE(opener.is_open("/srv/good"));
  EXPECT_EQ(opener.opened["/srv/witness"].lock()->info().size_bytes, 64 * kMiB);
  EXPECT_THAT(status().disks, SizeIs(2));
}

TEST_F(NodeChangeTest, ALockedNewDiskIsGivenUpInTime) {
  start();
  opener.errors["/srv/new"] = base::Errc::busy;
  Config config = make_config();
  config.disks.push_back(make_disk("new"));
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->apply(config, false, std::move(reply));
  world.advance(4s);
  EXPECT_FALSE(slot->has_value());
  // Meanwhile another change is not begun.
  EXPECT_FALSE(ask([&](auto answer) {
                 node->disk_create(make_disk("other"), std::move(answer));
               }).has_value());
  world.advance(1s);
  ASSERT_TRUE(slot->has_value());
  EXPECT_THAT(slot->value().error(), ElementsAre(HasSubstr("locked")));
  // What comes late is closed at once.
  opener.errors.clear();
  world.advance(1s);
  EXPECT_FALSE(opener.is_open("/srv/new"));
  EXPECT_TRUE(apply(config).has_value());
}

TEST_F(NodeChangeTest, AnApplyWaitsForItsTurnAndTheLastOneIsInForce) {
  start();
  opener.errors["/srv/slow"] = base::Errc::busy;
  Config slow = make_config(), old = make_config(), last = make_config();
  slow.disks.push_back(make_disk("slow"));
  old.disks.push_back(make_disk("old"));
  last.disks.push_back(make_disk("last"));
  auto [slow_slot, slow_reply] = expect<NodeControl::Outcome>();
  auto [old_slot, old_reply] = expect<NodeControl::Outcome>();
  auto [last_slot, last_reply] = expect<NodeControl::Outcome>();
  node->apply(slow, false, std::move(slow_reply));
  node->apply(old, false, std::move(old_reply));
  node->apply(last, false, std::move(last_reply));
  world.advance(4s);
  EXPECT_FALSE(last_slot->has_value());
  EXPECT_THAT(old_slot->value().error(), ElementsAre(HasSubstr("a later configuration")));
  world.advance(1s);
  EXPECT_FALSE(slow_slot->value().has_value());
  ASSERT_TRUE(last_slot->has_value());
  EXPECT_THAT(last_slot->value().value(), ElementsAre("disk `last` added"));
  EXPECT_TRUE(opener.is_open("/srv/last"));
  EXPECT_FALSE(opener.is_open("/srv/old"));
}

TEST_F(NodeChangeTest, AnApplyWaitsForTheStart) {
  opener.errors["/srv/csv1"] = base::Errc::busy;
  auto [started, start_reply] = expect<NodeControl::Outcome>();
  auto [applied, apply_reply] = expect<NodeControl::Outcome>();
  node->start(make_config(), {{&shard0, &loop0}, {&shard1, &loop1}}, std::move(start_reply));
  Config more = make_config();
  more.disks.push_back(make_disk("more"));
  node->apply(more, false, std::move(apply_reply));
  world.advance(1s);
  EXPECT_FALSE(applied->has_value());
  world.advance(kStartWait);
  EXPECT_TRUE(started->value().has_value());
  EXPECT_TRUE(applied->value().has_value());
}

TEST_F(NodeChangeTest, NotEveryTargetIsTakenAwayUnasked) {
  start();
  Config nothing = make_config();
  nothing.targets.clear();
  EXPECT_THAT(apply(nothing).error(), ElementsAre(HasSubstr("--force")));
  EXPECT_NE(map().find_target(kTarget), nullptr);
  EXPECT_TRUE(ask([&](auto reply) { node->apply(nothing, true, std::move(reply)); }).has_value());
  EXPECT_EQ(map().find_target(kTarget), nullptr);
  EXPECT_TRUE(apply(nothing).has_value());  // there is none to take away
}

TEST_F(NodeChangeTest, APortalThatCannotBeHadChangesNothing) {
  start();
  journal.clear();
  Config config = make_config();
  config.portal_groups[0].portals.push_back(io::Endpoint::parse("10.2.0.10:3260").value());
  config.portal_groups[0].portals.push_back(io::Endpoint::parse("10.3.0.10:3260").value());
  network.taken = "10.3.0.10:3260";
  EXPECT_FALSE(apply(config).has_value());
  EXPECT_THAT(journal, IsEmpty());
  EXPECT_THAT(network.listening, SizeIs(1));  // the one it could have is given back
  network.taken.clear();
  EXPECT_TRUE(apply(config).has_value());
  EXPECT_THAT(network.accepting, SizeIs(3));
  EXPECT_TRUE(apply(make_config()).has_value());
  EXPECT_THAT(network.listening, SizeIs(1));
  EXPECT_THAT(status().portals, SizeIs(1));
}

TEST_F(NodeChangeTest, AGrownDiskIsAnnouncedOnce) {
  start();
  journal.clear();
  Config config = make_config();
  config.disks[1].backing.size_bytes = 128 * kMiB;
  EXPECT_THAT(apply(config).value(), ElementsAre("disk `csv1` grown from 64MiB to 128MiB"));
  EXPECT_EQ(count("attention"), 2u);  // one on each shard
  EXPECT_TRUE(shard1.attentions.back().sense.same_code(scsi::kCapacityChanged));
  EXPECT_EQ(shard1.attentions.back().unit, unit("csv1"));
  EXPECT_EQ(state("csv1", shard1).description.capacity_blocks, 128 * kMiB / 512);
  EXPECT_THAT(apply(config).value(), ElementsAre("nothing to change"));
}

TEST_F(NodeChangeTest, AFullFileSystemGrowsNothing) {
  start();
  journal.clear();
  opener.opened["/srv/csv1"].lock()->full = true;
  Config config = make_config();
  config.disks[1].backing.size_bytes = 128 * kMiB;
  config.disks.push_back(make_disk("new"));
  const auto outcome = apply(config);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error(), ElementsAre(HasSubstr("file system is full")));
  EXPECT_THAT(journal, IsEmpty());
  EXPECT_FALSE(opener.is_open("/srv/new"));
}

// What a change has made before it failed would stand in the way of the old configuration.
TEST_F(NodeChangeTest, ARefusedChangeTakesBackWhatItHasMade) {
  start();
  journal.clear();
  const auto witness = opener.opened["/srv/witness"].lock();
  opener.opened["/srv/csv1"].lock()->full = true;
  Config config = make_config();
  for (DiskConfig& disk : config.disks) disk.backing.size_bytes = 128 * kMiB;
  const auto outcome = apply(config);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error(), ElementsAre(HasSubstr("file system is full")));
  EXPECT_EQ(witness->undone, "grow ");
  EXPECT_EQ(witness->info().size_bytes, 64 * kMiB);
  EXPECT_THAT(journal, IsEmpty()) << "initiators are told nothing";
  EXPECT_THAT(apply(make_config()).value(), ElementsAre("nothing to change"));

  config = make_config();
  config.disks.push_back(make_disk("new"));
  config.portal_groups[0].portals.push_back(io::Endpoint::parse("10.2.0.10:3260").value());
  network.taken = "10.2.0.10:3260";
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->apply(config, false, std::move(reply));
  world.settle();
  ASSERT_FALSE(slot->value().has_value());
  EXPECT_FALSE(opener.is_open("/srv/new"));
  EXPECT_EQ(opener.undone["/srv/new"], "open ");
}

TEST_F(NodeChangeTest, AGrowthThatHangsGivesWayToTheNextConfiguration) {
  start();
  const auto disk = opener.opened["/srv/csv1"].lock();
  disk->hangs = true;
  Config config = make_config();
  config.disks[1].backing.size_bytes = 128 * kMiB;
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->apply(config, false, std::move(reply));
  world.advance(kPrepareWait + 1s);
  ASSERT_TRUE(slot->has_value());
  ASSERT_FALSE(slot->value().has_value());
  EXPECT_THAT(slot->value().error(), ElementsAre(HasSubstr("takes long")));
  config = make_config();
  config.targets[0].initiators[0].name = "iqn.a";  // somebody is kept out
  ASSERT_TRUE(apply(config).has_value());
  EXPECT_EQ(map().find_target(kTarget)->initiators[0].name, "iqn.a");
  disk->hung.front()({});
  EXPECT_EQ(disk->undone, "grow ");
  EXPECT_EQ(disk->info().size_bytes, 64 * kMiB);
}

TEST_F(NodeChangeTest, ADiskThatFailedIsTriedAgainByTheNextApply) {
  start();
  ASSERT_TRUE(create(make_disk("scratch")).has_value());
  destroy_node();
  shard0.units.clear();
  shard1.units.clear();
  opener.errors["/srv/scratch"] = base::Errc::io;
  make_node();
  start();
  EXPECT_EQ(state("scratch", shard0).backing, nullptr);
  EXPECT_THAT(apply(make_config()).value(), ElementsAre(HasSubstr("is tried again")));
  EXPECT_EQ(state("scratch", shard0).backing, nullptr);
  opener.errors.clear();
  EXPECT_THAT(apply(make_config()).value(), ElementsAre(HasSubstr("cannot be opened")));
  EXPECT_NE(state("scratch", shard0).backing, nullptr);
  EXPECT_THAT(apply(make_config()).value(), ElementsAre("nothing to change"));
}

TEST_F(NodeChangeTest, ARemovedLunIsDrainedAndItsDiskLetGo) {
  start();
  journal.clear();
  const UnitId removed = unit("csv1");
  Config config = make_config();
  config.disks.pop_back();
  config.targets[0].luns.pop_back();
  shard1.holds = true;
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->apply(config, false, std::move(reply));
  world.settle();
  EXPECT_FALSE(map().find_target(kTarget)->luns.contains(1));
  EXPECT_FALSE(slot->has_value());
  EXPECT_TRUE(opener.is_open("/srv/csv1"));  // commands may still use it
  EXPECT_EQ(shard0.aborts.back().unit, removed);
  EXPECT_EQ(shard0.aborts.back().target, kTarget);
  shard0.units.clear();
  shard1.units.clear();
  shard1.let_go();
  world.settle();
  EXPECT_TRUE(slot->value().has_value());
  EXPECT_FALSE(opener.is_open("/srv/csv1"));
  EXPECT_THAT(status().disks, SizeIs(1));
}

TEST_F(NodeChangeTest, AStalledDiskDoesNotHoldTheAnswerOfItsRemoval) {
  start();
  Config config = make_config();
  config.disks.pop_back();
  config.targets[0].luns.pop_back();
  shard1.holds = true;
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->apply(config, false, std::move(reply));
  world.advance(10s);
  ASSERT_TRUE(slot->has_value());
  EXPECT_THAT(slot->value().value(), Contains(HasSubstr("have not ended yet")));
  EXPECT_TRUE(opener.is_open("/srv/csv1"));
  shard0.units.clear();
  shard1.units.clear();
  shard1.let_go();
  world.settle();
  EXPECT_FALSE(opener.is_open("/srv/csv1"));
}

TEST_F(NodeChangeTest, OnlySessionsThatMayNotStayEnd) {
  Config config = make_config();
  config.targets[0].initiators[0].name = "iqn.a";
  InitiatorConfig other;
  other.name = "iqn.b";
  config.targets[0].initiators.push_back(other);
  ASSERT_TRUE(start(config).has_value());
  const auto add = [&](FakeShard& shard, SessionId id, const std::string& initiator,
                       const std::string& peer) {
    admit(id, nexus(initiator));
    SessionStatus session;
    session.id = id;
    session.initiator_name = initiator;
    session.target_name = kTarget;
    session.portal_group_tag = 1;
    session.portal = "10.1.0.10:3260";
    session.peer = peer;
    shard.status_now.sessions.push_back(session);
  };
  add(shard0, session_id(0, 1), "iqn.a", "10.1.0.1:40000");
  add(shard1, session_id(1, 1), "iqn.b", "10.1.0.2:40000");

  config.targets[0].initiators[0].addresses = {io::AddressRange::parse("10.1.0.0/24").value()};
  ASSERT_TRUE(apply(config).has_value());
  EXPECT_THAT(shard0.dropped, IsEmpty());

  config.targets[0].initiators[0].addresses = {io::AddressRange::parse("10.9.0.0/24").value()};
  ASSERT_TRUE(apply(config).has_value());
  EXPECT_THAT(shard0.dropped, ElementsAre(session_id(0, 1)));
  EXPECT_THAT(shard1.dropped, IsEmpty());

  config.targets[0].initiators.pop_back();
  ASSERT_TRUE(apply(config).has_value());
  EXPECT_THAT(shard1.dropped, ElementsAre(session_id(1, 1)));
}

// --- disks of the command line

TEST_F(NodeChangeTest, ACreatedDiskIsRememberedAndMayBeMapped) {
  start();
  ASSERT_TRUE(create(make_disk("scratch")).has_value());
  EXPECT_THAT(store.state.created_disks, SizeIs(1));
  EXPECT_EQ(status().disks.back().origin, "cli");

  Config config = make_config();
  config.targets[0].luns.push_back({.lun = 5, .disk = "scratch"});
  ASSERT_TRUE(apply(config).has_value());
  EXPECT_EQ(map().find_target(kTarget)->luns.at(5), unit("scratch"));
  EXPECT_THAT(remove("scratch").error(),
              ElementsAre(HasSubstr("LUN 5 of target iqn.2026-11.org.holdfast:store")));

  destroy_node();
  shard0.units.clear();
  make_node();
  ASSERT_TRUE(start(config).has_value());
  EXPECT_EQ(map().find_target(kTarget)->luns.at(5), unit("scratch"));
  ASSERT_TRUE(apply(make_config()).has_value());  // an apply does not touch it
  EXPECT_THAT(status().disks, SizeIs(3));
  ASSERT_TRUE(remove("scratch").has_value());
  EXPECT_THAT(store.state.created_disks, IsEmpty());
  EXPECT_THAT(status().disks, SizeIs(2));
}

TEST_F(NodeChangeTest, ADiskAddedAgainWithoutItsOldFileIsRefused) {
  start();
  ASSERT_TRUE(create(make_disk("scratch")).has_value());
  const DiskIdentity first = store.state.disks.back().identity;
  ASSERT_TRUE(remove("scratch").has_value());
  ASSERT_TRUE(create(make_disk("scratch")).has_value());  // its file stayed: it comes back
  EXPECT_EQ(store.state.disks.back().identity, first);
  ASSERT_TRUE(remove("scratch").has_value());
  opener.absent = {"/srv/scratch"};
  const auto made = create(make_disk("scratch"));
  ASSERT_FALSE(made.has_value());
  EXPECT_THAT(made.error(), ElementsAre(HasSubstr("is its file system mounted?")));
  EXPECT_EQ(store.state.disks.back().identity, first) << "for when it is mounted";
  opener.absent.clear();
  ASSERT_TRUE(create(make_disk("scratch")).has_value());
  EXPECT_EQ(store.state.disks.back().identity, first);
}

TEST_F(NodeChangeTest, AMemoryDiskMadeAgainIsAnotherDisk) {
  start();
  DiskConfig disk = make_disk("scratch");
  disk.backing.kind = io::BackingKind::memory;
  disk.backing.path.clear();
  ASSERT_TRUE(create(disk).has_value());
  const DiskIdentity first = store.state.disks.back().identity;
  ASSERT_TRUE(remove("scratch").has_value());
  ASSERT_TRUE(create(disk).has_value());
  EXPECT_NE(store.state.disks.back().identity, first);
}

TEST_F(NodeChangeTest, ACreatedDiskThatFailsDoesNotKeepTheOthersFromBeingServed) {
  start();
  ASSERT_TRUE(create(make_disk("scratch")).has_value());
  destroy_node();
  opener.errors["/srv/scratch"] = base::Errc::not_found;
  make_node();
  ASSERT_TRUE(start(make_config()).has_value());
  EXPECT_THAT(status().disks.back().state, HasSubstr("failed: /srv/scratch"));
  EXPECT_THAT(resize("scratch", 128 * kMiB).error(), ElementsAre(HasSubstr("not open")));
  EXPECT_TRUE(remove("scratch").has_value());
}

TEST_F(NodeChangeTest, RefusedDiskCommands) {
  start();
  EXPECT_THAT(create(make_disk("csv1")).error(), ElementsAre(HasSubstr("already")));
  DiskConfig same_file = make_disk("other");
  same_file.backing.path = "/srv/csv1";
  EXPECT_THAT(create(same_file).error(), ElementsAre(HasSubstr("/srv/csv1 is disk `csv1`")));
  EXPECT_THAT(remove("csv1").error(), ElementsAre(HasSubstr("configuration file")));
  EXPECT_THAT(remove("nothing").error(), ElementsAre(HasSubstr("no disk `nothing`")));
  EXPECT_THAT(resize("csv1", kMiB).error(), ElementsAre(HasSubstr("never shrunk")));
  EXPECT_THAT(resize("csv1", 64 * kMiB + 1).error(), ElementsAre(HasSubstr("multiple")));
  store.fails = true;
  EXPECT_FALSE(create(make_disk("scratch")).has_value());
  EXPECT_FALSE(opener.is_open("/srv/scratch"));
  EXPECT_THAT(status().disks, SizeIs(2));
}

TEST_F(NodeChangeTest, TheNewSizeIsStoredBeforeTheFileGrows) {
  start();
  ASSERT_TRUE(create(make_disk("scratch")).has_value());
  store.holds = true;
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->disk_resize("scratch", 128 * kMiB, std::move(reply));
  world.settle();
  EXPECT_EQ(opener.opened["/srv/scratch"].lock()->info().size_bytes, 64 * kMiB);
  store.let_go();
  world.settle();
  EXPECT_TRUE(slot->value().has_value());
  EXPECT_EQ(store.state.created_disks[0].backing.size_bytes, 128 * kMiB);
  EXPECT_EQ(state("scratch", shard1).description.capacity_blocks, 128 * kMiB / 512);

  opener.opened["/srv/scratch"].lock()->full = true;
  EXPECT_FALSE(resize("scratch", 256 * kMiB).has_value());
  world.settle();
  EXPECT_EQ(store.state.created_disks[0].backing.size_bytes, 128 * kMiB);
}

TEST_F(NodeChangeTest, ResizingADiskOfTheFileWarnsOfTheFile) {
  start();
  EXPECT_THAT(resize("csv1", 128 * kMiB).value(),
              ElementsAre(HasSubstr("grown"), HasSubstr("size = \"128MiB\"")));
  EXPECT_THAT(apply(make_config()).error(), ElementsAre(HasSubstr("never shrunk")));
}

// --- ALUA

TEST_F(NodeChangeTest, AnAluaStateIsDurableAndTheSameOnEveryShardBeforeTheAnswer) {
  start();
  store.holds = true;
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->set_alua(1, "standby", std::move(reply));
  world.settle();
  EXPECT_EQ(map().portal_groups[0].alua, scsi::AluaState::active_optimized);
  store.let_go();
  world.settle();
  ASSERT_TRUE(slot->value().has_value());
  for (FakeShard* shard : {&shard0, &shard1}) {
    EXPECT_EQ(shard->maps.back()->portal_groups[0].alua, scsi::AluaState::standby);
    EXPECT_TRUE(shard->maps.back()->portal_groups[0].alua_changed);
    EXPECT_TRUE(shard->attentions.back().sense.same_code(scsi::kAsymmetricAccessChanged));
    EXPECT_FALSE(shard->attentions.back().unit.has_value());
  }
  EXPECT_EQ(store.state.alua[1], "standby");
  EXPECT_FALSE(
      ask([&](auto again) { node->set_alua(2, "standby", std::move(again)); }).has_value());
  EXPECT_FALSE(ask([&](auto again) { node->set_alua(1, "asleep", std::move(again)); }).has_value());

  destroy_node();
  make_node();
  start();
  EXPECT_EQ(map().portal_groups[0].alua, scsi::AluaState::standby);
  EXPECT_FALSE(map().portal_groups[0].alua_changed);
}

}  // namespace
}  // namespace holdfast::target
