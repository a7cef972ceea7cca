#include "mpio/device_status.h"

#include <nlohmann/json.hpp>

namespace holdfast::mpio {

using nlohmann::json;

namespace {

json to_json(const PathStatus& p) {
  json out = {{"name", p.name},
              {"state", p.state},
              {"alua", p.alua},
              {"portal", p.portal},
              {"source", p.source},
              {"why", p.why},
              {"tier", p.tier},
              {"since_ms", p.since_ms},
              {"carries_io", p.carries_io},
              {"disabled", p.disabled},
              {"isid", p.isid},
              {"in_flight", p.in_flight},
              {"limit", p.limit},
              {"latency_us", p.latency_us},
              {"weight_permille", p.weight_permille},
              {"reads", p.reads},
              {"writes", p.writes},
              {"bytes_read", p.bytes_read},
              {"bytes_written", p.bytes_written},
              {"errors", p.errors},
              {"given_back", p.given_back},
              {"sessions", p.sessions},
              {"failures", p.failures},
              {"rtt_us", p.rtt_us},
              {"retransmits", p.retransmits},
              {"mtu", p.mtu},
              {"mss", p.mss}};
  if (p.portal_group_tag) out["portal_group_tag"] = *p.portal_group_tag;
  json& history = out["history"] = json::array();
  for (const PathStatus::Step& step : p.history) {
    history.push_back(
        {{"ago_ms", step.ago_ms}, {"from", step.from}, {"to", step.to}, {"why", step.why}});
  }
  return out;
}

void add_lists(json& out, const DeviceStatus& d) {
  json& effective = out["effective"] = json::array();
  for (const EffectiveValue& value : d.effective) {
    effective.push_back({{"key", value.key}, {"value", value.value}, {"origin", value.origin}});
  }
  json& paths = out["paths"] = json::array();
  for (const PathStatus& path : d.paths) paths.push_back(to_json(path));
  json& fences = out["fences"] = json::array();
  for (const FenceStatus& fence : d.fences) {
    fences.push_back({{"path", fence.path},
                      {"earlier_process", fence.earlier_process},
                      {"step", fence.step},
                      {"proof", fence.proof},
                      {"failure", fence.failure},
                      {"since_ms", fence.since_ms}});
  }
  if (d.last_fence) {
    out["last_fence"] = {{"path", d.last_fence->path},
                         {"proof", d.last_fence->proof},
                         {"took_ms", d.last_fence->took_ms}};
  }
  json& exports = out["exports"] = json::array();
  for (const ExportStatus& made : d.exports) {
    exports.push_back({{"socket", made.socket}, {"state", made.state}, {"clients", made.clients}});
  }
}

}  // namespace

json to_json(const DeviceStatus& d) {
  json out = {{"name", d.name},
              {"target", d.target},
              {"lun", d.lun},
              {"wwid", d.wwid},
              {"vendor", d.vendor},
              {"product", d.product},
              {"revision", d.revision},
              {"known", d.known},
              {"size_bytes", d.size_bytes},
              {"block_size", d.block_size},
              {"read_only", d.read_only},
              {"policy", d.policy},
              {"profile", d.profile},
              {"waiting", d.waiting},
              {"executing", d.executing},
              {"ghosts", d.ghosts},
              {"oldest_ghost_ms", d.oldest_ghost_ms},
              {"requests", d.requests},
              {"failed", d.failed},
              {"retries", d.retries},
              {"reissued_writes", d.reissued_writes},
              {"failovers", d.failovers},
              {"fences_begun", d.fences_begun},
              {"fences_by_time", d.fences_by_time},
              {"fences_by_preempt", d.fences_by_preempt},
              {"path_losses", d.path_losses},
              {"ghost_waits", d.ghost_waits},
              {"drains_on_reinstatement", d.drains_on_reinstatement},
              {"unit_reset_waits", d.unit_reset_waits},
              {"preempt_drains", d.preempt_drains},
              {"session_keys", d.session_keys},
              {"target_note", d.target_note},
              {"target_tested", d.target_tested},
              {"stale", d.stale},
              {"warnings", warnings(d)}};
  if (d.without_path_ms) out["without_path_ms"] = *d.without_path_ms;
  if (d.reserved) out["reserved"] = *d.reserved;
  add_lists(out, d);
  return out;
}

}  // namespace holdfast::mpio
