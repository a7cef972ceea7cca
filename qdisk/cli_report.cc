#include "qdisk/cli_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/daemon/text_table.h"
#include "qdisk/named_timers.h"

namespace holdfast::qdisk {
namespace {

using daemon::human_latency;
using daemon::human_size;
using daemon::printable;
using Rows = std::vector<std::vector<std::string>>;

constexpr size_t kShownDecisions = 8;
constexpr size_t kShownDigestBytes = 6;

// "0-2,5"
std::string text(NodeSet set) {
  std::string out;
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (!set.has(node)) continue;
    NodeId last = node;
    while (set.has(static_cast<NodeId>(last + 1))) ++last;
    if (!out.empty()) out += ",";
    out += last == node ? fmt::format("{}", node) : fmt::format("{}-{}", node, last);
    node = last;
  }
  return out.empty() ? "-" : out;
}

// "261", or "1/2/261" after a first forced quorum, by node 2.
std::string epoch_text(Epoch epoch) {
  if (generation_of(epoch) == 0) return fmt::format("{}", epoch);
  return fmt::format("{}/{}/{}", generation_of(epoch), epoch >> kForcedByShift & 0xff,
                     count_of(epoch));
}

std::string ballot_text(Ballot ballot) {
  return ballot == 0 ? "-" : fmt::format("{}.{}", ballot >> 8, ballot & 0xff);
}

std::string digest_text(const Sha256& digest) {
  std::string out;
  for (size_t i = 0; i < kShownDigestBytes; ++i) out += fmt::format("{:02x}", digest[i]);
  return out + "...";
}

std::string members_text(const Decision& decision) {
  std::string out;
  for (const NodeId node : decision.members()) {
    if (!out.empty()) out += " ";
    out += fmt::format("{}({})", node, decision.incarnations[node]);
  }
  return out.empty() ? "-" : out;
}

std::string voters_text(const Decision& decision) {
  return text(decision.voters) + (decision.witness_votes ? " and the witness" : "");
}

std::string volumes_text(const Decision& decision) {
  std::string out;
  for (size_t i = 0; i < kMaxVolumes; ++i) {
    const VolumeOwner& volume = decision.volumes[i];
    if (volume.coordinator == kNoNode) continue;
    if (!out.empty()) out += " ";
    out += fmt::format("{}:{}({})", i, volume.coordinator, volume.term);
  }
  return out.empty() ? "-" : out;
}

std::string config_text(const ConfigTag& tag) {
  return fmt::format("{} {}", tag.version, digest_text(tag.digest));
}

std::string titled(const char* title, const Rows& rows) {
  if (rows.size() == 1) return "";
  return fmt::format("\n{}\n{}", title, daemon::table(rows));
}

std::string heartbeats(const WitnessContents& contents) {
  Rows rows = {{"NODE", "STATE", "LIFE", "SEQUENCE", "EPOCH", "HEARS ON 1", "ON 2", "SEES ON DISK",
                "VOLUMES", "KEY", "P99", "QUIESCED", "FENCED"}};
  for (const auto& both : contents.heartbeats) {
    const Decoded<Heartbeat> decoded = newest(both[0], both[1]);
    if (!decoded.valid()) continue;
    const Heartbeat& h = *decoded.value;
    rows.push_back({std::to_string(h.node),
                    to_string(h.state) + std::string(h.remembers ? "" : ", has lost its state"),
                    std::to_string(h.incarnation), std::to_string(h.sequence), epoch_text(h.epoch),
                    text(h.heard_net[0]), text(h.heard_net[1]), text(h.heard_disk),
                    text(NodeSet(h.volumes_ok)), fmt::format("0x{:016x}", h.reservation_key),
                    human_latency(h.io_p99_us), epoch_text(h.quiesced),
                    epoch_text(h.fenced) + (h.fenced_timed ? " by time" : "")});
  }
  return titled("Heartbeats: a node lives whose sequence changes from one look to the next", rows);
}

std::string ballots(const WitnessContents& contents) {
  Rows rows = {{"NODE", "LIFE", "EPOCH", "BEGUN", "PROPOSED", "MEMBERS", "VOTERS"}};
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (!contents.ballots[node].valid()) continue;
    const BallotBlock& block = *contents.ballots[node].value;
    rows.push_back({std::to_string(node), std::to_string(block.incarnation),
                    epoch_text(block.epoch), ballot_text(block.mbal), ballot_text(block.bal),
                    block.bal == 0 ? "-" : members_text(block.value),
                    block.bal == 0 ? "-" : voters_text(block.value)});
  }
  return titled("Ballot blocks", rows);
}

