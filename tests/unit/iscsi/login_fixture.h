#pragma once
// A client that plays a login by hand against a policy that knows two initiators: one that needs no
// CHAP and one that needs it.

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "common/iscsi/login_server.h"

namespace holdfast::iscsi {

using Next = LoginServer::Next;

inline constexpr std::string_view kOpen = "InitiatorName=iqn.2026-11.org.holdfast:open ";
inline constexpr std::string_view kChap = "InitiatorName=iqn.2026-11.org.holdfast:chap ";
inline constexpr std::string_view kTarget = "TargetName=iqn.2026-11.org.holdfast:store ";
inline constexpr uint8_t kT = login_flags::kTransit;
inline constexpr uint8_t kC = login_flags::kContinue;

constexpr uint8_t flags(uint8_t bits, uint8_t csg, uint8_t nsg = 0) {
  return static_cast<uint8_t>(bits | csg << 2 | nsg);
}
inline constexpr uint8_t kSecurityToOperational = flags(kT, 0, 1);
inline constexpr uint8_t kOperationalToFull = flags(kT, 1, 3);

inline std::string wire(std::string_view list) {
  std::string text;
  while (!list.empty()) {
    const size_t space = list.find(' ');
    const std::string_view word = list.substr(0, space);
    if (!word.empty()) text += std::string(word) + '\0';
    list.remove_prefix(space == std::string_view::npos ? list.size() : space + 1);
  }
  return text;
}

inline ChapSecret secret(std::string_view text) {
  return *ChapSecret::create(base::as_bytes(text));
}

class TestLoginPolicy final : public LoginPolicy {
 public:
  LoginDecision normal(std::string_view initiator, std::string_view target) override {
    ++asked;
    if (target != "iqn.2026-11.org.holdfast:store") return {.status = LoginStatus::not_found};
    return decide(initiator);
  }
  LoginDecision discovery(std::string_view initiator) override {
    ++asked;
    return decide(initiator);
  }
  LoginStatus join_session(std::string_view, uint64_t isid, uint16_t tsih, uint16_t) override {
    ++joins;
    return isid == 0x400001370000 && tsih == 77 ? LoginStatus::too_many_connections
                                                : LoginStatus::session_does_not_exist;
  }
  bool chap_ended(bool proved) override {
    (proved ? proofs : failures)++;
    return !too_often;
  }
  LoginDecision decide(std::string_view initiator) const {
    if (initiator == "iqn.2026-11.org.holdfast:open") return {};
    if (initiator != "iqn.2026-11.org.holdfast:chap") {
      return {.status = LoginStatus::authorization_failure};
    }
    LoginDecision decision;
    decision.chap.initiator = ChapAccount{"hv1", secret("forward secret 1")};
    decision.chap.target = ChapAccount{"store", secret("reverse secret 2")};
    return decision;
  }
  int asked = 0;
  int joins = 0;
  int proofs = 0;
  int failures = 0;
  bool too_often = false;  // how the end of a CHAP exchange is answered
};

class LoginServerTest : public testing::Test {
 protected:
  LoginServerTest() {
    request_.isid = 0x400001370000;
    request_.itt = 0x1234;
    request_.cid = 5;
    request_.cmd_sn = 100;
    request_.exp_stat_sn = 40;
    restart();
  }
  void restart(const LocalParameters& parameters = {}) {
    login_.emplace(
        LoginServer::Options{.parameters = parameters, .portal_group_tag = 3, .command_window = 64},
        policy_, random_);
    identities_ = 0;
    request_.exp_stat_sn = 40;
  }
  Next send_raw(uint8_t bits, std::string_view text) {
    request_.flags = bits;
    request_.data_segment_length = static_cast<uint32_t>(text.size());
    const auto outcome =
        login_->on_pdu(base::load<Bhs>(base::as_bytes(request_)), base::as_bytes(text));
    identities_ += outcome.identity_established ? 1 : 0;
    EXPECT_FALSE(outcome.next == Next::reply_and_close && outcome.identity_established);
    if (outcome.next == Next::reply) {
      EXPECT_EQ(login_->response().stat_sn.get(), expected_stat_sn());
      request_.exp_stat_sn = login_->response().stat_sn + 1;
    }
    return outcome.next;
  }
  Next send(uint8_t bits, std::string_view list) { return send_raw(bits, wire(list)); }
  uint32_t expected_stat_sn() const { return request_.exp_stat_sn; }

  // The refusal's status, or success if it was none.
  LoginStatus refused(uint8_t bits, std::string_view list) {
    const Next next = send(bits, list);
    EXPECT_EQ(next, Next::reply_and_close) << list;
    return next == Next::reply_and_close ? answered_status() : LoginStatus::success;
  }
  LoginStatus answered_status() const {
    const LoginResponsePdu& response = login_->response();
    EXPECT_EQ(response.itt.get(), request_.itt.get());
    EXPECT_EQ(response.flags & kT, 0);
    EXPECT_EQ(response.data_segment_length.get(), 0u);
    const auto status =
        static_cast<LoginStatus>(response.status_class << 8 | response.status_detail);
    EXPECT_EQ(status, login_->status());
    EXPECT_STRNE(login_->reason(), "");
    return status;
  }
  std::string words() const {
    std::string text(base::as_text(login_->response_data()));
    for (char& c : text) c = c == '\0' ? ' ' : c;
    return text;
  }
  std::string answer(std::string_view key) const {
    TextMessage message;
    EXPECT_TRUE(message.parse(login_->response_data()).has_value());
    return std::string(message.find(key).value_or("<absent>"));
  }
  std::string chap_names(std::string_view user, std::string_view key) const {
    const auto algorithm = *to_chap_algorithm(*parse_number(answer("CHAP_A")));
    const auto id = static_cast<uint8_t>(*parse_number(answer("CHAP_I")));
    std::vector<uint8_t> challenge(kMaxChapBinaryBytes);
    challenge.resize(*decode_binary(answer("CHAP_C"), challenge));
    std::vector<uint8_t> digest(digest_length(algorithm));
    EXPECT_TRUE(chap_digest(algorithm, id, secret(key), challenge, digest).has_value());
    std::vector<uint8_t> out;
    TextKeyWriter writer(out, 4096);
    EXPECT_TRUE(writer.add("CHAP_N", user).has_value());
    EXPECT_TRUE(writer.add_binary("CHAP_R", digest).has_value());
    std::string text(base::as_text(out));
    for (char& c : text) c = c == '\0' ? ' ' : c;
    return text;
  }
  // Up to the challenge.
  void challenge() {
    ASSERT_EQ(send(kSecurityToOperational,
                   std::string(kChap) + std::string(kTarget) + "AuthMethod=CHAP,None"),
              Next::reply);
    ASSERT_EQ(answer("AuthMethod"), "CHAP");
    ASSERT_EQ(send(flags(0, 0), "CHAP_A=7,6,5"), Next::reply);
    ASSERT_EQ(answer("CHAP_A"), "7");
  }

  static std::string join(std::string_view a, std::string_view b, std::string_view c = {}) {
    return std::string(a) + std::string(b) + std::string(c);
  }

  TestLoginPolicy policy_;
  base::SeededRandom random_{7};
  LoginRequestPdu request_;
  std::optional<LoginServer> login_;
  int identities_ = 0;
};

}  // namespace holdfast::iscsi
