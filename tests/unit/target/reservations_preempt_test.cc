// PREEMPT, PREEMPT AND ABORT (SPC-4 5.13), rights, APTPL and the parameter
// list.

#include <gtest/gtest.h>

#include "target/reservations.h"
#include "tests/unit/target/reservations_fixture.h"

namespace holdfast::target {
namespace {

using scsi::ReservationAccess;

class PreemptTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const auto& [id, key] : {std::pair{a, 1}, {b, 2}, {c, 2}, {d, 3}}) {
      ASSERT_EQ(run(id, {.action = Action::register_key,
                         .service_action_key = static_cast<uint64_t>(key)}),
                "GOOD");
    }
  }
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
  void held(const NexusId& holder, uint8_t type, uint64_t key) {
    ASSERT_EQ(run(holder, {.action = Action::reserve, .key = key, .type = type}), "GOOD");
  }

  Reservations lu;
  const NexusId a = nexus('a');
  const NexusId b = nexus('b');
  const NexusId c = nexus('c');
  const NexusId d = nexus('d');
};

// Preempting persistent reservations.
TEST_F(PreemptTest, TakesTheReservationAndRemovesTheHoldersKey) {
  held(b, 5, 2);
  EXPECT_EQ(run(a, {.action = Action::preempt, .key = 1, .service_action_key = 2, .type = 5}),
            "GOOD b1:2A05 c1:2A05");
  EXPECT_EQ(state(), "gen 5 WERO a1=1* d1=3");
}

TEST_F(PreemptTest, AnotherTypeTellsTheRemainingRegistrants) {
  held(b, 5, 2);
  EXPECT_EQ(run(a, {.action = Action::preempt, .key = 1, .service_action_key = 2, .type = 1}),
            "GOOD b1:2A05 c1:2A05 d1:2A04");
  EXPECT_EQ(state(), "gen 5 WE a1=1* d1=3");
}

TEST_F(PreemptTest, ToAnAllRegistrantsTypeMakesEverybodyAHolder) {
  held(b, 3, 2);
  EXPECT_EQ(run(a, {.action = Action::preempt, .key = 1, .service_action_key = 2, .type = 8}),
            "GOOD b1:2A05 c1:2A05 d1:2A04");
  EXPECT_EQ(state(), "gen 5 EAAR a1=1* d1=3*");
}

// "it is not an error for the persistent reservation holder to preempt itself ... the device server
// shall establish the new persistent reservation and maintain the registration".
TEST_F(PreemptTest, TheHolderPreemptsItself) {
  held(b, 5, 2);
  EXPECT_EQ(run(b, {.action = Action::preempt, .key = 2, .service_action_key = 2, .type = 6}),
            "GOOD c1:2A05 a1:2A04 d1:2A04");
  EXPECT_EQ(state(), "gen 5 EARO a1=1 b1=2* d1=3");
}

// The sender has the holder's key without being the holder: it takes over and stays registered.
TEST_F(PreemptTest, ASiblingWithTheHoldersKeyTakesOver) {
  held(b, 5, 2);
  EXPECT_EQ(run(c, {.action = Action::preempt, .key = 2, .service_action_key = 2, .type = 5}),
            "GOOD b1:2A05");
  EXPECT_EQ(state(), "gen 5 WERO a1=1 c1=2* d1=3");
}

TEST_F(PreemptTest, NeedsAValidTypeAndScopeToTakeOver) {
  held(b, 5, 2);
  EXPECT_EQ(run(a, {.action = Action::preempt, .key = 1, .service_action_key = 2, .type = 2}),
            "CHECK 05/24/00");
  EXPECT_EQ(run(a, {.action = Action::preempt_and_abort,
                    .key = 1,
                    .service_action_key = 2,
                    .type = 5,
                    .scope = 2}),
            "CHECK 05/24/00");
}

// Removing registrations: SCOPE and TYPE are ignored, the reservation stays.
TEST_F(PreemptTest, OfANonHolderRemovesOnlyRegistrations) {
  held(a, 5, 1);
  EXPECT_EQ(
      run(d,
          {.action = Action::preempt, .key = 3, .service_action_key = 2, .type = 15, .scope = 15}),
      "GOOD b1:2A05 c1:2A05");
  EXPECT_EQ(state(), "gen 5 WERO a1=1* d1=3");
}

TEST_F(PreemptTest, WithoutAReservationRemovesOnlyRegistrations) {
  EXPECT_EQ(run(a, {.action = Action::preempt, .key = 1, .service_action_key = 2, .type = 5}),
            "GOOD b1:2A05 c1:2A05");
  EXPECT_EQ(state(), "gen 5 free a1=1 d1=3");
}

