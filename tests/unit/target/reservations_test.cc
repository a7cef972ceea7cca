// The rules of SPC-4 5.13 and 6.16, one test each. The clause is in the comment above, by its
// title.

#include "target/reservations.h"

#include <gtest/gtest.h>

#include "tests/unit/target/reservations_fixture.h"

namespace holdfast::target {
namespace {

using scsi::ReservationAccess;

class ReservationsTest : public testing::Test {
 protected:
  std::string run(const NexusId& from, const Send& command) {
    const Reservations before = lu;
    const PrOutcome outcome = send(lu, from, command);
    if (outcome.status != scsi::Status::good) {
      EXPECT_EQ(lu, before) << "a refused command changed the state";
      EXPECT_TRUE(outcome.attentions.empty() && outcome.abort.empty() && !outcome.must_persist);
    }
    return text(outcome);
  }
  std::string state() const { return text(lu); }

  void registered(std::initializer_list<std::pair<NexusId, uint64_t>> nexuses) {
    for (const auto& [id, key] : nexuses) {
      ASSERT_EQ(run(id, {.action = Action::register_key, .service_action_key = key}), "GOOD");
    }
  }
  void held(const NexusId& holder, uint8_t type, uint64_t key) {
    ASSERT_EQ(run(holder, {.action = Action::reserve, .key = key, .type = type}), "GOOD");
  }

