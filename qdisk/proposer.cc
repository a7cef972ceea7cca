#include "qdisk/proposer.h"

#include <algorithm>

namespace holdfast::qdisk {

namespace {

constexpr uint64_t round_of(Ballot ballot) { return ballot >> 8; }

}  // namespace

bool Proposer::has_answered(NodeId acceptor) const {
  return acceptor == kWitness ? answers_.witness : answers_.nodes.has(acceptor);
}

void Proposer::begin(const Decision& current, const BallotBlock& own, const Decision& wish) {
  ASSERT(!running() && wish.epoch == current.epoch + 1);
  if (current_.epoch != current.epoch) greatest_round_ = 0;
  current_ = current;
  wish_ = wish;
  block_ = own.epoch == wish.epoch ? own : BallotBlock{.epoch = wish.epoch};
  block_.incarnation = incarnation_;
  greatest_round_ = std::max(greatest_round_, round_of(block_.mbal)) + 1;
  block_.mbal = greatest_round_ << 8 | self_;
  greatest_bal_ = block_.bal;
  greatest_value_ = block_.value;
  answers_ = {};
  ++step_;
  state_ = State::phase1;
}

void Proposer::take_greatest(const BallotBlock& block) {
  if (block.bal <= greatest_bal_) return;
  greatest_bal_ = block.bal;
  greatest_value_ = block.value;
}

Proposer::State Proposer::on_reply(NodeId from, const Reply& reply) {
  if (!running() || !reply.remembers) return state_;
  ASSERT(reply.decided.epoch <= current_.epoch);  // else the epoch has been decided: learnt before
  bool stored = false;
  for (const NodeBlock& each : reply.blocks) {
    // Then this epoch has been decided, and its blocks may be gone: what is not there says nothing.
    if (each.block.epoch > block_.epoch) return state_;
    if (each.block.epoch != block_.epoch) continue;
    if (each.node == self_) {
      stored = each.block == block_;
      continue;
    }
    greatest_round_ = std::max(greatest_round_, round_of(each.block.mbal));
    if (each.block.mbal > block_.mbal) return state_ = State::beaten;
    take_greatest(each.block);
  }
  // Lost, misdirected, or refused as of an earlier life: this acceptor has not taken it.
  if (!stored) return state_;
  if (from == kWitness) {
    answers_.witness = true;
  } else {
    answers_.nodes.add(from);
  }
  if (is_majority(current_, answers_)) advance();
  return state_;
}

void Proposer::advance() {
  if (state_ == State::phase2) {
    state_ = State::decided;
    return;
  }
  // What may have been chosen in an earlier ballot is proposed again, else what is wished.
  block_.value = greatest_bal_ != 0 ? greatest_value_ : wish_;
  block_.bal = block_.mbal;
  answers_ = {};
  ++step_;
  state_ = State::phase2;
}

}  // namespace holdfast::qdisk