// "It is not an error ... to set the RESERVATION KEY and the SERVICE ACTION RESERVATION KEY to the
// same value, however, no unit attention condition is established for the [sender]. The
// registration is removed."
TEST_F(PreemptTest, OfTheOwnKeyByANonHolderRemovesTheSenderToo) {
  held(a, 5, 1);
  EXPECT_EQ(run(b, {.action = Action::preempt, .key = 2, .service_action_key = 2, .type = 5}),
            "GOOD c1:2A05");
  EXPECT_EQ(state(), "gen 5 WERO a1=1* d1=3");
}

TEST_F(PreemptTest, OfAnUnknownKeyConflicts) {
  EXPECT_EQ(run(a, {.action = Action::preempt, .key = 1, .service_action_key = 9, .type = 5}),
            "CONFLICT");
  held(a, 5, 1);
  EXPECT_EQ(run(b, {.action = Action::preempt, .key = 2, .service_action_key = 9, .type = 5}),
            "CONFLICT");
  EXPECT_EQ(
      run(b, {.action = Action::preempt_and_abort, .key = 2, .service_action_key = 9, .type = 5}),
      "CONFLICT");
}

// A zero key and another type; or no reservation.
TEST_F(PreemptTest, OfKeyZeroWithoutAnAllRegistrantsReservation) {
  EXPECT_EQ(run(a, {.action = Action::preempt, .key = 1, .type = 5}), "CONFLICT");
  for (const uint8_t type : std::initializer_list<uint8_t>{1, 3, 5, 6}) {
    held(a, type, 1);
    EXPECT_EQ(run(b, {.action = Action::preempt, .key = 2, .type = 5}), "CHECK 05/26/00");
    EXPECT_EQ(run(a, {.action = Action::preempt_and_abort, .key = 1, .type = 5}), "CHECK 05/26/00");
    ASSERT_EQ(send(lu, a, {.action = Action::release, .key = 1, .type = type}).status,
              scsi::Status::good);
  }
}

TEST_F(PreemptTest, OfKeyZeroTakesAnAllRegistrantsReservationFromEverybody) {
  held(a, 7, 1);
  EXPECT_EQ(run(b, {.action = Action::preempt, .key = 2, .type = 5}),
            "GOOD a1:2A05 c1:2A05 d1:2A05");
  EXPECT_EQ(state(), "gen 5 WERO b1=2*");
}

TEST_F(PreemptTest, OfAKeyRemovesOnlyRegistrationsFromAllRegistrants) {
  held(a, 8, 1);
  EXPECT_EQ(run(a, {.action = Action::preempt, .key = 1, .service_action_key = 2, .type = 1}),
            "GOOD b1:2A05 c1:2A05");
  EXPECT_EQ(state(), "gen 5 EAAR a1=1* d1=3*");
  EXPECT_EQ(run(d, {.action = Action::preempt, .key = 3, .service_action_key = 1, .type = 1}),
            "GOOD a1:2A05");
  // Released with the last registration, here the sender's own.
  EXPECT_EQ(run(d, {.action = Action::preempt, .key = 3, .service_action_key = 3, .type = 1}),
            "GOOD");
  EXPECT_EQ(state(), "gen 7 free");
}

// Preempting and aborting: "without regard for whether the preempted I_T nexuses hold the
// persistent reservation".
TEST_F(PreemptTest, AndAbortListsEveryNexusOfTheKey) {
  held(b, 5, 2);
  EXPECT_EQ(
      run(a, {.action = Action::preempt_and_abort, .key = 1, .service_action_key = 2, .type = 5}),
      "GOOD b1:2A05 c1:2A05 abort:b1 abort:c1");
  EXPECT_EQ(
      run(a, {.action = Action::preempt_and_abort, .key = 1, .service_action_key = 3, .type = 5}),
      "GOOD d1:2A05 abort:d1");
  EXPECT_EQ(state(), "gen 6 WERO a1=1*");
}

// c) "except the PERSISTENT RESERVE OUT command itself": the sender's other commands end too.
TEST_F(PreemptTest, AndAbortOfTheOwnKeyListsTheSender) {
  held(b, 5, 2);
  EXPECT_EQ(
      run(b, {.action = Action::preempt_and_abort, .key = 2, .service_action_key = 2, .type = 5}),
      "GOOD c1:2A05 abort:b1 abort:c1");
  EXPECT_EQ(state(), "gen 5 WERO a1=1 b1=2* d1=3");
}

