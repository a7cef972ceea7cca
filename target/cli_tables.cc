#include "target/cli_tables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "common/daemon/text_table.h"
#include "target/config_values.h"

namespace holdfast::target {
namespace {

using Rows = std::vector<std::vector<std::string>>;

const char* reservation_type(uint8_t type) {
  switch (type) {
    case 0:
      return "none";
    case 1:
      return "write exclusive";
    case 3:
      return "exclusive access";
    case 5:
      return "write exclusive, registrants only";
    case 6:
      return "exclusive access, registrants only";
    case 7:
      return "write exclusive, all registrants";
    case 8:
      return "exclusive access, all registrants";
    default:
      return "unknown";
  }
}

std::string or_dash(std::string text) { return text.empty() ? "-" : text; }

std::string latencies(const LatencyHistogram& latency) {
  if (latency.count == 0) return "-";
  return fmt::format("{} / {} / {}", daemon::human_latency(latency.sum_us / latency.count),
                     daemon::human_latency(percentile_us(latency, 0.5)),
                     daemon::human_latency(percentile_us(latency, 0.99)));
}

std::string mappings(const DiskStatus& disk) {
  std::string out;
  for (const DiskStatus::Mapping& mapping : disk.mapped) {
    out += fmt::format("{}{} LUN {}", out.empty() ? "" : ", ", mapping.target, mapping.lun);
  }
  return or_dash(out);
}

std::string digests(const SessionStatus& session) {
  if (session.header_digest && session.data_digest) return "header, data";
  if (session.header_digest) return "header";
  return session.data_digest ? "data" : "-";
}

std::string describe_targets(const NodeStatus& status) {
  Rows rows = {{"TARGET", "PORTAL GROUPS", "LUNS", "INITIATORS ALLOWED"}};
  for (const TargetConfig& target : status.targets) {
    const bool any = std::any_of(target.initiators.begin(), target.initiators.end(),
                                 [](const InitiatorConfig& one) { return one.name == "*"; });
    rows.push_back({target.name, fmt::format("{}", fmt::join(target.portal_groups, ", ")),
                    std::to_string(target.luns.size()),
                    any ? "any" : std::to_string(target.initiators.size())});
  }
  return daemon::table(rows);
}

std::string describe_portals(const NodeStatus& status) {
  Rows rows = {{"PORTAL", "GROUP", "STATE"}};
  for (const PortalStatus& portal : status.portals) {
    rows.push_back({portal.address, std::to_string(portal.portal_group_tag), portal.state});
  }
  return daemon::table(rows);
}

}  // namespace

std::string describe_status(const NodeStatus& s) {
  std::string out =
      fmt::format("Holdfast target {}, up {}, {} thread{}\n", daemon::printable(s.version),
                  daemon::human_time(s.uptime_ms), s.threads, s.threads == 1 ? "" : "s");
  out += fmt::format("Connections: {} accepted, {} refused; {} logins failed, {} PDUs rejected\n",
                     s.connections_total, s.connections_refused, s.logins_failed, s.pdus_rejected);
  out += fmt::format("Buffers: {} of {} in use\n", daemon::human_size(s.buffer_bytes_used),
                     daemon::human_size(s.buffer_bytes_total));
  out += "\n" + describe_portals(s);
  out += "\n" + describe_alua(s);
  out += "\n" + describe_targets(s);
  out += "\n" + describe_disks(s);
  out += "\n" + describe_sessions(s);
  const std::vector<std::string> problems = problems_of(s);
  if (!problems.empty()) out += "\nProblems:\n";
  for (const std::string& problem : problems) out += "  " + daemon::printable(problem) + "\n";
  return out;
}

std::string describe_disks(const NodeStatus& status) {
  if (status.disks.empty()) return "No disks.\n";
  Rows rows = {{"DISK", "KIND", "SIZE", "STATE", "FROM", "MAPPED AS", "PATH", "IDENTITY"}};
  for (const DiskStatus& disk : status.disks) {
    rows.push_back({disk.config.name, std::string(to_string(disk.config.backing.kind)),
                    daemon::human_size(disk.size_bytes), disk.state, disk.origin, mappings(disk),
                    or_dash(disk.config.backing.path), disk.uuid});
  }
  return daemon::table(rows);
}

std::string describe_sessions(const NodeStatus& status) {
  if (status.sessions.empty()) return "No sessions.\n";
  Rows rows = {{"ID", "INITIATOR", "TARGET", "FROM", "PORTAL", "ISID", "USER", "DIGESTS", "AGE",
                "IN FLIGHT", "STATE"}};
  for (const SessionStatus& s : status.sessions) {
    rows.push_back({std::to_string(s.id), s.initiator_name,
                    s.target_name.empty() ? "(discovery)" : s.target_name, s.peer, s.portal,
                    fmt::format("{:012x}", s.isid), or_dash(s.user), digests(s),
                    daemon::human_time(s.age_ms), std::to_string(s.commands_in_flight), s.state});
  }
  return daemon::table(rows);
}

std::string describe_reservations(const NodeStatus& status) {
  Rows rows = {{"DISK", "RESERVATION", "HOLDER", "INITIATOR", "ISID", "GROUP", "KEY",
                "KEPT OVER POWER LOSS", "GENERATION"}};
  for (const DiskStatus& disk : status.disks) {
    const ReservationStatus& r = disk.reservation;
    for (const RegistrantStatus& one : r.registrants) {
      rows.push_back({disk.config.name, reservation_type(r.type), one.holder ? "yes" : "no",
                      one.initiator_name, fmt::format("{:012x}", one.isid),
                      std::to_string(one.portal_group_tag), fmt::format("0x{:016x}", one.key),
                      r.aptpl ? "yes" : "no", std::to_string(r.generation)});
    }
  }
  if (rows.size() == 1) return "No disk is reserved and no initiator is registered.\n";
  return daemon::table(rows);
}

std::string describe_stats(const NodeStatus& status) {
  if (status.disks.empty()) return "No disks.\n";
  Rows rows = {{"DISK", "READS", "WRITES", "OTHER", "READ", "WRITTEN", "READ AVG / P50 / P99",
                "WRITE AVG / P50 / P99", "CHECKS", "CONFLICTS", "ABORTED", "MEDIUM ERRORS"}};
  for (const DiskStatus& disk : status.disks) {
    const LunCounters& c = disk.counters;
    rows.push_back({disk.config.name, std::to_string(c.reads), std::to_string(c.writes),
                    std::to_string(c.other_commands), daemon::human_size(c.read_bytes),
                    daemon::human_size(c.written_bytes), latencies(c.read_latency),
                    latencies(c.write_latency), std::to_string(c.check_conditions),
                    std::to_string(c.reservation_conflicts), std::to_string(c.aborted),
                    std::to_string(c.medium_errors)});
  }
  return daemon::table(rows);
}

std::string describe_alua(const NodeStatus& status) {
  if (status.alua.empty()) return "No portal groups.\n";
  Rows rows = {{"GROUP", "ALUA STATE"}};
  for (const AluaStatus& alua : status.alua) {
    rows.push_back({std::to_string(alua.portal_group_tag), alua.state});
  }
  return daemon::table(rows);
}

std::vector<std::string> problems_of(const NodeStatus& status) {
  std::vector<std::string> problems;
  for (const PortalStatus& portal : status.portals) {
    if (portal.state != "listening") {
      problems.push_back(fmt::format("portal {}: {}", portal.address, portal.state));
    }
  }
  for (const DiskStatus& disk : status.disks) {
    if (disk.state != "ready") {
      problems.push_back(fmt::format("disk {}: {}", disk.config.name, disk.state));
    }
  }
  return problems;
}

uint64_t percentile_us(const LatencyHistogram& latency, double share) {
  uint64_t total = 0;
  for (const uint64_t count : latency.buckets) total += count;
  if (total == 0) return 0;
  const double wanted = share * static_cast<double>(total);
  uint64_t seen = 0;
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    seen += latency.buckets[i];
    if (static_cast<double>(seen) >= wanted) return uint64_t{1} << i;
  }
  return uint64_t{1} << (LatencyHistogram::kBuckets - 1);
}

}  // namespace holdfast::target
