#include "common/iscsi/chap.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>

namespace holdfast::iscsi {
namespace {

using Step = ChapServer::Step;

ChapSecret secret(std::string_view text) { return *ChapSecret::create(base::as_bytes(text)); }

std::string hex(base::Bytes bytes) {
  std::vector<uint8_t> out;
  TextKeyWriter writer(out, 4096);
  EXPECT_TRUE(writer.add_binary("K", bytes).has_value());
  return std::string(base::as_text(out).substr(2, 2 + 2 * bytes.size()));
}

std::string digest_text(ChapAlgorithm algorithm, uint8_t id, std::string_view key,
                        base::Bytes challenge) {
  std::vector<uint8_t> out(digest_length(algorithm));
  EXPECT_TRUE(chap_digest(algorithm, id, secret(key), challenge, out).has_value());
  return hex(out);
}

// Computed with Python's hashlib over 0x5a | "0123456789abcdef" | 00 01 .. 0f.
TEST(Chap, DigestsMatchKnownAnswers) {
  std::array<uint8_t, 16> challenge;
  std::iota(challenge.begin(), challenge.end(), uint8_t{0});
  const std::pair<ChapAlgorithm, std::string_view> cases[] = {
      {ChapAlgorithm::md5, "0x9310abd57f21f4feb8f328e197fd9486"},
      {ChapAlgorithm::sha1, "0xee981f485928bf73e105bbb8b5d29db40871db26"},
      {ChapAlgorithm::sha256, "0xc227553f86bacfbaaca20da7ee5e06049d926d4c9e046d70e9f4f895c66e3cef"},
      {ChapAlgorithm::sha3_256,
       "0x67afb23474aa3fccd2d22876c9b2f8481e619bea0b646a443353588602a539f3"},
  };
  for (const auto& [algorithm, expected] : cases) {
    if (!available(algorithm)) continue;  // MD5 under FIPS
    EXPECT_EQ(digest_text(algorithm, 0x5a, "0123456789abcdef", challenge), expected);
  }
  EXPECT_TRUE(available(ChapAlgorithm::sha256));
}

TEST(Chap, NumbersAreThoseOfIana) {
  EXPECT_EQ(to_chap_algorithm(5), ChapAlgorithm::md5);
  EXPECT_EQ(to_chap_algorithm(7), ChapAlgorithm::sha256);
  EXPECT_EQ(to_chap_algorithm(8), ChapAlgorithm::sha3_256);
  EXPECT_FALSE(to_chap_algorithm(4).has_value());
  EXPECT_FALSE(to_chap_algorithm(9).has_value());
  EXPECT_FALSE(to_chap_algorithm(5 + (uint64_t{1} << 32)).has_value());
}

TEST(Chap, SecretsAreBounded) {
  EXPECT_FALSE(ChapSecret::create({}).has_value());
  EXPECT_TRUE(ChapSecret::create(std::vector<uint8_t>(255)).has_value());
  EXPECT_FALSE(ChapSecret::create(std::vector<uint8_t>(256)).has_value());
  EXPECT_TRUE(secret("short").short_for_use());
  EXPECT_FALSE(secret("twelve bytes").short_for_use());
}

TEST(Chap, SecretsAreErasedWhenTheyGo) {
  alignas(ChapSecret) std::array<uint8_t, sizeof(ChapSecret)> memory{};
  auto* const held = new (memory.data()) ChapSecret(secret("very secret words"));
  ASSERT_NE(base::as_text(memory).find("very secret words"), std::string_view::npos);
  held->~ChapSecret();
  EXPECT_EQ(base::as_text(memory).find("secret"), std::string_view::npos);
}

class ChapExchange : public testing::Test {
 protected:
  static constexpr std::string_view kForward = "forward secret 1";
  static constexpr std::string_view kReverse = "reverse secret 2";

  ChapExchange() {
    requirement_.initiator = ChapAccount{"hv1", secret(kForward)};
    requirement_.target = ChapAccount{"store", secret(kReverse)};
  }

  ChapServer& server() {
    if (!server_) server_.emplace(requirement_, random_);
    return *server_;
  }
  Step step(const ChapKeys& keys) {
    out_.clear();
    TextKeyWriter writer(out_, 8192);
    return server().step(keys, writer);
  }
  std::string sent(std::string_view key) {
    TextMessage message;
    EXPECT_TRUE(message.parse(out_).has_value());
    return std::string(message.find(key).value_or("<absent>"));
  }
  // Offers, and keeps the challenge.
  void challenge(std::string_view algorithms = "7") {
    ASSERT_EQ(step({.a = algorithms}), Step::challenged);
    algorithm_ = *to_chap_algorithm(*parse_number(sent("CHAP_A")));
    identifier_ = static_cast<uint8_t>(*parse_number(sent("CHAP_I")));
    challenge_text_ = sent("CHAP_C");
    challenge_.resize(kMaxChapBinaryBytes);
    challenge_.resize(*decode_binary(challenge_text_, challenge_));
  }
  std::string response(std::string_view key = kForward) {
    return digest_text(algorithm_, identifier_, key, challenge_);
  }

