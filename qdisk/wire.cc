#include "qdisk/wire.h"

#include <algorithm>

#include "qdisk/messages.pb.h"

namespace holdfast::qdisk {

using base::Bytes;
using base::Errc;
using base::fail;
using base::Result;

namespace {

// No clock comes near it; below it no sum of times overflows.
constexpr uint64_t kMaxClockNs = uint64_t{1} << 62;
constexpr uint64_t kMaxCount = count_of(UINT64_MAX);

template <class Message>
std::string serialized(const Message& message) {
  std::string bytes = message.SerializeAsString();
  ASSERT(bytes.size() <= kMaxMessageBytes);
  return bytes;
}

// Nothing in it is longer than the bytes are.
template <class Message>
Result<> parse(Bytes bytes, Message& out) {
  if (bytes.size() > kMaxMessageBytes) return fail(Errc::protocol, "the message is too long");
  if (!out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return fail(Errc::protocol, "the message is cut off, or none");
  }
  return {};
}

// One can come after it without changing the generation.
Result<Epoch> read_epoch(uint64_t epoch) {
  if (count_of(epoch) == kMaxCount) return fail(Errc::protocol, "no epoch can follow this one");
  return epoch;
}

Result<NodeId> read_node(uint32_t node) {
  if (node >= kMaxNodes) return fail(Errc::protocol, "there is no such node");
  return static_cast<NodeId>(node);
}

Result<Incarnation> read_incarnation(uint32_t incarnation) {
  if (incarnation == 0) return fail(Errc::protocol, "the incarnation is 0");
  return incarnation;
}

uint64_t to_wire(io::Instant instant) {
  return static_cast<uint64_t>(instant.time_since_epoch().count());
}

Result<io::Instant> read_instant(uint64_t ns) {
  if (ns > kMaxClockNs) return fail(Errc::protocol, "no clock shows this time");
  return io::Instant(io::Duration(static_cast<int64_t>(ns)));
}

template <size_t kSize>
Result<> read_bytes(const std::string& in, std::array<uint8_t, kSize>& out) {
  if (in.size() != kSize) return fail(Errc::protocol, "a digest or UUID has another length");
  std::ranges::copy(base::as_bytes(in), out.begin());
  return {};
}

// --- decisions

void write_decision(const Decision& from, messages::Decision& to) {
  to.set_epoch(from.epoch);
  for (const Incarnation each : from.incarnations) to.add_incarnations(each);
  to.set_voters(from.voters.bits());
  to.set_witness_votes(from.witness_votes);
  to.set_forced(from.forced);
  to.set_witness(from.witness.data(), from.witness.size());
  to.set_config_version(from.config.version);
  to.set_config_digest(from.config.digest.data(), from.config.digest.size());
  for (const VolumeOwner& each : from.volumes) {
    ASSERT(each.coordinator == kNoNode || each.coordinator < kMaxNodes);
    to.add_coordinators(each.coordinator == kNoNode ? 0U : each.coordinator + 1U);
    to.add_terms(each.term);
  }
}

Result<> read_volumes(const messages::Decision& from, Decision& to) {
  const int count = from.coordinators_size();
  if (count > static_cast<int>(kMaxVolumes)) return fail(Errc::protocol, "too many volumes");
  if (from.terms_size() != count) return fail(Errc::protocol, "a volume lacks its term");
  for (int i = 0; i < count; ++i) {
    VolumeOwner& volume = to.volumes[static_cast<size_t>(i)];
    volume.term = from.terms(i);
    if (from.coordinators(i) == 0) continue;
    TRY_ASSIGN(volume.coordinator, read_node(from.coordinators(i) - 1));
    if (volume.term == 0) return fail(Errc::protocol, "a coordinator has term 0");
  }
  return {};
}

Result<Decision> read_decision(const messages::Decision& from) {
  Decision to;
  if (from.epoch() == 0) return fail(Errc::protocol, "a decision of epoch 0");
  TRY_ASSIGN(to.epoch, read_epoch(from.epoch()));
  if (from.incarnations_size() > static_cast<int>(kMaxNodes)) {
    return fail(Errc::protocol, "too many nodes");
  }
  std::ranges::copy(from.incarnations(), to.incarnations.begin());
  to.voters = NodeSet(from.voters());
  to.witness_votes = from.witness_votes();
  to.forced = from.forced();
  TRY(read_bytes(from.witness(), to.witness));
  to.config.version = from.config_version();
  TRY(read_bytes(from.config_digest(), to.config.digest));
  TRY(read_volumes(from, to));
  return to;
}

// Who knows of no decision sends none.
template <class Message>
void write_decided(const Decision& decided, Message& to) {
  if (decided.epoch != 0) write_decision(decided, *to.mutable_decided());
}

template <class Message>
Result<Decision> read_decided(const Message& from) {
  if (!from.has_decided()) return Decision{};
  return read_decision(from.decided());
}

// --- blocks

void write_block(const BallotBlock& from, messages::Block& to) {
  to.set_epoch(from.epoch);
  to.set_mbal(from.mbal);
  to.set_bal(from.bal);
  to.set_incarnation(from.incarnation);
  if (from.bal != 0) write_decision(from.value, *to.mutable_value());
}

Result<BallotBlock> read_block(const messages::Block& from, NodeId node) {
  BallotBlock to{.mbal = from.mbal(), .bal = from.bal()};
  if (from.epoch() == 0) return fail(Errc::protocol, "a ballot for epoch 0");
  TRY_ASSIGN(to.epoch, read_epoch(from.epoch()));
  TRY_ASSIGN(to.incarnation, read_incarnation(from.incarnation()));
  const auto own = [node](Ballot ballot) { return (ballot & 0xff) == node; };
  if (to.mbal >> 8 == 0) return fail(Errc::protocol, "a block of no ballot");
  if (!own(to.mbal)) return fail(Errc::protocol, "a ballot of another node");
  if ((to.bal != 0) != from.has_value()) {
    return fail(Errc::protocol, "a ballot without a value, or a value without a ballot");
  }
  if (to.bal == 0) return to;
  if (to.bal >> 8 == 0 || to.bal > to.mbal || !own(to.bal)) {
    return fail(Errc::protocol, "a value proposed in no ballot of this node");
  }
  TRY_ASSIGN(to.value, read_decision(from.value()));
  if (to.value.epoch != to.epoch) return fail(Errc::protocol, "a value for another epoch");
  return to;
}

}  // namespace

// --- heartbeats

std::string encode(const Heartbeat& heartbeat) {
  ASSERT(heartbeat.node < kMaxNodes);
  messages::Heartbeat message;
  message.set_node(heartbeat.node);
  message.set_state(static_cast<messages::NodeState>(heartbeat.state));
  message.set_incarnation(heartbeat.incarnation);
  message.set_sequence(heartbeat.sequence);
  message.set_boottime_ns(heartbeat.boottime_ns);
  message.set_epoch(heartbeat.epoch);
  for (const NodeSet each : heartbeat.heard_net) message.add_heard_net(each.bits());
  message.set_heard_disk(heartbeat.heard_disk.bits());
  message.set_quiesced(heartbeat.quiesced);
  message.set_fenced(heartbeat.fenced);
  message.set_fenced_timed(heartbeat.fenced_timed);
  message.set_volumes_ok(heartbeat.volumes_ok);
  message.set_reservation_key(heartbeat.reservation_key);
  message.set_io_p99_us(heartbeat.io_p99_us);
  message.set_remembers(heartbeat.remembers);
  message.set_settling(heartbeat.settling);
  message.set_watchdog(static_cast<messages::WatchdogKind>(heartbeat.watchdog));
  message.set_agreement(heartbeat.agreement);
  return serialized(message);
}

Result<Heartbeat> decode_heartbeat(Bytes bytes) {
  messages::Heartbeat from;
  TRY(parse(bytes, from));
  Heartbeat to{.sequence = from.sequence(),
               .boottime_ns = from.boottime_ns(),
               .heard_disk = NodeSet(from.heard_disk()),
               .fenced_timed = from.fenced_timed(),
               .reservation_key = from.reservation_key(),
               .io_p99_us = from.io_p99_us(),
               .remembers = from.remembers(),
               .settling = from.settling(),
               .agreement = from.agreement()};
  TRY_ASSIGN(to.node, read_node(from.node()));
  if (!messages::NodeState_IsValid(from.state())) {
    return fail(Errc::protocol, "a state that no node has");
  }
  to.state = static_cast<NodeState>(from.state());
  if (!messages::WatchdogKind_IsValid(from.watchdog())) {
    return fail(Errc::protocol, "a watchdog of an unknown kind");
  }
  to.watchdog = static_cast<WatchdogKind>(from.watchdog());
  TRY_ASSIGN(to.incarnation, read_incarnation(from.incarnation()));
  TRY_ASSIGN(to.epoch, read_epoch(from.epoch()));
  TRY_ASSIGN(to.quiesced, read_epoch(from.quiesced()));
  TRY_ASSIGN(to.fenced, read_epoch(from.fenced()));
  if (from.heard_net_size() > static_cast<int>(kMaxNetworks)) {
    return fail(Errc::protocol, "too many networks");
  }
  for (int i = 0; i < from.heard_net_size(); ++i) {
    to.heard_net[static_cast<size_t>(i)] = NodeSet(from.heard_net(i));
  }
  if (from.volumes_ok() >> kMaxVolumes != 0) return fail(Errc::protocol, "too many volumes");
  to.volumes_ok = static_cast<uint16_t>(from.volumes_ok());
  return to;
}

// --- requests

std::string encode(const Request& request) {
  ASSERT(request.from < kMaxNodes);
  messages::Request message;
  message.set_sent_at_ns(to_wire(request.sent_at));
  message.set_from(request.from);
  message.set_incarnation(request.incarnation);
  write_decided(request.decided, message);
  if (request.store) write_block(*request.store, *message.mutable_store());
  return serialized(message);
}

Result<Request> decode_request(Bytes bytes) {
  messages::Request from;
  TRY(parse(bytes, from));
  Request to;
  TRY_ASSIGN(to.sent_at, read_instant(from.sent_at_ns()));
  TRY_ASSIGN(to.from, read_node(from.from()));
  TRY_ASSIGN(to.incarnation, read_incarnation(from.incarnation()));
  TRY_ASSIGN(to.decided, read_decided(from));
  if (from.has_store()) {
    TRY_ASSIGN(to.store, read_block(from.store(), to.from));
  }
  return to;
}

// --- replies

std::string encode(const Reply& reply) {
  messages::Reply message;
  message.set_sent_at_ns(to_wire(reply.sent_at));
  message.set_incarnation(reply.incarnation);
  message.set_remembers(reply.remembers);
  write_decided(reply.decided, message);
  for (const NodeBlock& each : reply.blocks) {
    ASSERT(each.node < kMaxNodes);
    messages::NodeBlock& block = *message.add_blocks();
    block.set_node(each.node);
    write_block(each.block, *block.mutable_block());
  }
  return serialized(message);
}

Result<Reply> decode_reply(Bytes bytes) {
  messages::Reply from;
  TRY(parse(bytes, from));
  Reply to{.remembers = from.remembers()};
  TRY_ASSIGN(to.sent_at, read_instant(from.sent_at_ns()));
  TRY_ASSIGN(to.incarnation, read_incarnation(from.incarnation()));
  TRY_ASSIGN(to.decided, read_decided(from));
  NodeSet seen;
  for (const messages::NodeBlock& each : from.blocks()) {
    NodeBlock& block = to.blocks.emplace_back();
    TRY_ASSIGN(block.node, read_node(each.node()));
    if (seen.has(block.node)) return fail(Errc::protocol, "two blocks of one node");
    seen.add(block.node);
    TRY_ASSIGN(block.block, read_block(each.block(), block.node));
  }
  return to;
}

}  // namespace holdfast::qdisk
