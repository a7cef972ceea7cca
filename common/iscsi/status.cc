#include "common/iscsi/status.h"

namespace holdfast::iscsi {

const char* to_string(LoginStatus status) noexcept {
  switch (status) {
    case LoginStatus::success:
      return "success";
    case LoginStatus::target_moved_temporarily:
      return "target moved temporarily";
    case LoginStatus::target_moved_permanently:
      return "target moved permanently";
    case LoginStatus::initiator_error:
      return "initiator error";
    case LoginStatus::authentication_failure:
      return "authentication failure";
    case LoginStatus::authorization_failure:
      return "not allowed to use this target";
    case LoginStatus::not_found:
      return "target not found";
    case LoginStatus::target_removed:
      return "target removed";
    case LoginStatus::unsupported_version:
      return "unsupported protocol version";
    case LoginStatus::too_many_connections:
      return "too many connections in the session";
    case LoginStatus::missing_parameter:
      return "missing parameter";
    case LoginStatus::cannot_include_in_session:
      return "connection can not be included in the session";
    case LoginStatus::session_type_not_supported:
      return "session type not supported";
    case LoginStatus::session_does_not_exist:
      return "session does not exist";
    case LoginStatus::invalid_during_login:
      return "invalid during login";
    case LoginStatus::target_error:
      return "target error";
    case LoginStatus::service_unavailable:
      return "service unavailable";
    case LoginStatus::out_of_resources:
      return "out of resources";
  }
  return "unknown status";
}

}  // namespace holdfast::iscsi
