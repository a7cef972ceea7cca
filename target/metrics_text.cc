#include "target/metrics_text.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "common/daemon/metrics_text.h"

namespace holdfast::target {
namespace {

using daemon::MetricsText;
using prometheus::ClientMetric;
using prometheus::MetricType;

constexpr std::array<std::string_view, 5> kAluaStates = {"active/optimized", "active/non-optimized",
                                                         "standby", "unavailable", "transitioning"};

ClientMetric::Histogram histogram(const LatencyHistogram& latency) {
  ClientMetric::Histogram out;
  uint64_t cumulative = 0;
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    cumulative += latency.buckets[i];
    out.bucket.push_back({cumulative, static_cast<double>(uint64_t{1} << i) / 1e6});
  }
  // The counters are read while they change; a histogram whose buckets exceed its count is invalid.
  out.sample_count = std::max(cumulative, latency.count);
  out.sample_sum = static_cast<double>(latency.sum_us) / 1e6;
  return out;
}

void daemon_metrics(const NodeStatus& s, MetricsText& page) {
  page.family("info", "Version of the running target.", MetricType::Gauge);
  page.value(1, {{"version", s.version}});
  page.family("uptime_seconds", "Time since the target started.", MetricType::Gauge);
  page.real(static_cast<double>(s.uptime_ms) / 1e3);
  page.gauge("threads", "Threads that serve connections.", s.threads);
  page.counter("connections_total", "Connections accepted.", s.connections_total);
  page.counter("connections_refused_total", "Connections refused because a limit was reached.",
               s.connections_refused);
  page.counter("logins_failed_total", "Logins refused or given up.", s.logins_failed);
  page.counter("pdus_rejected_total", "PDUs answered with a Reject.", s.pdus_rejected);
  page.gauge("buffer_used_bytes", "Memory of data buffers in use.", s.buffer_bytes_used);
  page.gauge("buffer_size_bytes", "Memory of data buffers in all.", s.buffer_bytes_total);
}

void portal_metrics(const NodeStatus& s, MetricsText& page) {
  page.family("portal_up", "1 while the portal listens.", MetricType::Gauge);
  for (const PortalStatus& portal : s.portals) {
    page.value(
        portal.state == "listening" ? 1 : 0,
        {{"portal", portal.address}, {"portal_group", std::to_string(portal.portal_group_tag)}});
  }
  page.family("alua_state", "1 for the state the portal group is in.", MetricType::Gauge);
  for (const AluaStatus& alua : s.alua) {
    for (const std::string_view state : kAluaStates) {
      page.value(
          alua.state == state ? 1 : 0,
          {{"portal_group", std::to_string(alua.portal_group_tag)}, {"state", std::string(state)}});
    }
  }
}

void session_metrics(const NodeStatus& s, MetricsText& page) {
  struct Sum {
    uint64_t sessions = 0, in_flight = 0;
  };
  std::map<std::string, Sum> sums;
  for (const TargetConfig& target : s.targets) sums[target.name];
  for (const SessionStatus& session : s.sessions) {
    Sum& sum = sums[session.target_name.empty() ? "discovery" : session.target_name];
    ++sum.sessions;
    sum.in_flight += session.commands_in_flight;
  }
  page.family("sessions", "Sessions logged in.", MetricType::Gauge);
  for (const auto& [target, sum] : sums) page.value(sum.sessions, {{"target", target}});
  page.family("commands_in_flight", "Commands received and not answered yet.", MetricType::Gauge);
  for (const auto& [target, sum] : sums) page.value(sum.in_flight, {{"target", target}});
}

void disk_metrics(const NodeStatus& s, MetricsText& page) {
  page.family("disk_ready", "1 while the disk is open and serves.", MetricType::Gauge);
  for (const DiskStatus& d : s.disks) {
    page.value(d.state == "ready" ? 1 : 0, {{"disk", d.config.name}});
  }
  page.family("disk_size_bytes", "Size of the disk.", MetricType::Gauge);
  for (const DiskStatus& d : s.disks) page.value(d.size_bytes, {{"disk", d.config.name}});
  page.family("commands_total", "SCSI commands completed.", MetricType::Counter);
  for (const DiskStatus& d : s.disks) {
    page.value(d.counters.reads, {{"disk", d.config.name}, {"op", "read"}});
    page.value(d.counters.writes, {{"disk", d.config.name}, {"op", "write"}});
    page.value(d.counters.other_commands, {{"disk", d.config.name}, {"op", "other"}});
  }
  page.family("bytes_total", "Data read and written by initiators.", MetricType::Counter);
  for (const DiskStatus& d : s.disks) {
    page.value(d.counters.read_bytes, {{"disk", d.config.name}, {"op", "read"}});
    page.value(d.counters.written_bytes, {{"disk", d.config.name}, {"op", "write"}});
  }
  page.family("command_duration_seconds", "Time from the whole command to its response.",
              MetricType::Histogram);
  for (const DiskStatus& d : s.disks) {
    page.histogram(histogram(d.counters.read_latency), {{"disk", d.config.name}, {"op", "read"}});
    page.histogram(histogram(d.counters.write_latency), {{"disk", d.config.name}, {"op", "write"}});
  }
  page.family("command_errors_total", "Commands that did not end with GOOD status, by kind.",
              MetricType::Counter);
  for (const DiskStatus& d : s.disks) {
    const std::string& disk = d.config.name;
    page.value(d.counters.check_conditions, {{"disk", disk}, {"kind", "check_condition"}});
    page.value(d.counters.reservation_conflicts,
               {{"disk", disk}, {"kind", "reservation_conflict"}});
    page.value(d.counters.aborted, {{"disk", disk}, {"kind", "aborted"}});
    page.value(d.counters.medium_errors, {{"disk", disk}, {"kind", "medium_error"}});
  }
}

void reservation_metrics(const NodeStatus& s, MetricsText& page) {
  page.family("reservation_generation", "PRGENERATION of the disk.", MetricType::Gauge);
  for (const DiskStatus& d : s.disks) {
    page.value(d.reservation.generation, {{"disk", d.config.name}});
  }
  page.family("reservation_held", "1 while the disk is reserved.", MetricType::Gauge);
  for (const DiskStatus& d : s.disks) {
    page.value(d.reservation.type != 0 ? 1 : 0, {{"disk", d.config.name}});
  }
  page.family("reservation_registrants", "Nexuses registered with the disk.", MetricType::Gauge);
  for (const DiskStatus& d : s.disks) {
    page.value(d.reservation.registrants.size(), {{"disk", d.config.name}});
  }
}

}  // namespace

std::string metrics_text(const NodeStatus& status) {
  MetricsText page("holdfast_target_");
  daemon_metrics(status, page);
  portal_metrics(status, page);
  session_metrics(status, page);
  disk_metrics(status, page);
  reservation_metrics(status, page);
  return page.text();
}

daemon::MetricsPage metrics_page(NodeControl& node) {
  return [&node](daemon::StreamServer::Reply reply) {
    node.status([reply = std::move(reply)](NodeStatus status) mutable noexcept {
      reply([status = std::move(status)] { return metrics_text(status); });
    });
  };
}

}  // namespace holdfast::target
