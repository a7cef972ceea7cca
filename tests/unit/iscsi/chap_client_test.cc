#include "common/iscsi/chap_client.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace holdfast::iscsi {
namespace {

using base::Errc;
using Step = ChapClient::Step;

ChapSecret secret(std::string_view text) { return *ChapSecret::create(base::as_bytes(text)); }

constexpr std::string_view kChallenge = "0x000102030405060708090a0b0c0d0e0f";

ChapCredentials one_way() { return {.initiator = {"hv1", secret("forward secret 1")}}; }
ChapCredentials mutual() {
  ChapCredentials credentials = one_way();
  credentials.target = ChapAccount{"store", secret("reverse secret 2")};
  return credentials;
}

// A random source whose bytes a test can foretell.
class FixedRandom final : public base::Random {
 public:
  void fill(base::MutableBytes out) override {
    for (uint8_t& byte : out) byte = next_++;
  }

 private:
  uint8_t next_ = 0xff;  // the identifier; the challenge begins with 0
};

class ChapClientTest : public testing::Test {
 protected:
  explicit ChapClientTest() { restart(one_way()); }

  void restart(const ChapCredentials& credentials) {
    client_.reset();
    credentials_ = credentials;
    client_.emplace(credentials_, random_);
  }
  std::string offer() {
    sent_.clear();
    TextKeyWriter out(sent_, kMaxLoginResponseBytes);
    const auto offered = client_->offer(out);
    return offered.has_value() ? words() : offered.error().what;
  }
  Step step(const ChapKeys& keys) {
    sent_.clear();
    TextKeyWriter out(sent_, kMaxLoginResponseBytes);
    const Step result = client_->step(keys, out);
    EXPECT_EQ(result == Step::failed, client_->reason()[0] != '\0');
    return result;
  }
  Step challenge(std::string_view algorithm = "7") {
    offer();
    return step({.a = algorithm, .i = "5", .c = kChallenge});
  }
  std::string words() const {
    std::string text(base::as_text(sent_));
    for (char& c : text) c = c == '\0' ? ' ' : c;
    return text;
  }
  std::string sent(std::string_view key) const {
    TextMessage message;
    EXPECT_TRUE(message.parse(sent_).has_value());
    return std::string(message.find(key).value_or("<absent>"));
  }
  // What `account` answers to the challenge that was sent.
  std::string answer_of(std::string_view key) const {
    std::vector<uint8_t> bytes(kMaxChapBinaryBytes);
    bytes.resize(*decode_binary(sent("CHAP_C"), bytes));
    std::vector<uint8_t> text;
    TextKeyWriter out(text, 4096);
    EXPECT_TRUE(write_chap_response(client_->algorithm(),
                                    static_cast<uint8_t>(*parse_number(sent("CHAP_I"))), bytes,
                                    {"x", secret(key)}, out)
                    .has_value());
    TextMessage message;
    EXPECT_TRUE(message.parse(text).has_value());
    return std::string(*message.find("CHAP_R"));
  }