// "the device server shall abort all commands for all registered I_T nexuses".
TEST_F(PreemptTest, AndAbortOfKeyZeroListsAllRegistrants) {
  held(a, 8, 1);
  EXPECT_EQ(run(d, {.action = Action::preempt_and_abort, .key = 3, .type = 6}),
            "GOOD a1:2A05 b1:2A05 c1:2A05 abort:a1 abort:b1 abort:c1 abort:d1");
  EXPECT_EQ(state(), "gen 5 EARO d1=3*");
}

TEST_F(PreemptTest, WithoutAbortListsNobody) {
  held(b, 5, 2);
  const PrOutcome outcome =
      send(lu, a, {.action = Action::preempt, .key = 1, .service_action_key = 2, .type = 5});
  EXPECT_EQ(outcome.status, scsi::Status::good);
  EXPECT_TRUE(outcome.abort.empty());
}

// PRgeneration: which actions count; it wraps.
TEST(ReservationsGeneration, CountsRegistrationsClearsAndPreemptsOnly) {
  Reservations lu;
  const NexusId a = nexus('a');
  const auto after = [&](const Send& command) {
    send(lu, a, command);
    return lu.generation();
  };
  EXPECT_EQ(after({.action = Action::register_key, .service_action_key = 1}), 1u);
  EXPECT_EQ(after({.action = Action::reserve, .key = 1, .type = 1}), 1u);
  EXPECT_EQ(after({.action = Action::reserve, .key = 1, .type = 3}), 1u) << "a conflict";
  EXPECT_EQ(after({.action = Action::release, .key = 1, .type = 3}), 1u) << "an error";
  EXPECT_EQ(after({.action = Action::release, .key = 1, .type = 1}), 1u);
  EXPECT_EQ(after({.action = Action::register_and_ignore, .service_action_key = 2}), 2u);
  EXPECT_EQ(after({.action = Action::preempt, .key = 2, .service_action_key = 2}), 3u);
  EXPECT_EQ(after({.action = Action::register_key, .service_action_key = 1}), 4u);
  EXPECT_EQ(after({.action = Action::clear, .key = 1}), 5u);
}

// SPC-4 5.13: what each class of command may do, by type and by who asks.
TEST(ReservationsRights, Table65) {
  enum Who { holder, registered, stranger };
  struct Row {
    uint8_t type;
    Who who;
    bool read, write;
  };
  constexpr Row kTable[] = {
      {1, holder, true, true}, {1, registered, true, false},  {1, stranger, true, false},
      {3, holder, true, true}, {3, registered, false, false}, {3, stranger, false, false},
      {5, holder, true, true}, {5, registered, true, true},   {5, stranger, true, false},
      {6, holder, true, true}, {6, registered, true, true},   {6, stranger, false, false},
      {7, holder, true, true}, {7, registered, true, true},   {7, stranger, true, false},
      {8, holder, true, true}, {8, registered, true, true},   {8, stranger, false, false},
  };
  for (const Row& row : kTable) {
    Reservations lu;
    send(lu, nexus('a'), {.action = Action::register_key, .service_action_key = 1});
    send(lu, nexus('b'), {.action = Action::register_key, .service_action_key = 2});
    send(lu, nexus('a'), {.action = Action::reserve, .key = 1, .type = row.type});
    const NexusRights rights = lu.rights_of(nexus(row.who == holder       ? 'a'
                                                  : row.who == registered ? 'b'
                                                                          : 'x'));
    SCOPED_TRACE(fmt::format("type {} who {}", row.type, static_cast<int>(row.who)));
    EXPECT_EQ(rights.registered, row.who != stranger);
    EXPECT_EQ(rights.holder, row.who == holder || (row.who == registered && row.type >= 7));
    EXPECT_EQ(conflicts(rights, ReservationAccess::read), !row.read);
    EXPECT_EQ(conflicts(rights, ReservationAccess::write), !row.write);
    EXPECT_FALSE(conflicts(rights, ReservationAccess::always));
    EXPECT_FALSE(conflicts(rights, ReservationAccess::reserve_out)) << "out() decides";
    // Not resolved by scsi::reservation_access(): the strict side.
    EXPECT_EQ(conflicts(rights, ReservationAccess::start_stop), !row.write);
    EXPECT_EQ(conflicts(rights, ReservationAccess::prevent_allow), !row.write);
  }
}

TEST(ReservationsRights, EverybodyMayEverythingWithoutAReservation) {
  Reservations lu;
  EXPECT_EQ(lu.rights_of(nexus('x')), NexusRights{});
  send(lu, nexus('a'), {.action = Action::register_key, .service_action_key = 1});
  EXPECT_EQ(lu.rights_of(nexus('x')), NexusRights{});
  EXPECT_EQ(lu.rights_of(nexus('a')), NexusRights{.registered = true});
}

