// CHAP in the initiator's login: nothing gets past it.

#include "tests/unit/iscsi/login_client_fixture.h"

namespace holdfast::iscsi {
namespace {

constexpr uint8_t kSecurity = flags(0, 0);
constexpr uint8_t kOperational = flags(0, 1);

TEST_F(LoginClientTest, OneWayChap) {
  options_.chap = one_way_chap();
  answer_chap();
  EXPECT_EQ(request_flags(), kSecurityToOperational);
  EXPECT_EQ(sent("CHAP_N"), "hv1");
  EXPECT_EQ(sent("CHAP_C"), "<absent>");
  EXPECT_FALSE(client_->chap_done());
  // A target may take another round trip for its consent.
  ASSERT_EQ(answer(kSecurity, ""), Step::send);
  EXPECT_EQ(request_flags(), kSecurityToOperational);
  ASSERT_EQ(answer(kSecurityToOperational, ""), Step::send);
  ASSERT_EQ(answer(kOperationalToFull, ""), Step::full_feature);
  EXPECT_TRUE(client_->chap_done());
  EXPECT_FALSE(client_->target_proved());
  EXPECT_EQ(client_->chap_algorithm(), ChapAlgorithm::sha256);
}

TEST_F(LoginClientTest, MutualChap) {
  options_.chap = mutual_chap();
  answer_chap();
  const std::string right = proof("store", "reverse secret 2");
  ASSERT_EQ(answer(kSecurityToOperational, right), Step::send);
  EXPECT_TRUE(client_->target_proved());
  ASSERT_EQ(answer(kOperationalToFull, ""), Step::full_feature);

  // The proof and the consent in two responses.
  answer_chap();
  ASSERT_EQ(answer(kSecurity, proof("store", "reverse secret 2")), Step::send);
  ASSERT_EQ(answer(kSecurityToOperational, ""), Step::send);
  EXPECT_EQ(request_flags(), kOperationalToFull);
}

// A target that does not prove itself gets neither a command nor another word.
TEST_F(LoginClientTest, ATargetThatDoesNotProveItselfIsLeft) {
  options_.chap = mutual_chap();
  answer_chap();
  EXPECT_EQ(answer(kSecurityToOperational, ""), Step::failed);
  EXPECT_EQ(client_->status(), LoginStatus::authentication_failure);
  EXPECT_EQ(client_->request_data().size(), 0u);

  answer_chap();
  EXPECT_EQ(answer(kSecurityToOperational, proof("store", "another secret")), Step::failed);
  EXPECT_EQ(client_->status(), LoginStatus::authentication_failure);
  answer_chap();
  EXPECT_EQ(answer(kSecurityToOperational, proof("other", "reverse secret 2")), Step::failed);
  answer_chap();  // empty responses for ever
  Step step = Step::send;
  for (uint32_t i = 0; i <= kMaxLoginPdus && step == Step::send; ++i) step = answer(kSecurity, "");
  EXPECT_EQ(step, Step::failed);
}

TEST_F(LoginClientTest, ChapThatIsDemandedIsNotGivenUp) {
  for (const ChapCredentials& credentials : {one_way_chap(), mutual_chap()}) {
    options_.chap = credentials;
    for (const std::string_view answer_of_the_target :
         {"AuthMethod=None", "AuthMethod=Reject", "AuthMethod=SRP", "AuthMethod=CHAP,None",
          "AuthMethod=", "CHAP_A=5 CHAP_I=1 CHAP_C=0x00"}) {
      ASSERT_EQ(start(), Step::send);
      EXPECT_EQ(answer(kSecurity, answer_of_the_target), Step::failed) << answer_of_the_target;
      EXPECT_EQ(client_->status(), LoginStatus::authentication_failure);
    }
    // Past the stage without a word about it: T was not even asked for.
    ASSERT_EQ(start(), Step::send);
    EXPECT_EQ(answer(kSecurityToOperational, ""), Step::failed);
    EXPECT_STREQ(client_->reason(), "the target leaves a login stage unasked");
    ASSERT_EQ(start(), Step::send);
    EXPECT_EQ(answer(kOperational, ""), Step::failed);
    ASSERT_EQ(start(), Step::send);
    ASSERT_EQ(answer(kSecurity, "AuthMethod=CHAP"), Step::send);
    EXPECT_EQ(sent("CHAP_A"), "8,7,6,5");
    EXPECT_EQ(answer(kSecurityToOperational, ""), Step::failed);
    ASSERT_EQ(start(), Step::send);
    ASSERT_EQ(answer(kSecurity, "AuthMethod=CHAP"), Step::send);
    EXPECT_EQ(answer(kSecurity, "AuthMethod=None"), Step::failed);
  }
}

TEST_F(LoginClientTest, TheMethodIsChosenOnce) {
  ASSERT_EQ(start(), Step::send);
  ASSERT_EQ(answer(kSecurity, "AuthMethod=None"), Step::send);
  EXPECT_EQ(answer(kSecurityToOperational, "AuthMethod=None"), Step::failed);

  options_.chap = one_way_chap();
  answer_chap();
  EXPECT_EQ(answer(kSecurity, "AuthMethod=CHAP"), Step::failed);  // CHAP anew
  options_.chap->required = false;
  answer_chap();
  EXPECT_EQ(answer(kSecurityToOperational, "AuthMethod=None"), Step::failed);
}

TEST_F(LoginClientTest, ChapThatIsNotDemandedIsTheTargetsChoice) {
  options_.chap = one_way_chap();
  options_.chap->required = false;
  ASSERT_EQ(start(), Step::send);
  ASSERT_EQ(answer(kSecurityToOperational, "AuthMethod=None"), Step::send);
  ASSERT_EQ(answer(kOperationalToFull, ""), Step::full_feature);
  EXPECT_FALSE(client_->chap_done());

  answer_chap();  // the first request had T, the next ones have not
  ASSERT_EQ(answer(kSecurityToOperational, ""), Step::send);
  EXPECT_EQ(request_flags(), kOperationalToFull);

  // Once chosen it has to be done.
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(answer(kSecurityToOperational, "AuthMethod=CHAP"), Step::failed);
  EXPECT_EQ(client_->status(), LoginStatus::authentication_failure);
}

TEST_F(LoginClientTest, WithoutASecretNoChapIsDone) {
  for (const std::string_view list :
       {"AuthMethod=CHAP", "CHAP_A=5 CHAP_I=1 CHAP_C=0x00", "CHAP_N=store CHAP_R=0x00",
        "AuthMethod=None CHAP_A=5", "AuthMethod=KRB5"}) {
    ASSERT_EQ(start(), Step::send);
    EXPECT_EQ(answer(kSecurityToOperational, list), Step::failed) << list;
    EXPECT_EQ(client_->status(), LoginStatus::authentication_failure);
    EXPECT_EQ(client_->request_data().size(), 0u);
  }
}

TEST_F(LoginClientTest, HostileChallengesGetNoAnswer) {
  options_.chap = one_way_chap();
  for (const std::string_view list :
       {"CHAP_A=9 CHAP_I=1 CHAP_C=0x00", "CHAP_A=5 CHAP_I=1", "CHAP_A=5 CHAP_I=256 CHAP_C=0x00",
        "CHAP_A=5 CHAP_I=1 CHAP_C=0x0", "AuthMethod=CHAP CHAP_A=5 CHAP_I=1 CHAP_C=0x00"}) {
    ASSERT_EQ(start(), Step::send);
    ASSERT_EQ(answer(kSecurity, "AuthMethod=CHAP"), Step::send);
    EXPECT_EQ(answer(kSecurity, list), Step::failed) << list;
    EXPECT_EQ(client_->request_data().size(), 0u);
  }
  // The method and the challenge at once: no algorithm was offered yet.
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(answer(kSecurity, "AuthMethod=CHAP CHAP_A=5 CHAP_I=1 CHAP_C=0x00"), Step::failed);

  options_.chap->algorithms = {.md5 = false, .sha1 = false, .sha256 = false, .sha3_256 = false};
  ASSERT_EQ(start(), Step::send);
  EXPECT_EQ(answer(kSecurity, "AuthMethod=CHAP"), Step::failed);
}

// tgt takes 7 from the list for SHA1 and answers the SHA-256 with 0200.
TEST_F(LoginClientTest, ARefusalAfterAlgorithm7MayBeAMisunderstanding) {
  options_.chap = one_way_chap();
  answer_chap("7");
  ASSERT_EQ(refuse(2, 0), Step::refused);
  EXPECT_TRUE(client_->may_retry_without_sha256());
  answer_chap("5");
  ASSERT_EQ(refuse(2, 1), Step::refused);
  EXPECT_TRUE(client_->chap_refused());
  EXPECT_FALSE(client_->may_retry_without_sha256());
  answer_chap("7");
  ASSERT_EQ(refuse(3, 1), Step::refused);
  EXPECT_FALSE(client_->may_retry_without_sha256());
  answer_chap("7");  // a refusal for another reason, after the answer was good
  ASSERT_EQ(answer(kSecurityToOperational, ""), Step::send);
  ASSERT_EQ(refuse(2, 3), Step::refused);
  EXPECT_FALSE(client_->chap_refused());
  EXPECT_FALSE(client_->may_retry_without_sha256());
}

}  // namespace
}  // namespace holdfast::iscsi
