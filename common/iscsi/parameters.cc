#include "common/iscsi/parameters.h"

#include "common/base/assert.h"

namespace holdfast::iscsi {
namespace {

std::string_view digest_list(DigestChoice choice) {
  switch (choice) {
    case DigestChoice::none:
      return "None";
    case DigestChoice::accepted:
      return "None,CRC32C";
    case DigestChoice::required:
      return "CRC32C";
  }
  return "None";
}

TaskReporting to_task_reporting(std::string_view item) {
  if (item == "ResponseFence") return TaskReporting::response_fence;
  if (item == "FastAbort") return TaskReporting::fast_abort;
  return TaskReporting::rfc3720;
}

}  // namespace

bool local_boolean(const LocalParameters& local, Key key) {
  switch (key) {
    case Key::initial_r2t:
      return local.initial_r2t;
    case Key::immediate_data:
      return local.immediate_data;
    case Key::data_pdu_in_order:
    case Key::data_sequence_in_order:
      return true;  // neither side of ours takes data out of order
    default:
      ASSERT(false);
  }
}

uint32_t local_number(const LocalParameters& local, Key key) {
  switch (key) {
    case Key::max_connections:
      return 1;
    case Key::max_burst_length:
      return local.max_burst_length;
    case Key::first_burst_length:
      return local.first_burst_length;
    case Key::default_time2wait:
      return local.default_time2wait;
    case Key::default_time2retain:
      return local.default_time2retain;
    case Key::max_outstanding_r2t:
      return local.max_outstanding_r2t;
    case Key::error_recovery_level:
      return 0;
    case Key::protocol_level:
      return 1;  // RFC 7143; 2 would be RFC 7144
    default:
      ASSERT(false);
  }
}

std::string_view local_list(const LocalParameters& local, Key key) {
  switch (key) {
    case Key::header_digest:
      return digest_list(local.header_digest);
    case Key::data_digest:
      return digest_list(local.data_digest);
    case Key::task_reporting:
      return local.response_fence ? "ResponseFence,RFC3720" : "RFC3720";
    default:
      ASSERT(false);
  }
}

void set_boolean(SessionParameters& active, Key key, bool value) {
  switch (key) {
    case Key::initial_r2t:
      active.initial_r2t = value;
      return;
    case Key::immediate_data:
      active.immediate_data = value;
      return;
    case Key::data_pdu_in_order:
      active.data_pdu_in_order = value;
      return;
    case Key::data_sequence_in_order:
      active.data_sequence_in_order = value;
      return;
    default:
      ASSERT(false);
  }
}

void set_number(SessionParameters& active, Key key, uint32_t value) {
  switch (key) {
    case Key::max_connections:
      active.max_connections = static_cast<uint16_t>(value);
      return;
    case Key::max_burst_length:
      active.max_burst_length = value;
      return;
    case Key::first_burst_length:
      active.first_burst_length = value;
      return;
    case Key::default_time2wait:
      active.default_time2wait = static_cast<uint16_t>(value);
      return;
    case Key::default_time2retain:
      active.default_time2retain = static_cast<uint16_t>(value);
      return;
    case Key::max_outstanding_r2t:
      active.max_outstanding_r2t = static_cast<uint16_t>(value);
      return;
    case Key::error_recovery_level:
      active.error_recovery_level = static_cast<uint8_t>(value);
      return;
    case Key::protocol_level:
      active.protocol_level = static_cast<uint8_t>(value);
      return;
    default:
      ASSERT(false);
  }
}

void set_list(SessionParameters& active, Key key, std::string_view item) {
  switch (key) {
    case Key::header_digest:
      active.header_digest = item == "CRC32C";
      return;
    case Key::data_digest:
      active.data_digest = item == "CRC32C";
      return;
    case Key::task_reporting:
      active.task_reporting = to_task_reporting(item);
      return;
    default:
      ASSERT(false);
  }
}

}  // namespace holdfast::iscsi
