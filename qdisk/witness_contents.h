#pragma once
// A whole witness, read once.

#include <array>
#include <cstdint>
#include <vector>

#include "qdisk/layout.h"
#include "qdisk/witness_file.h"

namespace holdfast::qdisk {

struct ConfigCopy {
  enum class Document : uint8_t { none, intact, damaged };
  Decoded<ConfigHeader> header;
  Document document = Document::none;  // of a valid header
};

struct WitnessContents {
  uint64_t size_bytes = 0;
  uint32_t sector_bytes = 0;
  std::array<Decoded<Superblock>, kCopies> superblocks;
  Decoded<Superblock> superblock;  // the one that counts
  // Where that is valid; without its uuid no record can be told from damage.
  std::array<std::array<Decoded<Heartbeat>, kCopies>, kMaxNodes> heartbeats;
  std::array<Decoded<BallotBlock>, kMaxNodes> ballots;
  std::array<Decoded<Mail>, kMaxNodes> mail;
  std::array<Decoded<Decision>, kDecidedSlots> decided;
  std::array<ConfigCopy, kCopies> configs;

  std::vector<const Decision*> newest_decisions() const;  // the newest first

  struct Corrupt {
    uint64_t offset = 0;
    std::string what;
    std::string why;
  };
  std::vector<Corrupt> corrupt() const;
};

// Damage is no error here: it is shown. One is a device that cannot be read, or is too small.
base::Result<std::unique_ptr<WitnessContents>> read_witness(WitnessFile& file);

}  // namespace holdfast::qdisk
