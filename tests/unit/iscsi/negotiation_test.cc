#include "common/iscsi/negotiation.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::iscsi {
namespace {

using base::Errc;
using Phase = NegotiationPhase;

// One key=value a line, as in "A=b C=d" with spaces between.
std::string wire(std::string_view words) {
  std::string text;
  while (!words.empty()) {
    const size_t space = words.find(' ');
    text += words.substr(0, space);
    text += '\0';
    words.remove_prefix(space == std::string_view::npos ? words.size() : space + 1);
  }
  return text;
}

std::string words(base::Bytes bytes) {
  std::string text(base::as_text(bytes));
  for (char& c : text) c = c == '\0' ? ' ' : c;
  if (!text.empty()) text.pop_back();
  return text;
}

struct Side {
  explicit Side(Role role, const LocalParameters& local = {},
                SessionType type = SessionType::normal)
      : negotiation(role, local, type) {}

  base::Result<std::string> receive(std::string_view list, Phase phase = Phase::operational) {
    const std::string text = wire(list);
    TextMessage message;
    TRY(message.parse(base::as_bytes(std::string_view(text))));
    std::vector<uint8_t> out;
    TextKeyWriter writer(out, kMaxLoginResponseBytes);
    TRY(negotiation.receive(message, phase, writer));
    return words(out);
  }
  std::string offer() {
    std::vector<uint8_t> out;
    TextKeyWriter writer(out, kMaxLoginResponseBytes);
    EXPECT_TRUE(negotiation.declare(writer).has_value());
    EXPECT_TRUE(negotiation.offer(writer).has_value());
    return words(out);
  }
  Errc error(std::string_view list, Phase phase = Phase::operational) {
    const auto result = receive(list, phase);
    EXPECT_FALSE(result.has_value()) << list;
    return result.has_value() ? Errc::io : result.error().code;
  }
  const SessionParameters& active() const { return negotiation.parameters(); }

