#pragma once
// A bare TCP exchange on loopback: what is left of an iSCSI target when the protocol, the SCSI
// layer and the backing cost nothing. Requests and responses have fixed sizes and no content.
//
// Each client connection and each server has a process of its own, so that the kernel's account of
// the servers (wait4) is the servers' CPU and nothing else's. The client sends each request with a
// call of its own, as libiscsi does; the server answers all requests of one receive with one send.

#include <cstddef>
#include <cstdint>

#include "common/base/result.h"

namespace holdfast::bench {

inline constexpr size_t kMaxMessage = 4 << 20;
inline constexpr size_t kMaxDepth = 1024;
inline constexpr size_t kMaxConnections = 64;
inline constexpr double kMaxSeconds = 3600;

struct ExchangeOptions {
  size_t request_bytes = 48;
  size_t response_bytes = 4144;
  size_t depth = 1;        // requests in flight on each connection
  size_t connections = 1;  // spread over the servers in turn
  size_t servers = 1;
  bool spin = false;  // the servers poll without sleeping
  double seconds = 1;
};

struct ExchangeResult {
  uint64_t exchanges = 0;
  double seconds = 0;
  double p50_us = 0;
  double p99_us = 0;
  double server_cpu_us = 0;  // all servers together
  double client_cpu_us = 0;
};

// Blocks for options.seconds. Options outside the limits above are errors.
base::Result<ExchangeResult> run_exchange(const ExchangeOptions& options);

}  // namespace holdfast::bench