// 6.16. The list is judged before the registration: no key can be read from it.
TEST(ReservationsParameterList, LengthAndSpecIPt) {
  Reservations lu;
  std::vector<uint8_t> list(24);
  list[15] = 1;
  const auto answer = [&] {
    return text(
        lu.out(nexus('a'), {.service_action = Action::register_key, .parameter_list = list}));
  };
  for (const size_t size : {size_t{0}, size_t{1}, size_t{23}, size_t{25}, size_t{4096}}) {
    list.resize(size);
    if (size > 15) list[15] = 1;
    EXPECT_EQ(answer(), "CHECK 05/1A/00") << size;
  }
  list.assign(24, 0);
  list[20] = 0x08;
  EXPECT_EQ(answer(), "CHECK 05/26/00");
  list.resize(24 + 4 + 24);
  EXPECT_EQ(answer(), "CHECK 05/26/00") << "its own length is no reason";
  EXPECT_EQ(text(lu), "gen 0 free");
}

TEST(ReservationsParameterList, UnknownServiceActionIsRefused) {
  Reservations lu;
  send(lu, nexus('a'), {.action = Action::register_key, .service_action_key = 1});
  for (const uint8_t code : std::initializer_list<uint8_t>{
           7, 8, 31}) {  // REGISTER AND MOVE, REPLACE LOST RESERVATION, reserved
    EXPECT_EQ(text(send(lu, nexus('a'), {.action = static_cast<Action>(code), .key = 1})),
              "CHECK 05/24/00");
  }
}

// 6.16, APTPL: the last value counts, of registrations only; what must be durable before the
// answer.
TEST(ReservationsAptpl, MustPersistWhatPowerLossWouldKeepOrForget) {
  Reservations lu;
  const NexusId a = nexus('a');
  const NexusId b = nexus('b');
  const auto run = [&](const NexusId& from, const Send& command) {
    return text(send(lu, from, command));
  };
  EXPECT_EQ(run(a, {.action = Action::register_key, .service_action_key = 1}), "GOOD");
  EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = 5, .aptpl = true}), "GOOD");
  EXPECT_FALSE(lu.aptpl()) << "ignored by RESERVE";
  EXPECT_EQ(run(b, {.action = Action::register_key, .service_action_key = 2, .aptpl = true}),
            "GOOD persist");
  EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = 5}), "GOOD") << "nothing changed";
  EXPECT_EQ(run(b, {.action = Action::release, .key = 2, .type = 5}), "GOOD") << "nothing changed";
  EXPECT_EQ(run(a, {.action = Action::release, .key = 1, .type = 5}), "GOOD b1:2A04 persist");
  EXPECT_EQ(run(a, {.action = Action::reserve, .key = 1, .type = 5}), "GOOD persist");
  EXPECT_EQ(run(b, {.action = Action::preempt, .key = 2, .service_action_key = 1, .type = 5}),
            "GOOD a1:2A05 persist");
  EXPECT_EQ(run(b, {.action = Action::register_key, .key = 2, .service_action_key = 3}),
            "GOOD persist")
      << "the disk must forget";
  EXPECT_EQ(run(b, {.action = Action::clear, .key = 3}), "GOOD");
  EXPECT_EQ(run(b, {.action = Action::register_key, .service_action_key = 3, .aptpl = true}),
            "GOOD persist");
  EXPECT_EQ(run(b, {.action = Action::clear, .key = 3}), "GOOD persist");
  EXPECT_TRUE(lu.aptpl());
}

TEST(ReservationsAptpl, PowerOnKeepsAllButTheGeneration) {
  Reservations lu;
  send(lu, nexus('a'), {.action = Action::register_key, .service_action_key = 1, .aptpl = true});
  send(lu, nexus('a'), {.action = Action::reserve, .key = 1, .type = 6});
  lu.power_on();
  EXPECT_EQ(text(lu), "gen 0 EARO a1=1* aptpl");
}

TEST(ReservationsAptpl, PowerOnForgetsWithoutIt) {
  Reservations lu;
  send(lu, nexus('a'), {.action = Action::register_key, .service_action_key = 1, .aptpl = true});
  send(lu, nexus('a'), {.action = Action::reserve, .key = 1, .type = 6});
  send(lu, nexus('b'), {.action = Action::register_key, .service_action_key = 2});
  lu.power_on();
  EXPECT_EQ(lu, Reservations{});
}

}  // namespace
}  // namespace holdfast::target
