#pragma once
// Paths as queues: each has one server (time per request) behind a delay that many requests can
// spend at once. Hosts keep a fixed number of requests in flight and choose by their own selector,
// on what they have seen themselves.

#include <algorithm>
#include <deque>
#include <memory>
#include <queue>
#include <vector>

#include "mpio/path_selector.h"

namespace holdfast::mpio {

class PathSimulation {
 public:
  struct Path {
    io::Duration server{};         // one request after the other
    io::Duration delay{};          // on top, side by side
    uint32_t jitter_percent = 10;  // of the server's time
    bool stalled = false;          // takes requests and answers none
  };

  explicit PathSimulation(std::vector<Path> paths, uint64_t seed = 1)
      : paths_(std::move(paths)), busy_until_(paths_.size()), random_(seed) {}

  // Before run(). Host numbers count from 0.
  void add_host(Policy policy, uint32_t depth) {
    auto host = std::make_unique<Host>();
    host->selector = make_selector(policy, random_.next());
    host->depth = depth;
    host->loads.resize(paths_.size());
    host->flying.resize(paths_.size());
    for (size_t i = 0; i < paths_.size(); ++i) {
      host->loads[i].tier = PathTier::optimized;
      host->loads[i].order = static_cast<uint16_t>(i);
      host->loads[i].limit = 4096;
    }
    hosts_.push_back(std::move(host));
  }

  Path& path(size_t index) { return paths_[index]; }
  PathLoad& load(size_t path, size_t host = 0) { return hosts_[host]->loads[path]; }
  io::Instant now() const { return now_; }

  // Goes on for so long; counts begin anew.
  void run(io::Duration length) {
    const io::Instant end = now_ + length;
    submitted_.assign(paths_.size(), 0);
    completed_.assign(paths_.size(), 0);
    most_in_flight_.assign(paths_.size(), 0);
    latencies_.clear();
    for (auto& host : hosts_) fill(*host);
    while (!events_.empty() && events_.top().at <= end) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.at;
      complete(event);
    }
    now_ = end;
  }

  uint64_t completed(size_t path) const { return completed_[path]; }
  uint64_t submitted(size_t path) const { return submitted_[path]; }
  uint32_t most_in_flight(size_t path) const { return most_in_flight_[path]; }
  uint64_t completed() const {
    uint64_t sum = 0;
    for (const uint64_t each : completed_) sum += each;
    return sum;
  }
  double share(size_t path) const {
    return static_cast<double>(completed_[path]) / static_cast<double>(completed());
  }
  io::Duration percentile(double of_100) {
    const auto nth =
        latencies_.begin() +
        static_cast<ptrdiff_t>(static_cast<double>(latencies_.size() - 1) * of_100 / 100);
    std::nth_element(latencies_.begin(), nth, latencies_.end());
    return *nth;
  }

 private:
  struct Host {
    std::unique_ptr<PathSelector> selector;
    uint32_t depth = 0;
    uint32_t in_flight = 0;
    std::vector<PathLoad> loads;
    std::vector<std::deque<io::Instant>> flying;  // begin times; FIFO on each path
  };
  struct Event {
    io::Instant at;
    uint64_t sequence;
    size_t host;
    size_t path;
    uint32_t depth;
    io::Instant began;
    bool operator<(const Event& other) const {
      return at != other.at ? at > other.at : sequence > other.sequence;
    }
  };

  void fill(Host& host) {
    while (host.in_flight < host.depth) {
      const size_t index = host.selector->select(host.loads, {.bytes = 4096, .now = now_});
      if (index == kNoPath) return;
      submit(host, index);
    }
  }

  void submit(Host& host, size_t index) {
    Path& path = paths_[index];
    ++host.in_flight;
    ++submitted_[index];
    const uint32_t depth = host.loads[index].on_submitted(SizeClass::small, now_);
    host.flying[index].push_back(now_);
    most_in_flight_[index] = std::max(most_in_flight_[index], host.loads[index].in_flight());
    if (path.stalled) return;
    const auto spread = static_cast<uint64_t>(path.server.count()) * path.jitter_percent / 100;
    const io::Duration jitter(static_cast<int64_t>(random_.below(2 * spread + 1)) -
                              static_cast<int64_t>(spread));
    busy_until_[index] = std::max(busy_until_[index], now_) + path.server + jitter;
    const size_t number = static_cast<size_t>(
        std::ranges::find_if(hosts_, [&](const auto& each) { return each.get() == &host; }) -
        hosts_.begin());
    events_.push({busy_until_[index] + path.delay, sequence_++, number, index, depth, now_});
  }

  void complete(const Event& event) {
    Host& host = *hosts_[event.host];
    PathLoad& load = host.loads[event.path];
    auto& flying = host.flying[event.path];
    load.on_completed({.depth = event.depth, .latency = now_ - event.began}, now_);
    flying.erase(std::ranges::find(flying, event.began));
    if (!flying.empty()) load.oldest_in_flight = flying.front();
    --host.in_flight;
    ++completed_[event.path];
    latencies_.push_back(now_ - event.began);
    fill(host);
  }

  std::vector<Path> paths_;
  std::vector<io::Instant> busy_until_;
  base::SeededRandom random_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::priority_queue<Event> events_;
  io::Instant now_ = io::Instant{} + std::chrono::seconds(10);
  uint64_t sequence_ = 0;
  std::vector<uint64_t> submitted_;
  std::vector<uint64_t> completed_;
  std::vector<uint32_t> most_in_flight_;
  std::vector<io::Duration> latencies_;
};

}  // namespace holdfast::mpio
