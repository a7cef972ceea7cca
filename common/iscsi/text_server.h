#pragma once
// Text negotiation of the full feature phase, the target's side (RFC 7143 11.10, 11.11 and
// Appendix C): SendTargets, and a new MaxRecvDataSegmentLength. Pure.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/iscsi/negotiation.h"
#include "common/iscsi/pdu.h"

namespace holdfast::iscsi {

// What an answer to SendTargets consists of: a target, then its portals.
class TargetListWriter {
 public:
  explicit TargetListWriter(TextKeyWriter& out) : out_(out) {}

  base::Result<void> add_target(std::string_view name);
  // `address` is "10.1.0.10:3260" or "[fd00::1]:3260": what this initiator can connect to.
  base::Result<void> add_portal(std::string_view address, uint16_t portal_group_tag);

 private:
  TextKeyWriter& out_;
};

// Answers for one session: it lists only what this initiator may log in to, over the portals that
// it may use and can reach.
class TargetDirectory {
 public:
  virtual ~TargetDirectory() = default;
  // `target` is normalised; empty: all of them. A target that is not visible adds nothing.
  virtual base::Result<void> list(std::string_view target, TargetListWriter& out) = 0;
};

class TextServer {
 public:
  // `negotiation` is the login's; `target` is the session's own, empty in a discovery session.
  TextServer(const Negotiation& negotiation, std::string_view target, TargetDirectory& directory);
  TextServer(const TextServer&) = delete;
  TextServer& operator=(const TextServer&) = delete;

  struct Answer {
    // False: send a Reject PDU with `reason`; the negotiation, if any, is over.
    bool accepted = false;
    RejectReason reason = RejectReason::protocol_error;
  };

  // `data` without padding. The driver has checked CmdSN and ITT.
  Answer on_request(const TextRequestPdu& request, base::Bytes data);

  // After an accepted request, until the next one. The driver sets StatSN, ExpCmdSN and MaxCmdSN.
  const TextResponsePdu& response() const { return response_; }
  base::Bytes response_data() const { return response_data_; }

  // max_send_data_segment_length may have changed after an accepted request.
  const SessionParameters& parameters() const { return negotiation_.parameters(); }

 private:
  Answer reject(RejectReason reason);
  Answer take_part(const TextRequestPdu& request, base::Bytes data);
  base::Result<void> answer_message();
  base::Result<void> send_targets(std::string_view value, TextKeyWriter& out);
  Answer send_part();
  Answer respond(uint8_t flags, base::Bytes data);

  Negotiation negotiation_;
  std::string target_;
  TargetDirectory& directory_;
  uint32_t ttt_ = kReservedTag;  // of the negotiation in progress
  uint32_t next_ttt_ = 1;
  uint32_t itt_ = 0;
  uint32_t pdus_ = 0;
  bool final_ = false;            // the initiator has said its last word
  std::vector<uint8_t> partial_;  // of a request that the C bit continues
  std::vector<uint8_t> answer_;
  size_t answer_sent_ = 0;
  TextResponsePdu response_;
  base::Bytes response_data_;
};

}  // namespace holdfast::iscsi
