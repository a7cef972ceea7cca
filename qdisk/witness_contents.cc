#include "qdisk/witness_contents.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>

namespace holdfast::qdisk {

using base::Bytes;
using base::Result;

namespace {

Sector sector_at(Bytes all, uint64_t offset) {
  return Sector(all.subspan(static_cast<size_t>(offset)).first<kRecordBytes>());
}

bool has_digest(Bytes document, const Sha256& wanted) {
  Sha256 made{};
  unsigned size = 0;
  return EVP_Digest(document.data(), document.size(), made.data(), &size, EVP_sha256(), nullptr) ==
             1 &&
         made == wanted;
}

Result<ConfigCopy> read_config(WitnessFile& file, unsigned copy, const Uuid& cluster) {
  std::vector<uint8_t> slot(kSlotBytes);
  TRY(file.read(config_offset(copy), slot));
  ConfigCopy out{.header = decode_config(sector_at(slot, 0), cluster, copy)};
  if (!out.header.valid()) return out;
  const size_t length = out.header.value->length;
  std::vector<uint8_t> document(base::round_up(length, kSlotBytes));
  TRY(file.read(config_offset(copy) + kSlotBytes, document));
  out.document = has_digest(Bytes(document).first(length), out.header.value->sha256)
                     ? ConfigCopy::Document::intact
                     : ConfigCopy::Document::damaged;
  return out;
}

char copy_name(size_t copy) { return static_cast<char>('A' + copy); }

}  // namespace

Result<std::unique_ptr<WitnessContents>> read_witness(WitnessFile& file) {
  if (file.size_bytes() < kMinWitnessBytes) {
    return base::fail(base::Errc::invalid_argument, "it is no witness: smaller than 64 MiB");
  }
  std::vector<uint8_t> records(kRecordsEnd);
  TRY(file.read(0, records));
  auto out = std::make_unique<WitnessContents>();
  out->size_bytes = file.size_bytes();
  out->sector_bytes = file.sector_bytes();
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    out->superblocks[copy] = decode_superblock(sector_at(records, superblock_offset(copy)), copy);
  }
  out->superblock = newest(out->superblocks[0], out->superblocks[1]);
  if (!out->superblock.valid()) return out;
  const Uuid& cluster = out->superblock.value->cluster;
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    for (unsigned parity = 0; parity < kCopies; ++parity) {
      out->heartbeats[node][parity] = decode_heartbeat(
          sector_at(records, heartbeat_offset(node, parity)), cluster, node, parity);
    }
    out->ballots[node] = decode_ballot(sector_at(records, ballot_offset(node)), cluster, node);
    out->mail[node] = decode_mail(sector_at(records, mail_offset(node)), cluster, node);
  }
  for (size_t slot = 0; slot < kDecidedSlots; ++slot) {
    out->decided[slot] = decode_decided(sector_at(records, decided_offset(slot)), cluster, slot);
  }
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    TRY_ASSIGN(out->configs[copy], read_config(file, copy, cluster));
  }
  return out;
}

std::vector<const Decision*> WitnessContents::newest_decisions() const {
  std::vector<const Decision*> out;
  for (const Decoded<Decision>& each : decided) {
    if (each.valid()) out.push_back(&*each.value);
  }
  std::ranges::sort(out, std::greater{}, &Decision::epoch);
  return out;
}

std::vector<WitnessContents::Corrupt> WitnessContents::corrupt() const {
  std::vector<Corrupt> out;
  const auto look = [&](const auto& decoded, uint64_t offset, std::string what) {
    if (!decoded.corrupt()) return;
    out.push_back(
        {.offset = offset, .what = std::move(what), .why = std::string(to_string(decoded.fault))});
  };
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    look(superblocks[copy], superblock_offset(copy), fmt::format("superblock {}", copy_name(copy)));
  }
  if (superblock.fault == Fault::copies) look(superblock, 0, "superblocks A and B");
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    for (unsigned parity = 0; parity < kCopies; ++parity) {
      look(heartbeats[node][parity], heartbeat_offset(node, parity),
           fmt::format("{} heartbeat of node {}", parity == 0 ? "even" : "odd", node));
    }
  }
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    look(ballots[node], ballot_offset(node), fmt::format("ballot block of node {}", node));
  }
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    look(mail[node], mail_offset(node), fmt::format("mail of node {}", node));
  }
  for (size_t slot = 0; slot < kDecidedSlots; ++slot) {
    look(decided[slot], decided_offset(slot), fmt::format("decision in slot {}", slot));
  }
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    const std::string what = fmt::format("configuration {}", copy_name(copy));
    look(configs[copy].header, config_offset(copy), what);
    if (configs[copy].document == ConfigCopy::Document::damaged) {
      out.push_back({.offset = config_offset(copy) + kSlotBytes,
                     .what = what,
                     .why = "its bytes are not those of its header's SHA-256: damaged, or its "
                            "writing was cut off"});
    }
  }
  return out;
}

}  // namespace holdfast::qdisk
