#pragma once
// The one table of text keys (RFC 7143 clauses 12 and 13), used by both sides: what each key is,
// who may send it when, and how two sides come to one value.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace holdfast::iscsi {

enum class Key : uint8_t {
  auth_method,
  chap_a,
  chap_i,
  chap_c,
  chap_n,
  chap_r,
  header_digest,
  data_digest,
  max_connections,
  send_targets,
  target_name,
  initiator_name,
  target_alias,
  initiator_alias,
  target_address,
  target_portal_group_tag,
  initial_r2t,
  immediate_data,
  max_recv_data_segment_length,
  max_burst_length,
  first_burst_length,
  default_time2wait,
  default_time2retain,
  max_outstanding_r2t,
  data_pdu_in_order,
  data_sequence_in_order,
  error_recovery_level,
  session_type,
  task_reporting,
  protocol_level,
  if_marker,
  of_marker,
  if_mark_int,
  of_mark_int,
  node_architecture,
  rdma_extensions,
  target_recv_data_segment_length,
  initiator_recv_data_segment_length,
  max_outstanding_unexpected_pdus,
  max_ahs_length,
  tagged_buffer_for_solicited_data_only,
  iser_hello_required,
};
inline constexpr size_t kKeyCount = static_cast<size_t>(Key::iser_hello_required) + 1;

enum class ValueType : uint8_t { boolean, number, list, text };

enum class Rule : uint8_t {
  boolean_and,
  boolean_or,
  minimum,
  maximum,
  first_common,  // a list in the offerer's order of preference
  declare,       // stated by one side, not answered
  elsewhere,     // the business of the security stage or of SendTargets; here only its place
  refuse,        // answered with `fixed_answer`, whatever the value
};

// RFC 7143 13, "Use": IO, LO, FFPO, ALL.
enum class Use : uint8_t { initialize_only, leading_only, full_feature_only, all };
// RFC 7143 12 names the few keys that the security stage may carry.
enum class Stages : uint8_t { security, operational, both };
enum class Sender : uint8_t { both, initiator, target };

struct KeyInfo {
  Key key;
  std::string_view name;
  ValueType type;
  Rule rule;
  Use use;
  Stages stages;  // of the login
  Sender sender;
  bool irrelevant_in_discovery;
  uint32_t minimum;
  uint32_t maximum;
  std::string_view default_value;  // in force when nobody names the key; empty: none
  std::string_view fixed_answer;   // of Rule::refuse
  std::string_view clause;         // of RFC 7143 unless another RFC is named
};

std::span<const KeyInfo> key_table();
const KeyInfo& key_info(Key key);
const KeyInfo* find_key(std::string_view name);  // null: not a key we know

}  // namespace holdfast::iscsi
