#include "target/session_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace holdfast::target {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Effects = SessionRegistry::Effects;

AdmitRequest login(SessionId session, const std::string& initiator, uint64_t isid = 1) {
  return {.session = session,
          .nexus = {.initiator_name = initiator,
                    .isid = isid,
                    .target_name = "iqn.2026-11.org.holdfast:t",
                    .portal_group_tag = 1}};
}

void expect_in(const Effects& effects, SessionId session, bool reinstated) {
  ASSERT_THAT(effects.answers, SizeIs(1));
  EXPECT_EQ(effects.answers[0].session, session);
  EXPECT_EQ(effects.answers[0].reply.status, iscsi::LoginStatus::success);
  EXPECT_NE(effects.answers[0].reply.tsih, 0);
  EXPECT_EQ(effects.answers[0].reply.reinstated, reinstated);
}

void expect_refused(const Effects& effects, SessionId session) {
  ASSERT_FALSE(effects.answers.empty());
  EXPECT_EQ(effects.answers[0].session, session);
  EXPECT_EQ(effects.answers[0].reply.status, iscsi::LoginStatus::out_of_resources);
}

TEST(SessionRegistry, ANewNexusIsAnsweredAtOnce) {
  SessionRegistry registry;
  expect_in(registry.admit(login(1, "iqn.a")), 1, false);
  expect_in(registry.admit(login(2, "iqn.a", 2)), 2, false);  // another ISID: another nexus
  expect_in(registry.admit(login(3, "iqn.b")), 3, false);
  EXPECT_NE(registry.find(1)->tsih, registry.find(2)->tsih);
}

AdmitRequest discovery(SessionId session, const std::string& portal, const std::string& target) {
  AdmitRequest request = login(session, "iqn.a");
  request.discovery = true;
  request.nexus.target_name = target;
  request.portal = io::Endpoint::parse(portal).value();
  return request;
}

// RFC 7143 7.4.2.1: one per initiator port and portal; those through other portals are others.
TEST(SessionRegistry, ADiscoverySessionEndsAnOlderOneOfTheSamePortal) {
  SessionRegistry registry;
  expect_in(registry.admit(login(9, "iqn.a")), 9, false);
  expect_in(registry.admit(discovery(1, "10.0.0.1:3260", "")), 1, false);
  Effects effects = registry.admit(discovery(2, "10.0.0.2:3260", ""));
  expect_in(effects, 2, false);
  EXPECT_THAT(effects.drops, IsEmpty());
  effects = registry.admit(discovery(3, "10.0.0.1:3260", ""));
  expect_in(effects, 3, false);  // at once
  EXPECT_THAT(effects.drops, ElementsAre(1));
  registry.gone(1);
  EXPECT_EQ(registry.find(1), nullptr);
  EXPECT_THAT(registry.admit(discovery(4, "10.0.0.1:3260", "")).drops, ElementsAre(3));
  registry.gone(3);
  registry.gone(4);
  EXPECT_THAT(registry.admit(discovery(5, "10.0.0.1:3260", "")).drops, IsEmpty());
  EXPECT_EQ(registry.find(9)->state, SessionRegistry::State::live);
}

// RFC 7143 7.4.2.2: with a target, the portal group counts and the portal does not.
TEST(SessionRegistry, ADiscoverySessionWithATargetEndsAnOlderOneOfItsPortalGroup) {
  SessionRegistry registry;
  registry.admit(discovery(1, "10.0.0.1:3260", "iqn.t"));
  EXPECT_THAT(registry.admit(discovery(2, "10.0.0.2:3260", "iqn.u")).drops, IsEmpty());
  EXPECT_THAT(registry.admit(discovery(3, "10.0.0.2:3260", "iqn.t")).drops, ElementsAre(1));
  AdmitRequest other_group = discovery(4, "10.0.0.2:3260", "iqn.t");
  other_group.nexus.portal_group_tag = 2;
  EXPECT_THAT(registry.admit(other_group).drops, IsEmpty());
}

