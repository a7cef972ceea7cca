#pragma once
// The control loop's way to the shards: messages to all of them, and waiting for their answers.

#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "common/io/loop.h"
#include "target/shard_control.h"

namespace holdfast::target {

// A shard and the loop on which its methods are called.
struct ShardHandle {
  ShardControl* shard = nullptr;
  io::Loop* loop = nullptr;
};

inline constexpr io::Duration kNoDeadline = io::Duration::max();

// Owner: NodeState. Thread: the control loop's; what it is given runs on the shards' threads.
// Messages to one shard arrive in the order of the calls.
class Shards {
 public:
  using Tell = std::function<void(ShardControl&)>;
  using Ask = std::function<void(ShardControl&, ShardControl::Done)>;
  using Then = std::move_only_function<void(bool all) noexcept>;

  explicit Shards(io::Loop& control) : control_(control) {}
  Shards(const Shards&) = delete;
  Shards& operator=(const Shards&) = delete;
  ~Shards() { forget_waits(); }

  void attach(std::vector<ShardHandle> handles) { handles_ = std::move(handles); }
  size_t count() const { return handles_.size(); }

  void tell_all(const Tell& tell);
  void tell(size_t shard, Tell tell);
  // Every shard does all of `asks` in order. `then` is called on the control loop, never from
  // within this call: true when every one is done everywhere, false when the deadline came first.
  // What is done later is then nobody's business: the state must not depend on it.
  void ask_all(std::vector<Ask> asks, io::Duration deadline, Then then);

  // The status of every shard, or of those that answered before the deadline.
  void gather(io::Duration deadline,
              std::move_only_function<void(std::vector<ShardStatus>) noexcept> then);

  template <class T>
  void reply(uint32_t shard, std::move_only_function<void(T) noexcept> reply, T value) {
    handles_.at(shard).loop->post(
        [reply = std::move(reply), value = std::move(value)]() mutable noexcept {
          reply(std::move(value));
        });
  }

  // For sessions: the number of the shard that owns it.
  static uint32_t shard_of(SessionId session) { return static_cast<uint32_t>(session >> 48); }

  ShardLoad load(size_t shard) const { return handles_.at(shard).shard->load(); }
  // The `then`s that still wait are dropped uncalled.
  void forget_waits();

 private:
  struct Wait {
    Wait(Shards& all, uint64_t number, size_t count, Then callback)
        : shards(all), id(number), missing(count), then(std::move(callback)) {}
    void on_deadline() noexcept { shards.finish(id, false); }

    Shards& shards;
    uint64_t id;
    size_t missing;
    Then then;
    io::TimerOf<Wait, &Wait::on_deadline> timer{*this};
  };
  void acknowledge(uint64_t id);
  void finish(uint64_t id, bool all);

  io::Loop& control_;
  std::vector<ShardHandle> handles_;
  uint64_t next_wait_ = 1;
  std::map<uint64_t, std::unique_ptr<Wait>> waits_;
};

}  // namespace holdfast::target
