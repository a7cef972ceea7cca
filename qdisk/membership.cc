#include "qdisk/membership.h"

#include <algorithm>
#include <utility>

namespace holdfast::qdisk {

namespace {

// What is sent of a ballot is sent again so often, as a message may be lost.
constexpr io::Duration kResend = std::chrono::milliseconds(200);
// After a lost ballot, at most this much longer with each further one.
constexpr io::Duration kBackoff = std::chrono::milliseconds(50);
constexpr int kMaxBackoffDoublings = 5;

}  // namespace

Membership::Membership(const MembershipSettings& settings, const AcceptorState& state,
                       bool remembers, Epoch fenced, base::Random& random, io::Instant now)
    : settings_(settings),
      random_(random),
      acceptor_(state, settings.self, settings.incarnation, remembers),
      proposer_(settings.self, settings.incarnation),
      lease_(settings.timers.lease),
      view_(settings.self, settings.timers),
      listening_since_(now),
      ticked_at_(now),
      learnt_at_(now),
      // Nobody has asked anything of it yet; or they have to say that they have dropped it.
      quiesced_(
          settings.has_users && fenced < acceptor_.decided().epoch ? 0 : acceptor_.decided().epoch),
      unfenced_unknown_(fenced < acceptor_.decided().epoch ? acceptor_.decided().epoch : 0),
      fenced_(fenced),
      // When the last eviction was decided is not known: as if just now.
      evicted_stopped_at_(now + settings.timers.takeover) {
  term_began_.fill(decision().epoch);
}

io::Duration Membership::tick_length() const {
  return std::min(settings_.timers.hb_net, settings_.timers.hb_disk) / 5;
}

Heartbeat Membership::heartbeat(io::Instant now) const {
  Heartbeat out{.node = settings_.self,
                .state = NodeState::joining,
                .incarnation = settings_.incarnation,
                .sequence = sequence_,
                .boottime_ns = static_cast<uint64_t>(now.time_since_epoch().count()),
                .epoch = decision().epoch,
                .heard_disk = view_.heard_disk(now),
                .quiesced = quiesced_,
                .fenced = fenced_,
                .fenced_timed = fenced_timed_,
                .volumes_ok = volumes_ok_,
                .reservation_key = settings_.reservation_key,
                .remembers = acceptor_.remembers(),
                .watchdog = watchdog_,
                .settling = now - listening_since_ < settings_.timers.net_dead};
  for (size_t network = 0; network < kMaxNetworks; ++network) {
    out.heard_net[network] = view_.heard_net(network, now);
  }
  if (reaches_witness(now)) out.heard_disk.add(settings_.self);
  if (is_member()) out.state = NodeState::member;
  if (stopped_ || evicted_) out.state = NodeState::stopped;
  return out;
}

// Greater than any before, also than those of this daemon before it was restarted.
void Membership::next_sequence(io::Instant now) {
  const auto ms = std::chrono::duration_cast<Milliseconds>(now.time_since_epoch()).count();
  sequence_ = std::max(sequence_ + 1, static_cast<uint64_t>(ms));
}

std::optional<io::Instant> Membership::confirmed_at() const {
  return is_member() ? lease_.confirmed_at(decision()) : std::nullopt;
}

std::optional<Token> Membership::token(size_t volume, io::Instant now) const {
  const VolumeOwner& owner = decision().volumes[volume];
  if (!lease_valid(now) || owner.coordinator != settings_.self) return std::nullopt;
  // What the one before has under way might still land.
  if (fenced_ < term_began_[volume]) return std::nullopt;
  // It has proposed to hand the volume over, perhaps before it was restarted, and somebody may have
  // finished that ballot.
  const BallotBlock& own = acceptor_.block(settings_.self);
  if (own.bal != 0 && own.value.volumes[volume] != owner) return std::nullopt;
  return Token{.epoch = decision().epoch, .term = owner.term};
}

void Membership::use_witness(std::optional<Uuid> witness) {
  if (witness == witness_) return;
  witness_ = witness;
  witness_changed_ = witness_busy_since_.has_value();
  witness_ok_at_.reset();
}

base::Result<> Membership::ask(const Change& change) {
  if (change_) return base::fail(base::Errc::busy, "another change is being decided");
  if (change.kind == Change::Kind::move_volume &&
      (change.from != settings_.self || change.volume >= kMaxVolumes ||
       decision().volumes[change.volume].coordinator != settings_.self)) {
    return base::fail(base::Errc::invalid_argument, "only its coordinator hands a volume over");
  }
  TRY(possible(change, decision()));
  if (change.kind == Change::Kind::evict && change.life.node == settings_.self) {
    return base::fail(base::Errc::invalid_argument, "a node does not evict itself: it leaves");
  }
  if (!is_member()) return base::fail(base::Errc::permission, "this node is no member");
  change_ = change;
  return {};
}

// --- what comes in ---

Effects Membership::on_tick(io::Instant now) {
  Effects effects;
  if (evicted_) return effects;
  if (now - ticked_at_ > settings_.timers.net_dead / 4) listening_since_ = now;
  ticked_at_ = now;
  if (now >= next_heartbeat_) {
    next_heartbeat_ = now + settings_.timers.hb_net;
    next_sequence(now);
    effects.heartbeat = heartbeat(now);
  }
  if (now >= next_renewal_) {
    next_renewal_ = now + settings_.timers.hb_net;
    renew(now, effects);
  }
  consider(now, effects);
  if (proposer_.running() && now >= next_send_) send_block(now, effects);
  ask_witness(now, effects);
  look_at_fences(now, effects);
  return effects;
}

Effects Membership::on_heartbeat(size_t network, const Heartbeat& heartbeat, io::Instant now) {
  Effects effects;
  if (evicted_) return effects;
  view_.on_network(network, heartbeat, now);
  // It knows more: ask it at once.
  if (heartbeat.epoch > decision().epoch && heartbeat.node < kMaxNodes) {
    effects.messages.push_back({heartbeat.node, request(now)});
  }
  look_at_fences(now, effects);
  return effects;
}

Effects Membership::on_request(const Request& request, io::Instant now) {
  Effects effects;
  if (evicted_ || request.from >= kMaxNodes || request.from == settings_.self) return effects;
  if (contradicts(request.decided)) return effects;
  // Another life of the node keeps the one that is known from being silent.
  const Heartbeat* known = view_.of(request.from, now);
  if (known == nullptr || known->incarnation == request.incarnation) {
    view_.on_contact(request.from, now);
  }
  learn(request.decided, now, effects);
  // Also where this node remembers nothing: what has been decided stays so, whoever tells it. Yet
  // it makes no promises.
  if (request.store && acceptor_.remembers() && !evicted_) {
    if (acceptor_.store(request.from, *request.store)) effects.persist = true;
  }
  if (!acceptor_.remembers() && request.decided.epoch >= decision().epoch) return effects;
  effects.messages.push_back({request.from, acceptor_.reply(request)});
  return effects;
}

Effects Membership::on_reply(NodeId from, const Reply& reply, io::Instant now) {
  Effects effects;
  if (evicted_ || from >= kMaxNodes || reply.incarnation != settings_.incarnation) return effects;
  if (reply.sent_at > now) return effects;  // of no request of ours: it would lengthen the lease
  view_.on_contact(from, now);
  take_reply(from, reply, now, effects);
  return effects;
}

Effects Membership::on_witness(const WitnessResult& result, io::Instant now) {
  Effects effects;
  ASSERT(witness_busy_since_);
  const io::Instant sent_at = *witness_busy_since_;
  witness_busy_since_.reset();
  const bool changed = std::exchange(witness_changed_, false);
  if (evicted_) return effects;
  if (!result.ok || changed || contradicts(result.decided)) {
    next_witness_ = now + settings_.timers.hb_disk / 2;
    return effects;
  }
  witness_ok_at_ = now;
  for (const Heartbeat& heartbeat : result.heartbeats) view_.on_disk(heartbeat, now);
  const Reply reply{.sent_at = sent_at,
                    .incarnation = settings_.incarnation,
                    .remembers = !result.unreadable,
                    .decided = result.decided,
                    .blocks = result.blocks};
  // What it says may name another LUN as the witness: then this one vouches for nothing any more.
  learn(result.decided, now, effects);
  if (witness_counts()) take_reply(kWitness, reply, now, effects);
  ask_witness(now, effects);
  look_at_fences(now, effects);
  return effects;
}

Effects Membership::force(io::Instant now) {
  Effects effects;
  if (evicted_ || decision().epoch == 0) return effects;
  const Decision& current = decision();
  Situation forced = situation(now);
  forced.members = {};
  forced.members[settings_.self] = settings_.incarnation;
  forced.change.reset();
  Decision next = plan(forced).value_or(current);
  next.epoch = (Epoch{generation_of(current.epoch)} + 1) << kGenerationShift |
               Epoch{settings_.self} << kForcedByShift | 1;
  next.forced = true;
  learn(next, now, effects);
  return effects;
}

// --- deciding ---

// One value for each epoch is the theorem that all else rests on: whoever breaks it is another
// cluster, or has a state that is none of this one.
bool Membership::contradicts(const Decision& other) {
  const bool other_value = other.epoch == decision().epoch && other != decision();
  contradicted_ |= other_value;
  return other_value;
}

void Membership::learn(const Decision& decision, io::Instant now, Effects& effects) {
  const Decision before = acceptor_.decided();
  if (!acceptor_.learn(decision)) return;
  effects.persist = effects.decided = true;
  learnt_at_ = now;
  proposer_.give_up();
  lost_ballots_ = 0;
  not_before_ = now;
  unfinished_ = false;
  wanted_since_.reset();
  if (change_ && !pending(*change_, decision)) change_.reset();
  for (size_t i = 0; i < kMaxVolumes; ++i) {
    if (decision.volumes[i].term != before.volumes[i].term) term_began_[i] = decision.epoch;
  }
  note_leaving(before, now);
  lease_.begin_epoch();
  if (before.has_member(settings_.self, settings_.incarnation) && !is_member()) {
    lease_.end();
    evicted_ = effects.evicted = true;
    return;
  }
  // What is new here is asked for at once: the lease counts per epoch.
  next_renewal_ = next_witness_ = now;
}

// A phase-2 block of another whose ballot nobody finishes keeps a life that it leaves out from
// renewing its lease: somebody must finish it.
void Membership::note_blocks(const std::vector<NodeBlock>& blocks) {
  unfinished_ |= std::ranges::any_of(blocks, [&](const NodeBlock& each) {
    return each.block.epoch == decision().epoch + 1 && each.block.bal != 0;
  });
}

void Membership::take_reply(NodeId acceptor, const Reply& reply, io::Instant now,
                            Effects& effects) {
  if (contradicts(reply.decided)) return;
  learn(reply.decided, now, effects);
  if (evicted_) return;
  note_blocks(reply.blocks);
  if (vouches(reply, decision().epoch, settings_.self, settings_.incarnation)) {
    lease_.on_vouched(acceptor, reply.sent_at);
    lease_.renew(decision());
  }
  if (!proposer_.running()) return;
  const uint64_t step = proposer_.step();
  proposer_.on_reply(acceptor, reply);
  after_step(step, now, effects);
}

void Membership::after_step(uint64_t step, io::Instant now, Effects& effects) {
  switch (proposer_.state()) {
    case Proposer::State::decided: {
      const Decision value = proposer_.value();
      learn(value, now, effects);
      if (evicted_) return;
      // Everybody hears of it soon: with the next renewals, which come at once.
      for (const NodeId node : (value.members() | value.voters) - NodeSet::of(settings_.self)) {
        effects.messages.push_back({node, request(now)});
      }
      return;
    }
    case Proposer::State::beaten: {
      const int doublings = std::min(lost_ballots_++, kMaxBackoffDoublings);
      const auto most = static_cast<uint64_t>((kBackoff * (1 << doublings)).count());
      not_before_ = now + io::Duration(static_cast<int64_t>(random_.below(most) + most / 2));
      return;
    }
    default:
      if (proposer_.step() != step) send_block(now, effects);
  }
}

void Membership::begin_ballot(const Decision& wish, io::Instant now, Effects& effects) {
  proposer_.begin(decision(), acceptor_.block(settings_.self), wish);
  send_block(now, effects);
}

Request Membership::request(io::Instant now) const {
  return {.sent_at = now,
          .from = settings_.self,
          .incarnation = settings_.incarnation,
          .decided = decision()};
}

// The own block first, durable here, whether this node votes or not: it is what this node knows of
// its own earlier proposals.
void Membership::send_block(io::Instant now, Effects& effects) {
  next_send_ = now + kResend;
  if (acceptor_.store(settings_.self, proposer_.block())) effects.persist = true;
  Request to_store = request(now);
  to_store.store = proposer_.block();
  for (const NodeId voter : decision().voters - NodeSet::of(settings_.self)) {
    if (!proposer_.has_answered(voter)) effects.messages.push_back({voter, to_store});
  }
  if (witness_counts() && !proposer_.has_answered(kWitness)) {
    witness_needed_ = true;
    if (!witness_busy_since_) ask_witness(now, effects);
  }
  if (decision().voters.has(settings_.self) && !proposer_.has_answered(settings_.self)) {
    ask_self(now, effects);
  }
}

// Precondition of what it proves: the effects make the state durable before anything leaves.
void Membership::ask_self(io::Instant now, Effects& effects) {
  if (!acceptor_.remembers()) return;
  take_reply(settings_.self, acceptor_.reply(request(now)), now, effects);
}

void Membership::renew(io::Instant now, Effects& effects) {
  const Request plain = request(now);
  for (const NodeId node : (decision().voters | live_members(now)) - NodeSet::of(settings_.self)) {
    effects.messages.push_back({node, plain});
  }
  if (is_member() && decision().voters.has(settings_.self)) ask_self(now, effects);
}

bool Membership::witness_counts() const {
  return witness_ && *witness_ == decision().witness && decision().witness_votes;
}

void Membership::ask_witness(io::Instant now, Effects& effects) {
  if (evicted_ || !witness_ || *witness_ != decision().witness || witness_busy_since_) return;
  const bool block = witness_needed_ && proposer_.running() && witness_counts() &&
                     !proposer_.has_answered(kWitness);
  if (!block && now < next_witness_) return;
  next_witness_ = now + settings_.timers.hb_disk;
  witness_needed_ = false;
  witness_busy_since_ = now;
  next_sequence(now);
  effects.witness = WitnessTask{.decided = decision(), .heartbeat = heartbeat(now)};
  if (block) effects.witness->store = proposer_.block();
}

}  // namespace holdfast::qdisk
