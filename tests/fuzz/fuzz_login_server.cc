// A whole hostile connection up to and beyond the login: byte 0 chooses the policy, the rest is the
// byte stream as the socket would give it, where "CHAP_R=!" stands for the right answer. After the
// grant the stream goes on with text requests.

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "common/base/assert.h"
#include "common/base/random.h"
#include "common/iscsi/login_server.h"
#include "common/iscsi/pdu_reader.h"
#include "common/iscsi/text_server.h"
#include "tests/fuzz/chap_answer.h"

namespace {

using holdfast::base::Bytes;
using namespace holdfast::iscsi;  // NOLINT(google-build-using-namespace): a program of one file
using holdfast::base::SeededRandom;

class Policy final : public LoginPolicy {
 public:
  explicit Policy(bool chap) : chap_(chap) {}
  LoginDecision normal(std::string_view, std::string_view target) override {
    if (target != "iqn.2026-11.org.holdfast:store") return {.status = LoginStatus::not_found};
    return decide();
  }
  LoginDecision discovery(std::string_view) override { return decide(); }
  LoginStatus join_session(std::string_view, uint64_t, uint16_t tsih, uint16_t) override {
    return tsih == 1 ? LoginStatus::too_many_connections : LoginStatus::session_does_not_exist;
  }
  bool chap_ended(bool) override { return true; }

 private:
  LoginDecision decide() const {
    LoginDecision decision;
    if (!chap_) return decision;
    decision.chap.initiator = ChapAccount{"hv1", fuzz_secret("forward")};
    decision.chap.target = ChapAccount{"store", fuzz_secret("reverse")};
    return decision;
  }
  bool chap_;
};

class Directory final : public TargetDirectory {
 public:
  holdfast::base::Result<void> list(std::string_view target, TargetListWriter& out) override {
    TRY(out.add_target(target.empty() ? "iqn.2026-11.org.holdfast:store" : target));
    return out.add_portal("10.1.0.10:3260", 1);
  }
};

class Connection {
 public:
  explicit Connection(uint8_t mode)
      : chap_(mode & 1),
        grant_(!(mode & 2)),
        random_(mode),
        policy_(chap_),
        login_({.parameters = {.immediate_data = !(mode & 4)}, .command_window = 32}, policy_,
               random_) {}

  // False when the connection is over.
  bool on_pdu(const Bhs& bhs, Bytes data) {
    if (text_.has_value()) return on_text(bhs, data);
    const std::string answered = with_answer(data);
    const auto outcome = login_.on_pdu(bhs, holdfast::base::as_bytes(std::string_view(answered)));
    if (outcome.identity_established) {
      ASSERT(!identity_ && !login_.initiator_name().empty() && login_.tsih() == 0);
      ASSERT(!chap_ || login_.authenticated_user() == "hv1");
      identity_ = true;
    }
    ASSERT(login_.response_data().size() <= kMaxLoginResponseBytes);
    switch (outcome.next) {
      case LoginServer::Next::reply:
        ASSERT(login_.status() == LoginStatus::success);
        answer_ = chap_answer(login_.response_data(), fuzz_secret("forward"));
        return true;
      case LoginServer::Next::wait_for_grant:
        return finish();
      case LoginServer::Next::reply_and_close:
        ASSERT(login_.status() != LoginStatus::success && !outcome.identity_established);
        ASSERT(login_.response().status_class != 0 && login_.response_data().empty());
        return false;
      case LoginServer::Next::close:
        return false;
      case LoginServer::Next::full_feature:
        ASSERT(false);
    }
    return false;
  }

 private:
  std::string with_answer(Bytes data) const {
    static constexpr std::string_view kMark = "CHAP_R=!";
    std::string text(holdfast::base::as_text(data));
    const size_t at = text.find(kMark);
    if (at != std::string::npos) text.replace(at + kMark.size() - 1, 1, answer_);
    return text;
  }

  bool finish() {
    ASSERT(identity_);
    if (!grant_) {
      (void)login_.deny(LoginStatus::out_of_resources, "");
      return false;
    }
    ASSERT(login_.grant(1).next == LoginServer::Next::full_feature);
    ASSERT(login_.response().status_class == 0 && login_.response().tsih == 1);
    const bool discovery = login_.session_type() == SessionType::discovery;
    ASSERT(discovery || login_.target_name() == "iqn.2026-11.org.holdfast:store");
    text_.emplace(login_.negotiation(), discovery ? "" : login_.target_name(), directory_);
    return true;
  }

  bool on_text(const Bhs& bhs, Bytes data) {
    if (bhs.code() != Opcode::text_request) return true;
    const auto request = holdfast::base::load<TextRequestPdu>(holdfast::base::as_bytes(bhs));
    if (!text_->on_request(request, data).accepted) return true;
    const TextResponsePdu& response = text_->response();
    ASSERT(text_->response_data().size() <= text_->parameters().max_send_data_segment_length);
    ASSERT(((response.flags & kFinal) != 0) == (response.ttt == kReservedTag));
    return true;
  }

  bool chap_;
  bool grant_;
  bool identity_ = false;
  SeededRandom random_;
  Policy policy_;
  LoginServer login_;
  Directory directory_;
  std::string answer_;
  std::optional<TextServer> text_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  Bytes stream(data + 1, size - 1);
  Connection connection(data[0]);
  PduReader reader;
  std::vector<uint8_t> segment;
  for (;;) {
    const auto event = reader.next(stream);
    if (!event.has_value() || *event == PduReader::Event::need_more) return 0;
    if (*event == PduReader::Event::header) {
      segment.assign(reader.data_length(), 0);
      if (!segment.empty()) reader.set_data_target(segment);
    } else if (!connection.on_pdu(reader.bhs(), segment)) {
      return 0;
    }
  }
}
