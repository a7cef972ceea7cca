#pragma once
// Loops in virtual time, run by the test.

#include <algorithm>
#include <boost/intrusive/set.hpp>
#include <deque>
#include <vector>

#include "common/io/loop.h"

namespace holdfast::target {

class FakeLoop;

// Runs the loops in turn; time moves only in advance().
class FakeWorld {
 public:
  void add(FakeLoop& loop) { loops_.push_back(&loop); }
  io::Instant now() const { return now_; }
  void settle();
  void advance(io::Duration duration);

 private:
  std::vector<FakeLoop*> loops_;
  io::Instant now_{std::chrono::hours(1)};
};

class FakeLoop final : public io::Loop {
 public:
  explicit FakeLoop(FakeWorld& world) : world_(world) { world.add(*this); }
  io::Instant now() const override { return world_.now(); }
  void start(io::Timer& timer, io::Duration after) override {
    stop(timer);
    timer.deadline = now() + after;
    timers_.insert(timer);
  }
  void stop(io::Timer& timer) override {
    if (timer.armed()) timers_.erase(timers_.iterator_to(timer));
  }
  void post(io::Task task) override { posted_.push_back(std::move(task)); }
  void complete_soon(io::Op& op, int32_t result) override {
    op.begin();
    finish(op, result);
  }
  void at_turn_end(io::Op& op) override { complete_soon(op, 0); }

  // A device's completion.
  void finish(io::Op& op, int32_t result) {
    post([&op, result]() noexcept { op.complete(result); });
  }
  // False: nothing to do.
  bool step() {
    if (posted_.empty()) return false;
    io::Task task = std::move(posted_.front());
    posted_.pop_front();
    task();
    return true;
  }
  io::Timer* next_timer() { return timers_.empty() ? nullptr : &*timers_.begin(); }

 private:
  struct Deadline {
    using type = io::Instant;
    const type& operator()(const io::Timer& timer) const { return timer.deadline; }
  };
  FakeWorld& world_;
  std::deque<io::Task> posted_;
  boost::intrusive::multiset<io::Timer,
                             boost::intrusive::member_hook<
                                 io::Timer, boost::intrusive::set_member_hook<>, &io::Timer::hook>,
                             boost::intrusive::key_of_value<Deadline>>
      timers_;
};

inline void FakeWorld::settle() {
  for (bool more = true; more;) {
    more = false;
    for (FakeLoop* loop : loops_) more = loop->step() || more;
  }
}

inline void FakeWorld::advance(io::Duration duration) {
  const io::Instant end = now_ + duration;
  for (;;) {
    settle();
    FakeLoop* first = nullptr;
    for (FakeLoop* loop : loops_) {
      io::Timer* const timer = loop->next_timer();
      if (timer == nullptr || timer->deadline > end) continue;
      if (first == nullptr || timer->deadline < first->next_timer()->deadline) first = loop;
    }
    if (first == nullptr) break;
    io::Timer& timer = *first->next_timer();
    now_ = std::max(now_, timer.deadline);
    first->stop(timer);
    timer.fire();
  }
  now_ = end;
  settle();
}

}  // namespace holdfast::target
