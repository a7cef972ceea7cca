#include "common/iscsi/text_server.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "common/iscsi/name.h"

namespace holdfast::iscsi {

using base::Result;

Result<void> TargetListWriter::add_target(std::string_view name) {
  return out_.add(key_info(Key::target_name).name, name);
}

Result<void> TargetListWriter::add_portal(std::string_view address, uint16_t portal_group_tag) {
  std::array<char, 5> digits;
  const auto end =
      std::to_chars(digits.data(), digits.data() + digits.size(), portal_group_tag).ptr;
  std::string value(address);
  value += ',';
  value.append(digits.data(), end);
  return out_.add(key_info(Key::target_address).name, value);
}

TextServer::TextServer(const Negotiation& negotiation, std::string_view target,
                       TargetDirectory& directory)
    : negotiation_(negotiation), target_(target), directory_(directory) {}

TextServer::Answer TextServer::on_request(const TextRequestPdu& request, base::Bytes data) {
  const bool final = (request.flags & kFinal) != 0;
  const bool more = (request.flags & text_flags::kContinue) != 0;
  if (final && more) return reject(RejectReason::protocol_error);
  if (request.ttt == kReservedTag) {
    // RFC 7143 11.10.4: a new negotiation; one that was in progress is forgotten.
    negotiation_.begin_sequence();
    itt_ = request.itt;
    ttt_ = kReservedTag;
    pdus_ = 0;
    final_ = false;
    partial_.clear();
    answer_.clear();
    answer_sent_ = 0;
  } else if (request.ttt != ttt_ || request.itt != itt_) {
    return reject(RejectReason::protocol_error);
  }
  if (++pdus_ > kMaxTextPdus) return reject(RejectReason::protocol_error);
  final_ = final_ || final;
  if (answer_sent_ < answer_.size()) {
    // The rest of a long answer is fetched with empty requests.
    if (!data.empty()) return reject(RejectReason::protocol_error);
    return send_part();
  }
  return take_part(request, data);
}

TextServer::Answer TextServer::take_part(const TextRequestPdu& request, base::Bytes data) {
  if (data.size() > kMaxNegotiationBytes - partial_.size()) {
    return reject(RejectReason::protocol_error);
  }
  partial_.insert(partial_.end(), data.begin(), data.end());
  if ((request.flags & text_flags::kContinue) != 0) return respond(0, {});
  answer_.clear();
  answer_sent_ = 0;
  const Result<void> answered = answer_message();
  partial_ = {};
  if (!answered.has_value()) {
    answer_.clear();
    return reject(RejectReason::protocol_error);
  }
  return send_part();
}

Result<void> TextServer::answer_message() {
  TextMessage message;
  TRY(message.parse(partial_));
  TextKeyWriter out(answer_, kMaxTextResponseBytes);
  TRY(negotiation_.receive(message, NegotiationPhase::full_feature, out));
  if (const auto value = message.find(key_info(Key::send_targets).name)) {
    TRY(send_targets(*value, out));
  }
  return {};
}

// RFC 7143 Appendix C: All is for discovery sessions, nothing (the session's own target) is for
// normal sessions, a name is for both.
Result<void> TextServer::send_targets(std::string_view value, TextKeyWriter& out) {
  const bool discovery = target_.empty();
  TargetListWriter list(out);
  if (value == "All") {
    if (discovery) return directory_.list({}, list);
    return out.add(key_info(Key::send_targets).name, "Reject");
  }
  if (value.empty()) {
    if (!discovery) return directory_.list(target_, list);
    return out.add(key_info(Key::send_targets).name, "Reject");
  }
  const auto name = normalize_name(value);
  if (!name.has_value()) return {};  // no such target: an empty list
  return directory_.list(*name, list);
}

TextServer::Answer TextServer::send_part() {
  const size_t limit = parameters().max_send_data_segment_length;
  const base::Bytes rest = base::Bytes(answer_).subspan(answer_sent_);
  const base::Bytes part = rest.first(std::min(rest.size(), limit));
  answer_sent_ += part.size();
  if (part.size() < rest.size()) return respond(text_flags::kContinue, part);
  return respond(final_ ? kFinal : uint8_t{0}, part);
}

TextServer::Answer TextServer::respond(uint8_t flags, base::Bytes data) {
  // RFC 7143 11.11.4: a final response has no target transfer tag, any other has one.
  if ((flags & kFinal) != 0) {
    ttt_ = kReservedTag;
  } else if (ttt_ == kReservedTag) {
    ttt_ = next_ttt_++;
    if (next_ttt_ == kReservedTag) next_ttt_ = 1;
  }
  response_ = TextResponsePdu();
  response_.flags = flags;
  response_.itt = itt_;
  response_.ttt = ttt_;
  response_.data_segment_length = static_cast<uint32_t>(data.size());
  response_data_ = data;
  return {.accepted = true};
}

TextServer::Answer TextServer::reject(RejectReason reason) {
  ttt_ = kReservedTag;
  partial_ = {};
  answer_.clear();
  answer_sent_ = 0;
  response_data_ = {};
  return {.accepted = false, .reason = reason};
}

}  // namespace holdfast::iscsi
