#include "target/unit.h"

#include <fmt/format.h>

#include <bit>

namespace holdfast::target {
namespace {

std::string hex(base::Bytes bytes) {
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

uint8_t physical_block_exponent(uint32_t physical, uint32_t logical) {
  return physical <= logical ? uint8_t{0}
                             : static_cast<uint8_t>(std::bit_width(physical / logical) - 1);
}

}  // namespace

std::string_view to_string(DiskOrigin origin) {
  return origin == DiskOrigin::file ? "file" : "cli";
}

std::string Unit::state_text() const {
  if (backing != nullptr) return "ready";
  return failure.empty() ? "opening" : "failed: " + failure;
}

uint64_t Unit::size_bytes() const {
  return backing == nullptr ? config.backing.size_bytes : backing->info().size_bytes;
}

std::shared_ptr<const UnitState> Unit::snapshot() const {
  auto state = std::make_shared<UnitState>();
  state->id = id;
  state->mode = mode;
  state->reservations = reservations;
  state->backing = backing;
  state->medium = medium;
  scsi::LunDescription& lun = state->description;
  lun.name = config.name;
  lun.uuid = identity;
  lun.serial = hex(identity);
  lun.block_size = config.backing.block_size;
  lun.physical_block_exponent =
      physical_block_exponent(config.backing.physical_block_size, config.backing.block_size);
  lun.capacity_blocks = size_bytes() / config.backing.block_size;
  lun.read_only = config.backing.read_only;
  lun.removable = config.removable;
  // Until it is open: what costs an initiator nothing but a flush.
  lun.write_cache = config.write_cache.value_or(true);
  if (backing == nullptr) return state;
  const io::BlockInfo info = backing->info();
  lun.read_only = lun.read_only || info.read_only;
  lun.thin = config.backing.thin && info.can_discard;
  lun.write_cache = config.write_cache.value_or(info.volatile_cache);
  // "No write cache" over a backing that has one is a promise we keep ourselves.
  state->write_through = !lun.write_cache && info.volatile_cache;
  return state;
}

Unit& Units::add(DiskConfig disk, DiskOrigin origin, const DiskIdentity& identity) {
  const UnitId id = ++last_id_;
  return *units_.emplace(id, std::make_unique<Unit>(id, std::move(disk), origin, identity))
              .first->second;
}

Unit* Units::find(UnitId id) {
  const auto found = units_.find(id);
  return found == units_.end() ? nullptr : found->second.get();
}

const Unit* Units::find(std::string_view name) const {
  for (const auto& [id, unit] : units_) {
    if (!unit->leaving && unit->config.name == name) return unit.get();
  }
  return nullptr;
}

Unit* Units::find(std::string_view name) {
  return const_cast<Unit*>(std::as_const(*this).find(name));
}

std::string format_uuid(const DiskIdentity& identity) {
  std::string text = hex(identity);
  for (const size_t at : {20u, 16u, 12u, 8u}) text.insert(at, "-");
  return text;
}

}  // namespace holdfast::target