  Reservations lu;
  const NexusId a = nexus('a');
  const NexusId b = nexus('b');
  const NexusId c = nexus('c');
  const NexusId d = nexus('d');
};

// Registering: REGISTER.
TEST_F(ReservationsTest, RegisterUnregisteredNexus) {
  EXPECT_EQ(run(a, {.action = Action::register_key, .service_action_key = 0xa}), "GOOD");
  EXPECT_EQ(state(), "gen 1 free a1=a");
}

TEST_F(ReservationsTest, RegisterZeroKeyOnUnregisteredNexusDoesNothing) {
  EXPECT_EQ(run(a, {.action = Action::register_key, .aptpl = true}), "GOOD");
  EXPECT_EQ(state(), "gen 0 free");
}

TEST_F(ReservationsTest, RegisterNonZeroReservationKeyOnUnregisteredNexusConflicts) {
  EXPECT_EQ(run(a, {.action = Action::register_key, .key = 1, .service_action_key = 1}),
            "CONFLICT");
  EXPECT_EQ(run(a, {.action = Action::register_key, .key = 1}), "CONFLICT");
  EXPECT_EQ(state(), "gen 0 free");
}

TEST_F(ReservationsTest, RegisterWithWrongKeyConflicts) {
  registered({{a, 1}});
  EXPECT_EQ(run(a, {.action = Action::register_key, .key = 2, .service_action_key = 3}),
            "CONFLICT");
  EXPECT_EQ(run(a, {.action = Action::register_key, .service_action_key = 3}), "CONFLICT");
  EXPECT_EQ(run(a, {.action = Action::register_key, .key = 2}), "CONFLICT");
  EXPECT_EQ(state(), "gen 1 free a1=1");
}

TEST_F(ReservationsTest, RegisterChangesTheKeyAndKeepsTheReservation) {
  registered({{a, 1}, {b, 2}});
  held(a, 5, 1);
  EXPECT_EQ(run(a, {.action = Action::register_key, .key = 1, .service_action_key = 9}), "GOOD");
  EXPECT_EQ(state(), "gen 3 WERO a1=9* b1=2");
}

TEST_F(ReservationsTest, RegisterAgainWithTheSameKeyIsNoErrorAndCounts) {
  registered({{a, 1}});
  EXPECT_EQ(run(a, {.action = Action::register_key, .key = 1, .service_action_key = 1}), "GOOD");
  EXPECT_EQ(state(), "gen 2 free a1=1");
}

TEST_F(ReservationsTest, RegisterIgnoresScopeAndTypeFields) {
  EXPECT_EQ(
      run(a, {.action = Action::register_key, .service_action_key = 1, .type = 15, .scope = 15}),
      "GOOD");
}

// Registering: REGISTER AND IGNORE EXISTING KEY.
TEST_F(ReservationsTest, RegisterAndIgnoreExistingKey) {
  const auto ignore = Action::register_and_ignore;
  EXPECT_EQ(run(a, {.action = ignore, .key = 77}), "GOOD");  // unregistered, zero: nothing
  EXPECT_EQ(state(), "gen 0 free");
  EXPECT_EQ(run(a, {.action = ignore, .key = 77, .service_action_key = 1}), "GOOD");
  EXPECT_EQ(state(), "gen 1 free a1=1");
  EXPECT_EQ(run(a, {.action = ignore, .key = 77, .service_action_key = 2}), "GOOD");
  EXPECT_EQ(state(), "gen 2 free a1=2");
  EXPECT_EQ(run(a, {.action = ignore, .key = 77}), "GOOD");
  EXPECT_EQ(state(), "gen 3 free");
}

// Registering: several nexuses may share a key; a registration has no effect on others.
TEST_F(ReservationsTest, SharedKeysAreSeparateRegistrations) {
  registered({{a, 1}, {b, 1}});
  EXPECT_EQ(run(a, {.action = Action::register_key, .key = 1, .service_action_key = 2}), "GOOD");
  EXPECT_EQ(state(), "gen 3 free a1=2 b1=1");
}

// A nexus is initiator name + ISID + target + portal group, whatever session it has.
TEST_F(ReservationsTest, NexusIsEveryPartOfItsIdentity) {
  registered({{a, 1}});
  for (NexusId other : {a, a, a, a}) {
    static int part = 0;
    switch (part++) {
      case 0:
        other.isid ^= 1;
        break;
      case 1:
        other.portal_group_tag = 2;
        break;
      case 2:
        other.target_name += "2";
        break;
      default:
        other.initiator_name += "2";
        break;
    }
    EXPECT_FALSE(lu.rights_of(other).registered);
    EXPECT_EQ(run(other, {.action = Action::reserve, .key = 1, .type = 1}), "CONFLICT");
  }
  EXPECT_TRUE(lu.rights_of(nexus('a')).registered);  // a re-login: another object, the same nexus
}

// ALL_TG_PT: "as if the same registration request had been received individually through each
// port".
TEST_F(ReservationsTest, AllTargetPortsRegistersOnEveryPort) {
  EXPECT_EQ(
      run(a, {.action = Action::register_key, .service_action_key = 1, .all_target_ports = true}),
      "GOOD");
  EXPECT_EQ(state(), "gen 1 free a1=1 a2=1");
}

TEST_F(ReservationsTest, AllTargetPortsChangesAndRemovesWhereTheKeyMatches) {
  registered({{a, 1}, {nexus('a', 2), 2}});
  EXPECT_EQ(run(a, {.action = Action::register_key,
                    .key = 1,
                    .service_action_key = 3,
                    .all_target_ports = true}),
            "GOOD");
  EXPECT_EQ(state(), "gen 3 free a1=3 a2=2") << "through port 2 it would have been a conflict";
  EXPECT_EQ(run(a, {.action = Action::register_and_ignore, .all_target_ports = true}), "GOOD");
  EXPECT_EQ(state(), "gen 4 free");
}

TEST_F(ReservationsTest, AllTargetPortsIsIgnoredByOtherActions) {
  registered({{a, 1}});
  EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = 5, .all_target_ports = true}),
            "GOOD");
  EXPECT_EQ(state(), "gen 1 WERO a1=1*");
}

// Registering: INSUFFICIENT REGISTRATION RESOURCES; nothing is registered then.
TEST_F(ReservationsTest, RegistrantsAreLimitedPerInitiatorAndPerUnit) {
  NexusId greedy = a;
  for (size_t i = 0; i < kMaxRegistrantsPerInitiator; ++i) {
    greedy.isid = i;
    ASSERT_EQ(run(greedy, {.action = Action::register_key, .service_action_key = 1}), "GOOD");
  }
  greedy.isid = 1000;
  EXPECT_EQ(run(greedy, {.action = Action::register_key, .service_action_key = 1}),
            "CHECK 05/55/04");
  EXPECT_EQ(run(b, {.action = Action::register_key, .service_action_key = 2}), "GOOD");

  for (size_t i = lu.registrants().size(); i < kMaxRegistrants - 1; ++i) {
    NexusId other = c;
    other.initiator_name += std::to_string(i);
    ASSERT_EQ(run(other, {.action = Action::register_key, .service_action_key = 3}), "GOOD");
  }
  // One place left, two ports asked for: none is taken.
  EXPECT_EQ(
      run(d, {.action = Action::register_key, .service_action_key = 4, .all_target_ports = true}),
      "CHECK 05/55/04");
  EXPECT_EQ(lu.registrants().size(), kMaxRegistrants - 1);
  EXPECT_EQ(run(d, {.action = Action::register_key, .service_action_key = 4}), "GOOD");
  EXPECT_EQ(run(nexus('e'), {.action = Action::register_and_ignore, .service_action_key = 5}),
            "CHECK 05/55/04");
  // A full table still changes keys and lets go.
  EXPECT_EQ(run(d, {.action = Action::register_key, .key = 4, .service_action_key = 5}), "GOOD");
  EXPECT_EQ(run(d, {.action = Action::register_key, .key = 5}), "GOOD");
  EXPECT_EQ(lu.encode().size() <= kMaxEncodedReservationsBytes, true);
}

