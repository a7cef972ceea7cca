#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "qdisk/cli_report.h"
#include "qdisk/named_timers.h"

namespace holdfast::qdisk {
namespace {

using nlohmann::json;

template <size_t kSize>
std::string hex(const std::array<uint8_t, kSize>& bytes) {
  std::string out;
  for (const uint8_t byte : bytes) out += fmt::format("{:02x}", byte);
  return out;
}

std::string hex(uint64_t number) { return fmt::format("0x{:016x}", number); }

json list_of(NodeSet set) {
  json out = json::array();
  for (const NodeId node : set) out.push_back(node);
  return out;
}

template <class T>
const char* condition(const Decoded<T>& decoded) {
  if (decoded.valid()) return "valid";
  return decoded.empty() ? "empty" : "corrupt";
}

json to_json(const ConfigTag& tag) {
  return {{"version", tag.version}, {"digest", hex(tag.digest)}};
}

json to_json(const Heartbeat& h, bool counts) {
  json networks = json::array();
  for (const NodeSet& heard : h.heard_net) networks.push_back(list_of(heard));
  return {{"node", h.node},
          {"offset", heartbeat_offset(h.node, h.sequence)},
          {"counts", counts},
          {"state", to_string(h.state)},
          {"incarnation", h.incarnation},
          {"sequence", h.sequence},
          {"boottime_ns", h.boottime_ns},
          {"epoch", h.epoch},
          {"heard_net", networks},
          {"heard_disk", list_of(h.heard_disk)},
          {"volumes_ok", list_of(NodeSet(h.volumes_ok))},
          {"reservation_key", hex(h.reservation_key)},
          {"io_p99_us", h.io_p99_us},
          {"remembers", h.remembers},
          {"watchdog", to_string(h.watchdog)},
          {"quiesced", h.quiesced},
          {"fenced", h.fenced},
          {"fenced_timed", h.fenced_timed}};
}

json to_json(const Decision& d) {
  json members = json::array(), volumes = json::array();
  for (const NodeId node : d.members()) {
    members.push_back({{"node", node}, {"incarnation", d.incarnations[node]}});
  }
  for (size_t i = 0; i < kMaxVolumes; ++i) {
    const VolumeOwner& volume = d.volumes[i];
    if (volume == VolumeOwner{}) continue;
    json made = {{"volume", i}, {"term", volume.term}};
    made["coordinator"] = volume.coordinator == kNoNode ? json() : json(volume.coordinator);
    volumes.push_back(std::move(made));
  }
  return {{"epoch", d.epoch},
          {"generation", generation_of(d.epoch)},
          {"count", count_of(d.epoch)},
          {"members", members},
          {"voters", list_of(d.voters)},
          {"witness_votes", d.witness_votes},
          {"forced", d.forced},
          {"witness", d.witness == Uuid{} ? json() : json(to_text(d.witness))},
          {"config", to_json(d.config)},
          {"volumes", volumes}};
}

json to_json(const BallotBlock& block, NodeId node) {
  json out = {{"node", node},
              {"incarnation", block.incarnation},
              {"epoch", block.epoch},
              {"mbal", block.mbal},
              {"bal", block.bal}};
  out["value"] = block.bal == 0 ? json() : to_json(block.value);
  return out;
}

json to_json(const Mail& mail) {
  return {{"from", mail.from},         {"incarnation", mail.incarnation},
          {"sequence", mail.sequence}, {"kind", to_string(mail.kind)},
          {"to", list_of(mail.to)},    {"epoch", mail.epoch}};
}

json superblocks_of(const WitnessContents& contents) {
  json out = json::array();
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    const Decoded<Superblock>& each = contents.superblocks[copy];
    json made = {{"copy", copy == 0 ? "A" : "B"},
                 {"offset", superblock_offset(copy)},
                 {"condition", condition(each)}};
    if (each.valid()) made["generation"] = each.value->generation;
    if (each.corrupt()) made["why"] = to_string(each.fault);
    out.push_back(std::move(made));
  }
  return out;
}

json configs_of(const WitnessContents& contents) {
  json out = json::array();
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    const ConfigCopy& each = contents.configs[copy];
    if (!each.header.valid()) continue;
    const ConfigHeader& header = *each.header.value;
    out.push_back({{"copy", copy == 0 ? "A" : "B"},
                   {"tag", to_json(header.tag)},
                   {"length", header.length},
                   {"sha256", hex(header.sha256)},
                   {"intact", each.document == ConfigCopy::Document::intact}});
  }
  return out;
}

}  // namespace

json to_json(const Superblock& superblock) {
  json times = json::object();
  for (const NamedTimer& each : named_timers()) {
    times[std::string(each.name) + "_ms"] = (superblock.timers.*each.member).count();
  }
  return {{"cluster", to_text(superblock.cluster)},  {"cluster_name", superblock.cluster_name},
          {"witness", to_text(superblock.witness)},  {"generation", superblock.generation},
          {"sector_bytes", superblock.sector_bytes}, {"timers", times}};
}

json to_json(const WitnessContents& contents) {
  json out = {{"size_bytes", contents.size_bytes},
              {"sector_bytes", contents.sector_bytes},
              {"condition", condition(contents.superblock)},
              {"superblocks", superblocks_of(contents)},
              {"warnings", warnings_of(contents)}};
  out["superblock"] = contents.superblock.valid() ? to_json(*contents.superblock.value) : json();
  for (const char* name : {"heartbeats", "ballots", "decisions", "mail", "corrupt"}) {
    out[name] = json::array();
  }
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    const auto& both = contents.heartbeats[node];
    const Decoded<Heartbeat> counts = newest(both[0], both[1]);
    for (const Decoded<Heartbeat>& each : both) {
      if (each.valid()) out["heartbeats"].push_back(to_json(*each.value, each == counts));
    }
    const Decoded<BallotBlock>& ballot = contents.ballots[node];
    if (ballot.valid()) out["ballots"].push_back(to_json(*ballot.value, node));
    if (contents.mail[node].valid()) out["mail"].push_back(to_json(*contents.mail[node].value));
  }
  for (const Decision* each : contents.newest_decisions())
    out["decisions"].push_back(to_json(*each));
  out["configs"] = configs_of(contents);
  for (const WitnessContents::Corrupt& each : contents.corrupt()) {
    out["corrupt"].push_back({{"offset", each.offset}, {"record", each.what}, {"why", each.why}});
  }
  return out;
}

}  // namespace holdfast::qdisk
