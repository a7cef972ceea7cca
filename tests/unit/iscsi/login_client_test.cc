#include "common/iscsi/login_client.h"

#include "tests/unit/iscsi/login_client_fixture.h"

namespace holdfast::iscsi {
namespace {

constexpr uint8_t kSecurity = flags(0, 0);
constexpr uint8_t kOperational = flags(0, 1);

TEST_F(LoginClientTest, BeginsInTheSecurityStageWhateverItProves) {
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(request_flags(), kSecurityToOperational);
  EXPECT_EQ(words(),
            "InitiatorName=iqn.2026-11.org.holdfast:hv1 SessionType=Normal "
            "TargetName=iqn.2026-11.org.holdfast:store AuthMethod=None ");
  const LoginRequestPdu& request = client_->request();
  EXPECT_EQ(request.opcode, 0x43);
  EXPECT_EQ(request.isid.get(), kIsid);
  EXPECT_EQ(request.tsih.get(), 0);
  EXPECT_EQ(request.itt.get(), 0x55u);
  EXPECT_EQ(request.cid.get(), 3);
  EXPECT_EQ(request.cmd_sn.get(), 100u);

  options_.chap = one_way_chap();
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(request_flags(), kSecurity);
  EXPECT_EQ(sent("AuthMethod"), "CHAP");

  options_.chap->required = false;
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(request_flags(), kSecurityToOperational);
  EXPECT_EQ(sent("AuthMethod"), "CHAP,None");

  // Who demands a proof of the target demands CHAP.
  options_.chap->target = mutual_chap().target;
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(sent("AuthMethod"), "CHAP");
}

TEST_F(LoginClientTest, DiscoveryNamesNoTarget) {
  options_.target_name.clear();
  options_.initiator_alias = "node 1";
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(words(),
            "InitiatorName=iqn.2026-11.org.holdfast:hv1 InitiatorAlias=node 1 "
            "SessionType=Discovery AuthMethod=None ");
  ASSERT_EQ(answer(kSecurityToOperational, "AuthMethod=None"), Step::send);
  EXPECT_EQ(sent("InitialR2T"), "<absent>");
  ASSERT_EQ(answer(kOperationalToFull, "HeaderDigest=None DataDigest=None"), Step::full_feature);
  EXPECT_FALSE(client_->portal_group_tag().has_value());
}

// As Debian's tgt 1.0.85 answered, byte for byte.
TEST_F(LoginClientTest, TheLoginOfTgt) {
  ASSERT_EQ(start(), Step::send);
  ASSERT_EQ(answer(kSecurityToOperational, "TargetPortalGroupTag=1 AuthMethod=None"), Step::send);
  EXPECT_EQ(request_flags(), kOperationalToFull);
  LoginResponsePdu last = response(kOperationalToFull);
  last.tsih = 0x0100;
  ASSERT_EQ(answer_pdu(last, wire("HeaderDigest=None DataDigest=None MaxConnections=1 "
                                  "InitialR2T=Yes ImmediateData=Yes MaxBurstLength=262144 "
                                  "FirstBurstLength=65536 DefaultTime2Wait=2 DefaultTime2Retain=0 "
                                  "MaxOutstandingR2T=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes "
                                  "ErrorRecoveryLevel=0 TaskReporting=NotUnderstood "
                                  "iSCSIProtocolLevel=NotUnderstood")),
            Step::full_feature);
  SessionParameters expected;
  expected.max_recv_data_segment_length = options_.parameters.max_recv_data_segment_length;
  expected.default_time2retain = 0;
  EXPECT_EQ(client_->parameters(), expected);
  EXPECT_EQ(client_->tsih(), 0x0100);
  EXPECT_EQ(client_->portal_group_tag(), uint16_t{1});
  EXPECT_EQ(client_->exp_stat_sn(), 0u);
  EXPECT_EQ(client_->exp_cmd_sn(), 100u);
  EXPECT_EQ(client_->max_cmd_sn(), 101u);
  EXPECT_FALSE(client_->chap_done());
}

// tgt with a MaxRecvDataSegmentLength of its own stays for it, with NSG filled and no T.
TEST_F(LoginClientTest, ATargetMayStayInAStage) {
  ASSERT_EQ(start(), Step::send);
  ASSERT_EQ(answer(kSecurity, "TargetPortalGroupTag=1"), Step::send);
  EXPECT_EQ(request_flags(), kSecurityToOperational);
  EXPECT_EQ(words(), "");
  EXPECT_EQ(client_->request().exp_stat_sn.get(), 0xffffffffu);
  ASSERT_EQ(answer(flags(0, 0, 1), "AuthMethod=None"), Step::send);
  EXPECT_EQ(request_flags(), kSecurityToOperational);
  ASSERT_EQ(answer(kSecurityToOperational, ""), Step::send);
  EXPECT_EQ(request_flags(), kOperationalToFull);
  EXPECT_EQ(sent("InitialR2T"), "No");
  ASSERT_EQ(answer(flags(0, 1, 1), "InitialR2T=No MaxRecvDataSegmentLength=65536"), Step::send);
  EXPECT_EQ(request_flags(), kOperationalToFull);
  EXPECT_EQ(words(), "");
  ASSERT_EQ(answer(kOperational, ""), Step::send);
  ASSERT_EQ(answer(kOperationalToFull, "HeaderDigest=None"), Step::full_feature);
  EXPECT_EQ(client_->parameters().max_send_data_segment_length, 65536u);
  EXPECT_FALSE(client_->parameters().initial_r2t);
}

// LIO: the tag with every stage, an alias, MaxRecvDataSegmentLength in the last response.
TEST_F(LoginClientTest, TheLoginOfLio) {
  ASSERT_EQ(start(), Step::send);
  ASSERT_EQ(
      answer(kSecurityToOperational, "AuthMethod=None TargetAlias=LIO\xff TargetPortalGroupTag=1"),
      Step::send);
  ASSERT_EQ(answer(kOperationalToFull,
                   "TargetAlias=LIO\xff TargetPortalGroupTag=1 HeaderDigest=CRC32C "
                   "DataDigest=CRC32C MaxConnections=1 InitialR2T=No ImmediateData=Yes "
                   "MaxBurstLength=262144 FirstBurstLength=65536 DefaultTime2Wait=2 "
                   "DefaultTime2Retain=0 MaxOutstandingR2T=1 DataPDUInOrder=Yes "
                   "DataSequenceInOrder=Yes ErrorRecoveryLevel=0 TaskReporting=RFC3720 "
                   "iSCSIProtocolLevel=1 MaxRecvDataSegmentLength=1048576"),
            Step::full_feature);
  EXPECT_TRUE(client_->parameters().header_digest);
  EXPECT_TRUE(client_->parameters().data_digest);
  EXPECT_EQ(client_->parameters().max_send_data_segment_length, 1048576u);
  EXPECT_EQ(client_->target_alias(), "LIO?");
}

TEST_F(LoginClientTest, ContinuedResponsesAreJoined) {
  ASSERT_EQ(start(), Step::send);
  ASSERT_EQ(answer_pdu(response(flags(kC, 0)), "TargetPortal"), Step::send);
  EXPECT_EQ(request_flags(), kSecurity);
  EXPECT_EQ(words(), "");
  ASSERT_EQ(answer_pdu(response(flags(kC, 0)), ""), Step::send);
  ASSERT_EQ(answer_pdu(response(kSecurityToOperational), wire("GroupTag=9 AuthMethod=None")),
            Step::send);
  EXPECT_EQ(client_->portal_group_tag(), uint16_t{9});
  EXPECT_EQ(request_flags(), kOperationalToFull);
  // A target that answers the empty request without T is asked again.
  ASSERT_EQ(answer_pdu(response(flags(kC, 1)), "InitialR2"), Step::send);
  ASSERT_EQ(answer_pdu(response(kOperational), wire("T=Yes")), Step::send);
  EXPECT_EQ(request_flags(), kOperationalToFull);
  ASSERT_EQ(answer(kOperationalToFull, ""), Step::full_feature);
}

TEST_F(LoginClientTest, EndlessLoginsEnd) {
  enter_operational();
  uint32_t answers = 0;
  while (answer(kOperational, "") == Step::send) ASSERT_LT(++answers, kMaxLoginPdus);
  EXPECT_STREQ(client_->reason(), "the login takes too many PDUs or bytes");

  ASSERT_EQ(start(), Step::send);
  const std::string part(kDefaultDataSegmentBytes, 'a');
  size_t bytes = 0;
  while (answer_pdu(response(flags(kC, 0)), part) == Step::send) bytes += part.size();
  EXPECT_EQ(bytes, kMaxNegotiationBytes);
}

TEST_F(LoginClientTest, KeysThatTheTargetOffersAreAnswered) {
  enter_operational();
  ASSERT_EQ(answer(kOperational, "IFMarker=Yes X-vendor=1 OFMarkInt=512"), Step::send);
  EXPECT_EQ(words(), "IFMarker=No X-vendor=NotUnderstood OFMarkInt=Reject ");
  EXPECT_EQ(request_flags(), kOperationalToFull);
  ASSERT_EQ(answer(kOperationalToFull, "X-more=1"), Step::full_feature);

  enter_operational();
  EXPECT_EQ(answer(kOperationalToFull, "IFMarker=Yes"), Step::failed);
}

TEST_F(LoginClientTest, UnansweredOffersKeepTheirDefault) {
  enter_operational();
  ASSERT_EQ(answer(kOperationalToFull, ""), Step::full_feature);
  SessionParameters expected;
  expected.max_recv_data_segment_length = options_.parameters.max_recv_data_segment_length;
  EXPECT_EQ(client_->parameters(), expected);

  options_.parameters.header_digest = DigestChoice::required;
  enter_operational();
  EXPECT_EQ(answer(kOperationalToFull, ""), Step::failed);
}

TEST_F(LoginClientTest, Refusals) {
  for (const unsigned status :
       {0x0200U, 0x0201U, 0x0203U, 0x0206U, 0x02ffU, 0x0300U, 0x0301U, 0x0302U}) {
    ASSERT_EQ(start(), Step::send);
    ASSERT_EQ(refuse(static_cast<uint8_t>(status >> 8), static_cast<uint8_t>(status)),
              Step::refused);
    EXPECT_EQ(static_cast<unsigned>(client_->status()), status);
    EXPECT_FALSE(client_->may_retry_without_sha256());
  }
  // As tgt and LIO send them: nothing but the tag is filled in.
  enter_operational();
  LoginResponsePdu bare;
  bare.itt = options_.itt;
  bare.status_class = 2;
  bare.status_detail = 1;
  EXPECT_EQ(answer_pdu(bare, ""), Step::refused);
  EXPECT_EQ(client_->status(), LoginStatus::authentication_failure);
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(refuse(4, 0), Step::failed);
}

TEST_F(LoginClientTest, Redirections) {
  ASSERT_EQ(start(), Step::send);
  ASSERT_EQ(refuse(1, 1, "TargetAddress=10.1.0.11:3261"), Step::redirected);
  EXPECT_EQ(client_->redirect_address().to_string(), "10.1.0.11:3261");
  EXPECT_FALSE(client_->redirect_is_permanent());

  enter_operational();
  ASSERT_EQ(refuse(1, 2, "TargetAddress=[fd00::2],1 TargetAlias=x"), Step::redirected);
  EXPECT_EQ(client_->redirect_address().to_string(), "[fd00::2]:3260");
  EXPECT_TRUE(client_->redirect_is_permanent());
  EXPECT_EQ(client_->status(), LoginStatus::target_moved_permanently);

  for (const std::string_view list :
       {"", "TargetAlias=x", "TargetAddress=/etc/passwd", "TargetAddress=10.0.0.1:0",
        "TargetAddress=a TargetAddress=b", "TargetAddress"}) {
    ASSERT_EQ(start(), Step::send);
    EXPECT_EQ(refuse(1, 1, list), Step::failed) << list;
    EXPECT_EQ(client_->redirect_address(), TargetAddress());
  }
}

TEST_F(LoginClientTest, HostileHeaders) {
  struct Case {
    const char* what;
    void (*spoil)(LoginResponsePdu& pdu);
  };
  const Case table[] = {
      {"another ISID", [](LoginResponsePdu& pdu) { pdu.isid = kIsid + 1; }},
      {"another tag", [](LoginResponsePdu& pdu) { pdu.itt = 0x56; }},
      {"another version", [](LoginResponsePdu& pdu) { pdu.version_active = 1; }},
      {"an AHS", [](LoginResponsePdu& pdu) { pdu.total_ahs_length = 1; }},
      {"an older StatSN", [](LoginResponsePdu& pdu) { pdu.stat_sn = pdu.stat_sn - 1; }},
      {"a later StatSN", [](LoginResponsePdu& pdu) { pdu.stat_sn = pdu.stat_sn + 1; }},
      {"T and C", [](LoginResponsePdu& pdu) { pdu.flags = flags(kT | kC, 1, 3); }},
      {"an earlier stage", [](LoginResponsePdu& pdu) { pdu.flags = flags(kT, 0, 1); }},
      {"a later stage", [](LoginResponsePdu& pdu) { pdu.flags = flags(0, 3); }},
      {"stage 2", [](LoginResponsePdu& pdu) { pdu.flags = flags(0, 2); }},
      {"T to its own stage", [](LoginResponsePdu& pdu) { pdu.flags = flags(kT, 1, 1); }},
      {"T backwards", [](LoginResponsePdu& pdu) { pdu.flags = flags(kT, 1, 0); }},
      {"T to stage 2", [](LoginResponsePdu& pdu) { pdu.flags = flags(kT, 1, 2); }},
      {"a request", [](LoginResponsePdu& pdu) { pdu.opcode = 0x03; }},
      {"a Reject", [](LoginResponsePdu& pdu) { pdu.opcode = 0x3f; }},
      {"a NOP-In", [](LoginResponsePdu& pdu) { pdu.opcode = 0x20; }},
  };
  for (const Case& each : table) {
    enter_operational();
    LoginResponsePdu pdu = response(kOperationalToFull);
    each.spoil(pdu);
    EXPECT_EQ(answer_pdu(pdu, ""), Step::failed) << each.what;
    EXPECT_EQ(client_->status(), LoginStatus::target_error);
    enter_operational();
    EXPECT_EQ(answer(kOperationalToFull, ""), Step::full_feature);
  }
  // From the security stage straight to the full feature phase, without parameters.
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(answer(flags(kT, 0, 3), "AuthMethod=None"), Step::failed);
}

TEST_F(LoginClientTest, HostileTexts) {
  const std::string_view table[] = {
      "TargetName=iqn.2026-11.org.holdfast:store",  // an initiator's key
      "SessionType=Normal",
      "InitialR2T=Maybe",
      "ImmediateData=Yes ImmediateData=Yes",
      "MaxBurstLength=16777215",  // more than was offered
      "MaxBurstLength=0",
      "HeaderDigest=MD5",
      "MaxRecvDataSegmentLength=0",
      "MaxRecvDataSegmentLength=16777216",
      "TargetPortalGroupTag=2",  // not what it said before
      "AuthMethod=None",
      "CHAP_A=5",
      "SendTargets=All",
      "TargetAlias=\x1b[2J",
      "key",
      "=value",
      "DataPDUInOrder=No",
      "MaxOutstandingR2T=0",
      "FirstBurstLength=99999999999999999999",
  };
  for (const std::string_view list : table) {
    enter_operational();
    EXPECT_EQ(answer(kOperationalToFull, list), Step::failed) << list;
  }
  enter_operational();
  EXPECT_EQ(answer_pdu(response(kOperationalToFull), "InitialR2T=Yes"), Step::failed);
}

TEST_F(LoginClientTest, OddCommandWindowsAreNotBelieved) {
  struct Case {
    uint32_t exp;
    uint32_t max;
    uint32_t expected;  // 101 is what the response before said
  };
  for (const Case& each :
       {Case{100, 163, 163}, Case{100, 100, 100}, Case{100, 99, 99}, Case{100, 98, 101},
        Case{0, 0, 101}, Case{101, 200, 101}, Case{100, 100 + 0x80000000, 101}}) {
    enter_operational();
    LoginResponsePdu pdu = response(kOperationalToFull);
    pdu.exp_cmd_sn = each.exp;
    pdu.max_cmd_sn = each.max;
    ASSERT_EQ(answer_pdu(pdu, ""), Step::full_feature);
    EXPECT_EQ(client_->max_cmd_sn(), each.expected) << each.exp << " " << each.max;
    EXPECT_EQ(client_->exp_cmd_sn(), 100u);
  }
}

}  // namespace
}  // namespace holdfast::iscsi
