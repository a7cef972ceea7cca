#include "common/iscsi/negotiation.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/iscsi/name.h"

namespace holdfast::iscsi {
namespace {

using base::Errc;
using base::fail;
using base::Result;

constexpr std::string_view kReject = "Reject";
constexpr std::string_view kIrrelevant = "Irrelevant";
constexpr std::string_view kNotUnderstood = "NotUnderstood";

bool is_negotiated(Rule rule) {
  switch (rule) {
    case Rule::boolean_and:
    case Rule::boolean_or:
    case Rule::minimum:
    case Rule::maximum:
    case Rule::first_common:
      return true;
    case Rule::declare:
    case Rule::elsewhere:
    case Rule::refuse:
      return false;
  }
  return false;
}

bool is_no_value(std::string_view value) {
  return value == kReject || value == kIrrelevant || value == kNotUnderstood;
}

Result<uint32_t> number_in_range(const KeyInfo& info, std::string_view value) {
  TRY_ASSIGN(const uint64_t number, parse_number(value));
  if (number < info.minimum || number > info.maximum) {
    return fail(Errc::protocol, "a number is outside of its key's range");
  }
  return static_cast<uint32_t>(number);
}

// Initiators in use (libiscsi) say who they are again at the start of the operational stage. The
// same words again change nothing; other words would change an identity after its proof.
// Some targets state theirs in every stage.
bool may_be_repeated(Key key) {
  switch (key) {
    case Key::initiator_name:
    case Key::target_name:
    case Key::initiator_alias:
    case Key::session_type:
    case Key::target_alias:
    case Key::target_portal_group_tag:
      return true;
    default:
      return false;
  }
}

// RFC 7143 6.3.1: who talks to whom is said first, and what was decided on it stays true.
std::unexpected<base::Error> late() {
  return fail(Errc::protocol, "a name or SessionType came after the first login request");
}

constexpr std::string_view to_text(SessionType type) {
  return type == SessionType::discovery ? "Discovery" : "Normal";
}

}  // namespace

Negotiation::Negotiation(Role role, const LocalParameters& local, SessionType type)
    : role_(role), local_(local) {
  ASSERT(role == Role::initiator || type == SessionType::normal);
  peer_.session_type = type;
  const auto in_range = [](Key key, uint32_t value) {
    return value >= key_info(key).minimum && value <= key_info(key).maximum;
  };
  ASSERT(in_range(Key::max_recv_data_segment_length, local.max_recv_data_segment_length));
  ASSERT(in_range(Key::max_burst_length, local.max_burst_length));
  ASSERT(in_range(Key::first_burst_length, local.first_burst_length));
  ASSERT(in_range(Key::max_outstanding_r2t, local.max_outstanding_r2t));
  ASSERT(in_range(Key::default_time2wait, local.default_time2wait));
  ASSERT(in_range(Key::default_time2retain, local.default_time2retain));
}

void Negotiation::begin_sequence() { states_.fill(KeyState{}); }

Result<void> Negotiation::receive(const TextMessage& message, NegotiationPhase phase,
                                  TextKeyWriter& out) {
  const bool login = phase != NegotiationPhase::full_feature;
  // First, because other keys of the same message are irrelevant in a discovery session.
  if (login) TRY(receive_session_type(message));
  const KeyInfo& first_burst = key_info(Key::first_burst_length);
  for (const KeyValue& entry : message) {
    const KeyInfo* const info = find_key(entry.key);
    if (info == nullptr) {
      // RFC 7143 6.2: also for X- keys. The name is at most 63 bytes, the output is bounded.
      TRY(out.add(entry.key, kNotUnderstood));
    } else if (info != &first_burst && !(login && info->key == Key::session_type)) {
      TRY(receive_key(*info, entry.value, phase, out));
    }
  }
  // Last, because it must not exceed MaxBurstLength (RFC 7143 13.14), wherever that one stands.
  if (const auto value = message.find(first_burst.name)) {
    TRY(receive_key(first_burst, *value, phase, out));
  }
  active_.first_burst_length = std::min(active_.first_burst_length, active_.max_burst_length);
  leading_ = false;
  return {};
}

Result<void> Negotiation::receive_session_type(const TextMessage& message) {
  const KeyInfo& info = key_info(Key::session_type);
  const auto value = message.find(info.name);
  if (!value) return {};
  if (role_ == Role::initiator) return fail(Errc::protocol, "a target sent SessionType");
  if (state(info.key).received) return receive_again(info, *value);
  if (!leading_ && *value != to_text(peer_.session_type)) return late();
  state(info.key).received = true;
  if (*value == to_text(SessionType::discovery)) {
    peer_.session_type = SessionType::discovery;
  } else if (*value != to_text(SessionType::normal)) {
    return fail(Errc::unsupported, "SessionType is neither Normal nor Discovery");
  }
  return {};
}

Result<void> Negotiation::check_place(const KeyInfo& info, NegotiationPhase phase) const {
  const Sender forbidden = role_ == Role::target ? Sender::target : Sender::initiator;
  if (info.sender == forbidden) return fail(Errc::protocol, "a key came from the wrong side");
  if (phase == NegotiationPhase::full_feature) {
    return {};  // a wrong key is answered with Reject there, the session goes on
  }
  if (info.use == Use::full_feature_only) {
    return fail(Errc::protocol, "a key of the full feature phase came during login");
  }
  const Stages wrong = phase == NegotiationPhase::security ? Stages::operational : Stages::security;
  if (info.stages == wrong) return fail(Errc::protocol, "a key came in the wrong login stage");
  return {};
}

Result<void> Negotiation::receive_key(const KeyInfo& info, std::string_view value,
                                      NegotiationPhase phase, TextKeyWriter& out) {
  TRY(check_place(info, phase));
  if (phase == NegotiationPhase::full_feature && info.use != Use::all &&
      info.use != Use::full_feature_only) {
    return out.add(info.name, kReject);
  }
  KeyState& key = state(info.key);
  if (key.offered && !key.answered) {
    key.answered = true;
    key.received = true;
    return receive_answer(info, value);
  }
  if (key.received && info.rule != Rule::elsewhere) return receive_again(info, value);
  key.received = true;
  switch (info.rule) {
    case Rule::elsewhere:
      return {};
    case Rule::declare:
      return receive_declaration(info, value);
    case Rule::refuse:
      return out.add(info.name, info.fixed_answer);
    case Rule::boolean_and:
    case Rule::boolean_or:
    case Rule::minimum:
    case Rule::maximum:
    case Rule::first_common:
      return answer(info, value, out);
  }
  return {};
}

// RFC 7143 6.3: a second negotiation of a key in one login ends the login.
Result<void> Negotiation::receive_again(const KeyInfo& info, std::string_view value) const {
  if (may_be_repeated(info.key) && is_what_was_stated(info, value)) return {};
  return fail(Errc::protocol, "a key was named twice in one negotiation");
}

bool Negotiation::is_what_was_stated(const KeyInfo& info, std::string_view value) const {
  switch (info.key) {
    case Key::session_type:
      return value == to_text(peer_.session_type);
    case Key::initiator_alias:
      return value == peer_.initiator_alias;
    case Key::target_alias:
      return value == peer_.target_alias;
    case Key::target_portal_group_tag: {
      const auto tag = number_in_range(info, value);
      return tag.has_value() && *tag == peer_.portal_group_tag;
    }
    default: {
      const auto name = normalize_name(value);
      return name.has_value() &&
             *name == (info.key == Key::initiator_name ? peer_.initiator_name : peer_.target_name);
    }
  }
}

Result<void> Negotiation::receive_declaration(const KeyInfo& info, std::string_view value) {
  switch (info.key) {
    case Key::initiator_name: {
      if (!leading_) return late();
      const auto name = normalize_name(value);
      if (!name.has_value()) return fail(Errc::protocol, name.error().what);
      peer_.initiator_name = *name;
      return {};
    }
    case Key::target_name: {
      if (!leading_) return late();
      const auto name = normalize_name(value);
      if (!name.has_value()) return fail(Errc::not_found, name.error().what);
      peer_.target_name = *name;
      return {};
    }
    case Key::initiator_alias:
      peer_.initiator_alias = value;
      return {};
    case Key::target_alias:
      peer_.target_alias = value;
      return {};
    case Key::target_portal_group_tag: {
      TRY_ASSIGN(const uint32_t tag, number_in_range(info, value));
      peer_.portal_group_tag = static_cast<uint16_t>(tag);
      return {};
    }
    case Key::max_recv_data_segment_length: {
      TRY_ASSIGN(active_.max_send_data_segment_length, number_in_range(info, value));
      return {};
    }
    default:
      return {};  // TargetAddress, X#NodeArchitecture: nothing depends on them
  }
}

Result<void> Negotiation::answer(const KeyInfo& info, std::string_view value, TextKeyWriter& out) {
  if (is_no_value(value)) return fail(Errc::protocol, "an answer came to what was not offered");
  if (info.irrelevant_in_discovery && peer_.session_type == SessionType::discovery) {
    return out.add(info.name, kIrrelevant);
  }
  switch (info.type) {
    case ValueType::boolean:
      return answer_boolean(info, value, out);
    case ValueType::number:
      return answer_number(info, value, out);
    case ValueType::list:
      return answer_list(info, value, out);
    case ValueType::text:
      break;
  }
  return {};
}

Result<void> Negotiation::answer_boolean(const KeyInfo& info, std::string_view value,
                                         TextKeyWriter& out) {
  const auto offered = parse_boolean(value);
  if (!offered.has_value()) return out.add(info.name, kReject);
  const bool ours = local_boolean(local_, info.key);
  const bool result = info.rule == Rule::boolean_and ? (*offered && ours) : (*offered || ours);
  set_boolean(active_, info.key, result);
  return out.add_boolean(info.name, result);
}

Result<void> Negotiation::answer_number(const KeyInfo& info, std::string_view value,
                                        TextKeyWriter& out) {
  const auto offered = number_in_range(info, value);
  if (!offered.has_value()) return out.add(info.name, kReject);
  const uint32_t ours = local_number(local_, info.key);
  uint32_t result =
      info.rule == Rule::minimum ? std::min(*offered, ours) : std::max(*offered, ours);
  if (info.key == Key::first_burst_length) result = std::min(result, active_.max_burst_length);
  set_number(active_, info.key, result);
  return out.add_number(info.name, result);
}

Result<void> Negotiation::answer_list(const KeyInfo& info, std::string_view value,
                                      TextKeyWriter& out) {
  const std::string_view ours = local_list(local_, info.key);
  ListReader items(value);
  while (const auto item = items.next()) {
    if (!list_contains(ours, *item)) continue;
    set_list(active_, info.key, *item);
    return out.add(info.name, *item);
  }
  if (!default_is_acceptable(info.key)) {
    return fail(Errc::protocol, "the peer does not offer what this side requires");
  }
  return out.add(info.name, kReject);
}

Result<void> Negotiation::receive_answer(const KeyInfo& info, std::string_view value) {
  if (is_no_value(value)) {
    if (default_is_acceptable(info.key)) return {};
    return fail(Errc::protocol, "the peer refused a key that this side requires");
  }
  if (info.type == ValueType::boolean) {
    TRY_ASSIGN(const bool result, parse_boolean(value));
    // Our No of an AND, and our Yes of an OR, are the result whatever the peer wants.
    const bool decisive = info.rule == Rule::boolean_or;
    if (local_boolean(local_, info.key) == decisive && result != decisive) {
      return fail(Errc::protocol, "an answer contradicts the offer");
    }
    set_boolean(active_, info.key, result);
  } else if (info.type == ValueType::number) {
    TRY_ASSIGN(const uint32_t result, number_in_range(info, value));
    const uint32_t ours = local_number(local_, info.key);
    if (info.rule == Rule::minimum ? result > ours : result < ours) {
      return fail(Errc::protocol, "an answer contradicts the offer");
    }
    set_number(active_, info.key, result);
  } else {
    if (!list_contains(local_list(local_, info.key), value)) {
      return fail(Errc::protocol, "an answer is not in the offered list");
    }
    set_list(active_, info.key, value);
  }
  return {};
}

Result<void> Negotiation::declare(TextKeyWriter& out) {
  if (declared_) return {};
  declared_ = true;
  TRY(out.add_number(key_info(Key::max_recv_data_segment_length).name,
                     local_.max_recv_data_segment_length));
  active_.max_recv_data_segment_length = local_.max_recv_data_segment_length;
  return {};
}

Result<void> Negotiation::offer(TextKeyWriter& out) {
  for (const KeyInfo& info : key_table()) {
    KeyState& key = state(info.key);
    if (!is_negotiated(info.rule) || key.received || key.offered) continue;
    if (role_ == Role::target && default_is_acceptable(info.key)) continue;
    if (info.irrelevant_in_discovery && peer_.session_type == SessionType::discovery) continue;
    key.offered = true;
    TRY(write_offer(info, out));
  }
  return {};
}

Result<void> Negotiation::write_offer(const KeyInfo& info, TextKeyWriter& out) const {
  switch (info.type) {
    case ValueType::boolean:
      return out.add_boolean(info.name, local_boolean(local_, info.key));
    case ValueType::number:
      return out.add_number(info.name, local_number(local_, info.key));
    case ValueType::list:
      return out.add(info.name, local_list(local_, info.key));
    case ValueType::text:
      break;
  }
  return {};
}

bool Negotiation::waiting_for_answers() const {
  return std::ranges::any_of(states_,
                             [](const KeyState& key) { return key.offered && !key.answered; });
}

Result<void> Negotiation::end_stage() {
  ASSERT(role_ == Role::initiator);
  for (const KeyInfo& info : key_table()) {
    KeyState& key = state(info.key);
    if (!key.offered || key.answered) continue;
    key.answered = true;
    if (!default_is_acceptable(info.key)) {
      return fail(Errc::protocol, "the peer did not answer a key that this side requires");
    }
  }
  return {};
}

// Of what bounds the peer's data: whether the value that holds when nobody names the key will do.
bool Negotiation::default_is_acceptable(Key key) const {
  switch (key) {
    case Key::header_digest:
      return local_.header_digest != DigestChoice::required;
    case Key::data_digest:
      return local_.data_digest != DigestChoice::required;
    case Key::immediate_data:
      return local_.immediate_data;
    case Key::max_burst_length:
      return active_.max_burst_length <= local_.max_burst_length;
    case Key::first_burst_length:
      return (active_.initial_r2t && !active_.immediate_data) ||
             active_.first_burst_length <= local_.first_burst_length;
    default:
      return true;
  }
}

}  // namespace holdfast::iscsi
