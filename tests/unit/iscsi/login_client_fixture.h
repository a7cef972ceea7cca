#pragma once
// A target played by hand for LoginClient: what it answers is written in the test.

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "common/iscsi/login_client.h"
#include "tests/unit/iscsi/login_fixture.h"

namespace holdfast::iscsi {

using Step = LoginClient::Next;

inline constexpr uint64_t kIsid = 0x800000010203;

inline ChapCredentials one_way_chap() { return {.initiator = {"hv1", secret("forward secret 1")}}; }
inline ChapCredentials mutual_chap() {
  ChapCredentials credentials = one_way_chap();
  credentials.target = ChapAccount{"store", secret("reverse secret 2")};
  return credentials;
}

class LoginClientTest : public testing::Test {
 protected:
  LoginClientTest() {
    options_.initiator_name = "iqn.2026-11.org.holdfast:hv1";
    options_.target_name = "iqn.2026-11.org.holdfast:store";
    options_.isid = kIsid;
    options_.itt = 0x55;
    options_.cid = 3;
    options_.cmd_sn = 100;
  }

  // A new login, and the responses' numbers from their beginning.
  Step start() {
    client_.emplace(options_, random_);
    stat_sn_ = 0xfffffffe;  // wraps in every login
    return client_->start();
  }
  LoginResponsePdu response(uint8_t bits) {
    LoginResponsePdu pdu;
    pdu.flags = bits;
    pdu.isid = kIsid;
    pdu.itt = options_.itt;
    pdu.stat_sn = stat_sn_++;
    pdu.exp_cmd_sn = options_.cmd_sn;
    pdu.max_cmd_sn = options_.cmd_sn + 1;
    return pdu;
  }
  Step answer_pdu(const LoginResponsePdu& pdu, std::string_view text) {
    const Step step = client_->on_pdu(base::load<Bhs>(base::as_bytes(pdu)), base::as_bytes(text));
    const bool ended_well = step == Step::send || step == Step::full_feature;
    EXPECT_EQ(client_->reason()[0] == '\0', ended_well) << client_->reason();
    EXPECT_EQ(client_->status() == LoginStatus::success, ended_well);
    return step;
  }
  Step answer(uint8_t bits, std::string_view list) {
    return answer_pdu(response(bits), wire(list));
  }
  Step refuse(uint8_t status_class, uint8_t detail, std::string_view list = {}) {
    LoginResponsePdu pdu = response(0);
    pdu.status_class = status_class;
    pdu.status_detail = detail;
    return answer_pdu(pdu, wire(list));
  }
  // Past the security stage without CHAP.
  void enter_operational() {
    ASSERT_EQ(start(), Step::send);
    ASSERT_EQ(answer(kSecurityToOperational, "TargetPortalGroupTag=1 AuthMethod=None"), Step::send);
    ASSERT_EQ(request_flags(), kOperationalToFull);
  }
  // Up to the CHAP answer, which is in the request then.
  void answer_chap(std::string_view algorithm = "7") {
    ASSERT_EQ(start(), Step::send);
    ASSERT_EQ(answer(flags(0, 0), "AuthMethod=CHAP"), Step::send);
    ASSERT_EQ(answer(flags(0, 0), "CHAP_A=" + std::string(algorithm) +
                                      " CHAP_I=9 CHAP_C=0x000102030405060708090a0b0c0d0e0f"),
              Step::send);
    ASSERT_NE(sent("CHAP_R"), "<absent>");
  }
  // The words with which `key` answers the challenge in the request.
  std::string proof(std::string_view user, std::string_view key) const {
    std::vector<uint8_t> challenge(kMaxChapBinaryBytes);
    challenge.resize(*decode_binary(sent("CHAP_C"), challenge));
    std::vector<uint8_t> out;
    TextKeyWriter writer(out, 4096);
    EXPECT_TRUE(write_chap_response(ChapAlgorithm::sha256,
                                    static_cast<uint8_t>(*parse_number(sent("CHAP_I"))), challenge,
                                    {std::string(user), secret(key)}, writer)
                    .has_value());
    std::string text(base::as_text(out));
    for (char& c : text) c = c == '\0' ? ' ' : c;
    return text;
  }

  uint8_t request_flags() const { return client_->request().flags; }
  std::string words() const {
    EXPECT_EQ(client_->request().data_segment_length.get(), client_->request_data().size());
    std::string text(base::as_text(client_->request_data()));
    for (char& c : text) c = c == '\0' ? ' ' : c;
    return text;
  }
  std::string sent(std::string_view key) const {
    TextMessage message;
    EXPECT_TRUE(message.parse(client_->request_data()).has_value());
    return std::string(message.find(key).value_or("<absent>"));
  }

  LoginClient::Options options_;
  base::SeededRandom random_{7};
  std::optional<LoginClient> client_;
  uint32_t stat_sn_ = 0;
};

}  // namespace holdfast::iscsi
