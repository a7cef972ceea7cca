#pragma once
// What is decided: one value for each epoch, chosen by a majority of the voters that the epoch
// before it named. Everything that must not be in doubt is in here: who is a member, who votes
// next, which node coordinates which volume, which cluster configuration counts.

#include <array>
#include <cstdint>

#include "qdisk/limits.h"
#include "qdisk/node_set.h"

namespace holdfast::qdisk {

using Uuid = std::array<uint8_t, 16>;
using Sha256 = std::array<uint8_t, 32>;

// One life of a node: persistent, one more at each boot and whenever local state was lost; not at a
// restart of the daemon within the same boot. 0: none.
using Incarnation = uint32_t;

// Ordered as numbers. The high 16 bits are the generation, one more for each forced quorum; below
// it 8 bits name the node that forced it (two operators who force at the same time get two epochs,
// of which the higher counts); the rest counts. 0: the cluster has not been created.
using Epoch = uint64_t;
inline constexpr unsigned kGenerationShift = 48;
inline constexpr unsigned kForcedByShift = 40;

constexpr uint16_t generation_of(Epoch epoch) {
  return static_cast<uint16_t>(epoch >> kGenerationShift);
}
constexpr uint64_t count_of(Epoch epoch) { return epoch & ((uint64_t{1} << kForcedByShift) - 1); }

struct VolumeOwner {
  NodeId coordinator = kNoNode;  // kNoNode: there is no such volume
  // One more with every change of the coordinator, and with each new incarnation of it. It stays
  // when the volume is removed, so that its place never sees a term twice.
  uint32_t term = 0;
  bool operator==(const VolumeOwner&) const = default;
};

// Names one version of the configuration document: docs/qdisk-protocol.md, "Configuration".
struct ConfigTag {
  uint64_t version = 0;
  Sha256 digest{};
  bool operator==(const ConfigTag&) const = default;
};

struct Life {
  NodeId node = kNoNode;
  Incarnation incarnation = 0;
  auto operator<=>(const Life&) const = default;
};

struct Decision {
  Epoch epoch = 0;
  std::array<Incarnation, kMaxNodes> incarnations{};  // of the members; 0: no member
  // Who decides the next epoch. A node may vote without being a member: of two nodes and a witness
  // all three keep their votes when one node is evicted, so that the other does not need it, and it
  // cannot come back alone with an old configuration.
  NodeSet voters;
  bool witness_votes = false;
  bool forced = false;  // not decided by a majority but by an operator
  Uuid witness{};       // the LUN that votes, or may vote later; all zeroes: none
  ConfigTag config;
  std::array<VolumeOwner, kMaxVolumes> volumes{};

  bool operator==(const Decision&) const = default;

  NodeSet members() const {
    NodeSet set;
    for (NodeId node = 0; node < kMaxNodes; ++node) {
      if (incarnations[node] != 0) set.add(node);
    }
    return set;
  }
  bool has_member(NodeId node, Incarnation incarnation) const {
    return incarnation != 0 && incarnations[node] == incarnation;
  }
};

// (round << 8 | node): unique to its node, ordered as numbers. 0: none.
using Ballot = uint64_t;

// One node's block at one acceptor (Gafni and Lamport, "Disk Paxos"): a node writes only its own,
// and reads all. A block of an earlier epoch counts as empty.
struct BallotBlock {
  Epoch epoch = 0;  // that is being decided
  Ballot mbal = 0;  // the greatest ballot the node has begun
  Ballot bal = 0;   // the ballot in which it proposed `value`; 0: none yet
  Incarnation incarnation = 0;
  Decision value;  // meaningful where bal != 0
  bool operator==(const BallotBlock&) const = default;
};

}  // namespace holdfast::qdisk