TEST(SessionRegistry, ReinstatementWaitsForTheOldOne) {
  SessionRegistry registry;
  registry.admit(login(1, "iqn.a"));
  const Effects effects = registry.admit(login(2, "iqn.a"));
  EXPECT_THAT(effects.answers, IsEmpty());
  EXPECT_THAT(effects.drops, ElementsAre(1));
  EXPECT_EQ(effects.waits, 2u);
  EXPECT_EQ(registry.find(1)->state, SessionRegistry::State::draining);
  // Meanwhile everybody else gets in.
  expect_in(registry.admit(login(3, "iqn.b")), 3, false);
  expect_in(registry.gone(1), 2, true);
  EXPECT_EQ(registry.find(2)->state, SessionRegistry::State::live);
}

TEST(SessionRegistry, TheNewestOfSeveralWaitingWins) {
  SessionRegistry registry;
  registry.admit(login(1, "iqn.a"));
  registry.admit(login(2, "iqn.a"));
  const Effects effects = registry.admit(login(3, "iqn.a"));
  expect_refused(effects, 2);
  EXPECT_THAT(effects.drops, IsEmpty());  // 1 is dead already
  EXPECT_EQ(registry.find(2), nullptr);
  EXPECT_THAT(registry.gone(2).answers, IsEmpty());
  expect_in(registry.gone(1), 3, true);
}

TEST(SessionRegistry, AWaitWhoseOwnSessionEndsIsForgotten) {
  SessionRegistry registry;
  registry.admit(login(1, "iqn.a"));
  registry.admit(login(2, "iqn.a"));
  EXPECT_THAT(registry.gone(2).answers, IsEmpty());
  EXPECT_THAT(registry.gone(1).answers, IsEmpty());
  expect_in(registry.admit(login(3, "iqn.a")), 3, false);
}

TEST(SessionRegistry, AfterTheDeadlineTheOldOneStaysAsDraining) {
  SessionRegistry registry;
  registry.admit(login(1, "iqn.a"));
  registry.admit(login(2, "iqn.a"));
  expect_refused(registry.expire(2), 2);
  EXPECT_THAT(registry.expire(2).answers, IsEmpty());
  ASSERT_NE(registry.find(1), nullptr);
  EXPECT_EQ(registry.find(1)->state, SessionRegistry::State::draining);
  // The next login waits again: the old commands may still run.
  const Effects next = registry.admit(login(3, "iqn.a"));
  EXPECT_THAT(next.answers, IsEmpty());
  EXPECT_EQ(next.waits, 3u);
  expect_in(registry.gone(1), 3, true);
  EXPECT_THAT(registry.expire(3).answers, IsEmpty());  // it is in
  EXPECT_EQ(registry.find(3)->state, SessionRegistry::State::live);
}

TEST(SessionRegistry, ADroppedSessionIsWaitedForToo) {
  SessionRegistry registry;
  registry.admit(login(1, "iqn.a"));
  EXPECT_THAT(registry.drop(1).drops, ElementsAre(1));
  EXPECT_THAT(registry.drop(1).drops, IsEmpty());
  EXPECT_THAT(registry.admit(login(2, "iqn.a")).answers, IsEmpty());
  expect_in(registry.gone(1), 2, true);
}

TEST(SessionRegistry, TsihsAreNeverZeroAndNeverSharedAcrossTheWrap) {
  SessionRegistry registry;
  registry.admit(login(1, "iqn.long.lived"));
  const uint16_t kept = registry.find(1)->tsih;
  for (SessionId id = 2; id < 140'000; ++id) {
    const Effects effects = registry.admit(login(id, "iqn.a"));
    ASSERT_EQ(effects.answers.size(), 1u);
    ASSERT_NE(effects.answers[0].reply.tsih, 0);
    ASSERT_NE(effects.answers[0].reply.tsih, kept);
    registry.gone(id);
  }
  EXPECT_THAT(registry.sessions(), SizeIs(1));
}

TEST(SessionRegistry, TheirNumberIsBounded) {
  SessionRegistry registry;
  std::set<uint16_t> tsihs;
  for (SessionId id = 1; id <= kMaxSessions; ++id) {
    AdmitRequest request = login(id, "iqn.a", id);
    tsihs.insert(registry.admit(request).answers.at(0).reply.tsih);
  }
  EXPECT_EQ(tsihs.size(), kMaxSessions);
  expect_refused(registry.admit(login(kMaxSessions + 1, "iqn.b")), kMaxSessions + 1);
  registry.gone(1);
  expect_in(registry.admit(login(kMaxSessions + 2, "iqn.b")), kMaxSessions + 2, false);
}

}  // namespace
}  // namespace holdfast::target
