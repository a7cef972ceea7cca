#pragma once
// The PDUs of RFC 7143 clause 11 as they lie on the wire: 48-byte basic header segments.
// Values of reserved fields are zero when sent and ignored when received.

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/base/endian.h"
#include "common/iscsi/bhs.h"
#include "common/iscsi/limits.h"

namespace holdfast::iscsi {

namespace scsi_command_flags {  // RFC 7143 11.3.1
inline constexpr uint8_t kRead = 0x40;
inline constexpr uint8_t kWrite = 0x20;
inline constexpr uint8_t kAttributeMask = 0x07;
}  // namespace scsi_command_flags

enum class TaskAttribute : uint8_t { untagged = 0, simple = 1, ordered = 2, head = 3, aca = 4 };

struct ScsiCommandPdu {
  uint8_t opcode = 0x01;
  uint8_t flags = 0;
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 expected_data_transfer_length;
  be32 cmd_sn;
  be32 exp_stat_sn;
  std::array<uint8_t, 16> cdb{};
};
static_assert(base::WireStruct<ScsiCommandPdu, kBhsBytes>);
static_assert(offsetof(ScsiCommandPdu, expected_data_transfer_length) == 20 &&
              offsetof(ScsiCommandPdu, cmd_sn) == 24 && offsetof(ScsiCommandPdu, cdb) == 32);

namespace residual_flags {  // RFC 7143 11.4.1, and 11.7.3 where they lie in the same bits
inline constexpr uint8_t kBidirectionalOverflow = 0x10;
inline constexpr uint8_t kBidirectionalUnderflow = 0x08;
inline constexpr uint8_t kOverflow = 0x04;
inline constexpr uint8_t kUnderflow = 0x02;
}  // namespace residual_flags

enum class ScsiResponseCode : uint8_t { completed = 0x00, target_failure = 0x01 };

struct ScsiResponsePdu {
  uint8_t opcode = 0x21;
  uint8_t flags = kFinal;
  uint8_t response = 0;
  uint8_t status = 0;
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  std::array<uint8_t, 8> reserved8{};
  be32 itt;
  be32 snack_tag;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  be32 exp_data_sn;
  be32 bidirectional_read_residual_count;
  be32 residual_count;
};
static_assert(base::WireStruct<ScsiResponsePdu, kBhsBytes>);
static_assert(offsetof(ScsiResponsePdu, status) == 3 && offsetof(ScsiResponsePdu, stat_sn) == 24 &&
              offsetof(ScsiResponsePdu, residual_count) == 44);

// RFC 7143 11.5.1; 9 to 12 are of RFC 7144, refused at protocol level 1.
enum class TaskFunction : uint8_t {
  abort_task = 1,
  abort_task_set = 2,
  clear_aca = 3,
  clear_task_set = 4,
  logical_unit_reset = 5,
  target_warm_reset = 6,
  target_cold_reset = 7,
  task_reassign = 8,
  query_task = 9,
  query_task_set = 10,
  i_t_nexus_reset = 11,
  query_asynchronous_event = 12,
};
inline constexpr uint8_t kTaskFunctionMask = 0x7f;

struct TaskManagementRequestPdu {
  uint8_t opcode = 0x02;
  uint8_t flags = kFinal;  // | function
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 referenced_task_tag;
  be32 cmd_sn;
  be32 exp_stat_sn;
  be32 ref_cmd_sn;
  be32 exp_data_sn;
  std::array<uint8_t, 8> reserved40{};
};
static_assert(base::WireStruct<TaskManagementRequestPdu, kBhsBytes>);
static_assert(offsetof(TaskManagementRequestPdu, referenced_task_tag) == 20 &&
              offsetof(TaskManagementRequestPdu, ref_cmd_sn) == 32);

// RFC 7143 11.6.1.
enum class TaskResponse : uint8_t {
  function_complete = 0,
  task_does_not_exist = 1,
  lun_does_not_exist = 2,
  task_still_allegiant = 3,
  reassignment_not_supported = 4,
  function_not_supported = 5,
  authorization_failed = 6,
  function_rejected = 255,
};

struct TaskManagementResponsePdu {
  uint8_t opcode = 0x22;
  uint8_t flags = kFinal;
  uint8_t response = 0;
  uint8_t reserved3 = 0;
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  std::array<uint8_t, 8> reserved8{};
  be32 itt;
  be32 reserved20;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  std::array<uint8_t, 12> reserved36{};
};
static_assert(base::WireStruct<TaskManagementResponsePdu, kBhsBytes>);
static_assert(offsetof(TaskManagementResponsePdu, stat_sn) == 24);

struct DataOutPdu {
  uint8_t opcode = 0x05;
  uint8_t flags = 0;
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 ttt;
  be32 reserved24;
  be32 exp_stat_sn;
  be32 reserved32;
  be32 data_sn;
  be32 buffer_offset;
  be32 reserved44;
};
static_assert(base::WireStruct<DataOutPdu, kBhsBytes>);
static_assert(offsetof(DataOutPdu, ttt) == 20 && offsetof(DataOutPdu, exp_stat_sn) == 28 &&
              offsetof(DataOutPdu, data_sn) == 36 && offsetof(DataOutPdu, buffer_offset) == 40);

namespace data_in_flags {  // RFC 7143 11.7.2, 11.7.3; O and U as in residual_flags
inline constexpr uint8_t kAcknowledge = 0x40;
inline constexpr uint8_t kStatus = 0x01;
}  // namespace data_in_flags

struct DataInPdu {
  uint8_t opcode = 0x25;
  uint8_t flags = 0;
  uint8_t reserved2 = 0;
  uint8_t status = 0;
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 ttt = kReservedTag;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  be32 data_sn;
  be32 buffer_offset;
  be32 residual_count;
};
static_assert(base::WireStruct<DataInPdu, kBhsBytes>);
static_assert(offsetof(DataInPdu, status) == 3 && offsetof(DataInPdu, ttt) == 20 &&
              offsetof(DataInPdu, data_sn) == 36 && offsetof(DataInPdu, residual_count) == 44);

struct R2tPdu {
  uint8_t opcode = 0x31;
  uint8_t flags = kFinal;
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 ttt;
  be32 stat_sn;  // the next StatSN, not consumed
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  be32 r2t_sn;
  be32 buffer_offset;
  be32 desired_data_transfer_length;
};
static_assert(base::WireStruct<R2tPdu, kBhsBytes>);
static_assert(offsetof(R2tPdu, ttt) == 20 && offsetof(R2tPdu, r2t_sn) == 36 &&
              offsetof(R2tPdu, desired_data_transfer_length) == 44);

// RFC 7143 11.9.1.
enum class AsyncEvent : uint8_t {
  scsi = 0,
  logout_request = 1,
  connection_dropped = 2,
  all_connections_dropped = 3,
  negotiation_request = 4,
  all_tasks_terminated = 5,
  vendor = 255,
};

struct AsyncMessagePdu {
  uint8_t opcode = 0x32;
  uint8_t flags = kFinal;
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 reserved_tag = kReservedTag;
  be32 reserved20;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  uint8_t async_event = 0;
  uint8_t async_vcode = 0;
  be16 parameter1;
  be16 parameter2;
  be16 parameter3;
  be32 reserved44;
};
static_assert(base::WireStruct<AsyncMessagePdu, kBhsBytes>);
static_assert(offsetof(AsyncMessagePdu, async_event) == 36 &&
              offsetof(AsyncMessagePdu, parameter3) == 42);

namespace text_flags {  // RFC 7143 11.10.2, 11.11.2
inline constexpr uint8_t kContinue = 0x40;
}  // namespace text_flags

struct TextRequestPdu {
  uint8_t opcode = 0x04;
  uint8_t flags = 0;
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 ttt = kReservedTag;
  be32 cmd_sn;
  be32 exp_stat_sn;
  std::array<uint8_t, 16> reserved32{};
};
static_assert(base::WireStruct<TextRequestPdu, kBhsBytes>);
static_assert(offsetof(TextRequestPdu, ttt) == 20 && offsetof(TextRequestPdu, cmd_sn) == 24);

struct TextResponsePdu {
  uint8_t opcode = 0x24;
  uint8_t flags = 0;
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 ttt = kReservedTag;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  std::array<uint8_t, 12> reserved36{};
};
static_assert(base::WireStruct<TextResponsePdu, kBhsBytes>);
static_assert(offsetof(TextResponsePdu, ttt) == 20 && offsetof(TextResponsePdu, stat_sn) == 24);

// RFC 7143 11.12.3.
enum class LoginStage : uint8_t { security = 0, operational = 1, full_feature = 3 };

namespace login_flags {
inline constexpr uint8_t kTransit = 0x80;
inline constexpr uint8_t kContinue = 0x40;
inline constexpr unsigned kCurrentStageShift = 2;
inline constexpr uint8_t kStageMask = 0x03;
}  // namespace login_flags

constexpr uint8_t current_stage(uint8_t flags) {
  return static_cast<uint8_t>((flags >> login_flags::kCurrentStageShift) & login_flags::kStageMask);
}
constexpr uint8_t next_stage(uint8_t flags) { return flags & login_flags::kStageMask; }

struct LoginRequestPdu {
  uint8_t opcode = 0x03 | kImmediate;
  uint8_t flags = 0;
  uint8_t version_max = 0;
  uint8_t version_min = 0;
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be48 isid;
  be16 tsih;
  be32 itt;
  be16 cid;
  be16 reserved22;
  be32 cmd_sn;
  be32 exp_stat_sn;
  std::array<uint8_t, 16> reserved32{};
};
static_assert(base::WireStruct<LoginRequestPdu, kBhsBytes>);
static_assert(offsetof(LoginRequestPdu, isid) == 8 && offsetof(LoginRequestPdu, tsih) == 14 &&
              offsetof(LoginRequestPdu, cid) == 20 && offsetof(LoginRequestPdu, cmd_sn) == 24);

struct LoginResponsePdu {
  uint8_t opcode = 0x23;
  uint8_t flags = 0;
  uint8_t version_max = 0;
  uint8_t version_active = 0;
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be48 isid;
  be16 tsih;
  be32 itt;
  be32 reserved20;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  uint8_t status_class = 0;
  uint8_t status_detail = 0;
  std::array<uint8_t, 10> reserved38{};
};
static_assert(base::WireStruct<LoginResponsePdu, kBhsBytes>);
static_assert(offsetof(LoginResponsePdu, tsih) == 14 && offsetof(LoginResponsePdu, stat_sn) == 24 &&
              offsetof(LoginResponsePdu, status_class) == 36);

// RFC 7143 11.14.1.
enum class LogoutReason : uint8_t { close_session = 0, close_connection = 1, recovery = 2 };
inline constexpr uint8_t kLogoutReasonMask = 0x7f;

struct LogoutRequestPdu {
  uint8_t opcode = 0x06;
  uint8_t flags = kFinal;  // | reason
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  std::array<uint8_t, 8> reserved8{};
  be32 itt;
  be16 cid;
  be16 reserved22;
  be32 cmd_sn;
  be32 exp_stat_sn;
  std::array<uint8_t, 16> reserved32{};
};
static_assert(base::WireStruct<LogoutRequestPdu, kBhsBytes>);
static_assert(offsetof(LogoutRequestPdu, cid) == 20 && offsetof(LogoutRequestPdu, cmd_sn) == 24);

// RFC 7143 11.15.1.
enum class LogoutResponse : uint8_t {
  closed = 0,
  cid_not_found = 1,
  recovery_not_supported = 2,
  cleanup_failed = 3,
};

struct LogoutResponsePdu {
  uint8_t opcode = 0x26;
  uint8_t flags = kFinal;
  uint8_t response = 0;
  uint8_t reserved3 = 0;
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  std::array<uint8_t, 8> reserved8{};
  be32 itt;
  be32 reserved20;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  be32 reserved36;
  be16 time2wait;
  be16 time2retain;
  be32 reserved44;
};
static_assert(base::WireStruct<LogoutResponsePdu, kBhsBytes>);
static_assert(offsetof(LogoutResponsePdu, stat_sn) == 24 &&
              offsetof(LogoutResponsePdu, time2wait) == 40);

// RFC 7143 11.16. Only error recovery levels above 0 use it; a target of ours rejects it.
struct SnackPdu {
  uint8_t opcode = 0x10;
  uint8_t flags = kFinal;  // | type
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 ttt;
  be32 reserved24;
  be32 exp_stat_sn;
  std::array<uint8_t, 8> reserved32{};
  be32 beg_run;
  be32 run_length;
};
static_assert(base::WireStruct<SnackPdu, kBhsBytes>);
static_assert(offsetof(SnackPdu, exp_stat_sn) == 28 && offsetof(SnackPdu, beg_run) == 40);

// RFC 7143 11.17.1.
enum class RejectReason : uint8_t {
  data_digest_error = 0x02,
  snack_reject = 0x03,
  protocol_error = 0x04,
  command_not_supported = 0x05,
  too_many_immediate_commands = 0x06,
  task_in_progress = 0x07,
  invalid_data_ack = 0x08,
  invalid_pdu_field = 0x09,
  long_operation = 0x0a,
  waiting_for_logout = 0x0c,
};

// Its data segment is the header (without digest) of the rejected PDU.
struct RejectPdu {
  uint8_t opcode = 0x3f;
  uint8_t flags = kFinal;
  uint8_t reason = 0;
  uint8_t reserved3 = 0;
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  std::array<uint8_t, 8> reserved8{};
  be32 reserved_tag = kReservedTag;
  be32 reserved20;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  be32 data_sn;  // or R2TSN
  std::array<uint8_t, 8> reserved40{};
};
static_assert(base::WireStruct<RejectPdu, kBhsBytes>);
static_assert(offsetof(RejectPdu, stat_sn) == 24 && offsetof(RejectPdu, data_sn) == 36);

struct NopOutPdu {
  uint8_t opcode = 0x00;
  uint8_t flags = kFinal;
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt;
  be32 ttt = kReservedTag;
  be32 cmd_sn;
  be32 exp_stat_sn;
  std::array<uint8_t, 16> reserved32{};
};
static_assert(base::WireStruct<NopOutPdu, kBhsBytes>);
static_assert(offsetof(NopOutPdu, ttt) == 20 && offsetof(NopOutPdu, cmd_sn) == 24);

struct NopInPdu {
  uint8_t opcode = 0x20;
  uint8_t flags = kFinal;
  std::array<uint8_t, 2> reserved2{};
  uint8_t total_ahs_length = 0;
  be24 data_segment_length;
  be64 lun;
  be32 itt = kReservedTag;
  be32 ttt = kReservedTag;
  be32 stat_sn;
  be32 exp_cmd_sn;
  be32 max_cmd_sn;
  std::array<uint8_t, 12> reserved36{};
};
static_assert(base::WireStruct<NopInPdu, kBhsBytes>);
static_assert(offsetof(NopInPdu, ttt) == 20 && offsetof(NopInPdu, stat_sn) == 24);

}  // namespace holdfast::iscsi
