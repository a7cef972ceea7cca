#include "qdisk/layout.h"

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "common/base/crc32c.h"
#include "qdisk/layout_wire.h"

namespace holdfast::qdisk {

using base::Bytes;
using base::le32;
using base::le64;

namespace {

bool all_zero(Bytes bytes) {
  return std::ranges::all_of(bytes, [](uint8_t byte) { return byte == 0; });
}

uint32_t checksum(Sector sector, uint64_t offset, const Uuid& cluster) {
  constexpr size_t kCrcAt = offsetof(wire::Header, crc);
  base::Crc32c sum;
  sum.update(cluster);
  sum.update(base::as_bytes(le64(offset)));
  sum.update(sector.first<kCrcAt>());
  sum.update(base::as_bytes(le32(0)));
  sum.update(sector.subspan<kCrcAt + sizeof(le32)>());
  return sum.value();
}

template <class Wire>
void seal(Wire wire, wire::Kind kind, uint64_t offset, const Uuid& cluster, MutableSector out) {
  wire.header = {.magic = wire::kMagic,
                 .kind = static_cast<uint8_t>(kind),
                 .version = wire::kVersion,
                 .slot = static_cast<uint32_t>(offset / kSlotBytes)};
  base::store(out, wire);
  wire.header.crc = checksum(out, offset, cluster);
  base::store(out, wire);
}

// Of a record that is not empty: whether its fields can be looked at.
Fault check_header(Sector in, wire::Kind kind, uint64_t offset, const Uuid& cluster) {
  const auto header = base::load<wire::Header>(in);
  if (header.magic != wire::kMagic) return Fault::magic;
  if (header.crc != checksum(in, offset, cluster)) {
    const bool stray = header.crc == checksum(in, header.slot * uint64_t{kSlotBytes}, cluster);
    return stray ? Fault::place : Fault::checksum;
  }
  if (header.slot != offset / kSlotBytes) return Fault::value;
  if (header.version > wire::kVersion) return Fault::version;
  if (header.version == 0) return Fault::value;
  return header.kind == static_cast<uint8_t>(kind) ? Fault::none : Fault::kind;
}

template <class T>
Decoded<T> corrupt(Fault fault) {
  return {.value = std::nullopt, .fault = fault};
}

// `take(wire, value)` fills the value and returns what is wrong.
template <class T, class Wire, class Take>
Decoded<T> decode(Sector in, wire::Kind kind, uint64_t offset, const Uuid& cluster, Take take) {
  if (all_zero(in)) return {};
  if (const Fault fault = check_header(in, kind, offset, cluster); fault != Fault::none) {
    return corrupt<T>(fault);
  }
  Decoded<T> out{.value = T{}};
  if (const Fault fault = take(base::load<Wire>(in), *out.value); fault != Fault::none) {
    return corrupt<T>(fault);
  }
  return out;
}

// --- what a value may be, for both directions

bool possible(const Milliseconds time) { return time > Milliseconds::zero() && time <= kMaxTimer; }

bool possible(const Superblock& s) {
  const Timers& t = s.timers;
  const auto control = [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; };
  return s.generation != 0 && s.cluster != Uuid{} && s.witness != Uuid{} &&
         (s.sector_bytes == kRecordBytes || s.sector_bytes == kSlotBytes) &&
         !s.cluster_name.empty() && s.cluster_name.size() <= kMaxClusterNameBytes &&
         std::ranges::none_of(s.cluster_name, control) && possible(t.hb_net) &&
         possible(t.net_dead) && possible(t.hb_disk) && possible(t.disk_io_to) &&
         possible(t.lease) && possible(t.kill) && possible(t.watchdog) && possible(t.takeover) &&
         possible(t.margin);
}

bool possible(const Heartbeat& h) {
  return h.incarnation != 0 && h.state <= NodeState::stopped && h.watchdog <= WatchdogKind::real;
}

bool possible(const Decision& d) {
  return d.epoch != 0 && std::ranges::all_of(d.volumes, [](const VolumeOwner& volume) {
           return volume.coordinator == kNoNode ||
                  (volume.coordinator < kMaxNodes && volume.term != 0);
         });
}

bool possible(const BallotBlock& b, NodeId node) {
  const auto own = [node](Ballot ballot) { return ballot == 0 || (ballot & 0xff) == node; };
  return b.epoch != 0 && b.incarnation != 0 && own(b.mbal) && own(b.bal) && b.bal <= b.mbal &&
         (b.bal == 0 || (b.value.epoch == b.epoch && possible(b.value)));
}

bool possible(const Mail& m) {
  return m.incarnation != 0 && (m.kind == MailKind::look || m.kind == MailKind::leave);
}

bool possible(const ConfigHeader& c) { return c.length <= kMaxConfigBytes; }

Fault fault_unless(bool holds) { return holds ? Fault::none : Fault::value; }

le32 to_wire(Milliseconds time) { return static_cast<uint32_t>(time.count()); }

wire::Timers to_wire(const Timers& t) {
  return {.hb_net_ms = to_wire(t.hb_net),
          .net_dead_ms = to_wire(t.net_dead),
          .hb_disk_ms = to_wire(t.hb_disk),
          .disk_io_to_ms = to_wire(t.disk_io_to),
          .lease_ms = to_wire(t.lease),
          .kill_ms = to_wire(t.kill),
          .watchdog_ms = to_wire(t.watchdog),
          .takeover_ms = to_wire(t.takeover),
          .margin_ms = to_wire(t.margin)};
}

Timers from_wire(const wire::Timers& w) {
  return {.hb_net = Milliseconds(w.hb_net_ms.get()),
          .net_dead = Milliseconds(w.net_dead_ms.get()),
          .hb_disk = Milliseconds(w.hb_disk_ms.get()),
          .disk_io_to = Milliseconds(w.disk_io_to_ms.get()),
          .lease = Milliseconds(w.lease_ms.get()),
          .kill = Milliseconds(w.kill_ms.get()),
          .watchdog = Milliseconds(w.watchdog_ms.get()),
          .takeover = Milliseconds(w.takeover_ms.get()),
          .margin = Milliseconds(w.margin_ms.get())};
}

wire::Decision to_wire(const Decision& d) {
  wire::Decision wire{.epoch = d.epoch,
                      .voters = d.voters.bits(),
                      .config_version = d.config.version,
                      .config_digest = d.config.digest,
                      .witness = d.witness};
  if (d.witness_votes) wire.flags |= wire::kFlagWitnessVotes;
  if (d.forced) wire.flags |= wire::kFlagForced;
  for (size_t i = 0; i < kMaxVolumes; ++i) {
    wire.coordinators[i] = d.volumes[i].coordinator;
    wire.terms[i] = d.volumes[i].term;
  }
  for (size_t i = 0; i < kMaxNodes; ++i) wire.incarnations[i] = d.incarnations[i];
  return wire;
}

Fault from_wire(const wire::Decision& wire, Decision& out) {
  if (!all_zero(wire.reserved)) return Fault::reserved;
  if ((wire.flags & ~(wire::kFlagWitnessVotes | wire::kFlagForced)) != 0) return Fault::reserved;
  out = {.epoch = wire.epoch,
         .voters = NodeSet(wire.voters),
         .witness_votes = (wire.flags & wire::kFlagWitnessVotes) != 0,
         .forced = (wire.flags & wire::kFlagForced) != 0,
         .witness = wire.witness,
         .config = {.version = wire.config_version, .digest = wire.config_digest}};
  for (size_t i = 0; i < kMaxVolumes; ++i) {
    out.volumes[i] = {.coordinator = wire.coordinators[i], .term = wire.terms[i]};
  }
  for (size_t i = 0; i < kMaxNodes; ++i) out.incarnations[i] = wire.incarnations[i];
  return fault_unless(possible(out));
}

}  // namespace

void encode(const Superblock& superblock, unsigned copy, MutableSector out) {
  ASSERT(possible(superblock));
  wire::Superblock wire{.cluster = superblock.cluster,
                        .witness = superblock.witness,
                        .generation = superblock.generation,
                        .sector_bytes = superblock.sector_bytes,
                        .node_slots = kMaxNodes,
                        .timers = to_wire(superblock.timers),
                        .name_length = static_cast<uint8_t>(superblock.cluster_name.size())};
  std::ranges::copy(superblock.cluster_name, wire.name.begin());
  seal(wire, wire::Kind::superblock, superblock_offset(copy), superblock.cluster, out);
}

Decoded<Superblock> decode_superblock(Sector in, unsigned copy) {
  const Uuid cluster = base::load<wire::Superblock>(in).cluster;
  return decode<Superblock, wire::Superblock>(
      in, wire::Kind::superblock, superblock_offset(copy), cluster,
      [](const wire::Superblock& wire, Superblock& value) {
        if (wire.node_slots != kMaxNodes || wire.name_length > wire.name.size()) {
          return Fault::value;
        }
        if (!all_zero(wire.reserved_1) || !all_zero(wire.reserved_2) ||
            !all_zero(Bytes(wire.name).subspan(wire.name_length))) {
          return Fault::reserved;
        }
        value = {
            .generation = wire.generation,
            .cluster = wire.cluster,
            .witness = wire.witness,
            .cluster_name = std::string(base::as_text(Bytes(wire.name).first(wire.name_length))),
            .sector_bytes = wire.sector_bytes,
            .timers = from_wire(wire.timers)};
        return fault_unless(possible(value));
      });
}

void encode(const Heartbeat& heartbeat, const Uuid& cluster, MutableSector out) {
  ASSERT(heartbeat.node < kMaxNodes && possible(heartbeat));
  wire::Heartbeat wire{.node = heartbeat.node,
                       .state = static_cast<uint8_t>(heartbeat.state),
                       .volumes_ok = heartbeat.volumes_ok,
                       .incarnation = heartbeat.incarnation,
                       .sequence = heartbeat.sequence,
                       .boottime_ns = heartbeat.boottime_ns,
                       .epoch = heartbeat.epoch,
                       .heard_disk = heartbeat.heard_disk.bits(),
                       .reservation_key = heartbeat.reservation_key,
                       .io_p99_us = heartbeat.io_p99_us,
                       .watchdog = static_cast<uint8_t>(heartbeat.watchdog),
                       .quiesced = heartbeat.quiesced,
                       .fenced = heartbeat.fenced};
  if (heartbeat.remembers) wire.flags |= wire::kFlagRemembers;
  if (heartbeat.fenced_timed) wire.flags |= wire::kFlagFencedTimed;
  if (heartbeat.settling) wire.flags |= wire::kFlagSettling;
  for (size_t i = 0; i < kMaxNetworks; ++i) wire.heard_net[i] = heartbeat.heard_net[i].bits();
  const uint64_t offset = heartbeat_offset(heartbeat.node, heartbeat.sequence);
  seal(wire, wire::Kind::heartbeat, offset, cluster, out);
}

Decoded<Heartbeat> decode_heartbeat(Sector in, const Uuid& cluster, NodeId node, unsigned parity) {
  return decode<Heartbeat, wire::Heartbeat>(
      in, wire::Kind::heartbeat, heartbeat_offset(node, parity), cluster,
      [node, parity](const wire::Heartbeat& wire, Heartbeat& value) {
        const uint8_t known = wire::kFlagRemembers | wire::kFlagFencedTimed | wire::kFlagSettling;
        if ((wire.flags & ~known) != 0 || !all_zero(wire.reserved_1) ||
            !all_zero(wire.reserved_2)) {
          return Fault::reserved;
        }
        if (wire.node != node) return Fault::owner;
        if (wire.sequence % kCopies != parity % kCopies) return Fault::value;
        value = {.node = wire.node,
                 .state = static_cast<NodeState>(wire.state),
                 .incarnation = wire.incarnation,
                 .sequence = wire.sequence,
                 .boottime_ns = wire.boottime_ns,
                 .epoch = wire.epoch,
                 .heard_disk = NodeSet(wire.heard_disk),
                 .quiesced = wire.quiesced,
                 .fenced = wire.fenced,
                 .fenced_timed = (wire.flags & wire::kFlagFencedTimed) != 0,
                 .volumes_ok = wire.volumes_ok,
                 .reservation_key = wire.reservation_key,
                 .io_p99_us = wire.io_p99_us,
                 .remembers = (wire.flags & wire::kFlagRemembers) != 0,
                 .watchdog = static_cast<WatchdogKind>(wire.watchdog),
                 .settling = (wire.flags & wire::kFlagSettling) != 0};
        for (size_t i = 0; i < kMaxNetworks; ++i) value.heard_net[i] = NodeSet(wire.heard_net[i]);
        return fault_unless(possible(value));
      });
}

void encode(const BallotBlock& block, NodeId node, const Uuid& cluster, MutableSector out) {
  ASSERT(node < kMaxNodes && possible(block, node));
  wire::Ballot wire{.node = node,
                    .incarnation = block.incarnation,
                    .epoch = block.epoch,
                    .mbal = block.mbal,
                    .bal = block.bal};
  if (block.bal != 0) wire.value = to_wire(block.value);
  seal(wire, wire::Kind::ballot, ballot_offset(node), cluster, out);
}

Decoded<BallotBlock> decode_ballot(Sector in, const Uuid& cluster, NodeId node) {
  return decode<BallotBlock, wire::Ballot>(
      in, wire::Kind::ballot, ballot_offset(node), cluster,
      [node](const wire::Ballot& wire, BallotBlock& value) {
        if (!all_zero(wire.reserved_1) || !all_zero(wire.reserved_2)) return Fault::reserved;
        if (wire.node != node) return Fault::owner;
        value = {.epoch = wire.epoch,
                 .mbal = wire.mbal,
                 .bal = wire.bal,
                 .incarnation = wire.incarnation};
        if (wire.bal == 0) {
          if (!all_zero(base::as_bytes(wire.value))) return Fault::reserved;
        } else if (const Fault fault = from_wire(wire.value, value.value); fault != Fault::none) {
          return fault;
        }
        return fault_unless(possible(value, node));
      });
}

void encode(const Mail& mail, const Uuid& cluster, MutableSector out) {
  ASSERT(mail.from < kMaxNodes && possible(mail));
  const wire::Mail wire{.from = mail.from,
                        .kind = static_cast<uint8_t>(mail.kind),
                        .incarnation = mail.incarnation,
                        .sequence = mail.sequence,
                        .to = mail.to.bits(),
                        .epoch = mail.epoch};
  seal(wire, wire::Kind::mail, mail_offset(mail.from), cluster, out);
}

Decoded<Mail> decode_mail(Sector in, const Uuid& cluster, NodeId node) {
  return decode<Mail, wire::Mail>(in, wire::Kind::mail, mail_offset(node), cluster,
                                  [node](const wire::Mail& wire, Mail& value) {
                                    if (!all_zero(wire.reserved_1) || !all_zero(wire.reserved_2))
                                      return Fault::reserved;
                                    if (wire.from != node) return Fault::owner;
                                    value = {.from = wire.from,
                                             .incarnation = wire.incarnation,
                                             .sequence = wire.sequence,
                                             .kind = static_cast<MailKind>(wire.kind),
                                             .to = NodeSet(wire.to),
                                             .epoch = wire.epoch};
                                    return fault_unless(possible(value));
                                  });
}

void encode(const Decision& decided, const Uuid& cluster, MutableSector out) {
  ASSERT(possible(decided));
  const wire::Decided wire{.value = to_wire(decided)};
  seal(wire, wire::Kind::decided, decided_offset(decided.epoch), cluster, out);
}

Decoded<Decision> decode_decided(Sector in, const Uuid& cluster, size_t slot) {
  const uint64_t offset = decided_offset(slot);
  return decode<Decision, wire::Decided>(
      in, wire::Kind::decided, offset, cluster,
      [offset](const wire::Decided& wire, Decision& value) {
        if (!all_zero(wire.reserved)) return Fault::reserved;
        if (const Fault fault = from_wire(wire.value, value); fault != Fault::none) return fault;
        return decided_offset(value.epoch) == offset ? Fault::none : Fault::owner;
      });
}

void encode(const ConfigHeader& header, unsigned copy, const Uuid& cluster, MutableSector out) {
  ASSERT(possible(header));
  const wire::Config wire{.version = header.tag.version,
                          .digest = header.tag.digest,
                          .length = header.length,
                          .sha256 = header.sha256};
  seal(wire, wire::Kind::config, config_offset(copy), cluster, out);
}

Decoded<ConfigHeader> decode_config(Sector in, const Uuid& cluster, unsigned copy) {
  return decode<ConfigHeader, wire::Config>(
      in, wire::Kind::config, config_offset(copy), cluster,
      [](const wire::Config& wire, ConfigHeader& value) {
        if (!all_zero(wire.reserved_1) || !all_zero(wire.reserved_2)) return Fault::reserved;
        value = {.tag = {.version = wire.version, .digest = wire.digest},
                 .length = wire.length,
                 .sha256 = wire.sha256};
        return fault_unless(possible(value));
      });
}

}  // namespace holdfast::qdisk
