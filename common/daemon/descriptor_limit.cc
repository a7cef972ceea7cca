#include "common/daemon/descriptor_limit.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "common/base/log.h"

namespace holdfast::daemon {

uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return limit.rlim_max;
  LOG_WARNING("daemon", "the limit of open files stays: {}", std::strerror(errno));
  return before;
}

}  // namespace holdfast::daemon