  Negotiation negotiation;
};

struct Answer {
  std::string_view offer;
  std::string_view answer;
};

// What a target with the default LocalParameters answers to one key.
TEST(Negotiation, TargetAnswers) {
  const Answer cases[] = {
      {"HeaderDigest=None", "HeaderDigest=None"},
      {"HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C"},
      {"HeaderDigest=None,CRC32C", "HeaderDigest=None"},
      {"DataDigest=SHA9,CRC32C", "DataDigest=CRC32C"},
      {"DataDigest=SHA9", "DataDigest=Reject"},
      {"MaxConnections=8", "MaxConnections=1"},
      {"MaxConnections=0", "MaxConnections=Reject"},
      {"InitialR2T=Yes", "InitialR2T=Yes"},
      {"InitialR2T=No", "InitialR2T=No"},
      {"InitialR2T=Maybe", "InitialR2T=Reject"},
      {"ImmediateData=Yes", "ImmediateData=Yes"},
      {"ImmediateData=No", "ImmediateData=No"},
      {"MaxBurstLength=16776192", "MaxBurstLength=1048576"},
      {"MaxBurstLength=65536", "MaxBurstLength=65536"},
      {"MaxBurstLength=511", "MaxBurstLength=Reject"},
      {"MaxBurstLength=16777216", "MaxBurstLength=Reject"},
      {"MaxBurstLength=-1", "MaxBurstLength=Reject"},
      {"FirstBurstLength=0x10000", "FirstBurstLength=65536"},
      {"FirstBurstLength=262144", "FirstBurstLength=262144"},
      {"DefaultTime2Wait=0", "DefaultTime2Wait=2"},
      {"DefaultTime2Wait=30", "DefaultTime2Wait=30"},
      {"DefaultTime2Wait=3601", "DefaultTime2Wait=Reject"},
      {"DefaultTime2Retain=20", "DefaultTime2Retain=0"},
      {"MaxOutstandingR2T=1", "MaxOutstandingR2T=1"},
      {"MaxOutstandingR2T=100", "MaxOutstandingR2T=8"},
      {"DataPDUInOrder=No", "DataPDUInOrder=Yes"},
      {"DataSequenceInOrder=No", "DataSequenceInOrder=Yes"},
      {"ErrorRecoveryLevel=2", "ErrorRecoveryLevel=0"},
      {"ErrorRecoveryLevel=3", "ErrorRecoveryLevel=Reject"},
      {"TaskReporting=FastAbort,ResponseFence,RFC3720", "TaskReporting=ResponseFence"},
      {"TaskReporting=RFC3720", "TaskReporting=RFC3720"},
      {"TaskReporting=FastAbort", "TaskReporting=Reject"},
      {"iSCSIProtocolLevel=2", "iSCSIProtocolLevel=1"},
      {"iSCSIProtocolLevel=0", "iSCSIProtocolLevel=0"},
      // RFC 7143 13.25: never NotUnderstood.
      {"IFMarker=No", "IFMarker=No"},
      {"OFMarker=Yes", "OFMarker=No"},
      {"IFMarkInt=2048~8192", "IFMarkInt=Reject"},
      {"OFMarkInt=2048", "OFMarkInt=Reject"},
      // RFC 7145.
      {"RDMAExtensions=Yes", "RDMAExtensions=No"},
      {"TargetRecvDataSegmentLength=8192", "TargetRecvDataSegmentLength=Irrelevant"},
      {"InitiatorRecvDataSegmentLength=8192", "InitiatorRecvDataSegmentLength=Irrelevant"},
      {"iSERHelloRequired=Yes", "iSERHelloRequired=Irrelevant"},
      {"MaxOutstandingUnexpectedPDUs=9", "MaxOutstandingUnexpectedPDUs=Irrelevant"},
      // Private and unknown keys.
      {"X-com.example.speed=fast", "X-com.example.speed=NotUnderstood"},
      {"X#Else=1", "X#Else=NotUnderstood"},
      {"FutureKey=1", "FutureKey=NotUnderstood"},
      // Declarations are not answered.
      {"MaxRecvDataSegmentLength=65536", ""},
      {"InitiatorAlias=hv1.example", ""},
      {"X#NodeArchitecture=Linux", ""},
  };
  for (const Answer& c : cases) {
    Side target(Role::target);
    const auto answer = target.receive(c.offer);
    ASSERT_TRUE(answer.has_value()) << c.offer << ": " << answer.error().what;
    EXPECT_EQ(*answer, c.answer);
  }
}

TEST(Negotiation, ARejectedOfferLeavesTheDefault) {
  Side target(Role::target);
  ASSERT_TRUE(target.receive("MaxBurstLength=1 InitialR2T=x DataDigest=x ErrorRecoveryLevel=9"));
  EXPECT_EQ(target.active(), SessionParameters());
}

TEST(Negotiation, ResultsAreKept) {
  Side target(Role::target);
  ASSERT_TRUE(target.receive(
      "HeaderDigest=CRC32C DataDigest=CRC32C,None InitialR2T=No ImmediateData=No "
      "MaxRecvDataSegmentLength=131072 MaxBurstLength=524288 FirstBurstLength=131072 "
      "DefaultTime2Wait=5 DefaultTime2Retain=7 MaxOutstandingR2T=4 TaskReporting=ResponseFence"));
  const SessionParameters expected{.header_digest = true,
                                   .data_digest = true,
                                   .initial_r2t = false,
                                   .immediate_data = false,
                                   .max_recv_data_segment_length = 262144,
                                   .max_send_data_segment_length = 131072,
                                   .max_burst_length = 524288,
                                   .first_burst_length = 131072,
                                   .default_time2wait = 5,
                                   .default_time2retain = 0,
                                   .max_outstanding_r2t = 4,
                                   .task_reporting = TaskReporting::response_fence};
  EXPECT_EQ(target.offer(), "MaxRecvDataSegmentLength=262144");
  EXPECT_EQ(target.active(), expected);
}

// RFC 7143 13.14: FirstBurstLength must not exceed MaxBurstLength, in whatever order they come.
TEST(Negotiation, FirstBurstStaysWithinMaxBurst) {
  for (const std::string_view offer : {"FirstBurstLength=65536 MaxBurstLength=4096",
                                       "MaxBurstLength=4096 FirstBurstLength=65536"}) {
    Side target(Role::target);
    EXPECT_EQ(*target.receive(offer), "MaxBurstLength=4096 FirstBurstLength=4096");
    EXPECT_EQ(target.active().first_burst_length, 4096u);
  }
  Side target(Role::target);
  ASSERT_TRUE(target.receive("MaxBurstLength=4096"));
  EXPECT_EQ(target.active().first_burst_length, 4096u) << "also when only one is named";
}

TEST(Negotiation, ProtocolErrors) {
  const std::string_view cases[] = {
      // From the wrong side.
      "TargetAddress=10.0.0.1:3260,1",
      "TargetAlias=x",
      "TargetPortalGroupTag=1",
      // Not here.
      "SendTargets=All",
      "AuthMethod=CHAP",
      "CHAP_A=7",
      "CHAP_N=x",
      // Illegal declarations.
      "MaxRecvDataSegmentLength=511",
      "MaxRecvDataSegmentLength=16777216",
      "MaxRecvDataSegmentLength=big",
      "MaxRecvDataSegmentLength=Reject",
      "InitiatorName=hv1",
      "InitiatorName=",
      // Answers to what was never offered.
      "HeaderDigest=Reject",
      "MaxBurstLength=Irrelevant",
      "InitialR2T=NotUnderstood",
  };
  for (const std::string_view list : cases) {
    Side target(Role::target);
    EXPECT_EQ(target.error(list), Errc::protocol) << list;
  }
  Side target(Role::target);
  EXPECT_EQ(target.error("SessionType=Other"), Errc::unsupported);
  Side other(Role::target);
  EXPECT_EQ(other.error("TargetName=nothing"), Errc::not_found);
}

// RFC 7143 12: the security stage carries names and authentication only.
TEST(Negotiation, OperationalKeysAreRefusedInTheSecurityStage) {
  for (const KeyInfo& info : key_table()) {
    if (info.stages != Stages::operational) continue;
    Side target(Role::target);
    EXPECT_EQ(target.error(std::string(info.name) + "=1", Phase::security), Errc::protocol);
  }
}

TEST(Negotiation, AKeyCountsOnceInALogin) {
  Side target(Role::target);
  ASSERT_TRUE(target.receive("MaxBurstLength=65536 MaxRecvDataSegmentLength=8192"));
  EXPECT_EQ(target.error("MaxBurstLength=65536"), Errc::protocol);
  Side second(Role::target);
  ASSERT_TRUE(second.receive("MaxRecvDataSegmentLength=8192"));
  EXPECT_EQ(second.error("MaxRecvDataSegmentLength=8192"), Errc::protocol);
  Side third(Role::target);
  ASSERT_TRUE(third.receive("IFMarker=No"));
  EXPECT_EQ(third.error("IFMarker=No"), Errc::protocol);
}

// libiscsi repeats its names at the start of the operational stage; an attacker could put another
// name in after the proof.
TEST(Negotiation, NamesMayBeRepeatedButNotChanged) {
  constexpr std::string_view kNames =
      "InitiatorName=iqn.2026-11.org:a TargetName=iqn.2026-11.org:t SessionType=Normal "
      "InitiatorAlias=a";
  const auto fresh = [&] {
    Side side(Role::target);
    EXPECT_TRUE(side.receive(kNames, Phase::security).has_value());
    return side;
  };
  Side same = fresh();
  EXPECT_TRUE(same.receive(kNames).has_value());
  for (const std::string_view list :
       {"InitiatorName=iqn.2026-11.org:b", "TargetName=iqn.2026-11.org:u", "SessionType=Discovery",
        "InitiatorAlias=b", "InitiatorName=", "TargetName="}) {
    Side side = fresh();
    EXPECT_EQ(side.error(list), Errc::protocol) << list;
    EXPECT_EQ(side.negotiation.peer().initiator_name, "iqn.2026-11.org:a");
    EXPECT_EQ(side.negotiation.peer().session_type, SessionType::normal);
  }
}

TEST(Negotiation, NamesComeFirstOrNotAtAll) {
  for (const std::string_view list : {"InitiatorName=iqn.2026-11.org:b",
                                      "TargetName=iqn.2026-11.org:u", "SessionType=Discovery"}) {
    Side side(Role::target);
    ASSERT_TRUE(side.receive("").has_value());
    EXPECT_EQ(side.error(list), Errc::protocol) << list;
  }
}

TEST(Negotiation, DiscoveryMakesSessionKeysIrrelevant) {
  Side target(Role::target);
  // SessionType stands last on purpose.
  const auto answer = target.receive(
      "InitialR2T=No MaxBurstLength=8192 FirstBurstLength=8192 HeaderDigest=None "
      "DefaultTime2Wait=2 SessionType=Discovery");
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(*answer,
            "InitialR2T=Irrelevant MaxBurstLength=Irrelevant HeaderDigest=None DefaultTime2Wait=2 "
            "FirstBurstLength=Irrelevant");
  EXPECT_TRUE(target.active().initial_r2t);
}

// CVE-2026-63887: 2048 small keys turned into 32 KiB of NotUnderstood.
TEST(Negotiation, AnswersToUnknownKeysAreBounded) {
  std::string list;
  for (size_t i = 0; i < kMaxKeysPerMessage; ++i) {
    std::string key = "K" + std::to_string(i);
    key.resize(kMaxKeyBytes, 'x');
    list += key + "=1 ";
  }
  list.pop_back();
  Side target(Role::target);
  EXPECT_EQ(target.error(list), Errc::limit);
}

TEST(Negotiation, TargetOffersWhatItCanNotLiveWithout) {
  const LocalParameters local{.header_digest = DigestChoice::required,
                              .immediate_data = false,
                              .max_burst_length = 8192,
                              .first_burst_length = 4096};
  Side silent(Role::target, local);
  ASSERT_EQ(*silent.receive(""), "");
  EXPECT_EQ(silent.offer(),
            "MaxRecvDataSegmentLength=262144 HeaderDigest=CRC32C ImmediateData=No "
            "MaxBurstLength=8192 FirstBurstLength=4096");
  EXPECT_TRUE(silent.negotiation.waiting_for_answers());
  EXPECT_EQ(silent.offer(), "") << "once";
  EXPECT_EQ(*silent.receive(
                "HeaderDigest=CRC32C ImmediateData=No MaxBurstLength=8192 FirstBurstLength=2048"),
            "");
  EXPECT_FALSE(silent.negotiation.waiting_for_answers());
  EXPECT_TRUE(silent.active().header_digest);
  EXPECT_FALSE(silent.active().immediate_data);
  EXPECT_EQ(silent.active().max_burst_length, 8192u);
  EXPECT_EQ(silent.active().first_burst_length, 2048u);
}

TEST(Negotiation, TargetOffersNothingThatTheInitiatorHasNamedOrThatTheDefaultSatisfies) {
  Side defaults(Role::target);
  EXPECT_EQ(defaults.offer(), "MaxRecvDataSegmentLength=262144");
  EXPECT_FALSE(defaults.negotiation.waiting_for_answers());
  Side named(Role::target, {.max_burst_length = 8192, .first_burst_length = 8192});
  EXPECT_EQ(*named.receive("MaxBurstLength=262144 FirstBurstLength=65536"),
            "MaxBurstLength=8192 FirstBurstLength=8192");
  EXPECT_EQ(named.offer(), "MaxRecvDataSegmentLength=262144");
}

TEST(Negotiation, AnswersThatContradictTheOfferAreErrors) {
  const LocalParameters local{.header_digest = DigestChoice::required,
                              .immediate_data = false,
                              .max_burst_length = 8192,
                              .first_burst_length = 4096};
  for (const std::string_view answer :
       {"HeaderDigest=None", "HeaderDigest=Reject", "HeaderDigest=NotUnderstood",
        "ImmediateData=Yes", "ImmediateData=Irrelevant", "MaxBurstLength=16384", "MaxBurstLength=1",
        "MaxBurstLength=Reject", "FirstBurstLength=8192"}) {
    Side target(Role::target, local);
    ASSERT_NE(target.offer(), "");
    EXPECT_EQ(target.error(answer), Errc::protocol) << answer;
  }
}

TEST(Negotiation, ARequiredDigestIsNotGivenUp) {
  Side target(Role::target, {.data_digest = DigestChoice::required});
  EXPECT_EQ(target.error("DataDigest=None"), Errc::protocol);
  Side willing(Role::target, {.data_digest = DigestChoice::required});
  EXPECT_EQ(*willing.receive("DataDigest=None,CRC32C"), "DataDigest=CRC32C");
}

// Both sides run the same table, so they must come to the same results.
TEST(Negotiation, InitiatorAndTargetAgree) {
  const LocalParameters initiators[] = {
      {},
      {.header_digest = DigestChoice::required, .data_digest = DigestChoice::none},
      {.initial_r2t = true, .immediate_data = false, .max_outstanding_r2t = 1},
      {.max_recv_data_segment_length = 512, .max_burst_length = 512, .first_burst_length = 512},
      {.default_time2wait = 60, .default_time2retain = 60, .response_fence = false},
  };
  const LocalParameters targets[] = {
      {},
      {.initial_r2t = true, .max_burst_length = 4096, .first_burst_length = 1024},
      {.immediate_data = false, .max_outstanding_r2t = 65535, .default_time2retain = 3600},
  };
  for (const LocalParameters& i : initiators) {
    for (const LocalParameters& t : targets) {
      Side initiator(Role::initiator, i);
      Side target(Role::target, t);
      std::string offer = initiator.offer();
      auto answer = target.receive(offer);
      ASSERT_TRUE(answer.has_value()) << answer.error().what;
      const std::string more = target.offer();
      const auto rest = initiator.receive(*answer + " " + more);
      ASSERT_TRUE(rest.has_value()) << rest.error().what;
      EXPECT_EQ(*rest, "");
      EXPECT_FALSE(initiator.negotiation.waiting_for_answers());
      EXPECT_FALSE(target.negotiation.waiting_for_answers());
      SessionParameters mirrored = target.active();
      std::swap(mirrored.max_recv_data_segment_length, mirrored.max_send_data_segment_length);
      EXPECT_EQ(initiator.active(), mirrored);
    }
  }
}

TEST(Negotiation, InitiatorLearnsWhatTheTargetStates) {
  Side initiator(Role::initiator);
  ASSERT_TRUE(initiator.receive("TargetPortalGroupTag=7 TargetAlias=store TargetAddress=x:1,1",
                                Phase::security));
  EXPECT_EQ(initiator.negotiation.peer().portal_group_tag, 7);
  EXPECT_EQ(initiator.negotiation.peer().target_alias, "store");
  EXPECT_EQ(initiator.error("SessionType=Normal"), Errc::protocol);
  EXPECT_EQ(initiator.error("TargetPortalGroupTag=65536", Phase::security), Errc::protocol);
}

// Some targets state their tag and alias in every stage.
TEST(Negotiation, TargetsMayRepeatWhatTheyStateButNotChangeIt) {
  Side initiator(Role::initiator);
  EXPECT_FALSE(initiator.negotiation.peer().portal_group_tag.has_value());
  ASSERT_TRUE(initiator.receive("TargetPortalGroupTag=0 TargetAlias=store", Phase::security));
  EXPECT_EQ(initiator.negotiation.peer().portal_group_tag, uint16_t{0});
  ASSERT_TRUE(initiator.receive("TargetPortalGroupTag=0 TargetAlias=store"));
  EXPECT_EQ(initiator.error("TargetPortalGroupTag=1"), Errc::protocol);
  EXPECT_EQ(initiator.error("TargetPortalGroupTag=x"), Errc::protocol);
  EXPECT_EQ(initiator.error("TargetAlias=other"), Errc::protocol);
  ASSERT_TRUE(initiator.receive("MaxRecvDataSegmentLength=65536"));
  EXPECT_EQ(initiator.error("MaxRecvDataSegmentLength=65536"), Errc::protocol);
}

TEST(Negotiation, AnInitiatorsDiscoverySessionOffersOnlyWhatMatters) {
  Side initiator(Role::initiator, {}, SessionType::discovery);
  const std::string offer = initiator.offer();
  EXPECT_EQ(offer.find("InitialR2T"), std::string::npos) << offer;
  EXPECT_NE(offer.find("HeaderDigest="), std::string::npos) << offer;
  EXPECT_EQ(*initiator.receive("MaxConnections=4"), "MaxConnections=Irrelevant");
}

// A target that leaves the stage without answering everything means the defaults by it.
TEST(Negotiation, WhatIsLeftUnansweredKeepsItsDefault) {
  Side initiator(Role::initiator, {.initial_r2t = false});
  initiator.offer();
  ASSERT_TRUE(initiator.receive("HeaderDigest=CRC32C DataDigest=None"));
  EXPECT_TRUE(initiator.negotiation.waiting_for_answers());
  ASSERT_TRUE(initiator.negotiation.end_stage().has_value());
  EXPECT_FALSE(initiator.negotiation.waiting_for_answers());
  SessionParameters expected;
  expected.header_digest = true;
  expected.max_recv_data_segment_length = LocalParameters{}.max_recv_data_segment_length;
  EXPECT_EQ(initiator.active(), expected);

  Side strict(Role::initiator, {.data_digest = DigestChoice::required});
  strict.offer();
  ASSERT_TRUE(strict.receive("HeaderDigest=None"));
  EXPECT_EQ(strict.negotiation.end_stage().error().code, Errc::protocol);
}

TEST(Negotiation, FullFeaturePhaseTakesFewKeys) {
  Side target(Role::target);
  ASSERT_TRUE(target.receive("MaxRecvDataSegmentLength=8192"));
  const SessionParameters before = target.active();
  target.negotiation.begin_sequence();
  EXPECT_EQ(
      *target.receive("MaxRecvDataSegmentLength=65536 MaxBurstLength=512 SessionType=Discovery "
                      "InitiatorName=iqn.2026-11.org:x HeaderDigest=CRC32C X-a=b "
                      "FirstBurstLength=512 SendTargets=All AuthMethod=CHAP",
                      Phase::full_feature),
      "MaxBurstLength=Reject SessionType=Reject InitiatorName=Reject HeaderDigest=Reject "
      "X-a=NotUnderstood AuthMethod=Reject FirstBurstLength=Reject");
  SessionParameters after = before;
  after.max_send_data_segment_length = 65536;
  EXPECT_EQ(target.active(), after);
  EXPECT_EQ(target.negotiation.peer().session_type, SessionType::normal);
  EXPECT_EQ(target.negotiation.peer().initiator_name, "");
  EXPECT_EQ(target.error("MaxRecvDataSegmentLength=512", Phase::full_feature), Errc::protocol);
  target.negotiation.begin_sequence();
  EXPECT_TRUE(target.receive("MaxRecvDataSegmentLength=512", Phase::full_feature));
  EXPECT_EQ(target.active().max_send_data_segment_length, 512u);
}

}  // namespace
}  // namespace holdfast::iscsi
