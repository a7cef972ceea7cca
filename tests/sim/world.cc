#include "tests/sim/world.h"

#include <cstdio>

#include "common/base/assert.h"
#include "tests/sim/sim_loop.h"

namespace holdfast::sim {

SimWorld::SimWorld(uint64_t seed) : seed_(seed), random_(seed) {}
SimWorld::~SimWorld() = default;

SimWorld::EventId SimWorld::at(Duration time, Action action) {
  const EventId id{std::max(time, now_), next_sequence_++};
  events_.emplace(id, std::move(action));
  return id;
}

void SimWorld::cancel(EventId& id) {
  if (id.valid()) events_.erase(id);
  id = {};
}

bool SimWorld::step() {
  if (events_.empty()) return false;
  auto first = events_.extract(events_.begin());
  const Duration time = first.key().time;
  events_this_instant_ = time == now_ ? events_this_instant_ + 1 : 0;
  if (events_this_instant_ > kMaxEventsPerInstant) {
    std::fprintf(stderr, "sim: seed %llu: time stands still at %lld ns: something never sleeps\n",
                 static_cast<unsigned long long>(seed_), static_cast<long long>(now_.count()));
    ASSERT(events_this_instant_ <= kMaxEventsPerInstant);
  }
  now_ = time;
  ++events_run_;
  first.mapped()();
  return true;
}

bool SimWorld::run_until(const std::function<bool()>& condition, Duration within) {
  const Duration deadline = now_ + within;
  while (!condition()) {
    if (events_.empty() || events_.begin()->first.time > deadline) {
      now_ = deadline;
      return false;
    }
    step();
  }
  return true;
}

void SimWorld::run_for(Duration duration) {
  run_until([] { return false; }, duration);
}

Duration SimWorld::between(Duration low, Duration high) {
  ASSERT(low <= high);
  const auto span = static_cast<uint64_t>((high - low).count()) + 1;
  return low + Duration(static_cast<int64_t>(random_.below(span)));
}

void SimWorld::add_line() {
  const auto mix = [this](uint64_t byte) { hash_ = (hash_ ^ byte) * 0x100000001b3; };
  const auto time = static_cast<uint64_t>(now_.count());
  for (int shift = 0; shift < 64; shift += 8) mix((time >> shift) & 0xff);
  for (const char c : line_) mix(static_cast<uint8_t>(c));
  note(line_);
}

void SimWorld::note(std::string_view line) {
  if (!sink_) return;
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now_).count();
  sink_(fmt::format("{:>6}.{:06} {}", us / 1'000'000, us % 1'000'000, line));
}

SimProcess& SimWorld::make_process(std::string name) {
  processes_.push_back(std::make_unique<SimProcess>(*this, std::move(name)));
  return *processes_.back();
}

}  // namespace holdfast::sim
