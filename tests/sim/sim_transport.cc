// What a simulated kernel knows of the way to a peer, as TCP_INFO tells it; cables; Unix sockets.

#include <algorithm>
#include <cerrno>

#include "tests/sim/sim_fabric.h"

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {

constexpr Duration kMinTimeout = 200ms;  // Linux: TCP_RTO_MIN, and of its probes too
constexpr Duration kMaxTimeout = 120s;
constexpr uint32_t kHeaders = 52;  // IPv4 and TCP with time stamps

uint32_t milliseconds(Duration duration) {
  return static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(duration) /
                               1ms);
}

// The timer after so many time-outs in a row.
Duration timeout_after(Duration rtt, uint32_t backoff) {
  Duration timeout = std::max<Duration>(kMinTimeout, 2 * rtt);
  for (; backoff > 0 && timeout < kMaxTimeout; --backoff) timeout *= 2;
  return std::min(timeout, kMaxTimeout);
}

}  // namespace

// How often the sender's timer has gone off in a silence that began then.
uint32_t SimFabric::timeouts(const End& end) const {
  if (end.sent == end.acked) return 0;
  uint32_t count = 0;
  Duration at = end.meter.silent_since;
  while ((at += timeout_after(end.meter.rtt, count)) <= world_.now()) ++count;
  return count;
}

// Before the next segment goes.
void SimFabric::meter_sent(End& end) {
  Meter& meter = end.meter;
  if (end.sent == end.acked) meter.silent_since = world_.now();
  if (meter.timed_end != 0) return;
  meter.timed_end = end.sent + 1;
  meter.timed_at = world_.now();
}

void SimFabric::meter_ack(End& end, uint64_t acked) {
  Meter& meter = end.meter;
  meter.last_ack = world_.now();
  meter.probes = 0;
  if (acked <= end.acked) return;
  const uint32_t silence = timeouts(end);
  meter.retransmits += silence;
  meter.silent_since = world_.now();
  if (meter.timed_end == 0 || acked < meter.timed_end) return;
  // What was sent again says nothing about the time it took (Karn).
  const Duration sample = world_.now() - meter.timed_at;
  if (silence == 0) meter.rtt = meter.rtt == 0ns ? sample : (7 * meter.rtt + sample) / 8;
  meter.timed_end = 0;
}

void SimFabric::watch_window(End& end) {
  Meter& meter = end.meter;
  const bool shut = end.acked == end.sent && end.sent == end.window_edge && end.written > end.sent;
  if (shut == meter.shut) return;
  meter.shut = shut;
  meter.window_backoff = meter.probes = 0;
  const uint64_t number = ++meter.shut_number;
  if (!shut) return;
  world_.after(timeout_after(meter.rtt, 0), [this, id = end.id, number] { probe(id, number); });
  // Linux ends such a connection although the peer's kernel answers the probes.
  if (end.user_timeout == 0ns) return;
  world_.after(end.user_timeout, [this, id = end.id, number] {
    End* found = find(id);
    if (found != nullptr && found->meter.shut && found->meter.shut_number == number) {
      fail_end(*found, ETIMEDOUT);
    }
  });
}

void SimFabric::probe(io::Socket id, uint64_t number) {
  End* end = find(id);
  if (end == nullptr || end->error != 0) return;
  Meter& meter = end->meter;
  if (!meter.shut || meter.shut_number != number) return;
  ++meter.window_backoff;
  if (blocked(end->local, end->peer) || blocked(end->peer, end->local)) {
    ++meter.probes;
  } else {
    meter.probes = 0;
    meter.last_ack = world_.now();
  }
  world_.after(timeout_after(meter.rtt, meter.window_backoff),
               [this, id, number] { probe(id, number); });
}

io::TransportInfo SimFabric::transport_info(io::Socket id) const {
  const End* end = find(id);
  if (end == nullptr || end->kind != Kind::stream || end->error != 0 || end->local_only) return {};
  const Meter& meter = end->meter;
  const auto mss = static_cast<uint32_t>(options_.max_segment);
  const auto unacked = static_cast<uint32_t>((end->sent - end->acked + mss - 1) / mss);
  const uint32_t silence = timeouts(*end);
  return {.rtt_us = static_cast<uint32_t>(meter.rtt / 1us),
          .unacked = unacked,
          .backoff = meter.shut ? meter.window_backoff : silence,
          .probes = meter.probes,
          .last_ack_received_ms = milliseconds(world_.now() - meter.last_ack),
          .last_data_received_ms = milliseconds(world_.now() - meter.last_data),
          .retransmits_total = meter.retransmits + silence,
          .unsent_bytes = static_cast<uint32_t>(end->written - end->sent),
          .mss = mss,
          .path_mtu = mss + kHeaders,
          .valid = true};
}

void SimFabric::set_link(const std::string& address, bool up) {
  if (up == link_up(address)) return;
  world_.trace("net: link of {} {}", address, up ? "up" : "down");
  if (up) {
    links_down_.erase(address);
    retry_stalled();
  } else {
    links_down_.insert(address);
  }
  for (LinkObserver* observer : observers_) observer->on_cable(address, up);
}

base::Result<io::Socket> SimFabric::listen_unix(SimLoop& loop, const std::string& path) {
  const auto file = unix_files_.find(path);
  const End* holder = file == unix_files_.end() ? nullptr : find(file->second);
  if (holder != nullptr && !holder->shut) {
    return base::fail(base::Errc::busy, "another program listens there", EADDRINUSE);
  }
  End& end = make_end(Kind::listener, loop.process());
  end.local_only = true;
  unix_files_[path] = end.id;
  world_.trace("net: {} listens on {}", loop.name(), path);
  return end.id;
}

void SimFabric::unlink_unix(const std::string& path) { unix_files_.erase(path); }

base::Result<io::Socket> SimFabric::connect_unix(SimLoop& loop, const std::string& path) {
  const auto file = unix_files_.find(path);
  End* listener = file == unix_files_.end() ? nullptr : find(file->second);
  if (listener == nullptr || listener->shut) {
    return base::fail(base::Errc::not_found, "nobody listens on the socket", ECONNREFUSED);
  }
  if (listener->accept_queue.size() >= options_.backlog) {
    return base::fail(base::Errc::busy, "the socket's backlog is full", EAGAIN);
  }
  End& client = make_end(Kind::connecting, loop.process());
  establish(client, *listener);
  return client.id;
}

}  // namespace holdfast::sim
