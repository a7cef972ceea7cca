#pragma once
// SCSI status codes (SAM-5 5.3), as they go into the iSCSI SCSI Response PDU.

#include <cstdint>

namespace holdfast::scsi {

enum class Status : uint8_t {
  good = 0x00,
  check_condition = 0x02,
  condition_met = 0x04,
  busy = 0x08,
  reservation_conflict = 0x18,
  task_set_full = 0x28,
  aca_active = 0x30,
  task_aborted = 0x40,
};

const char* to_string(Status status) noexcept;

}  // namespace holdfast::scsi
