#include "initiator/cli_report.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "common/daemon/text_table.h"

namespace holdfast::initiator {
namespace {

using daemon::human_size;
using daemon::printable;
using nlohmann::json;
using Unit = LoginTest::Unit;
using PortalResult = LoginTest::PortalResult;

std::string ms(int64_t us) {
  return us < 0 ? "-" : fmt::format("{:.1f} ms", static_cast<double>(us) / 1000);
}

double ms_number(int64_t us) { return us < 0 ? -1.0 : static_cast<double>(us) / 1000; }

std::string lun_of(const Unit& unit) {
  const base::be64 field(unit.field);
  const auto number = scsi::decode_lun(base::as_bytes(field));
  return number ? std::to_string(*number) : fmt::format("0x{:016x}", unit.field);
}

std::string identity_of(const LunFacts& facts) {
  return facts.identification.unit ? scsi::to_string(*facts.identification.unit) : std::string();
}

uint64_t size_of(const LunFacts& facts) {
  return facts.capacity.blocks * facts.capacity.block_size;
}

std::string alua_of(const LunFacts& facts) {
  return facts.inquiry.tpgs == 0 ? "no ALUA" : std::string(scsi::to_string(facts.access_state()));
}

std::string chap_of(const PortalResult& result) {
  if (!result.chap_done) return "none asked";
  std::string out = result.target_proved ? "done, both ways" : "done";
  if (result.without_sha256) out += " (this target takes CHAP algorithm 7 for SHA1)";
  return out;
}

json to_json(const Unit& unit) {
  json out = {{"lun", lun_of(unit)}, {"probe_ms", ms_number(unit.probe_us)}};
  if (!unit.problem.empty()) out["problem"] = unit.problem;
  if (!unit.facts) return out;
  const LunFacts& facts = *unit.facts;
  out["vendor"] = facts.inquiry.vendor;
  out["product"] = facts.inquiry.product;
  out["revision"] = facts.inquiry.revision;
  out["serial"] = facts.serial;
  out["identity"] = identity_of(facts);
  out["size_bytes"] = size_of(facts);
  out["block_size"] = facts.capacity.block_size;
  out["thin"] = facts.capacity.thin;
  out["write_protected"] = facts.mode.write_protected;
  out["alua"] = alua_of(facts);
  return out;
}

json to_json(const PortalResult& result) {
  json out = {{"portal", result.portal},
              {"logged_in", result.logged_in},
              {"connect_ms", ms_number(result.connect_us)},
              {"login_ms", ms_number(result.login_us)},
              {"report_luns_ms", ms_number(result.report_us)},
              {"logout_ms", ms_number(result.logout_us)}};
  if (!result.problem.empty()) out["problem"] = result.problem;
  if (!result.logged_in) return out;
  const iscsi::SessionParameters& p = result.parameters;
  out["local"] = result.local;
  out["alias"] = result.alias;
  if (result.portal_group_tag) out["portal_group_tag"] = *result.portal_group_tag;
  out["chap"] = result.chap_done;
  out["target_proved"] = result.target_proved;
  out["negotiated"] = {{"header_digest", p.header_digest},
                       {"data_digest", p.data_digest},
                       {"initial_r2t", p.initial_r2t},
                       {"immediate_data", p.immediate_data},
                       {"max_send_data_segment_length", p.max_send_data_segment_length},
                       {"max_burst_length", p.max_burst_length},
                       {"first_burst_length", p.first_burst_length},
                       {"max_outstanding_r2t", p.max_outstanding_r2t}};
  json& units = out["units"] = json::array();
  for (const Unit& unit : result.units) units.push_back(to_json(unit));
  return out;
}

std::string describe(const PortalResult& result) {
  std::string out = fmt::format("Portal {}\n", result.portal);
  if (!result.logged_in) {
    return out + fmt::format("  not usable: {} (connect {}, login {})\n", printable(result.problem),
                             ms(result.connect_us), ms(result.login_us));
  }
  const iscsi::SessionParameters& p = result.parameters;
  out += fmt::format("  logged in from {}: connect {}, login {}, logout {}\n", result.local,
                     ms(result.connect_us), ms(result.login_us), ms(result.logout_us));
  out += fmt::format(
      "  portal group {}{}\n",
      result.portal_group_tag ? std::to_string(*result.portal_group_tag) : std::string("not told"),
      result.alias.empty() ? "" : ", alias " + printable(result.alias));
  out += fmt::format("  CHAP: {}\n", chap_of(result));
  out += fmt::format("  negotiated: HeaderDigest={} DataDigest={} InitialR2T={} ImmediateData={}\n",
                     p.header_digest ? "CRC32C" : "None", p.data_digest ? "CRC32C" : "None",
                     p.initial_r2t ? "Yes" : "No", p.immediate_data ? "Yes" : "No");
  out += fmt::format(
      "    its MaxRecvDataSegmentLength={} MaxBurstLength={} FirstBurstLength={} "
      "MaxOutstandingR2T={}\n",
      p.max_send_data_segment_length, p.max_burst_length, p.first_burst_length,
      p.max_outstanding_r2t);
  if (!result.problem.empty()) out += "  problem: " + printable(result.problem) + "\n";
  std::vector<std::vector<std::string>> rows = {
      {"  LUN", "UNIT", "SIZE", "BLOCK", "ALUA", "IDENTITY", "PROBE"}};
  for (const Unit& unit : result.units) {
    if (!unit.facts) {
      rows.push_back({"  " + lun_of(unit), unit.problem, "-", "-", "-", "-", ms(unit.probe_us)});
      continue;
    }
    const LunFacts& facts = *unit.facts;
    rows.push_back({"  " + lun_of(unit),
                    fmt::format("{} {} {}", facts.inquiry.vendor, facts.inquiry.product,
                                facts.inquiry.revision),
                    human_size(size_of(facts)), std::to_string(facts.capacity.block_size),
                    alua_of(facts), identity_of(facts), ms(unit.probe_us)});
  }
  out += daemon::table(rows);
  if (result.reported > result.units.size()) {
    out += fmt::format("  and {} units more\n", result.reported - result.units.size());
  }
  return out;
}

}  // namespace

json to_json(const iscsi::SendTargetsAnswer& answer, const std::string& portal) {
  json out = {{"portal", portal}, {"skipped", answer.skipped}};
  json& targets = out["targets"] = json::array();
  for (const iscsi::DiscoveredTarget& target : answer.targets) {
    json made = {{"name", target.name}, {"portals", json::array()}};
    for (const iscsi::TargetAddress& address : target.portals) {
      json one = {{"address", address.to_string()}};
      if (address.portal_group_tag) one["portal_group_tag"] = *address.portal_group_tag;
      made["portals"].push_back(std::move(one));
    }
    if (target.portals.empty()) made["portals"].push_back({{"address", portal}});
    targets.push_back(std::move(made));
  }
  return out;
}

std::string describe(const iscsi::SendTargetsAnswer& answer, const std::string& portal) {
  std::vector<std::vector<std::string>> rows = {{"TARGET", "PORTAL", "GROUP"}};
  for (const iscsi::DiscoveredTarget& target : answer.targets) {
    if (target.portals.empty()) rows.push_back({target.name, portal, "-"});
    for (const iscsi::TargetAddress& address : target.portals) {
      rows.push_back({target.name, address.to_string(),
                      address.portal_group_tag ? std::to_string(*address.portal_group_tag) : "-"});
    }
  }
  std::string out =
      rows.size() == 1 ? fmt::format("{} offers us no target.\n", portal) : daemon::table(rows);
  if (answer.skipped > 0) {
    out += fmt::format("{} entries make no sense and are left out\n", answer.skipped);
  }
  return out;
}

std::vector<std::string> problems_of(const PortalResults& results) {
  std::vector<std::string> out;
  std::map<std::string, std::set<std::string>> units;  // LUN -> what portals say it is
  for (const PortalResult& result : results) {
    if (!result.problem.empty()) out.push_back(result.portal + ": " + result.problem);
    if (!result.logged_in) continue;
    for (const Unit& unit : result.units) {
      if (!unit.facts) {
        out.push_back(fmt::format("{} LUN {}: {}", result.portal, lun_of(unit), unit.problem));
        continue;
      }
      const std::string identity = identity_of(*unit.facts);
      if (identity.empty()) {
        out.push_back(
            fmt::format("{} LUN {}: it has no identity (VPD page 83h), so paths to it "
                        "cannot be told apart",
                        result.portal, lun_of(unit)));
      }
      units[lun_of(unit)].insert(fmt::format("{}, {} bytes", identity, size_of(*unit.facts)));
    }
  }
  for (const auto& [lun, seen] : units) {
    if (seen.size() > 1) {
      out.push_back(fmt::format("LUN {}: the portals lead to different units", lun));
    }
  }
  return out;
}

json to_json(const PortalResults& results, const std::vector<std::string>& problems) {
  json out = {{"problems", problems}};
  json& portals = out["portals"] = json::array();
  for (const PortalResult& result : results) portals.push_back(to_json(result));
  return out;
}

std::string describe(const PortalResults& results, const std::vector<std::string>& problems) {
  std::string out;
  for (const PortalResult& result : results) out += describe(result) + "\n";
  if (problems.empty()) {
    return out + (results.size() > 1 ? "All portals lead to the same units.\n"
                                     : "The portal can be used.\n");
  }
  out += "Problems:\n";
  for (const std::string& problem : problems) out += "  " + printable(problem) + "\n";
  return out;
}

}  // namespace holdfast::initiator
