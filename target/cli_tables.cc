#include "target/cli_tables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

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
  return fmt::format("{} / {} / {}", human_latency(latency.sum_us / latency.count),
                     human_latency(percentile_us(latency, 0.5)),
                     human_latency(percentile_us(latency, 0.99)));
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
  return table(rows);
}

std::string describe_portals(const NodeStatus& status) {
  Rows rows = {{"PORTAL", "GROUP", "STATE"}};
  for (const PortalStatus& portal : status.portals) {
    rows.push_back({portal.address, std::to_string(portal.portal_group_tag), portal.state});
  }
  return table(rows);
}

}  // namespace

std::string describe_status(const NodeStatus& s) {
  std::string out = fmt::format("Holdfast target {}, up {}, {} thread{}\n", printable(s.version),
                                human_time(s.uptime_ms), s.threads, s.threads == 1 ? "" : "s");
  out += fmt::format("Connections: {} accepted, {} refused; {} logins failed, {} PDUs rejected\n",
                     s.connections_total, s.connections_refused, s.logins_failed, s.pdus_rejected);
  out += fmt::format("Buffers: {} of {} in use\n", human_size(s.buffer_bytes_used),
                     human_size(s.buffer_bytes_total));
  out += "\n" + describe_portals(s);
  out += "\n" + describe_alua(s);
  out += "\n" + describe_targets(s);
  out += "\n" + describe_disks(s);
  out += "\n" + describe_sessions(s);
  const std::vector<std::string> problems = problems_of(s);
  if (!problems.empty()) out += "\nProblems:\n";
  for (const std::string& problem : problems) out += "  " + printable(problem) + "\n";
  return out;
}

std::string describe_disks(const NodeStatus& status) {
  if (status.disks.empty()) return "No disks.\n";
  Rows rows = {{"DISK", "KIND", "SIZE", "STATE", "FROM", "MAPPED AS", "PATH", "IDENTITY"}};
  for (const DiskStatus& disk : status.disks) {
    rows.push_back({disk.config.name, std::string(to_string(disk.config.backing.kind)),
                    human_size(disk.size_bytes), disk.state, disk.origin, mappings(disk),
                    or_dash(disk.config.backing.path), disk.uuid});
  }
  return table(rows);
}

std::string describe_sessions(const NodeStatus& status) {
  if (status.sessions.empty()) return "No sessions.\n";
  Rows rows = {{"ID", "INITIATOR", "TARGET", "FROM", "PORTAL", "ISID", "USER", "DIGESTS", "AGE",
                "IN FLIGHT", "STATE"}};
  for (const SessionStatus& s : status.sessions) {
    rows.push_back({std::to_string(s.id), s.initiator_name,
                    s.target_name.empty() ? "(discovery)" : s.target_name, s.peer, s.portal,
                    fmt::format("{:012x}", s.isid), or_dash(s.user), digests(s),
                    human_time(s.age_ms), std::to_string(s.commands_in_flight), s.state});
  }
  return table(rows);
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
  return table(rows);
}

std::string describe_stats(const NodeStatus& status) {
  if (status.disks.empty()) return "No disks.\n";
  Rows rows = {{"DISK", "READS", "WRITES", "OTHER", "READ", "WRITTEN", "READ AVG / P50 / P99",
                "WRITE AVG / P50 / P99", "CHECKS", "CONFLICTS", "ABORTED", "MEDIUM ERRORS"}};
  for (const DiskStatus& disk : status.disks) {
    const LunCounters& c = disk.counters;
    rows.push_back({disk.config.name, std::to_string(c.reads), std::to_string(c.writes),
                    std::to_string(c.other_commands), human_size(c.read_bytes),
                    human_size(c.written_bytes), latencies(c.read_latency),
                    latencies(c.write_latency), std::to_string(c.check_conditions),
                    std::to_string(c.reservation_conflicts), std::to_string(c.aborted),
                    std::to_string(c.medium_errors)});
  }
  return table(rows);
}

std::string describe_alua(const NodeStatus& status) {
  if (status.alua.empty()) return "No portal groups.\n";
  Rows rows = {{"GROUP", "ALUA STATE"}};
  for (const AluaStatus& alua : status.alua) {
    rows.push_back({std::to_string(alua.portal_group_tag), alua.state});
  }
  return table(rows);
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

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += fmt::format("{:<{}}", printable(row[i]), widths[i] + 2);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

std::string human_size(uint64_t bytes) {
  constexpr std::array<const char*, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  auto value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  const double rounded = std::round(value * 10) / 10;
  if (rounded == std::floor(rounded)) return fmt::format("{:.0f} {}", rounded, kUnits[unit]);
  return fmt::format("{:.1f} {}", rounded, kUnits[unit]);
}

std::string human_time(uint64_t ms) {
  const uint64_t seconds = ms / 1000;
  if (seconds < 60) return fmt::format("{}s", seconds);
  if (seconds < 3600) return fmt::format("{}m {}s", seconds / 60, seconds % 60);
  if (seconds < 86400) return fmt::format("{}h {}m", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{}d {}h", seconds / 86400, seconds / 3600 % 24);
}

std::string human_latency(uint64_t microseconds) {
  const auto value = static_cast<double>(microseconds);
  if (microseconds < 1000) return fmt::format("{}us", microseconds);
  if (microseconds < 1'000'000) return fmt::format("{:.1f}ms", value / 1e3);
  return fmt::format("{:.1f}s", value / 1e6);
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
