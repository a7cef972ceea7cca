#pragma once
// What one side wants, what holds in a session, and which field of them belongs to which key.

#include <cstdint>
#include <string_view>

#include "common/iscsi/key_table.h"
#include "common/iscsi/limits.h"

namespace holdfast::iscsi {

// RFC 7143 13.23.
enum class TaskReporting : uint8_t { rfc3720, response_fence, fast_abort };

enum class DigestChoice : uint8_t {
  none,      // only None
  accepted,  // the peer's preference
  required,  // only CRC32C: None is refused
};

// What this side can do and wants. Every value lies in its key's range.
struct LocalParameters {
  DigestChoice header_digest = DigestChoice::accepted;
  DigestChoice data_digest = DigestChoice::accepted;
  bool initial_r2t = false;
  bool immediate_data = true;
  uint32_t max_recv_data_segment_length = 256 * 1024;
  uint32_t max_burst_length = 1024 * 1024;
  uint32_t first_burst_length = 256 * 1024;
  uint16_t max_outstanding_r2t = 8;
  uint16_t default_time2wait = 2;
  uint16_t default_time2retain = 0;  // no connection recovery: tasks end with their connection
  bool response_fence = true;        // TaskReporting=ResponseFence is understood
};

// What holds after the negotiation. The values before it are the defaults of RFC 7143.
struct SessionParameters {
  bool header_digest = false;
  bool data_digest = false;
  bool initial_r2t = true;
  bool immediate_data = true;
  uint32_t max_recv_data_segment_length = kDefaultDataSegmentBytes;  // what we declared
  uint32_t max_send_data_segment_length = kDefaultDataSegmentBytes;  // what the peer declared
  uint32_t max_burst_length = 262144;
  uint32_t first_burst_length = 65536;
  uint16_t default_time2wait = 2;
  uint16_t default_time2retain = 20;
  uint16_t max_outstanding_r2t = 1;
  uint16_t max_connections = 1;
  uint8_t error_recovery_level = 0;
  uint8_t protocol_level = 1;
  bool data_pdu_in_order = true;
  bool data_sequence_in_order = true;
  TaskReporting task_reporting = TaskReporting::rfc3720;

  bool operator==(const SessionParameters&) const = default;
};

// What the local side offers or answers with. Only for keys of the type and of a negotiated rule.
bool local_boolean(const LocalParameters& local, Key key);
uint32_t local_number(const LocalParameters& local, Key key);
std::string_view local_list(const LocalParameters& local, Key key);  // in order of preference

// The result of a negotiation, put into its field.
void set_boolean(SessionParameters& active, Key key, bool value);
void set_number(SessionParameters& active, Key key, uint32_t value);
void set_list(SessionParameters& active, Key key, std::string_view item);

}  // namespace holdfast::iscsi
