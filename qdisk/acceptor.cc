#include "qdisk/acceptor.h"

#include <algorithm>
#include <tuple>

namespace holdfast::qdisk {

Acceptor::Acceptor(const AcceptorState& state, NodeId self, Incarnation incarnation, bool remembers)
    : state_(state), self_(self), incarnation_(incarnation), remembers_(remembers) {}

bool Acceptor::learn(const Decision& decision) {
  // One value for each epoch: the theorem that all else rests on.
  ASSERT(decision.epoch != state_.decided.epoch || decision == state_.decided);
  if (decision.epoch <= state_.decided.epoch) return false;
  state_.decided = decision;
  // Blocks of this epoch and earlier ones have served; of later ones there are none, as they come
  // with their forerunner.
  state_.blocks = {};
  if (decision.has_member(self_, incarnation_)) remembers_ = true;
  return true;
}

bool Acceptor::store(NodeId node, const BallotBlock& block) {
  ASSERT(node < kMaxNodes);
  if (block.epoch != state_.decided.epoch + 1) return false;
  BallotBlock& mine = state_.blocks[node];
  if (mine.epoch == block.epoch &&
      (block.incarnation < mine.incarnation ||
       std::tie(block.mbal, block.bal) <= std::tie(mine.mbal, mine.bal))) {
    return false;
  }
  mine = block;
  return true;
}

Reply Acceptor::reply(const Request& request) const {
  Reply reply{.sent_at = request.sent_at,
              .incarnation = request.incarnation,
              .remembers = remembers_,
              .decided = state_.decided};
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (state_.blocks[node].epoch > state_.decided.epoch) {
      reply.blocks.push_back({node, state_.blocks[node]});
    }
  }
  return reply;
}

bool vouches(const Reply& reply, Epoch epoch, NodeId node, Incarnation incarnation) {
  if (!reply.remembers || reply.decided.epoch != epoch ||
      !reply.decided.has_member(node, incarnation))
    return false;
  // A block of an epoch further on comes after a decision that this acceptor does not show.
  return std::ranges::none_of(reply.blocks, [&](const NodeBlock& each) {
    return each.block.epoch > epoch + 1 || (each.block.epoch == epoch + 1 && each.block.bal != 0);
  });
}

}  // namespace holdfast::qdisk
