// The sequences real clusters send, from the first registration to the last release.

#include <gtest/gtest.h>

#include "target/reservations.h"
#include "tests/unit/target/reservations_fixture.h"

namespace holdfast::target {
namespace {

using scsi::ReservationAccess;

class SequenceTest : public testing::Test {
 protected:
  std::string run(const NexusId& from, const Send& command) {
    return text(send(lu, from, command));
  }
  bool may_write(const NexusId& id) const {
    return !conflicts(lu.rights_of(id), ReservationAccess::write);
  }
  Reservations lu;
};

// Windows failover clustering: every node registers with REGISTER AND IGNORE, the owner reserves
// WERO and defends it, the challenger preempts after the owner stopped, the loser comes back.
TEST_F(SequenceTest, WindowsArbitration) {
  constexpr uint8_t kWero = 5;
  const NexusId owner = nexus('a');
  const NexusId challenger = nexus('b');
  const Send join_owner{
      .action = Action::register_and_ignore, .service_action_key = 0xa1, .aptpl = true};
  const Send join_challenger{
      .action = Action::register_and_ignore, .service_action_key = 0xb1, .aptpl = true};
  EXPECT_EQ(run(owner, join_owner), "GOOD persist");
  EXPECT_EQ(run(owner, {.action = Action::reserve, .key = 0xa1, .type = kWero}), "GOOD persist");
  EXPECT_EQ(run(challenger, join_challenger), "GOOD persist");
  EXPECT_EQ(run(challenger, {.action = Action::reserve, .key = 0xb1, .type = kWero}), "CONFLICT");

  // Defence, every 3 s: the owner reads, registers and reserves again. Nothing changes for others.
  EXPECT_EQ(run(owner, join_owner), "GOOD persist");
  EXPECT_EQ(run(owner, {.action = Action::reserve, .key = 0xa1, .type = kWero}), "GOOD");

  EXPECT_EQ(
      run(challenger,
          {.action = Action::preempt, .key = 0xb1, .service_action_key = 0xa1, .type = kWero}),
      "GOOD a1:2A05 persist");
  EXPECT_EQ(text(lu), "gen 4 WERO b1=b1* aptpl");
  EXPECT_FALSE(may_write(owner));
  EXPECT_TRUE(may_write(challenger));

  // The old owner's defence fails, as it must, until it joins again; then it may write (WERO).
  EXPECT_EQ(run(owner, {.action = Action::reserve, .key = 0xa1, .type = kWero}), "CONFLICT");
  EXPECT_EQ(run(owner, join_owner), "GOOD persist");
  EXPECT_TRUE(may_write(owner));

  EXPECT_EQ(run(challenger, {.action = Action::release, .key = 0xb1, .type = kWero}),
            "GOOD a1:2A04 persist");
  EXPECT_EQ(run(challenger, {.action = Action::register_and_ignore, .aptpl = true}),
            "GOOD persist");
  EXPECT_EQ(run(owner, {.action = Action::clear, .key = 0xa1}), "GOOD persist");
  EXPECT_EQ(text(lu), "gen 7 free aptpl");
}

// The validation test's node crash: its storage survives the target's restart with APTPL.
TEST_F(SequenceTest, WindowsReservationSurvivesARestartOfTheTarget) {
  const NexusId owner = nexus('a');
  run(owner, {.action = Action::register_and_ignore, .service_action_key = 0xa1, .aptpl = true});
  run(owner, {.action = Action::reserve, .key = 0xa1, .type = 5});
  auto restarted = Reservations::decode(lu.encode());
  ASSERT_TRUE(restarted.has_value());
  restarted->power_on();
  lu = *restarted;
  EXPECT_EQ(text(lu), "gen 0 WERO a1=a1* aptpl");
  EXPECT_FALSE(may_write(nexus('b')));
  EXPECT_TRUE(may_write(owner));
  EXPECT_EQ(run(owner, {.action = Action::reserve, .key = 0xa1, .type = 5}), "GOOD");
}

// mpathpersist: one key per host, registered on each path; it reserves through one path, all paths
// write; another host preempts and aborts all of them with one command; then it registers again and
// the reservation is not given back.
TEST_F(SequenceTest, MpathpersistTwoHostsTwoPaths) {
  constexpr uint8_t kWear = 7;
  const NexusId host1_path1 = nexus('a', 1), host1_path2 = nexus('a', 2);
  const NexusId host2_path1 = nexus('b', 1), host2_path2 = nexus('b', 2);
  for (const NexusId& path : {host1_path1, host1_path2}) {
    EXPECT_EQ(run(path, {.action = Action::register_key, .service_action_key = 0x123abc}), "GOOD");
  }
  for (const NexusId& path : {host2_path1, host2_path2}) {
    EXPECT_EQ(run(path, {.action = Action::register_key, .service_action_key = 0x456def}), "GOOD");
  }
  EXPECT_EQ(run(host1_path1, {.action = Action::reserve, .key = 0x123abc, .type = 5}), "GOOD");
  EXPECT_EQ(run(host1_path2, {.action = Action::release, .key = 0x123abc, .type = 5}), "GOOD")
      << "not the holding path: mpathpersist tries them all";
  EXPECT_EQ(lu.type(), scsi::PrType::write_exclusive_registrants_only);
  EXPECT_TRUE(may_write(host1_path2) && may_write(host2_path1));

  EXPECT_EQ(run(host2_path2, {.action = Action::preempt_and_abort,
                              .key = 0x456def,
                              .service_action_key = 0x123abc,
                              .type = kWear}),
            "GOOD a1:2A05 a2:2A05 b1:2A04 abort:a1 abort:a2");
  EXPECT_FALSE(may_write(host1_path1) || may_write(host1_path2));
  EXPECT_TRUE(may_write(host2_path1) && may_write(host2_path2));

  EXPECT_EQ(run(host1_path1,
                {.action = Action::register_key, .key = 0x123abc, .service_action_key = 0x123abc}),
            "CONFLICT");
  EXPECT_EQ(
      run(host1_path1, {.action = Action::register_and_ignore, .service_action_key = 0x123abc}),
      "GOOD");
  EXPECT_TRUE(may_write(host1_path1)) << "all registrants";

  for (const NexusId& path : {host2_path1, host2_path2, host1_path1}) {
    EXPECT_EQ(run(path, {.action = Action::register_and_ignore}), "GOOD");
  }
  EXPECT_EQ(text(lu), "gen 9 free");
}

// Both paths of a host with one ISID, and --param-alltgpt: the second registration finds itself
// done.
TEST_F(SequenceTest, MpathpersistAllTargetPorts) {
  const Send join{.action = Action::register_and_ignore,
                  .service_action_key = 0x123abc,
                  .all_target_ports = true};
  EXPECT_EQ(run(nexus('a', 1), join), "GOOD");
  EXPECT_EQ(run(nexus('a', 2), join), "GOOD");
  EXPECT_EQ(text(lu), "gen 2 free a1=123abc a2=123abc");
  EXPECT_EQ(run(nexus('a', 2), {.action = Action::reserve, .key = 0x123abc, .type = 6}), "GOOD");
  EXPECT_EQ(run(nexus('a', 1),
                {.action = Action::register_key, .key = 0x123abc, .all_target_ports = true}),
            "GOOD");
  EXPECT_EQ(text(lu), "gen 3 free");
}

}  // namespace
}  // namespace holdfast::target