  base::SeededRandom random_{11};
  ChapCredentials credentials_;
  std::optional<ChapClient> client_;
  std::vector<uint8_t> sent_;
};

TEST_F(ChapClientTest, OffersWhatIsAllowedTheStrongestFirst) {
  EXPECT_EQ(offer(), "CHAP_A=8,7,6,5 ");
  ChapCredentials credentials = one_way();
  credentials.algorithms = {.md5 = true, .sha1 = false, .sha256 = true, .sha3_256 = false};
  restart(credentials);
  EXPECT_EQ(offer(), "CHAP_A=7,5 ");
  credentials.algorithms = {.md5 = false, .sha1 = false, .sha256 = false, .sha3_256 = false};
  restart(credentials);
  EXPECT_EQ(offer(), "no CHAP algorithm is allowed and available");
}

// Checked by chap_digest(), which has known answers of its own.
TEST_F(ChapClientTest, AnswersTheChallenge) {
  ASSERT_EQ(challenge(), Step::answered);
  EXPECT_EQ(sent("CHAP_N"), "hv1");
  std::vector<uint8_t> bytes(16);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  EXPECT_TRUE(chap_response_is_right(ChapAlgorithm::sha256, 5, bytes, credentials_.initiator,
                                     sent("CHAP_N"), sent("CHAP_R")));
  EXPECT_EQ(sent("CHAP_C"), "<absent>");
  EXPECT_TRUE(client_->answered());
  EXPECT_TRUE(client_->complete());
  EXPECT_EQ(step({}), Step::waiting);
}

TEST_F(ChapClientTest, MutualDemandsAProof) {
  restart(mutual());
  ASSERT_EQ(challenge(), Step::answered);
  EXPECT_GE(sent("CHAP_C").size(), 2 + 2 * kMinChapChallengeBytes);
  EXPECT_FALSE(client_->complete());
  EXPECT_EQ(client_->answered(), true);
  const std::string answer = answer_of("reverse secret 2");
  EXPECT_EQ(step({}), Step::waiting);
  EXPECT_FALSE(client_->complete());
  EXPECT_EQ(step({.n = "store", .r = answer}), Step::proved);
  EXPECT_TRUE(client_->complete());
  EXPECT_EQ(step({.n = "store", .r = answer}), Step::failed);
}

TEST_F(ChapClientTest, WrongProofsFail) {
  struct Case {
    std::string_view user;
    std::string_view key;
    const char* what;
  };
  for (const Case& each : {Case{"store", "reverse secret 3", "another secret"},
                           Case{"hv1", "reverse secret 2", "another user"},
                           Case{"store", "forward secret 1", "our own secret"}}) {
    restart(mutual());
    ASSERT_EQ(challenge(), Step::answered);
    EXPECT_EQ(step({.n = each.user, .r = answer_of(each.key)}), Step::failed) << each.what;
    EXPECT_FALSE(client_->complete());
  }
  // Our own answer, sent back; one cut off; one that is too long; none.
  for (const std::string_view bad : {"0x00", "", "0x", "text"}) {
    restart(mutual());
    ASSERT_EQ(challenge(), Step::answered);
    EXPECT_EQ(step({.n = "store", .r = bad}), Step::failed) << bad;
  }
  restart(mutual());
  ASSERT_EQ(challenge(), Step::answered);
  const std::string own = sent("CHAP_R");
  EXPECT_EQ(step({.n = "store", .r = own}), Step::failed);
  restart(mutual());
  ASSERT_EQ(challenge(), Step::answered);
  const std::string longer = answer_of("reverse secret 2") + "00";
  EXPECT_EQ(step({.n = "store", .r = longer}), Step::failed);
}

TEST_F(ChapClientTest, EveryChallengeIsFresh) {
  restart(mutual());
  ASSERT_EQ(challenge(), Step::answered);
  const std::string first = sent("CHAP_C");
  restart(mutual());
  ASSERT_EQ(challenge(), Step::answered);
  EXPECT_NE(sent("CHAP_C"), first);
}

TEST_F(ChapClientTest, RefusesItsOwnChallenge) {
  const ChapCredentials credentials = mutual();
  FixedRandom foretold;
  ChapClient client(credentials, foretold);
  TextKeyWriter out(sent_, kMaxLoginResponseBytes);
  ASSERT_TRUE(client.offer(out).has_value());
  EXPECT_EQ(client.step({.a = "5", .i = "5", .c = kChallenge}, out), Step::failed);
  EXPECT_STREQ(client.reason(), "the target's CHAP challenge is our own");
}

TEST_F(ChapClientTest, RefusesOneSecretForBothDirections) {
  ChapCredentials credentials = mutual();
  credentials.target->secret = credentials.initiator.secret;
  restart(credentials);
  EXPECT_EQ(offer(), "mutual CHAP needs two different secrets");
}

TEST_F(ChapClientTest, RefusesOddChallenges) {
  const std::string long_challenge = "0x" + std::string(2 * kMaxChapBinaryBytes + 2, 'a');
  const ChapKeys table[] = {
      {.a = "9", .i = "5", .c = kChallenge},
      {.a = "x", .i = "5", .c = kChallenge},
      {.a = "7,5", .i = "5", .c = kChallenge},
      {.a = "263", .i = "5", .c = kChallenge},
      {.a = "7", .i = "256", .c = kChallenge},
      {.a = "7", .i = "-1", .c = kChallenge},
      {.a = "7", .i = "5", .c = "0x"},
      {.a = "7", .i = "5", .c = "0xf"},
      {.a = "7", .i = "5", .c = "plain"},
      {.a = "7", .i = "5", .c = long_challenge},
      {.a = "7", .i = "5"},
      {.a = "7", .c = kChallenge},
      {.i = "5", .c = kChallenge},
      {.a = "7", .i = "5", .c = kChallenge, .n = "store"},
      {.a = "7", .i = "5", .c = kChallenge, .r = "0x00"},
      {.n = "store", .r = "0x00"},
  };
  for (const ChapKeys& keys : table) {
    restart(one_way());
    offer();
    EXPECT_EQ(step(keys), Step::failed) << (&keys - table);
    EXPECT_FALSE(client_->answered());
  }
  restart(one_way());
  offer();
  const std::string longest = "0x" + std::string(2 * kMaxChapBinaryBytes, 'a');
  EXPECT_EQ(step({.a = "0x7", .i = "255", .c = longest}), Step::answered);
}

TEST_F(ChapClientTest, RefusesAnAlgorithmThatWasNotOffered) {
  ChapCredentials credentials = one_way();
  credentials.algorithms = {.md5 = false, .sha1 = false, .sha256 = true, .sha3_256 = false};
  restart(credentials);
  EXPECT_EQ(challenge("5"), Step::failed);
  restart(credentials);
  EXPECT_EQ(challenge("7"), Step::answered);
}

TEST_F(ChapClientTest, KeysThatAreNotDueFail) {
  ASSERT_EQ(challenge(), Step::answered);
  EXPECT_EQ(step({.n = "store", .r = "0x00"}), Step::failed);  // we did not ask
  restart(mutual());
  ASSERT_EQ(challenge(), Step::answered);
  EXPECT_EQ(step({.a = "7", .i = "6", .c = kChallenge}), Step::failed);  // a second challenge
}

}  // namespace
}  // namespace holdfast::iscsi