  base::SeededRandom random_{1};
  ChapRequirement requirement_;
  std::optional<ChapServer> server_;
  std::vector<uint8_t> out_;
  ChapAlgorithm algorithm_ = ChapAlgorithm::md5;
  uint8_t identifier_ = 0;
  std::string challenge_text_;
  std::vector<uint8_t> challenge_;
};

TEST_F(ChapExchange, OneWayWithEveryAlgorithm) {
  for (uint64_t number = 5; number <= 8; ++number) {
    const ChapAlgorithm algorithm = *to_chap_algorithm(number);
    if (!available(algorithm)) continue;
    server_.reset();
    challenge(std::to_string(number));
    EXPECT_EQ(algorithm_, algorithm);
    EXPECT_GE(challenge_.size(), kMinChapChallengeBytes);
    EXPECT_EQ(step({.n = "hv1", .r = response()}), Step::authenticated);
    EXPECT_TRUE(out_.empty()) << "a target that is not challenged says nothing of itself";
  }
}

TEST_F(ChapExchange, AnswersInBase64AreTaken) {
  challenge("6");
  std::vector<uint8_t> digest(20);
  ASSERT_TRUE(chap_digest(algorithm_, identifier_, secret(kForward), challenge_, digest));
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text = "0b";
  digest.push_back(0);
  for (size_t i = 0; i < 21; i += 3) {
    const uint32_t bits = uint32_t{digest[i]} << 16 | uint32_t{digest[i + 1]} << 8 | digest[i + 2];
    for (const unsigned shift : {18u, 12u, 6u, 0u}) text += kDigits[bits >> shift & 63];
  }
  text.back() = '=';
  EXPECT_EQ(step({.n = "hv1", .r = text}), Step::authenticated);
}

TEST_F(ChapExchange, TheInitiatorsOrderDecides) {
  challenge("8,7,6,5");
  EXPECT_EQ(algorithm_, ChapAlgorithm::sha3_256);
  server_.reset();
  challenge("99,6,7");
  EXPECT_EQ(algorithm_, ChapAlgorithm::sha1);
  server_.reset();
  requirement_.algorithms = {.md5 = false, .sha1 = false};
  challenge("5,6,7,8");
  EXPECT_EQ(algorithm_, ChapAlgorithm::sha256);
  server_.reset();
  EXPECT_EQ(step({.a = "5,6"}), Step::failed);
}

TEST_F(ChapExchange, RefusesBadOffers) {
  for (const std::string_view list : {"", "0", "SHA256", "7 ", "256", "4294967303", "-7"}) {
    server_.reset();
    EXPECT_EQ(step({.a = list}), Step::failed) << list;
  }
  server_.reset();
  EXPECT_EQ(step({.n = "hv1", .r = "0x00"}), Step::failed) << "an answer before the challenge";
  server_.reset();
  EXPECT_EQ(step({.a = "7", .n = "hv1"}), Step::failed);
}

TEST_F(ChapExchange, WaitsForAnEmptyRequest) {
  EXPECT_EQ(step({}), Step::waiting);
  challenge();
  EXPECT_EQ(step({}), Step::waiting);
  EXPECT_EQ(step({.n = "hv1", .r = response()}), Step::authenticated);
}

// tgt CVE-2024-45751: a challenge that repeats can be answered with a recording.
TEST_F(ChapExchange, EveryChallengeIsFresh) {
  challenge();
  const std::string first = challenge_text_;
  const std::string recorded = response();
  server_.reset();
  challenge();
  EXPECT_NE(challenge_text_, first);
  EXPECT_EQ(step({.n = "hv1", .r = recorded}), Step::failed);
}

TEST_F(ChapExchange, RefusesWrongProofs) {
  const auto attempt = [&](std::string_view user, auto make_response) {
    server_.reset();
    challenge();
    const std::string answer = make_response();
    return step({.n = user, .r = answer});
  };
  const auto right = [&] { return response(); };
  EXPECT_EQ(attempt("hv1", right), Step::authenticated);
  EXPECT_EQ(attempt("hv2", right), Step::failed);
  EXPECT_EQ(attempt("hv", right), Step::failed);
  EXPECT_EQ(attempt("hv11", right), Step::failed);
  EXPECT_EQ(attempt("HV1", right), Step::failed);
  EXPECT_EQ(attempt("", right), Step::failed);
  EXPECT_EQ(attempt("hv1", [&] { return response("forward secret 2"); }), Step::failed);
  EXPECT_EQ(attempt("hv1", [&] { return response(kReverse); }), Step::failed);
  EXPECT_EQ(attempt("nobody", [&] { return response("wrong"); }), Step::failed);
}

// Exact length, in both encodings: CVE-2018-14633, CVE-2026-63886.
TEST_F(ChapExchange, RefusesResponsesOfAnotherLength) {
  const auto attempt = [&](auto change) {
    server_.reset();
    challenge();
    std::string answer = response();
    change(answer);
    return step({.n = "hv1", .r = answer});
  };
  EXPECT_EQ(attempt([](std::string&) {}), Step::authenticated);
  EXPECT_EQ(attempt([](std::string& r) { r.resize(r.size() - 2); }), Step::failed);
  EXPECT_EQ(attempt([](std::string& r) { r.resize(r.size() - 1); }), Step::failed);
  EXPECT_EQ(attempt([](std::string& r) { r += "00"; }), Step::failed);
  EXPECT_EQ(attempt([](std::string& r) { r = "0x"; }), Step::failed);
  EXPECT_EQ(attempt([](std::string& r) { r = ""; }), Step::failed);
  EXPECT_EQ(attempt([](std::string& r) { r = "0x" + std::string(8000, 'a'); }), Step::failed);
  EXPECT_EQ(attempt([](std::string& r) { r = "0b" + std::string(8000, 'A'); }), Step::failed);
  EXPECT_EQ(attempt([](std::string& r) { r.erase(0, 2); }), Step::failed);
}

TEST_F(ChapExchange, UserNamesAreTakenLiterally) {
  requirement_.initiator->user = "0x687631";
  challenge();
  EXPECT_EQ(step({.n = "0x687631", .r = response()}), Step::authenticated);
  server_.reset();
  requirement_.initiator->user = "hv1";
  challenge();
  EXPECT_EQ(step({.n = "0x687631", .r = response()}), Step::failed);
}

TEST_F(ChapExchange, MutualAnswersTheInitiatorsChallenge) {
  challenge();
  const std::vector<uint8_t> theirs = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  const std::string text = hex(theirs);
  ASSERT_EQ(step({.i = "200", .c = text, .n = "hv1", .r = response()}), Step::authenticated);
  EXPECT_EQ(sent("CHAP_N"), "store");
  EXPECT_EQ(sent("CHAP_R"), digest_text(algorithm_, 200, kReverse, theirs));
}

TEST_F(ChapExchange, AStrangerGetsNoAnswerToItsChallenge) {
  challenge();
  EXPECT_EQ(step({.i = "1", .c = "0x00112233", .n = "hv1", .r = response("guess")}), Step::failed);
  EXPECT_TRUE(out_.empty());
}

TEST_F(ChapExchange, RefusesBadMutualRequests) {
  const std::string long_hex = "0x" + std::string(2 * kMaxChapBinaryBytes + 2, 'a');
  const struct {
    std::optional<std::string_view> i, c;
  } cases[] = {
      {"1", std::nullopt}, {std::nullopt, "0x00"}, {"256", "0x00"},
      {"-1", "0x00"},      {"", "0x00"},           {"1", ""},
      {"1", "0x"},         {"1", "challenge"},     {"1", long_hex},
  };
  for (const auto& c : cases) {
    server_.reset();
    challenge();
    EXPECT_EQ(step({.i = c.i, .c = c.c, .n = "hv1", .r = response()}), Step::failed);
    EXPECT_TRUE(out_.empty());
  }
}

TEST_F(ChapExchange, TheLongestLegalChallengeIsAnswered) {
  challenge();
  const std::vector<uint8_t> theirs(kMaxChapBinaryBytes, 0xc3);
  const std::string text = hex(theirs);
  ASSERT_EQ(step({.i = "0", .c = text, .n = "hv1", .r = response()}), Step::authenticated);
  EXPECT_EQ(sent("CHAP_R"), digest_text(algorithm_, 0, kReverse, theirs));
}

TEST_F(ChapExchange, RefusesItsOwnChallenge) {
  challenge();
  EXPECT_EQ(step({.i = "7", .c = challenge_text_, .n = "hv1", .r = response()}), Step::failed);
}

TEST_F(ChapExchange, RefusesOneSecretForBothDirections) {
  requirement_.target->secret = secret(kForward);
  challenge();
  EXPECT_EQ(step({.i = "7", .c = "0x0011", .n = "hv1", .r = response()}), Step::failed);
}

TEST_F(ChapExchange, RefusesToProveItselfWithoutASecret) {
  requirement_.target.reset();
  challenge();
  EXPECT_EQ(step({.i = "7", .c = "0x0011", .n = "hv1", .r = response()}), Step::failed);
}

TEST_F(ChapExchange, OneFailureIsTheEnd) {
  challenge();
  EXPECT_EQ(step({.n = "hv1", .r = response("guess")}), Step::failed);
  EXPECT_EQ(step({.n = "hv1", .r = response()}), Step::failed) << "no second guess";
  EXPECT_EQ(step({}), Step::failed);
}

}  // namespace
}  // namespace holdfast::iscsi
