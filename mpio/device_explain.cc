// `path explain`.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "mpio/device_status.h"

namespace holdfast::mpio {
namespace {

using Lines = std::vector<std::string>;

std::string seconds(uint64_t ms) { return fmt::format("{:.1f} s", static_cast<double>(ms) / 1000); }

// The host part of "10.1.0.10:3260" and "[fd00::1]:3260".
std::string host_of(const std::string& portal) { return portal.substr(0, portal.rfind(':')); }

// "10.1.0" of an IPv4 address, the first half of an IPv6 one: what most sites give a subnet.
std::string subnet_of(const std::string& host) {
  if (host.starts_with('[')) {
    size_t at = 0;
    for (int i = 0; i < 4 && at != std::string::npos; ++i) at = host.find(':', at + 1);
    return host.substr(0, at);
  }
  return host.substr(0, host.rfind('.'));
}

void explain_path(const DeviceStatus& device, const PathStatus& path, Lines& out) {
  const std::string head = fmt::format("path {}: ", path.name);
  const std::string since =
      fmt::format("{} for {} ({})", path.state, seconds(path.since_ms), path.why);
  if (path.disabled) {
    out.push_back(head + since +
                  ": the administrator disabled it; `holdfast path enable` lets it "
                  "be used again");
    return;
  }
  if (!path.carries_io) {
    std::string then = "it carries nothing until it is active";
    if (path.state == "BACKOFF") then = "it will be tried again by itself";
    if (path.state == "SUSPECT") then = "new requests go elsewhere while it is silent";
    if (path.state == "REJECTED") then = "another unit is behind it: correct that, then enable it";
    if (path.state == "UNREGISTERED") {
      then = "this node's reservation key is gone there: only the owner of the device readmits it";
    }
    if (path.state == "FENCING") then = "its writes of unknown fate are being fenced";
    out.push_back(head + since + ": " + then);
    return;
  }
  const auto better = std::ranges::any_of(device.paths, [&](const PathStatus& other) {
    return other.carries_io && other.rank < path.rank;
  });
  if (path.tier == "unusable") {
    out.push_back(head + since + ": it carries nothing as long as the target says " + path.alua);
    return;
  }
  std::string use = "it carries requests";
  if (better) {
    use =
        fmt::format("it is kept in reserve: its group ({}) is not the best that works", path.tier);
  } else if (path.weight_permille == 0) {
    use = "it has come back and is kept idle until it has been stable for a while";
  } else if (path.weight_permille < 1000) {
    use = fmt::format("it came back lately and gets {} % of its share", path.weight_permille / 10);
  }
  out.push_back(head + since + ": " + use +
                (path.alua.empty() ? "" : fmt::format("; the target says {}", path.alua)));
}

void explain_ghosts(const DeviceStatus& device, Lines& out) {
  if (device.ghosts == 0) {
    out.push_back("no write of unknown fate is open");
  } else {
    out.push_back(
        fmt::format("{} ranges hold writes of unknown fate, the oldest for {}: what "
                    "overlaps them waits",
                    device.ghosts, seconds(device.oldest_ghost_ms)));
  }
  if (device.last_fence) {
    out.push_back(fmt::format("the last fence, of path {}, was cleared after {}: {}",
                              device.last_fence->path, seconds(device.last_fence->took_ms),
                              device.last_fence->proof));
  }
  for (const FenceStatus& fence : device.fences) {
    out.push_back(fmt::format("a fence of path {}{} is open for {}: {}{}{}", fence.path,
                              fence.earlier_process ? " (of an earlier process)" : "",
                              seconds(fence.since_ms), fence.step,
                              fence.failure.empty() ? "" : "; before, ", fence.failure));
  }
}

// Is a dead session preempted, and if not, why?
std::string explain_session_keys(const DeviceStatus& device) {
  const std::string head = "fences by PREEMPT AND ABORT: ";
  if (!device.session_keys) return head + "no, sessions have no keys of their own (session_keys)";
  if (device.preempt_drains == "no") return head + "no, this target is known not to drain then";
  if (!device.reserved) return head + "not yet, no session has registered its key";
  if (!*device.reserved) return head + "no, the reservation of our sessions is not in force";
  if (device.preempt_drains == "yes") return head + "yes, where a login cannot reinstate";
  return head + "with a LOGICAL UNIT RESET after it, as this target is not known to drain then";
}

void explain_target(const DeviceStatus& device, Lines& out) {
  if (!device.known) {
    out.push_back("the unit has not been reached yet: nothing is known of it");
    return;
  }
  const std::string what =
      fmt::format("target {} {} {}", device.vendor, device.product, device.revision);
  if (device.target_note.empty()) {
    out.push_back(what + ": nothing is known of it; fences take the cautious way");
  } else {
    out.push_back(fmt::format("{}: {}{}", what, device.target_note,
                              device.target_tested ? "" : " (not tested: counts as unknown)"));
  }
  out.push_back(
      fmt::format("a login that reinstates a session waits for its writes: {}; LOGICAL "
                  "UNIT RESET waits for them: {}; PREEMPT AND ABORT does: {}",
                  device.drains_on_reinstatement, device.unit_reset_waits, device.preempt_drains));
  out.push_back(explain_session_keys(device));
}

// Several portal groups, and a fence by PREEMPT AND ABORT would not have to wait.
bool preempts(const DeviceStatus& device) {
  return device.session_keys && device.preempt_drains == "yes" && device.reserved == true;
}

}  // namespace

Lines warnings(const DeviceStatus& device) {
  Lines out;
  std::set<std::string> hosts, subnets, sources;
  std::set<uint16_t> groups;
  size_t working = 0;
  bool all_sources = true;
  for (const PathStatus& path : device.paths) {
    hosts.insert(host_of(path.portal));
    subnets.insert(subnet_of(host_of(path.portal)));
    if (path.source.empty()) {
      all_sources = false;
    } else {
      sources.insert(path.source);
    }
    if (path.portal_group_tag) groups.insert(*path.portal_group_tag);
    if (path.carries_io) ++working;
  }
  if (working == 0) out.push_back("no path works");
  if (working == 1) out.push_back("only one path works: its loss stops the device");
  if (device.paths.size() == 1) {
    out.push_back("only one portal is configured: there is nothing to fail over to");
  } else if (subnets.size() == 1) {
    out.push_back("all portals are in one subnet: one switch or cable may be behind them all");
  }
  if (device.paths.size() > 1 && all_sources && sources.size() == 1) {
    out.push_back("all paths leave by one address of this host");
  }
  for (const PathStatus& path : device.paths) {
    if (all_sources && sources.size() == 1) break;  // said
    const std::string from = path.source.empty() ? "" : subnet_of(path.source);
    if (from.empty() || from == subnet_of(host_of(path.portal)) || !subnets.contains(from))
      continue;
    out.push_back(
        fmt::format("path {} leaves from {}, which is in the subnet of another portal: are "
                    "sources exchanged? One cable may carry all paths",
                    path.name, path.source));
  }
  if (groups.size() > 1 && !preempts(device)) {
    out.push_back(fmt::format(
        "the portals are in several portal groups: a dead session cannot be reinstated through "
        "another path, so its writes are fenced by slower means{}",
        device.session_keys || device.preempt_drains != "yes"
            ? ""
            : "; with `session_keys = true` it could be preempted at once"));
  }
  if (device.known && device.drains_on_reinstatement != "yes" && device.unit_reset_waits != "yes") {
    out.push_back(
        "this target is not known to drain: after a failover, writes of unknown fate are "
        "held for the whole `ghost_hold`");
  }
  if (device.stale) out.push_back("the device's thread does not answer: this is an old state");
  return out;
}

Lines explain(const DeviceStatus& device) {
  Lines out;
  out.push_back(device.known ? fmt::format("device {}: {}, policy {}, profile {}", device.name,
                                           device.wwid, device.policy, device.profile)
                             : fmt::format("device {}: not reached yet, policy {}, profile {}",
                                           device.name, device.policy, device.profile));
  if (device.without_path_ms) {
    out.push_back(fmt::format("no path is usable for {}; {} requests wait",
                              seconds(*device.without_path_ms), device.waiting));
  }
  for (const PathStatus& path : device.paths) explain_path(device, path, out);
  explain_ghosts(device, out);
  explain_target(device, out);
  for (const std::string& warning : warnings(device)) out.push_back("warning: " + warning);
  return out;
}

}  // namespace holdfast::mpio
