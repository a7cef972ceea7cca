// Whole logins, PDU by PDU.

#include "common/iscsi/login_server.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/iscsi/login_fixture.h"

namespace holdfast::iscsi {
namespace {

TEST_F(LoginServerTest, OperationalStageOnly) {
  ASSERT_EQ(send(kOperationalToFull,
                 join(kOpen, kTarget,
                      "SessionType=Normal HeaderDigest=CRC32C,None DataDigest=None InitialR2T=No "
                      "ImmediateData=Yes MaxRecvDataSegmentLength=262144 MaxBurstLength=262144")),
            Next::wait_for_grant);
  EXPECT_EQ(identities_, 1);
  EXPECT_EQ(login_->initiator_name(), "iqn.2026-11.org.holdfast:open");
  EXPECT_EQ(login_->target_name(), "iqn.2026-11.org.holdfast:store");
  EXPECT_EQ(login_->session_type(), SessionType::normal);
  EXPECT_EQ(login_->isid(), 0x400001370000u);
  EXPECT_EQ(login_->tsih(), 0);
  EXPECT_EQ(login_->cid(), 5);
  EXPECT_EQ(login_->authenticated_user(), "");
  EXPECT_EQ(login_->first_cmd_sn(), 100u);
  EXPECT_TRUE(login_->parameters().header_digest);
  EXPECT_FALSE(login_->parameters().initial_r2t);
  EXPECT_EQ(login_->parameters().max_send_data_segment_length, 262144u);

  ASSERT_EQ(login_->grant(9).next, Next::full_feature);
  const LoginResponsePdu& response = login_->response();
  EXPECT_EQ(response.opcode, 0x23);
  EXPECT_EQ(response.flags, kOperationalToFull);
  EXPECT_EQ(response.tsih.get(), 9);
  EXPECT_EQ(response.isid.get(), 0x400001370000u);
  EXPECT_EQ(response.status_class, 0);
  EXPECT_EQ(response.stat_sn.get(), 40u);
  EXPECT_EQ(response.exp_cmd_sn.get(), 100u);
  EXPECT_EQ(response.max_cmd_sn.get(), 163u);
  EXPECT_EQ(login_->next_stat_sn(), 41u);
  EXPECT_EQ(words(),
            "HeaderDigest=CRC32C DataDigest=None InitialR2T=No ImmediateData=Yes "
            "MaxBurstLength=262144 TargetPortalGroupTag=3 MaxRecvDataSegmentLength=262144 ");
  EXPECT_EQ(response.data_segment_length.get(), words().size());
}

TEST_F(LoginServerTest, SecurityThenOperationalWithoutChap) {
  ASSERT_EQ(send(kSecurityToOperational, join(kOpen, kTarget, "AuthMethod=CHAP,None")),
            Next::reply);
  EXPECT_EQ(words(), "TargetPortalGroupTag=3 AuthMethod=None ");
  EXPECT_EQ(login_->response().flags, kSecurityToOperational);
  EXPECT_EQ(identities_, 1);
  ASSERT_EQ(send(kOperationalToFull, "MaxRecvDataSegmentLength=8192"), Next::wait_for_grant);
  EXPECT_EQ(identities_, 1) << "established once";
  ASSERT_EQ(login_->grant(1).next, Next::full_feature);
  EXPECT_EQ(words(), "MaxRecvDataSegmentLength=262144 ");
  EXPECT_EQ(login_->response().stat_sn.get(), 41u);
}

TEST_F(LoginServerTest, SecurityStraightToFullFeature) {
  ASSERT_EQ(send(flags(kT, 0, 3), join(kOpen, kTarget, "AuthMethod=None")), Next::wait_for_grant);
  EXPECT_EQ(login_->parameters(), SessionParameters()) << "all defaults: nothing was negotiated";
}

TEST_F(LoginServerTest, StagesCanTakeSeveralRequests) {
  ASSERT_EQ(send(flags(0, 0), join(kOpen, kTarget)), Next::reply);
  EXPECT_EQ(login_->response().flags, flags(0, 0));
  ASSERT_EQ(send(flags(0, 0), "AuthMethod=None"), Next::reply);
  ASSERT_EQ(send(kSecurityToOperational, ""), Next::reply);
  EXPECT_EQ(login_->response().flags, kSecurityToOperational);
  ASSERT_EQ(send(flags(0, 1), "MaxBurstLength=8192"), Next::reply);
  EXPECT_EQ(login_->response().flags, flags(0, 1));
  ASSERT_EQ(send(kOperationalToFull, "FirstBurstLength=65536"), Next::wait_for_grant);
  EXPECT_EQ(login_->parameters().first_burst_length, 8192u);
}

// libiscsi's way: T=1 from the first request on, names again in the operational stage.
// No way around CHAP: not by another stage, another method, or by silence.
TEST_F(LoginServerTest, NamesAreNeeded) {
  EXPECT_EQ(refused(kOperationalToFull, ""), LoginStatus::missing_parameter);
  restart();
  EXPECT_EQ(refused(kOperationalToFull, kTarget), LoginStatus::missing_parameter);
  restart();
  EXPECT_EQ(refused(kOperationalToFull, kOpen), LoginStatus::missing_parameter);
  restart();
  EXPECT_EQ(refused(kOperationalToFull, "SessionType=Discovery"), LoginStatus::missing_parameter);
  EXPECT_EQ(policy_.asked, 0);
  restart();
  EXPECT_EQ(refused(kOperationalToFull, join("InitiatorName=hv1 ", kTarget)),
            LoginStatus::initiator_error);
}

TEST_F(LoginServerTest, ThePolicyDecides) {
  EXPECT_EQ(refused(kOperationalToFull, join(kOpen, "TargetName=iqn.2026-11.org.holdfast:none")),
            LoginStatus::not_found);
  restart();
  EXPECT_EQ(refused(kOperationalToFull, join(kOpen, "TargetName=other")), LoginStatus::not_found);
  restart();
  EXPECT_EQ(refused(kOperationalToFull,
                    join("InitiatorName=iqn.2026-11.org.holdfast:stranger ", kTarget)),
            LoginStatus::authorization_failure);
  restart();
  EXPECT_EQ(refused(kOperationalToFull, join(kOpen, kTarget, "SessionType=Strange")),
            LoginStatus::session_type_not_supported);
}

TEST_F(LoginServerTest, Discovery) {
  ASSERT_EQ(send(kOperationalToFull, join(kOpen, "SessionType=Discovery InitialR2T=No")),
            Next::wait_for_grant);
  EXPECT_EQ(login_->session_type(), SessionType::discovery);
  EXPECT_EQ(login_->target_name(), "");
  EXPECT_EQ(words(), "InitialR2T=Irrelevant MaxRecvDataSegmentLength=262144 ")
      << "no portal group tag without a target";
  restart();
  EXPECT_EQ(refused(kOperationalToFull, join(kChap, "SessionType=Discovery")),
            LoginStatus::authentication_failure)
      << "discovery has its own authentication";
}

// A login that was let in as one thing must not become another.
TEST_F(LoginServerTest, Versions) {
  request_.version_max = 3;
  ASSERT_EQ(send(flags(0, 1), join(kOpen, kTarget)), Next::reply);
  EXPECT_EQ(login_->response().version_max, 0);
  EXPECT_EQ(login_->response().version_active, 0);
  restart();
  request_.version_min = 1;
  EXPECT_EQ(refused(flags(0, 1), join(kOpen, kTarget)), LoginStatus::unsupported_version);
}

TEST_F(LoginServerTest, IllegalFlags) {
  const uint8_t cases[] = {
      flags(kT, 1, 0), flags(kT, 1, 1),      flags(kT, 1, 2),      flags(kT, 0, 0),
      flags(kT, 0, 2), flags(0, 2),          flags(0, 3),          flags(kT, 3, 3),
      flags(kT, 2, 3), flags(kT | kC, 1, 3), flags(kT | kC, 0, 1),
  };
  for (const uint8_t bits : cases) {
    restart();
    EXPECT_EQ(refused(bits, join(kOpen, kTarget)), LoginStatus::initiator_error) << int{bits};
  }
  restart();
  ASSERT_EQ(send(flags(0, 1), join(kOpen, kTarget)), Next::reply);
  EXPECT_EQ(refused(flags(0, 0), ""), LoginStatus::initiator_error) << "no way back";
}

TEST_F(LoginServerTest, WhatMustNotChange) {
  const auto attempt = [&](auto change) {
    const LoginRequestPdu saved = request_;
    restart();
    EXPECT_EQ(send(flags(0, 1), join(kOpen, kTarget)), Next::reply);
    change(request_);
    const Next next = send(flags(0, 1), "");
    request_ = saved;
    return next;
  };
  EXPECT_EQ(attempt([](auto&) {}), Next::reply);
  EXPECT_EQ(attempt([](auto& r) { r.isid = 1; }), Next::reply_and_close);
  EXPECT_EQ(attempt([](auto& r) { r.tsih = 1; }), Next::reply_and_close);
  EXPECT_EQ(attempt([](auto& r) { r.cid = 1; }), Next::reply_and_close);
  EXPECT_EQ(attempt([](auto& r) { r.itt = 1; }), Next::reply_and_close);
  EXPECT_EQ(attempt([](auto& r) { r.cmd_sn = 101; }), Next::reply_and_close);
  EXPECT_EQ(attempt([](auto& r) { r.exp_stat_sn = 42; }), Next::reply_and_close);
  EXPECT_EQ(attempt([](auto& r) { r.total_ahs_length = 1; }), Next::reply_and_close);
  request_.exp_stat_sn = 40;
  restart();
  EXPECT_EQ(send(flags(0, 1), join(kOpen, kTarget)), Next::reply);
  request_.exp_stat_sn = 40;  // an old acknowledgement is fine; the answer goes on counting
  EXPECT_EQ(send_raw(flags(0, 1), "x"), Next::reply_and_close);
}

TEST_F(LoginServerTest, ContinuedRequestsAreJoined) {
  const std::string text = wire(join(kOpen, kTarget, "MaxBurstLength=8192"));
  ASSERT_EQ(send_raw(flags(kC, 1), text.substr(0, 20)), Next::reply);
  EXPECT_EQ(login_->response().flags, flags(0, 1));
  EXPECT_EQ(words(), "");
  EXPECT_EQ(identities_, 0);
  ASSERT_EQ(send_raw(flags(kC, 1), ""), Next::reply) << "C with no data is legal";
  ASSERT_EQ(send_raw(flags(kC, 1), text.substr(20, 30)), Next::reply);
  ASSERT_EQ(send_raw(kOperationalToFull, text.substr(50)), Next::wait_for_grant);
  EXPECT_EQ(login_->parameters().max_burst_length, 8192u);
}

// Checklist: total negotiation <= 64 KiB, number of PDUs capped, also when they are empty.
TEST_F(LoginServerTest, EndlessContinuationIsRefused) {
  const std::string chunk(8192, 'x');
  size_t taken = 0;
  while (send_raw(flags(kC, 1), chunk) == Next::reply) ++taken;
  EXPECT_EQ(taken, kMaxNegotiationBytes / chunk.size());
  EXPECT_EQ(answered_status(), LoginStatus::initiator_error);
  restart();
  taken = 0;
  while (send_raw(flags(kC, 1), "") == Next::reply) ++taken;
  EXPECT_EQ(taken, kMaxLoginPdus);
  restart();
  ASSERT_EQ(send(flags(0, 1), join(kOpen, kTarget)), Next::reply);
  taken = 1;
  while (send(flags(0, 1), "") == Next::reply) ++taken;
  EXPECT_EQ(taken, kMaxLoginPdus);
}

// LIO CVE-2026-63887: 2048 unknown keys must not become 32 KiB of NotUnderstood.
TEST_F(LoginServerTest, ManyUnknownKeysAreRefused) {
  std::string text = wire(join(kOpen, kTarget));
  for (int i = 0; i < 2048; ++i) text += "a" + std::to_string(i) + "=b" + '\0';
  while (text.size() > 8000) {
    ASSERT_EQ(send_raw(flags(kC, 1), text.substr(0, 8000)), Next::reply);
    text.erase(0, 8000);
  }
  ASSERT_EQ(send_raw(kOperationalToFull, text), Next::reply_and_close);
  EXPECT_EQ(answered_status(), LoginStatus::out_of_resources);
  EXPECT_TRUE(login_->response_data().empty());
}

TEST_F(LoginServerTest, GarbageIsRefused) {
  for (const std::string& text : {std::string("x"), std::string("A=b"), std::string("\0", 1),
                                  std::string("=\0", 2), std::string(8192, 'A'), wire("A=1 A=2")}) {
    restart();
    ASSERT_EQ(send_raw(flags(0, 0), text), Next::reply_and_close);
    EXPECT_EQ(answered_status(), LoginStatus::initiator_error);
  }
}

TEST_F(LoginServerTest, OtherPdusBeforeTheLoginCloseWithoutAnAnswer) {
  for (unsigned opcode = 0; opcode <= kOpcodeMask; ++opcode) {
    if (opcode == 0x03) continue;
    restart();
    Bhs bhs;
    bhs.opcode = static_cast<uint8_t>(opcode);
    EXPECT_EQ(login_->on_pdu(bhs, {}).next, Next::close) << opcode;
  }
}

TEST_F(LoginServerTest, OtherPdusDuringTheLoginAreRefused) {
  ASSERT_EQ(send(flags(0, 1), join(kOpen, kTarget)), Next::reply);
  Bhs bhs;
  bhs.opcode = 0x01;
  ASSERT_EQ(login_->on_pdu(bhs, {}).next, Next::reply_and_close);
  EXPECT_EQ(answered_status(), LoginStatus::invalid_during_login);
}

// LIO CVE-2022-50350: something right behind the last login request.
TEST_F(LoginServerTest, APduBeforeTheGrantEndsTheLogin) {
  for (const uint8_t opcode : {uint8_t{0x01}, uint8_t{0x43}}) {
    restart();
    ASSERT_EQ(send(kOperationalToFull, join(kOpen, kTarget)), Next::wait_for_grant);
    Bhs bhs = base::load<Bhs>(base::as_bytes(request_));
    bhs.opcode = opcode;
    ASSERT_EQ(login_->on_pdu(bhs, {}).next, Next::reply_and_close);
    EXPECT_EQ(login_->status(), LoginStatus::invalid_during_login);
  }
}

TEST_F(LoginServerTest, Deny) {
  ASSERT_EQ(send(kOperationalToFull, join(kOpen, kTarget)), Next::wait_for_grant);
  ASSERT_EQ(login_->deny(LoginStatus::out_of_resources, "none left").next, Next::reply_and_close);
  EXPECT_EQ(answered_status(), LoginStatus::out_of_resources);
  EXPECT_EQ(login_->response().tsih.get(), 0);
  restart();
  ASSERT_EQ(send(flags(0, 1), join(kOpen, kTarget)), Next::reply);
  ASSERT_EQ(login_->deny(LoginStatus::service_unavailable, "not now").next, Next::reply_and_close);
  restart();
  EXPECT_EQ(login_->deny(LoginStatus::service_unavailable, "not now").next, Next::close)
      << "a peer that never asked gets no answer";
}

TEST_F(LoginServerTest, AddingAConnectionToASession) {
  request_.tsih = 77;
  EXPECT_EQ(refused(kOperationalToFull, join(kOpen, kTarget)), LoginStatus::too_many_connections);
  EXPECT_EQ(identities_, 0) << "it must not reinstate the session";
  request_.tsih = 78;
  restart();
  EXPECT_EQ(refused(kOperationalToFull, join(kOpen, kTarget)), LoginStatus::session_does_not_exist);
}

TEST_F(LoginServerTest, TheStageWaitsForAnswersToOurOffers) {
  restart({.immediate_data = false});
  ASSERT_EQ(send(kOperationalToFull, join(kOpen, kTarget)), Next::reply);
  EXPECT_EQ(login_->response().flags, flags(0, 1));
  EXPECT_EQ(answer("ImmediateData"), "No");
  ASSERT_EQ(send(kOperationalToFull, ""), Next::reply);
  EXPECT_EQ(login_->response().flags, flags(0, 1));
  ASSERT_EQ(send(kOperationalToFull, "ImmediateData=No"), Next::wait_for_grant);
  EXPECT_FALSE(login_->parameters().immediate_data);
}

TEST_F(LoginServerTest, SequenceNumbersWrap) {
  request_.cmd_sn = 0xffffffff;
  restart();
  request_.exp_stat_sn = 0xffffffff;
  ASSERT_EQ(send(kSecurityToOperational, join(kOpen, kTarget)), Next::reply);
  ASSERT_EQ(request_.exp_stat_sn.get(), 0u);
  ASSERT_EQ(send(kOperationalToFull, ""), Next::wait_for_grant);
  ASSERT_EQ(login_->grant(1).next, Next::full_feature);
  EXPECT_EQ(login_->response().stat_sn.get(), 0u);
  EXPECT_EQ(login_->response().max_cmd_sn.get(), 62u);
}

}  // namespace
}  // namespace holdfast::iscsi