// Every other action of an unregistered nexus, or with a wrong key (6.16).
TEST_F(ReservationsTest, OtherActionsNeedARegistrationAndItsKey) {
  registered({{a, 1}});
  for (const Action action : {Action::reserve, Action::release, Action::clear, Action::preempt,
                              Action::preempt_and_abort}) {
    EXPECT_EQ(run(b, {.action = action, .key = 1, .service_action_key = 1, .type = 5}), "CONFLICT");
    EXPECT_EQ(run(b, {.action = action, .service_action_key = 1, .type = 5}), "CONFLICT");
    EXPECT_EQ(run(a, {.action = action, .key = 2, .service_action_key = 1, .type = 5}), "CONFLICT");
    EXPECT_EQ(run(a, {.action = action, .service_action_key = 1, .type = 5}), "CONFLICT");
  }
  EXPECT_EQ(state(), "gen 1 free a1=1");
}

// Reserving.
TEST_F(ReservationsTest, ReserveOfEveryType) {
  for (const scsi::PrType type : scsi::kPrTypes) {
    lu = {};
    registered({{a, 1}, {b, 2}});
    held(a, static_cast<uint8_t>(type), 1);
    EXPECT_EQ(lu.type(), type);
    EXPECT_EQ(lu.generation(), 2u) << "RESERVE does not count";
    EXPECT_TRUE(lu.rights_of(a).holder);
    EXPECT_EQ(lu.rights_of(b).holder, scsi::is_all_registrants(type))
        << "persistent reservation holder";
  }
}

TEST_F(ReservationsTest, ReserveAgainByTheHolderIsGoodAndChangesNothing) {
  registered({{a, 1}, {b, 2}});
  held(a, 1, 1);
  EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = 1}), "GOOD");
  EXPECT_EQ(state(), "gen 2 WE a1=1* b1=2");
}

TEST_F(ReservationsTest, ReserveAgainByAnyOfAllRegistrantsIsGood) {
  registered({{a, 1}, {b, 2}});
  held(a, 7, 1);
  EXPECT_EQ(run(b, {.action = Action::reserve, .key = 2, .type = 7}), "GOOD");
  EXPECT_EQ(run(b, {.action = Action::reserve, .key = 2, .type = 8}), "CONFLICT");
}

TEST_F(ReservationsTest, ReserveOfAnotherTypeOrScopeByTheHolderConflicts) {
  registered({{a, 1}});
  held(a, 1, 1);
  EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = 3}), "CONFLICT");
  EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = 1, .scope = 1}), "CONFLICT");
}

TEST_F(ReservationsTest, ReserveByAnotherNexusConflicts) {
  registered({{a, 1}, {b, 2}});
  held(a, 5, 1);
  EXPECT_EQ(run(b, {.action = Action::reserve, .key = 2, .type = 5}), "CONFLICT");
}

TEST_F(ReservationsTest, ReserveNeedsAValidTypeAndScope) {
  registered({{a, 1}});
  for (const uint8_t type : std::initializer_list<uint8_t>{0, 2, 4, 9, 15}) {
    EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = type}), "CHECK 05/24/00");
  }
  for (const uint8_t scope : std::initializer_list<uint8_t>{1, 2, 15}) {
    EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = 1, .scope = scope}),
              "CHECK 05/24/00");
  }
}

