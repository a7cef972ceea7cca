#include "common/iscsi/key_table.h"

#include <algorithm>
#include <array>

#include "common/base/assert.h"
#include "common/iscsi/limits.h"

namespace holdfast::iscsi {
namespace {

constexpr auto kBoolean = ValueType::boolean;
constexpr auto kNumber = ValueType::number;
constexpr auto kList = ValueType::list;
constexpr auto kText = ValueType::text;

constexpr auto kIo = Use::initialize_only;
constexpr auto kLo = Use::leading_only;
constexpr auto kFfpo = Use::full_feature_only;
constexpr auto kAll = Use::all;

constexpr auto kSec = Stages::security;
constexpr auto kOper = Stages::operational;
constexpr auto kBoth = Stages::both;

constexpr auto kEither = Sender::both;
constexpr auto kInitiator = Sender::initiator;
constexpr auto kTarget = Sender::target;

constexpr auto kMaxSegment = kMaxDataSegmentBytes;

using enum Rule;

// clang-format off
constexpr auto kKeys = std::to_array<KeyInfo>({
  // key, name, type, rule, use, stages, sender, irrelevant in discovery, min, max, default, fixed answer, clause
  {Key::auth_method, "AuthMethod", kList, elsewhere, kIo, kSec, kEither, false, 0, 0, "None", "", "12.1"},
  {Key::chap_a, "CHAP_A", kList, elsewhere, kIo, kSec, kEither, false, 0, 0, "", "", "12.1.3"},
  {Key::chap_i, "CHAP_I", kNumber, elsewhere, kIo, kSec, kEither, false, 0, 255, "", "", "12.1.3"},
  {Key::chap_c, "CHAP_C", kText, elsewhere, kIo, kSec, kEither, false, 0, 0, "", "", "12.1.3"},
  {Key::chap_n, "CHAP_N", kText, elsewhere, kIo, kSec, kEither, false, 0, 0, "", "", "12.1.3"},
  {Key::chap_r, "CHAP_R", kText, elsewhere, kIo, kSec, kEither, false, 0, 0, "", "", "12.1.3"},
  {Key::header_digest, "HeaderDigest", kList, first_common, kIo, kOper, kEither, false, 0, 0, "None", "", "13.1"},
  {Key::data_digest, "DataDigest", kList, first_common, kIo, kOper, kEither, false, 0, 0, "None", "", "13.1"},
  {Key::max_connections, "MaxConnections", kNumber, minimum, kLo, kOper, kEither, true, 1, 65535, "1", "", "13.2"},
  {Key::send_targets, "SendTargets", kText, elsewhere, kFfpo, kOper, kInitiator, false, 0, 0, "", "", "13.3"},
  {Key::target_name, "TargetName", kText, declare, kIo, kBoth, kInitiator, false, 0, 0, "", "", "13.4"},
  {Key::initiator_name, "InitiatorName", kText, declare, kIo, kBoth, kInitiator, false, 0, 0, "", "", "13.5"},
  {Key::target_alias, "TargetAlias", kText, declare, kAll, kBoth, kTarget, false, 0, 0, "", "", "13.6"},
  {Key::initiator_alias, "InitiatorAlias", kText, declare, kAll, kBoth, kInitiator, false, 0, 0, "", "", "13.7"},
  {Key::target_address, "TargetAddress", kText, declare, kAll, kBoth, kTarget, false, 0, 0, "", "", "13.8"},
  {Key::target_portal_group_tag, "TargetPortalGroupTag", kNumber, declare, kIo, kBoth, kTarget, false, 0, 65535, "", "", "13.9"},
  {Key::initial_r2t, "InitialR2T", kBoolean, boolean_or, kLo, kOper, kEither, true, 0, 0, "Yes", "", "13.10"},
  {Key::immediate_data, "ImmediateData", kBoolean, boolean_and, kLo, kOper, kEither, true, 0, 0, "Yes", "", "13.11"},
  {Key::max_recv_data_segment_length, "MaxRecvDataSegmentLength", kNumber, declare, kAll, kOper, kEither, false, kMinDataSegmentBytes, kMaxSegment, "8192", "", "13.12"},
  {Key::max_burst_length, "MaxBurstLength", kNumber, minimum, kLo, kOper, kEither, true, 512, kMaxSegment, "262144", "", "13.13"},
  {Key::first_burst_length, "FirstBurstLength", kNumber, minimum, kLo, kOper, kEither, true, 512, kMaxSegment, "65536", "", "13.14"},
  {Key::default_time2wait, "DefaultTime2Wait", kNumber, maximum, kLo, kOper, kEither, false, 0, 3600, "2", "", "13.15"},
  {Key::default_time2retain, "DefaultTime2Retain", kNumber, minimum, kLo, kOper, kEither, false, 0, 3600, "20", "", "13.16"},
  {Key::max_outstanding_r2t, "MaxOutstandingR2T", kNumber, minimum, kLo, kOper, kEither, true, 1, 65535, "1", "", "13.17"},
  {Key::data_pdu_in_order, "DataPDUInOrder", kBoolean, boolean_or, kLo, kOper, kEither, true, 0, 0, "Yes", "", "13.18"},
  {Key::data_sequence_in_order, "DataSequenceInOrder", kBoolean, boolean_or, kLo, kOper, kEither, true, 0, 0, "Yes", "", "13.19"},
  {Key::error_recovery_level, "ErrorRecoveryLevel", kNumber, minimum, kLo, kOper, kEither, false, 0, 2, "0", "", "13.20"},
  {Key::session_type, "SessionType", kText, declare, kLo, kBoth, kInitiator, false, 0, 0, "Normal", "", "13.21"},
  {Key::task_reporting, "TaskReporting", kList, first_common, kLo, kOper, kEither, true, 0, 0, "RFC3720", "", "13.23"},
  {Key::protocol_level, "iSCSIProtocolLevel", kNumber, minimum, kLo, kOper, kEither, true, 0, 31, "1", "", "13.24"},
  // Obsolete. No is allowed in place of Reject, and is what initiators that still ask want to hear.
  {Key::if_marker, "IFMarker", kBoolean, refuse, kLo, kOper, kEither, false, 0, 0, "No", "No", "13.25"},
  {Key::of_marker, "OFMarker", kBoolean, refuse, kLo, kOper, kEither, false, 0, 0, "No", "No", "13.25"},
  {Key::if_mark_int, "IFMarkInt", kText, refuse, kLo, kOper, kEither, false, 0, 0, "", "Reject", "13.25"},
  {Key::of_mark_int, "OFMarkInt", kText, refuse, kLo, kOper, kEither, false, 0, 0, "", "Reject", "13.25"},
  {Key::node_architecture, "X#NodeArchitecture", kText, declare, kLo, kOper, kEither, false, 0, 0, "", "", "13.26"},
  // iSER. Without RDMAExtensions=Yes its other keys mean nothing.
  {Key::rdma_extensions, "RDMAExtensions", kBoolean, refuse, kLo, kOper, kEither, true, 0, 0, "No", "No", "RFC 7145 6"},
  {Key::target_recv_data_segment_length, "TargetRecvDataSegmentLength", kNumber, refuse, kIo, kOper, kEither, true, 512, kMaxSegment, "8192", "Irrelevant", "RFC 7145 6"},
  {Key::initiator_recv_data_segment_length, "InitiatorRecvDataSegmentLength", kNumber, refuse, kIo, kOper, kEither, true, 512, kMaxSegment, "8192", "Irrelevant", "RFC 7145 6"},
  {Key::max_outstanding_unexpected_pdus, "MaxOutstandingUnexpectedPDUs", kNumber, refuse, kLo, kOper, kEither, true, 0, 0, "0", "Irrelevant", "RFC 7145 6"},
  {Key::max_ahs_length, "MaxAHSLength", kNumber, refuse, kLo, kOper, kEither, true, 0, 0, "256", "Irrelevant", "RFC 7145 6"},
  {Key::tagged_buffer_for_solicited_data_only, "TaggedBufferForSolicitedDataOnly", kBoolean, refuse, kLo, kOper, kEither, true, 0, 0, "No", "Irrelevant", "RFC 7145 6"},
  {Key::iser_hello_required, "iSERHelloRequired", kBoolean, refuse, kLo, kOper, kEither, true, 0, 0, "No", "Irrelevant", "RFC 7145 6"},
});
// clang-format on

static_assert(kKeys.size() == kKeyCount);

constexpr bool indexed_by_key() {
  for (size_t i = 0; i < kKeys.size(); ++i) {
    if (static_cast<size_t>(kKeys[i].key) != i) return false;
  }
  return true;
}
static_assert(indexed_by_key());

}  // namespace

std::span<const KeyInfo> key_table() { return kKeys; }

const KeyInfo& key_info(Key key) {
  ASSERT(static_cast<size_t>(key) < kKeys.size());
  return kKeys[static_cast<size_t>(key)];
}

const KeyInfo* find_key(std::string_view name) {
  const auto found = std::ranges::find(kKeys, name, &KeyInfo::name);
  return found == kKeys.end() ? nullptr : &*found;
}

}  // namespace holdfast::iscsi
