#pragma once
// A NodeControl that records what it is asked and answers what the test says, when it says.

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "target/node_control.h"

namespace holdfast::target {

// One of everything, for the tests of what shows a status.
inline NodeStatus sample_status() {
  NodeStatus s;
  s.version = "0.1.0";
  s.uptime_ms = 3'723'000;
  s.threads = 2;
  s.portals = {{"10.1.0.10:3260", 1, "listening"}, {"10.2.0.10:3260", 2, "listening"}};
  s.alua = {{1, "active/optimized"}, {2, "standby"}};
  DiskStatus disk;
  disk.config.name = "csv1";
  disk.config.backing.path = "/srv/csv1.img";
  disk.config.backing.size_bytes = uint64_t{64} << 30;
  disk.config.write_cache = true;
  disk.state = "ready";
  disk.origin = "file";
  disk.uuid = "6f1c0a52-9e7b-4c39-8f1e-0d2a4b6c8e10";
  disk.size_bytes = uint64_t{64} << 30;
  disk.mapped = {{"iqn.2026-11.org.holdfast:store", 1}};
  disk.reservation.generation = 7;
  disk.reservation.type = 5;
  disk.reservation.aptpl = true;
  disk.reservation.registrants = {
      {"iqn.2026-11.org.holdfast:hv1", 0x23d000001, 1, 0xfedcba9876543210, true},
      {"iqn.2026-11.org.holdfast:hv2", 0x23d000002, 2, 2, false}};
  disk.counters.reads = 100;
  disk.counters.writes = 50;
  disk.counters.read_bytes = 409'600;
  disk.counters.reservation_conflicts = 3;
  disk.counters.read_latency.buckets[7] = 90;   // below 128 us
  disk.counters.read_latency.buckets[10] = 10;  // below 1024 us
  disk.counters.read_latency.count = 100;
  disk.counters.read_latency.sum_us = 15'000;
  s.disks = {disk};
  TargetConfig target;
  target.name = "iqn.2026-11.org.holdfast:store";
  target.portal_groups = {1, 2};
  target.luns = {{1, "csv1"}};
  InitiatorConfig initiator;
  initiator.name = "iqn.2026-11.org.holdfast:hv1";
  initiator.addresses = {io::AddressRange::parse("10.1.0.0/24").value()};
  daemon::ChapConfig chap;
  chap.user = "hv1";
  chap.secret_file = "/etc/holdfast/hv1.secret";
  chap.secret = "never-to-be-shown";
  initiator.chap = chap;
  target.initiators = {initiator};
  s.targets = {target};
  SessionStatus session;
  session.id = 42;
  session.initiator_name = "iqn.2026-11.org.holdfast:hv1";
  session.target_name = target.name;
  session.isid = 0x23d000001;
  session.tsih = 9;
  session.portal_group_tag = 1;
  session.peer = "10.1.0.1:51234";
  session.portal = "10.1.0.10:3260";
  session.user = "hv1";
  session.age_ms = 61'000;
  session.commands_in_flight = 4;
  session.header_digest = true;
  session.state = "logged in";
  s.sessions = {session};
  s.connections_total = 12;
  s.connections_refused = 1;
  s.logins_failed = 2;
  s.pdus_rejected = 3;
  s.buffer_bytes_used = 1 << 20;
  s.buffer_bytes_total = 128 << 20;
  return s;
}

class FakeNode final : public NodeControl {
 public:
  void status(Reply<NodeStatus> reply) override {
    record("status", [reply = std::move(reply), this]() mutable noexcept { reply(status_answer); });
  }
  void apply(Config config, bool force, Reply<Outcome> reply) override {
    answer("apply disks=" + std::to_string(config.disks.size()) + (force ? " force" : ""),
           std::move(reply));
  }
  void disk_create(DiskConfig disk, Reply<Outcome> reply) override {
    answer("disk_create " + disk.name + " " + disk.backing.path + " " +
               std::to_string(disk.backing.size_bytes),
           std::move(reply));
  }
  void disk_resize(std::string name, uint64_t size_bytes, Reply<Outcome> reply) override {
    answer("disk_resize " + name + " " + std::to_string(size_bytes), std::move(reply));
  }
  void disk_remove(std::string name, Reply<Outcome> reply) override {
    answer("disk_remove " + name, std::move(reply));
  }
  void session_drop(uint64_t id, Reply<Outcome> reply) override {
    answer("session_drop " + std::to_string(id), std::move(reply));
  }
  void session_request_logout(uint64_t id, Reply<Outcome> reply) override {
    answer("session_logout " + std::to_string(id), std::move(reply));
  }
  void set_alua(uint16_t tag, std::string state, Reply<Outcome> reply) override {
    answer("alua_set " + std::to_string(tag) + " " + state, std::move(reply));
  }

  std::vector<std::string> calls() {
    const std::lock_guard guard(mutex_);
    return calls_;
  }
  void wait_for_calls(size_t count) {
    std::unique_lock lock(mutex_);
    called_.wait(lock, [&] { return calls_.size() >= count; });
  }
  // The calls held back are answered on the thread of the caller.
  void release() {
    std::vector<std::move_only_function<void() noexcept>> kept;
    {
      const std::lock_guard guard(mutex_);
      kept.swap(kept_);
    }
    for (auto& one : kept) one();
  }

  NodeStatus status_answer = sample_status();
  Outcome outcome = std::vector<std::string>{"done"};
  bool hold_replies = false;

 private:
  void answer(std::string call, Reply<Outcome> reply) {
    record(std::move(call),
           [reply = std::move(reply), this]() mutable noexcept { reply(outcome); });
  }
  void record(std::string call, std::move_only_function<void() noexcept> reply) {
    {
      const std::lock_guard guard(mutex_);
      calls_.push_back(std::move(call));
      called_.notify_all();
      if (hold_replies) return kept_.push_back(std::move(reply));
    }
    reply();
  }

  std::mutex mutex_;
  std::condition_variable called_;
  std::vector<std::string> calls_;
  std::vector<std::move_only_function<void() noexcept>> kept_;
};

}  // namespace holdfast::target
