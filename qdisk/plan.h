#pragma once
// What the next decision should say, if anything: from the current one, from who should be a
// member, and from what an administrator has asked for. Pure.

#include <optional>

#include "common/base/result.h"
#include "qdisk/quorum.h"

namespace holdfast::qdisk {

// One wish of an administrator or of another daemon; a decision that contains it fulfils it.
struct Change {
  enum class Kind : uint8_t { config, add_volume, remove_volume, move_volume, use_witness, evict };
  Kind kind = Kind::config;
  ConfigTag config{};            // config
  uint8_t volume = 0;            // *_volume
  NodeId coordinator = kNoNode;  // add_volume, move_volume; kNoNode: whoever suits
  NodeId from = kNoNode;         // move_volume: who hands it over
  Uuid witness{};                // use_witness
  Life life{};                   // evict: of another node than the one that is asked
  bool operator==(const Change&) const = default;
};

struct Situation {
  Decision current;
  VoterPolicy policy;
  std::array<Incarnation, kMaxNodes> members{};  // who should be one; 0: not
  std::array<uint16_t, kMaxNodes> volumes_ok{};
  bool witness_usable = false;
  std::optional<Change> change;
};

// Nothing: the current decision is right.
std::optional<Decision> plan(const Situation& situation);
// A decision other than `decision` is wanted for it.
bool pending(const Change& change, const Decision& decision);
// Errc::invalid_argument: the change cannot be made, whatever the members.
base::Result<> possible(const Change& change, const Decision& current);

}  // namespace holdfast::qdisk
