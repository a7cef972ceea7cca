#include "target/shards.h"

namespace holdfast::target {

void Shards::tell(size_t shard, Tell tell) {
  const ShardHandle& handle = handles_.at(shard);
  handle.loop->post([to = handle.shard, tell = std::move(tell)]() noexcept { tell(*to); });
}

void Shards::tell_all(const Tell& tell) {
  for (size_t i = 0; i < handles_.size(); ++i) this->tell(i, tell);
}

void Shards::ask_all(std::vector<Ask> asks, io::Duration deadline, Then then) {
  ASSERT(!asks.empty() && !handles_.empty());
  const uint64_t id = next_wait_++;
  const auto wait = waits_
                        .emplace(id, std::make_unique<Wait>(
                                         *this, id, handles_.size() * asks.size(), std::move(then)))
                        .first;
  if (deadline != kNoDeadline) control_.start(wait->second->timer, deadline);
  for (const ShardHandle& handle : handles_) {
    handle.loop->post([this, id, asks, to = handle.shard]() noexcept {
      for (const Ask& ask : asks) {
        ask(*to,
            [this, id]() noexcept { control_.post([this, id]() noexcept { acknowledge(id); }); });
      }
    });
  }
}

void Shards::gather(io::Duration deadline,
                    std::move_only_function<void(std::vector<ShardStatus>) noexcept> then) {
  auto all = std::make_shared<std::vector<ShardStatus>>();  // used on the control loop only
  ask_all({[this, all](ShardControl& shard, ShardControl::Done done) {
            control_.post([all, status = shard.status()]() mutable noexcept {
              all->push_back(std::move(status));
            });
            done();
          }},
          deadline,
          [all, then = std::move(then)](bool) mutable noexcept { then(std::move(*all)); });
}

void Shards::acknowledge(uint64_t id) {
  const auto wait = waits_.find(id);
  if (wait == waits_.end()) return;  // after its deadline
  ASSERT(wait->second->missing > 0);
  if (--wait->second->missing == 0) finish(id, true);
}

void Shards::finish(uint64_t id, bool all) {
  const auto node = waits_.extract(id);
  control_.stop(node.mapped()->timer);
  node.mapped()->then(all);
}

void Shards::forget_waits() {
  for (const auto& [id, wait] : waits_) control_.stop(wait->timer);
  waits_.clear();
}

}  // namespace holdfast::target