std::string decisions(const WitnessContents& contents) {
  Rows rows = {{"EPOCH", "MEMBERS (LIFE)", "VOTERS", "COORDINATORS (TERM)", "CONFIGURATION", ""}};
  std::vector<const Decision*> all = contents.newest_decisions();
  for (const Decision* each : std::span(all).first(std::min(all.size(), kShownDecisions))) {
    rows.push_back({epoch_text(each->epoch), members_text(*each), voters_text(*each),
                    volumes_text(*each), config_text(each->config), each->forced ? "forced" : ""});
  }
  return titled(
      all.size() > kShownDecisions ? "Decisions, the newest (--json has all)" : "Decisions", rows);
}

std::string configs(const WitnessContents& contents) {
  Rows rows = {{"COPY", "CONFIGURATION", "SIZE", "DOCUMENT"}};
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    const ConfigCopy& each = contents.configs[copy];
    if (!each.header.valid()) continue;
    rows.push_back({copy == 0 ? "A" : "B", config_text(each.header.value->tag),
                    human_size(each.header.value->length),
                    each.document == ConfigCopy::Document::intact ? "intact" : "damaged"});
  }
  return titled("Configuration", rows);
}

std::string mail(const WitnessContents& contents) {
  Rows rows = {{"FROM", "LIFE", "SEQUENCE", "TO", "SAYS", "EPOCH"}};
  for (const Decoded<Mail>& each : contents.mail) {
    if (!each.valid()) continue;
    const Mail& m = *each.value;
    rows.push_back({std::to_string(m.from), std::to_string(m.incarnation),
                    std::to_string(m.sequence), text(m.to), to_string(m.kind),
                    epoch_text(m.epoch)});
  }
  return titled("Mail", rows);
}

std::string damage(const WitnessContents& contents) {
  Rows rows = {{"OFFSET", "RECORD", "WHY"}};
  for (const WitnessContents::Corrupt& each : contents.corrupt()) {
    rows.push_back({fmt::format("0x{:06x}", each.offset), each.what, each.why});
  }
  return titled("Corrupt records", rows);
}

}  // namespace

std::string describe(const Superblock& superblock) {
  std::string out = fmt::format("Witness {} of the cluster `{}`\n", to_text(superblock.witness),
                                printable(superblock.cluster_name));
  out += fmt::format("  cluster  {}\n", to_text(superblock.cluster));
  std::string times;
  for (const NamedTimer& each : named_timers()) {
    if (!times.empty()) times += ", ";
    times += fmt::format("{} {}", each.name, to_text(superblock.timers.*each.member));
  }
  return out + fmt::format("  times    {}\n", times);
}

std::vector<std::string> warnings_of(const WitnessContents& contents) {
  std::vector<std::string> out;
  if (!contents.superblock.valid()) return out;
  const Superblock& superblock = *contents.superblock.value;
  if (superblock.sector_bytes != contents.sector_bytes) {
    out.push_back(fmt::format("it was formatted with sectors of {} bytes, and here they have {}",
                              superblock.sector_bytes, contents.sector_bytes));
  }
  for (const std::string& each : violations(superblock.timers)) out.push_back("times: " + each);
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    if (contents.superblocks[copy].empty()) {
      out.push_back(fmt::format("superblock {} is empty", copy == 0 ? "A" : "B"));
    }
  }
  return out;
}

std::string describe(const WitnessContents& contents) {
  std::string out;
  if (contents.superblock.valid()) {
    out = describe(*contents.superblock.value);
    out += fmt::format("  device   {}, sectors of {} bytes; superblock generation {}\n",
                       human_size(contents.size_bytes), contents.sector_bytes,
                       contents.superblock.value->generation);
    for (const std::string& each : warnings_of(contents)) out += "  warning: " + each + "\n";
    out += heartbeats(contents) + ballots(contents) + decisions(contents) + configs(contents) +
           mail(contents);
  } else if (contents.superblock.empty()) {
    out = "No witness: both superblocks are empty.\n";
  } else {
    out = fmt::format("No witness that can be used: {}.\n", to_string(contents.superblock.fault));
  }
  return out + damage(contents);
}

}  // namespace holdfast::qdisk
