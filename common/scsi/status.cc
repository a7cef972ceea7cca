#include "common/scsi/status.h"

namespace holdfast::scsi {

const char* to_string(Status status) noexcept {
  switch (status) {
    case Status::good:
      return "good";
    case Status::check_condition:
      return "check condition";
    case Status::condition_met:
      return "condition met";
    case Status::busy:
      return "busy";
    case Status::reservation_conflict:
      return "reservation conflict";
    case Status::task_set_full:
      return "task set full";
    case Status::aca_active:
      return "aca active";
    case Status::task_aborted:
      return "task aborted";
  }
  return "unknown";
}

}  // namespace holdfast::scsi