// Releasing.
TEST_F(ReservationsTest, ReleaseTellsOtherRegistrantsOnlyForRegistrantsTypes) {
  for (const scsi::PrType type : scsi::kPrTypes) {
    lu = {};
    const auto code = static_cast<uint8_t>(type);
    registered({{a, 1}, {b, 2}, {c, 3}});
    held(a, code, 1);
    const bool tells = code >= 5;
    EXPECT_EQ(run(a, {.action = Action::release, .key = 1, .type = code}),
              tells ? "GOOD b1:2A04 c1:2A04" : "GOOD");
    EXPECT_EQ(state(), "gen 3 free a1=1 b1=2 c1=3");
  }
}

TEST_F(ReservationsTest, ReleaseByAnyOfAllRegistrants) {
  registered({{a, 1}, {b, 2}});
  held(a, 8, 1);
  EXPECT_EQ(run(b, {.action = Action::release, .key = 2, .type = 8}), "GOOD a1:2A04");
  EXPECT_EQ(lu.type(), std::nullopt);
}

TEST_F(ReservationsTest, ReleaseByARegisteredNonHolderIsGoodAndDoesNothing) {
  registered({{a, 1}, {b, 2}});
  EXPECT_EQ(run(b, {.action = Action::release, .key = 2, .type = 5}), "GOOD") << "no reservation";
  held(a, 5, 1);
  EXPECT_EQ(run(b, {.action = Action::release, .key = 2, .type = 5}), "GOOD");
  EXPECT_EQ(run(b, {.action = Action::release, .key = 2, .type = 1}), "GOOD");
  EXPECT_EQ(state(), "gen 2 WERO a1=1* b1=2");
}

TEST_F(ReservationsTest, ReleaseOfAnotherTypeOrScopeByTheHolderIsInvalid) {
  registered({{a, 1}});
  held(a, 5, 1);
  for (const uint8_t type : std::initializer_list<uint8_t>{0, 1, 4, 7}) {
    EXPECT_EQ(run(a, {.action = Action::release, .key = 1, .type = type}), "CHECK 05/26/04");
  }
  EXPECT_EQ(run(a, {.action = Action::release, .key = 1, .type = 5, .scope = 1}), "CHECK 05/26/04");
}

// Unregistering.
TEST_F(ReservationsTest, UnregisteringTheHolderReleasesAndTellsRegistrantsOnlyTypes) {
  for (const uint8_t type : std::initializer_list<uint8_t>{1, 3, 5, 6}) {
    lu = {};
    registered({{a, 1}, {b, 2}});
    held(a, type, 1);
    EXPECT_EQ(run(a, {.action = Action::register_key, .key = 1}),
              type >= 5 ? "GOOD b1:2A04" : "GOOD");
    EXPECT_EQ(state(), "gen 3 free b1=2");
  }
}

TEST_F(ReservationsTest, UnregisteringAnotherThanTheHolderKeepsTheReservation) {
  registered({{a, 1}, {b, 2}});
  held(a, 5, 1);
  EXPECT_EQ(run(b, {.action = Action::register_key, .key = 2}), "GOOD");
  EXPECT_EQ(state(), "gen 3 WERO a1=1*");
}

TEST_F(ReservationsTest, AllRegistrantsReservationLastsUntilTheLastUnregisters) {
  registered({{a, 1}, {b, 2}});
  held(a, 7, 1);
  EXPECT_EQ(run(a, {.action = Action::register_key, .key = 1}), "GOOD");
  EXPECT_EQ(state(), "gen 3 WEAR b1=2*");
  EXPECT_EQ(run(b, {.action = Action::register_key, .key = 2}), "GOOD");
  EXPECT_EQ(state(), "gen 4 free");
}

TEST_F(ReservationsTest, UnregisteringTheHolderFromItsOtherPortByAllTargetPorts) {
  registered({{a, 1}, {nexus('a', 2), 1}, {b, 2}});
  held(a, 6, 1);
  EXPECT_EQ(
      run(nexus('a', 2), {.action = Action::register_key, .key = 1, .all_target_ports = true}),
      "GOOD b1:2A04");
  EXPECT_EQ(state(), "gen 4 free b1=2");
}

// Clearing.
TEST_F(ReservationsTest, ClearRemovesAllAndTellsTheOthers) {
  registered({{a, 1}, {b, 2}, {c, 3}});
  held(a, 1, 1);
  EXPECT_EQ(run(b, {.action = Action::clear, .key = 2, .type = 15, .scope = 15}),
            "GOOD a1:2A03 c1:2A03");
  EXPECT_EQ(state(), "gen 4 free");
}

}  // namespace
}  // namespace holdfast::target
