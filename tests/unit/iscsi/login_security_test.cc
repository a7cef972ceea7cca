// Logins that have to prove who they are, and ways around it that must not work.

#include "common/iscsi/login_server.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/iscsi/login_fixture.h"

namespace holdfast::iscsi {
namespace {

TEST_F(LoginServerTest, ChapLoginAsLibiscsiDoesIt) {
  challenge();
  EXPECT_EQ(identities_, 0) << "a claim is not an identity: nobody's session dies for it";
  EXPECT_EQ(login_->response().flags & kT, 0);
  ASSERT_EQ(send(kSecurityToOperational, chap_names("hv1", "forward secret 1")), Next::reply);
  EXPECT_EQ(login_->response().flags, kSecurityToOperational);
  EXPECT_EQ(identities_, 1);
  EXPECT_EQ(login_->authenticated_user(), "hv1");
  ASSERT_EQ(send(kOperationalToFull, join(kChap, kTarget, "SessionType=Normal InitialR2T=Yes")),
            Next::wait_for_grant);
  EXPECT_EQ(identities_, 1);
  ASSERT_EQ(login_->grant(2).next, Next::full_feature);
}

TEST_F(LoginServerTest, MutualChap) {
  challenge();
  ASSERT_EQ(send(kSecurityToOperational,
                 chap_names("hv1", "forward secret 1") + "CHAP_I=9 CHAP_C=0x0123456789abcdef"),
            Next::reply);
  EXPECT_EQ(answer("CHAP_N"), "store");
  std::vector<uint8_t> digest(32);
  const std::vector<uint8_t> theirs = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
  ASSERT_TRUE(chap_digest(ChapAlgorithm::sha256, 9, secret("reverse secret 2"), theirs, digest));
  std::vector<uint8_t> received(32);
  ASSERT_TRUE(decode_binary(answer("CHAP_R"), received).has_value());
  EXPECT_EQ(received, digest);
}

// The peer gets no hint at what was wrong; our log does.
TEST_F(LoginServerTest, WrongChapAnswersGetTheSameRefusal) {
  challenge();
  EXPECT_EQ(refused(kSecurityToOperational, chap_names("hv1", "guess")),
            LoginStatus::authentication_failure);
  EXPECT_STREQ(login_->reason(), "CHAP: the secret is wrong");
  restart();
  challenge();
  EXPECT_EQ(refused(kSecurityToOperational, chap_names("hv2", "forward secret 1")),
            LoginStatus::authentication_failure);
  EXPECT_STREQ(login_->reason(), "CHAP: the user is not the one of this initiator");
  EXPECT_EQ(identities_, 0);
}

TEST_F(LoginServerTest, ThePolicyBoundsHowOftenASecretIsTried) {
  challenge();
  refused(kSecurityToOperational, chap_names("hv1", "guess"));
  EXPECT_EQ(policy_.failures, 1);
  policy_.too_often = true;
  for (const std::string_view tried : {"guess", "forward secret 1"}) {
    restart();
    challenge();
    EXPECT_EQ(refused(kSecurityToOperational, chap_names("hv1", tried)),
              LoginStatus::service_unavailable);
  }
  EXPECT_EQ(policy_.proofs, 1);
  EXPECT_EQ(identities_, 0);
}

TEST_F(LoginServerTest, ChapCanNotBeAvoided) {
  const auto names = [&](std::string_view more) { return join(kChap, kTarget, more); };
  const struct {
    uint8_t bits;
    std::string_view keys;
  } cases[] = {
      {kOperationalToFull, ""},
      {flags(0, 1), ""},
      {kSecurityToOperational, ""},
      {flags(kT, 0, 3), ""},
      {kSecurityToOperational, "AuthMethod=None"},
      {flags(kT, 0, 3), "AuthMethod=None"},
      {kSecurityToOperational, "AuthMethod=KRB5,None"},
      {flags(0, 0), "AuthMethod=None"},
  };
  for (const auto& c : cases) {
    restart();
    EXPECT_EQ(refused(c.bits, names(c.keys)), LoginStatus::authentication_failure) << c.keys;
    EXPECT_EQ(identities_, 0);
  }
  restart();
  challenge();
  EXPECT_EQ(send(kSecurityToOperational, ""), Next::reply);
  EXPECT_EQ(login_->response().flags, flags(0, 0)) << "no transit before the proof";
  EXPECT_EQ(refused(kOperationalToFull, ""), LoginStatus::initiator_error)
      << "the stage can not be skipped either";
}

TEST_F(LoginServerTest, AnInitiatorThatInsistsOnChapIsRefusedWithoutASecret) {
  EXPECT_EQ(refused(kSecurityToOperational, join(kOpen, kTarget, "AuthMethod=CHAP")),
            LoginStatus::authentication_failure);
}

TEST_F(LoginServerTest, SecurityKeysOutOfPlace) {
  EXPECT_EQ(refused(kSecurityToOperational, join(kOpen, kTarget, "AuthMethod=None CHAP_A=5")),
            LoginStatus::initiator_error);
  restart();
  EXPECT_EQ(refused(kOperationalToFull, join(kOpen, kTarget, "AuthMethod=None")),
            LoginStatus::initiator_error);
  restart();
  EXPECT_EQ(refused(kSecurityToOperational, join(kOpen, kTarget, "MaxBurstLength=512")),
            LoginStatus::initiator_error);
  restart();
  ASSERT_EQ(send(flags(0, 0), join(kOpen, kTarget, "AuthMethod=None")), Next::reply);
  EXPECT_EQ(refused(flags(0, 0), "AuthMethod=CHAP"), LoginStatus::initiator_error);
}

TEST_F(LoginServerTest, SessionTypeAndNamesStayWhatWasDecidedOn) {
  ASSERT_EQ(send(flags(0, 1), join(kOpen, kTarget)), Next::reply);
  EXPECT_EQ(refused(kOperationalToFull, "SessionType=Discovery"), LoginStatus::initiator_error);
  restart();
  ASSERT_EQ(send(flags(0, 1), join(kOpen, "SessionType=Discovery")), Next::reply);
  EXPECT_EQ(refused(kOperationalToFull, kTarget), LoginStatus::initiator_error);
  restart();
  challenge();
  ASSERT_EQ(send(kSecurityToOperational, chap_names("hv1", "forward secret 1")), Next::reply);
  EXPECT_EQ(refused(kOperationalToFull, kOpen), LoginStatus::initiator_error);
}

TEST_F(LoginServerTest, OnlyAProvedInitiatorLearnsWhichSessionsExist) {
  request_.tsih = 77;
  challenge();
  EXPECT_EQ(policy_.joins, 0);
  EXPECT_EQ(refused(kSecurityToOperational, chap_names("hv1", "guess")),
            LoginStatus::authentication_failure);
  EXPECT_EQ(policy_.joins, 0);
  restart();
  challenge();
  EXPECT_EQ(refused(kSecurityToOperational, chap_names("hv1", "forward secret 1")),
            LoginStatus::too_many_connections);
  EXPECT_EQ(policy_.joins, 1);
}

}  // namespace
}  // namespace holdfast::iscsi
