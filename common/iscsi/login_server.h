#pragma once
// The target's side of one login (RFC 7143 6.3): a pure step machine. The driver feeds it every
// PDU of a connection until the full feature phase and does what the outcome says.
//
//   outcome = login.on_pdu(bhs, data)          for each PDU
//     if (outcome.identity_established)         start session reinstatement: the old session of
//                                               this initiator port is dead from now on
//     switch (outcome.next) ...                 see Next
//   outcome = login.grant(tsih) / login.deny()  after wait_for_grant, when the old session drained
//
// Owned by its connection; no clock (the driver bounds the time of a login), no I/O.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/random.h"
#include "common/iscsi/chap.h"
#include "common/iscsi/negotiation.h"
#include "common/iscsi/pdu.h"
#include "common/iscsi/status.h"

namespace holdfast::iscsi {

struct LoginDecision {
  LoginStatus status = LoginStatus::success;  // 0202 forbidden, 0203 not found, 0301, ...
  ChapRequirement chap{};
  const char* reason = nullptr;  // of a refusal, for the log: static text
};

// What the login asks the target. Names are normalised. Called synchronously, without blocking.
class LoginPolicy {
 public:
  virtual ~LoginPolicy() = default;
  // May this initiator log in to this target, and what must it prove?
  virtual LoginDecision normal(std::string_view initiator, std::string_view target) = 0;
  virtual LoginDecision discovery(std::string_view initiator) = 0;
  // A login with TSIH != 0 asks to join or to reinstate a connection of an existing session. Asked
  // only after the identity is proved. 020a: no such session; 0206: it exists, and has the one
  // connection it may have. `success` is not a legal answer.
  virtual LoginStatus join_session(std::string_view initiator, uint64_t isid, uint16_t tsih,
                                   uint16_t cid) = 0;
  // The CHAP exchange that the last decision asked for ended. False: refuse the login with 0301
  // whatever it proved; the policy bounds how often a secret may be tried.
  virtual bool chap_ended(bool proved) = 0;
};

class LoginServer {
 public:
  struct Options {
    LocalParameters parameters;
    uint16_t portal_group_tag = 1;
    uint32_t command_window = 1;  // MaxCmdSN - ExpCmdSN + 1 in the responses
  };

  enum class Next : uint8_t {
    reply,            // send response(), then wait for the next login request
    wait_for_grant,   // send nothing: call grant() or deny(). Take no more PDUs meanwhile
    full_feature,     // send response(); after its last byte the negotiated digests hold
    reply_and_close,  // send response(), a refusal, then close
    close,            // close without an answer
  };
  struct Outcome {
    Next next = Next::close;
    // True in one outcome of a login, never in one that refuses.
    bool identity_established = false;
  };

  // `policy` and `random` must outlive the object.
  LoginServer(const Options& options, LoginPolicy& policy, base::Random& random);
  LoginServer(const LoginServer&) = delete;
  LoginServer& operator=(const LoginServer&) = delete;

  // `data` is the data segment of the PDU, without padding.
  Outcome on_pdu(const Bhs& bhs, base::Bytes data);
  // After wait_for_grant only. The TSIH is not 0.
  Outcome grant(uint16_t tsih);
  // Any time before full_feature: after wait_for_grant, or when the login takes too long.
  // `reason` is static text for the log.
  Outcome deny(LoginStatus status, const char* reason);

  // Valid after `reply`, `full_feature` and `reply_and_close`, until the next call. The data length
  // is set in the header.
  const LoginResponsePdu& response() const { return response_; }
  base::Bytes response_data() const { return answers_; }

  // Complete from identity_established on.
  const std::string& initiator_name() const { return negotiation_.peer().initiator_name; }
  const std::string& target_name() const { return negotiation_.peer().target_name; }
  const std::string& initiator_alias() const { return negotiation_.peer().initiator_alias; }
  SessionType session_type() const { return negotiation_.peer().session_type; }
  const std::string& authenticated_user() const { return user_; }  // empty: no CHAP
  uint64_t isid() const { return first_.isid; }
  uint16_t tsih() const { return first_.tsih; }  // as asked for
  uint16_t cid() const { return first_.cid; }

  // Complete from wait_for_grant on.
  const SessionParameters& parameters() const { return negotiation_.parameters(); }
  // Carried on by the session's text negotiations.
  const Negotiation& negotiation() const { return negotiation_; }
  uint32_t first_cmd_sn() const { return first_.cmd_sn; }  // of the first non-immediate command
  uint32_t next_stat_sn() const { return stat_sn_; }       // of the next response

  // The status of the last refusal, for logs and counters.
  LoginStatus status() const { return status_; }
  const char* reason() const { return reason_; }

 private:
  enum class State : uint8_t { first_pdu, negotiating, waiting_for_grant, finished };

  Outcome on_login(const LoginRequestPdu& request, base::Bytes data);
  bool check_request(const LoginRequestPdu& request, base::Bytes data);
  bool check_flags(const LoginRequestPdu& request);
  bool check_same_login(const LoginRequestPdu& request);
  Outcome on_message(const LoginRequestPdu& request, base::Bytes text);
  bool process(const LoginRequestPdu& request, const TextMessage& message, TextKeyWriter& out);
  bool on_leading_message(TextKeyWriter& out);
  bool run_security(const TextMessage& message, bool transit, TextKeyWriter& out);
  bool choose_method(std::string_view offered, TextKeyWriter& out);
  bool run_chap(const ChapKeys& keys, TextKeyWriter& out);
  bool run_operational(bool transit, TextKeyWriter& out);
  bool establish_identity(Outcome& outcome);
  bool may_transit() const;
  Outcome advance(const LoginRequestPdu& request, Outcome outcome);
  bool refuse(LoginStatus status, const char* reason);
  bool refuse(const base::Error& error);
  Outcome refused();
  void prepare_response(uint8_t flags);
  uint8_t stage_bits() const;

  Options options_;
  LoginPolicy& policy_;
  base::Random& random_;
  State state_ = State::first_pdu;
  LoginStage stage_ = LoginStage::security;
  LoginRequestPdu first_;
  uint32_t stat_sn_ = 0;
  uint32_t pdus_ = 0;
  size_t bytes_ = 0;
  std::vector<uint8_t> partial_;  // of a message that the C bit continues
  std::vector<uint8_t> answers_;
  LoginResponsePdu response_;
  Negotiation negotiation_;
  ChapRequirement chap_;
  std::optional<ChapServer> chap_server_;  // once CHAP is the method
  uint8_t granted_flags_ = 0;              // of the withheld final response
  bool leading_message_done_ = false;
  bool method_chosen_ = false;
  bool authenticated_ = false;
  bool identity_established_ = false;
  std::string user_;
  LoginStatus status_ = LoginStatus::success;
  const char* reason_ = "";
};

}  // namespace holdfast::iscsi
