#pragma once
// The initiator's side of one login (RFC 7143 6.3): a pure step machine, the mirror of LoginServer.
// The driver sends what it says, and feeds it every PDU of the connection until the full feature
// phase.
//
//   next = login.start()
//   while (next == Next::send) {
//     send login.request(), login.request_data(); receive one PDU
//     next = login.on_pdu(bhs, data)
//   }
//
// It always begins in the security stage, also without CHAP: there are targets (tgt) that reinstate
// a session only if its login begins there, and a fence depends on the reinstatement.
//
// Owned by its connection; no clock (the driver bounds the time of a login), no I/O.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/random.h"
#include "common/iscsi/chap_client.h"
#include "common/iscsi/negotiation.h"
#include "common/iscsi/pdu.h"
#include "common/iscsi/status.h"
#include "common/iscsi/target_address.h"

namespace holdfast::iscsi {

class LoginClient {
 public:
  struct Options {
    std::string initiator_name;     // normalised
    std::string target_name{};      // normalised; empty: a discovery session
    std::string initiator_alias{};  // not sent when empty
    uint64_t isid = 0;              // 48 bits. With TSIH 0, which we always send, it reinstates
    uint16_t cid = 0;
    uint32_t itt = 0;
    uint32_t cmd_sn = 1;  // of the first non-immediate command; login requests do not consume it
    LocalParameters parameters{};
    std::optional<ChapCredentials> chap{};
  };

  enum class Next : uint8_t {
    send,          // send request(), then wait for the next PDU
    full_feature,  // the login is done; from the next byte on the negotiated digests hold
    redirected,    // close and log in at redirect_address() instead. Nobody has proved anything
    refused,       // the target refused with status(); close
    failed,        // this side gives up, see reason(); close
  };

  // `random` must outlive the object; it makes CHAP challenges.
  LoginClient(Options options, base::Random& random);
  LoginClient(const LoginClient&) = delete;
  LoginClient& operator=(const LoginClient&) = delete;

  Next start();
  // `data` is the data segment of the PDU, without padding. Only after `send`.
  Next on_pdu(const Bhs& bhs, base::Bytes data);

  // Valid after `send`, until the next call. The data length is set in the header. Both live in the
  // object, so the driver may gather them without a copy.
  const LoginRequestPdu& request() const { return request_; }
  base::Bytes request_data() const { return text_; }

  // Complete after `full_feature`.
  const SessionParameters& parameters() const { return negotiation_.parameters(); }
  const Negotiation& negotiation() const { return negotiation_; }  // for the session's own texts
  uint16_t tsih() const { return tsih_; }
  uint32_t cmd_sn() const { return options_.cmd_sn; }
  uint32_t exp_stat_sn() const { return exp_stat_sn_; }  // the next StatSN that must come
  // The command window of the last response. Where it was malformed (RFC 7143 4.2.2.1) or not
  // given: one command.
  uint32_t exp_cmd_sn() const { return options_.cmd_sn; }
  uint32_t max_cmd_sn() const { return max_cmd_sn_; }
  // Empty: the target never said. A discovery session has none.
  std::optional<uint16_t> portal_group_tag() const { return negotiation_.peer().portal_group_tag; }
  std::string target_alias() const;  // printable ASCII; other bytes are shown as '?'
  bool chap_done() const { return authenticated_; }      // we proved who we are
  bool target_proved() const { return target_proved_; }  // mutual CHAP
  ChapAlgorithm chap_algorithm() const;                  // only if chap_done()

  // After `redirected`.
  const TargetAddress& redirect_address() const { return redirect_; }
  bool redirect_is_permanent() const { return status_ == LoginStatus::target_moved_permanently; }

  // After `refused`: our CHAP answer was the last that the target got. The status need not say so
  // (tgt's is 0200).
  bool chap_refused() const;
  // The same for an answer made with algorithm 7. That is SHA-256, but some targets (tgt) mean SHA1
  // by it, so a login without it may be let in.
  bool may_retry_without_sha256() const;

  // After `refused` and `redirected`: as the target said; it may be a value without a name. After
  // `failed`: authentication_failure where this side does not accept how the target proved itself,
  // else target_error.
  LoginStatus status() const { return status_; }
  const char* reason() const { return reason_; }  // static text

  bool discovery() const { return options_.target_name.empty(); }

 private:
  enum class State : uint8_t { idle, negotiating, finished };

  base::Result<void> write_names(TextKeyWriter& out) const;
  Next take_refusal(const LoginResponsePdu& response, base::Bytes data);
  const char* find_fault(const LoginResponsePdu& response) const;
  void take_numbers(const LoginResponsePdu& response);
  Next on_message(const LoginResponsePdu& response, base::Bytes text);
  bool run_security(const TextMessage& message, TextKeyWriter& out);
  bool choose_method(std::string_view chosen, TextKeyWriter& out);
  bool chap_demanded() const;
  bool wants_transit() const;
  Next enter_operational(TextKeyWriter& out);
  Next enter_full_feature(const LoginResponsePdu& response);
  Next send(bool transit);
  bool distrust(const char* reason);  // give_up() with authentication_failure
  Next give_up(const char* reason);
  Next give_up(const base::Error& error);

  Options options_;
  base::Random& random_;
  State state_ = State::idle;
  LoginStage stage_ = LoginStage::security;
  LoginRequestPdu request_;
  std::vector<uint8_t> text_;     // of the request
  std::vector<uint8_t> partial_;  // of a response that the C bit continues
  bool transit_asked_ = false;    // by the request that the current message answers
  Negotiation negotiation_;
  std::optional<ChapClient> chap_;  // once CHAP is the method
  bool method_chosen_ = false;
  bool authenticated_ = false;
  bool target_proved_ = false;
  bool any_response_ = false;
  uint32_t pdus_ = 0;
  size_t bytes_ = 0;
  uint16_t tsih_ = 0;
  uint32_t exp_stat_sn_ = 0;
  uint32_t max_cmd_sn_;
  TargetAddress redirect_;
  LoginStatus status_ = LoginStatus::success;
  const char* reason_ = "";
};

}  // namespace holdfast::iscsi
