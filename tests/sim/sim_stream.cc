// The bytes of a simulated connection: buffers, windows, segments, acknowledgements.

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tests/sim/sim_fabric.h"

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {

size_t total_size(const std::vector<iovec>& buffers) {
  size_t size = 0;
  for (const iovec& buffer : buffers) size += buffer.iov_len;
  return size;
}

}  // namespace

void SimFabric::receive(SimLoop& loop, uint64_t op, io::Socket id, std::span<const iovec> buffers) {
  End& end = must_find(id);
  ASSERT(end.kind == Kind::stream && !end.receiver.undelivered());
  ASSERT(!buffers.empty() && buffers.size() <= io::kMaxIovecs);
  end.receiver = {&loop, op, {buffers.begin(), buffers.end()}};
  ASSERT(total_size(end.receiver.buffers) > 0);
  world_.after(world_.between(0us, 5us), [this, id] { try_receive(id); });
}

void SimFabric::send(SimLoop& loop, uint64_t op, io::Socket id, std::span<const iovec> buffers) {
  End& end = must_find(id);
  ASSERT(end.kind == Kind::stream && !end.sender.undelivered());
  ASSERT(!buffers.empty() && buffers.size() <= io::kMaxIovecs);
  end.sender = {&loop, op, {buffers.begin(), buffers.end()}};
  ASSERT(total_size(end.sender.buffers) > 0);
  // The kernel copies some time later, so bytes changed meanwhile go out changed.
  world_.after(world_.between(0us, 10us), [this, id] { try_send(id); });
}

void SimFabric::try_receive(io::Socket id) {
  End* end = find(id);
  if (end == nullptr) return;
  try_hangup(*end);
  if (!end->receiver.waiting()) return;
  End* writer = find(end->remote);
  if (writer != nullptr && writer->delivered > writer->read) {
    const size_t count = copy_out(*writer, end->receiver.buffers);
    finish_waiter(end->receiver, static_cast<int32_t>(count));
    schedule_ack(*writer);
    erase_if_done(*writer);
  } else if (end->error != 0) {
    finish_waiter(end->receiver, -end->error);
  } else if (end->shut || (writer != nullptr && writer->fin_delivered)) {
    finish_waiter(end->receiver, 0);
  }
}

void SimFabric::watch_hangup(SimLoop& loop, uint64_t op, io::Socket id) {
  End& end = must_find(id);
  ASSERT(end.kind == Kind::stream && !end.hangup.undelivered());
  end.hangup = {&loop, op, {}};
  world_.after(world_.between(0us, 5us), [this, id] { try_receive(id); });
}

void SimFabric::try_hangup(End& end) {
  if (!end.hangup.waiting()) return;
  const End* writer = find(end.remote);
  // A Unix socket's end is known at once, before what it sent has been read.
  const bool gone = writer == nullptr || ((writer->fin_delivered || writer->local_only) &&
                                          (writer->closed || writer->shut));
  if (end.error != 0 || end.shut || gone) finish_waiter(end.hangup, 0);
}

size_t SimFabric::copy_out(End& writer, const std::vector<iovec>& buffers) {
  size_t count = std::min(static_cast<size_t>(writer.delivered - writer.read), total_size(buffers));
  if (world_.chance(options_.partial_per_million)) {
    count = 1 + static_cast<size_t>(world_.random().below(count));
  }
  size_t done = 0;
  for (const iovec& buffer : buffers) {
    const size_t part = std::min(buffer.iov_len, count - done);
    if (part > 0) std::memcpy(buffer.iov_base, writer.output.data() + done, part);
    done += part;
  }
  writer.output.erase(0, count);
  writer.read += count;
  return count;
}

void SimFabric::try_send(io::Socket id) {
  End* end = find(id);
  if (end == nullptr || !end->sender.waiting()) return;
  if (end->error != 0 || end->fin) {
    finish_waiter(end->sender, end->error == 0 || end->error == ECONNRESET ? -EPIPE : -end->error);
    return;
  }
  const size_t used = static_cast<size_t>(end->written - end->acked);
  if (used >= options_.send_buffer) return;  // tried again with the next acknowledgement
  size_t count = std::min(total_size(end->sender.buffers), options_.send_buffer - used);
  if (world_.chance(options_.partial_per_million)) {
    count = 1 + static_cast<size_t>(world_.random().below(count));
  }
  size_t left = count;
  for (const iovec& buffer : end->sender.buffers) {
    const size_t part = std::min(buffer.iov_len, left);
    end->output.append(static_cast<const char*>(buffer.iov_base), part);
    left -= part;
  }
  end->written += count;
  finish_waiter(end->sender, static_cast<int32_t>(count));
  pump(*end);
}

