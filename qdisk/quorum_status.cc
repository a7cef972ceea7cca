#include "qdisk/quorum_status.h"

#include <fmt/format.h>

#include <algorithm>

namespace holdfast::qdisk {

namespace {

constexpr const char* kWitnessName = "the witness";

// "hv1", "hv1 and hv2", "hv1, hv2 and the witness"
std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += i + 1 == names.size() ? " and " : ", ";
    out += names[i];
  }
  return out.empty() ? "nobody" : out;
}

std::string joined(const QuorumStatus& status, NodeSet nodes, bool witness) {
  std::vector<std::string> names;
  for (const NodeId node : nodes) names.push_back(status.name_of(node));
  if (witness) names.emplace_back(kWitnessName);
  return joined(names);
}

std::string votes_text(int votes) { return fmt::format("{} vote{}", votes, votes == 1 ? "" : "s"); }

// Why this voter does not vote.
std::string absence(const QuorumStatus& status, NodeId node) {
  const HostStatus* host = status.find(node);
  if (host == nullptr) return "it is not in this node's configuration";
  if (!host->heard) {
    return host->problem.empty() ? "it is not heard over any network, nor on the witness"
                                 : "it is not heard: " + host->problem;
  }
  if (!host->remembers) return "it has lost its state, and waits to be admitted";
  return "it is heard, but has not answered within a lease";
}

std::string absence_of_witness(const QuorumStatus& status) {
  const DiskStatus* witness = status.witness();
  if (witness == nullptr) return "this node has none configured";
  return witness->problem.empty() ? "it has not answered in time" : witness->problem;
}

void add_missing(const QuorumStatus& status, const Answers& there, std::vector<std::string>& out) {
  const Decision& decision = status.decision;
  for (const NodeId node : decision.voters - there.nodes) {
    out.push_back(
        fmt::format("The vote of {} is missing: {}.", status.name_of(node), absence(status, node)));
  }
  if (decision.witness_votes && !there.witness) {
    out.push_back(
        fmt::format("The vote of the witness is missing: {}.", absence_of_witness(status)));
  }
}

void add_watch(const QuorumStatus& status, std::vector<std::string>& out) {
  if (status.fenced < status.decision.epoch) {
    out.emplace_back(
        "A fence is under way: whoever has left may still have writes under way, and what it "
        "coordinated is not served yet.");
    for (const LeaseUser& user : status.users) {
      if (user.quiesced >= status.decision.epoch) continue;
      out.push_back(fmt::format(
          "It waits for {} on this host to drop what former members had asked of it. If {} is gone "
          "for good, and nothing of it is under way: `holdfast quorum forget {}`.",
          user.name, user.name, user.name));
    }
  }
  for (const DiskStatus& disk : status.disks) {
    if (disk.problem.empty() && disk.usable) continue;
    out.push_back(fmt::format("{} is not usable on this node: {}.",
                              disk.number ? "Volume " + disk.name : "The witness",
                              disk.problem.empty() ? "it does not answer" : disk.problem));
  }
}

// What those who are left could do without anybody's help.
NextFailure after_loss(const QuorumStatus& status, Answers left, std::string what) {
  const Decision& decision = status.decision;
  NextFailure out{.what = std::move(what)};
  const int votes_left = votes_of(decision, left);
  out.goes_on = is_majority(decision, left);
  out.text = fmt::format("If {} fails now, {}: {} of {} would be left, and {} {} needed.", out.what,
                         out.goes_on ? "the cluster goes on" : "THE CLUSTER STOPS", votes_left,
                         votes_text(votes(decision)), majority(decision),
                         majority(decision) == 1 ? "is" : "are");
  return out;
}

}  // namespace

// A member's are those that vouch; who waits cannot ask, and goes by whom it hears.
Answers votes_there(const QuorumStatus& status) {
  if (status.quorum() && !status.settling) return status.vouching;
  Answers out = status.quorum() ? status.vouching : Answers{};
  for (const HostStatus& host : status.hosts) {
    if (host.heard && host.remembers) out.nodes.add(host.id);
  }
  const DiskStatus* witness = status.witness();
  out.witness |= witness != nullptr && witness->usable;
  return out;
}

const HostStatus* QuorumStatus::find(NodeId id) const {
  const auto found = std::ranges::find(hosts, id, &HostStatus::id);
  return found == hosts.end() ? nullptr : &*found;
}

const DiskStatus* QuorumStatus::witness() const {
  const auto found =
      std::ranges::find_if(disks, [](const DiskStatus& disk) { return !disk.number; });
  return found == disks.end() ? nullptr : &*found;
}

std::string QuorumStatus::name_of(NodeId id) const {
  const HostStatus* host = find(id);
  return host == nullptr ? fmt::format("node {}", id) : host->name;
}

std::string epoch_text(const QuorumStatus& status) {
  const Decision& decision = status.decision;
  if (decision.epoch == 0) return "none";
  return fmt::format("{}.{}", generation_of(decision.epoch), count_of(decision.epoch));
}

std::vector<std::string> why(const QuorumStatus& status) {
  const Decision& decision = status.decision;
  std::vector<std::string> out = status.problems;
  if (decision.epoch == 0) {
    out.emplace_back(
        "No cluster is known here: none has been created, or no node of it has been heard yet. "
        "`holdfast quorum create` on ONE node creates it; the others join by themselves.");
    for (const HostStatus& host : status.hosts) {
      if (host.id == status.self || host.heard) continue;
      out.push_back(fmt::format("{} is missing: {}.", host.name, absence(status, host.id)));
    }
    return out;
  }
  const Answers there = votes_there(status);
  const int have = votes_of(decision, there);
  const std::string count = fmt::format(
      "{} of {} ({}), and {} {} needed", have, votes_text(votes(decision)),
      joined(status, decision.voters & there.nodes, decision.witness_votes && there.witness),
      majority(decision), majority(decision) == 1 ? "is" : "are");
  if (status.quorum()) {
    out.push_back(fmt::format("There is quorum: {}.", count));
  } else if (status.member) {
    out.push_back(
        fmt::format("This node has no lease: it hears {}. Nothing that needs the cluster may run "
                    "here until a majority answers.",
                    count));
  } else if (have >= majority(decision)) {
    out.push_back(
        fmt::format("This node is no member of epoch {}, and waits to be admitted: the members are "
                    "{}. It hears {}.",
                    epoch_text(status), joined(status, decision.members(), false), count));
  } else {
    out.push_back(fmt::format(
        "There is no quorum as far as this node can tell, and it is no member: it hears {}. If the "
        "missing ones are lost for good, `holdfast quorum force` on ONE node goes on without them.",
        count));
  }
  add_missing(status, there, out);
  add_watch(status, out);
  return out;
}

std::vector<NextFailure> next_failures(const QuorumStatus& status) {
  std::vector<NextFailure> out;
  if (!status.quorum()) return out;
  const Decision& decision = status.decision;
  const Answers there = votes_there(status);
  for (const NodeId node : decision.members() | decision.voters) {
    Answers left = there;
    left.nodes.remove(node);
    if (!there.nodes.has(node) && !decision.members().has(node)) continue;
    out.push_back(after_loss(status, left, status.name_of(node)));
  }
  if (decision.witness_votes && there.witness) {
    Answers left = there;
    left.witness = false;
    out.push_back(after_loss(status, left, kWitnessName));
  }
  return out;
}

}  // namespace holdfast::qdisk
