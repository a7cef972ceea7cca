#pragma once
// A device with two good paths, for the tests of what shows one.

#include "mpio/device_status.h"

namespace holdfast::mpio {

inline DeviceStatus sample_status() {
  DeviceStatus status;
  status.name = "csv1";
  status.target = "iqn.2026-11.org.holdfast:store";
  status.wwid = "naa.62004567ba64678d0123456789abcdef";
  status.vendor = "HOLDFAST";
  status.product = "VIRTUAL-DISK";
  status.revision = "0001";
  status.known = true;
  status.size_bytes = uint64_t{64} << 30;
  status.policy = "adaptive";
  status.profile = "lan";
  status.effective = {{.key = "policy", .value = "adaptive", .origin = "m.toml:9"}};
  status.drains_on_reinstatement = status.unit_reset_waits = status.preempt_drains = "yes";
  status.target_note = "tested";
  status.target_tested = true;
  status.exports = {{.socket = "/run/csv1.nbd", .state = "served", .clients = 1}};
  for (const char* net : {"10.1.0", "10.2.0"}) {
    PathStatus path;
    path.portal = std::string(net) + ".10:3260";
    path.name = path.portal;
    path.source = std::string(net) + ".1";
    path.state = "ACTIVE";
    path.why = "probe passed";
    path.alua = "active/optimized";
    path.tier = "optimized";
    path.rank = 1;
    path.since_ms = 60'000;
    path.carries_io = true;
    path.portal_group_tag = 1;
    path.weight_permille = 1000;
    path.latency_us = 180;
    path.reads = 1000;
    status.paths.push_back(path);
  }
  return status;
}

}  // namespace holdfast::mpio