void SimFabric::pump(End& end) {
  if (end.error != 0) return;
  while (end.sent < std::min(end.written, end.window_edge)) {
    const uint64_t room = std::min(end.written, end.window_edge) - end.sent;
    const uint64_t most = std::min<uint64_t>(room, options_.max_segment);
    meter_sent(end);
    end.sent +=
        world_.chance(options_.partial_per_million) ? 1 + world_.random().below(most) : most;
    end.last_arrival = std::max(end.last_arrival, world_.now() + delay(end.local, end.peer));
    world_.at(end.last_arrival,
              [this, id = end.id, up_to = end.sent] { on_segment(id, up_to, false); });
  }
  watch_window(end);
  if (end.fin && !end.fin_sent && end.sent == end.written) {
    end.fin_sent = true;
    end.last_arrival = std::max(end.last_arrival, world_.now() + delay(end.local, end.peer));
    world_.at(end.last_arrival,
              [this, id = end.id, up_to = end.sent] { on_segment(id, up_to, true); });
  }
}

void SimFabric::on_segment(io::Socket id, uint64_t up_to, bool fin) {
  End* sender = find(id);
  if (sender == nullptr || sender->error != 0) return;
  if (blocked(sender->local, sender->peer)) {
    sender->stalled_up_to = std::max(sender->stalled_up_to, up_to);
    sender->stalled_fin = sender->stalled_fin || fin;
    stall(*sender);
    return;
  }
  End* receiver = find(sender->remote);
  if (receiver == nullptr || receiver->closed || receiver->error != 0) {
    // Nobody there any more: a reset comes back.
    if (receiver != nullptr && receiver->closed) {
      if (fin && up_to <= sender->delivered) {
        sender->fin_delivered = true;
        erase_if_done(*sender);
        return;
      }
      erase(receiver->id);
    }
    if (!blocked(sender->peer, sender->local)) {
      world_.after(delay(sender->peer, sender->local), [this, id] { on_reset(id, ECONNRESET); });
    }
    return;
  }
  if (world_.chance(options_.reset_per_million)) {
    world_.trace("net: random reset");
    reset(id);
    return;
  }
  sender->delivered = std::max(sender->delivered, up_to);
  receiver->meter.last_data = receiver->meter.last_ack = world_.now();
  if (fin) sender->fin_delivered = true;
  schedule_ack(*sender);
  const io::Socket receiver_id = receiver->id;
  erase_if_done(*sender);
  try_receive(receiver_id);
}

// What the receiver's kernel tells the sender's travels the other way.
void SimFabric::schedule_ack(End& sender) {
  if (sender.error != 0) return;
  if (blocked(sender.peer, sender.local)) {
    sender.stalled_ack = true;
    stall(sender);
    return;
  }
  world_.after(
      delay(sender.peer, sender.local),
      [this, id = sender.id, acked = sender.delivered, edge = sender.read + options_.receive_buffer,
       fin = sender.fin_delivered] { on_ack(id, acked, edge, fin); });
}

void SimFabric::on_ack(io::Socket id, uint64_t acked, uint64_t window_edge, bool fin) {
  End* sender = find(id);
  if (sender == nullptr || sender->error != 0) return;
  if (blocked(sender->peer, sender->local)) {
    sender->stalled_ack = true;
    stall(*sender);
    return;
  }
  meter_ack(*sender, acked);
  sender->acked = std::max(sender->acked, acked);
  sender->window_edge = std::max(sender->window_edge, window_edge);
  if (fin) {
    erase_if_done(*sender);
    if (find(id) == nullptr) return;
  }
  pump(*sender);
  try_send(id);
}

// TCP gives up when nothing is acknowledged for too long.
void SimFabric::stall(End& end) {
  if (std::exchange(end.stalling, true)) return;  // counted from the first byte
  const uint64_t number = ++end.stall_number;
  const bool own = end.user_timeout > Duration::zero();
  world_.after(own ? end.user_timeout : options_.stall_timeout, [this, id = end.id, number] {
    End* found = find(id);
    if (found == nullptr || found->stall_number != number) return;
    fail_end(*found, ETIMEDOUT);
  });
}

void SimFabric::retry_stalled() {
  for (auto& [id, end] : ends_) {
    const Duration when = world_.between(1ms, 300ms);  // the sender's retransmission timer
    if (end.stalled_syn) {
      end.stalled_syn = false;
      world_.after(when, [this, socket = id] { on_syn(socket); });
    }
    end.stalling = false;
    if (end.stalled_up_to > 0 || end.stalled_fin) {
      ++end.stall_number;
      end.last_arrival = std::max(end.last_arrival, world_.now() + when);
      world_.at(end.last_arrival, [this, socket = id, up_to = end.stalled_up_to,
                                   fin = end.stalled_fin] { on_segment(socket, up_to, fin); });
      end.stalled_up_to = 0;
      end.stalled_fin = false;
    }
    if (end.stalled_ack) {
      ++end.stall_number;
      end.stalled_ack = false;
      world_.after(when, [this, socket = id] {
        if (End* found = find(socket)) schedule_ack(*found);
      });
    }
  }
}

// An end whose program closed it stays while its peer may still read what it sent.
void SimFabric::erase_if_done(End& end) {
  if (!end.closed || !end.fin_delivered) return;
  const End* remote = find(end.remote);
  if (remote != nullptr && !remote->closed) return;
  const io::Socket other = remote != nullptr && remote->fin_delivered ? remote->id : io::kNoSocket;
  erase(end.id);
  erase(other);
}

}  // namespace holdfast::sim
