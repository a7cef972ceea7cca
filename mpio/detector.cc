#include "mpio/detector.h"

#include <algorithm>
#include <array>

#include "mpio/limits.h"

namespace holdfast::mpio {

const char* to_string(PathVerdict verdict) noexcept {
  constexpr std::array kNames = {"ok",
                                 "no progress",
                                 "target stalled, network alive",
                                 "network dead: no progress, no NOP answer, no ACK",
                                 "target stalled for too long",
                                 "link lost"};
  return kNames[static_cast<size_t>(verdict)];
}

Detector::Detector(const Profile& profile, io::Instant now)
    : profile_(&profile),
      last_received_(now),
      waiting_since_(now),
      last_nop_(now),
      last_test_(now),
      promised_(now) {}

void Detector::on_outstanding(uint32_t count, io::Instant now) {
  if (outstanding_ == 0 && count > 0) waiting_since_ = now;
  if (count < outstanding_) {
    patient_ = false;  // a command was answered: silence is news again
    last_test_ = now;  // and the logical unit is known to answer
  }
  outstanding_ = count;
}

void Detector::on_nop_answered(io::Instant now) {
  patient_ = outstanding_ > 0;
  nop_outstanding_ = false;
  nop_wanted_ = false;
  last_received_ = now;
}

void Detector::on_link_down(io::Instant now) {
  if (!link_down_) link_down_since_ = now;
  link_down_ = true;
}

void Detector::on_link_up(io::Instant now) {
  if (link_down_) restart(now);
  link_down_ = false;
}

void Detector::on_loop_late(io::Duration late, io::Instant now) {
  if (late <= kLoopLate) return;
  ++stalls_of_ours_;
  restart(now);
}

// What the peer sent meanwhile lies unread in the socket: its silence begins anew.
void Detector::restart(io::Instant now) {
  last_received_ = std::max(last_received_, now);
  waiting_since_ = now;
  if (nop_outstanding_) nop_since_ = now;
  if (link_down_) link_down_since_ = now;
  promised_ = now;
}

io::Instant Detector::silent_since() const {
  io::Instant since = last_received_;
  if (outstanding_ > 0) since = std::max(since, waiting_since_);
  if (outstanding_ == 0 && nop_outstanding_) since = std::max(since, nop_since_);
  return since;
}

// With a closed window nothing is unacknowledged and the backoff is that of window probes, which
// the peer's kernel answers: that is a target that does not read.
bool Detector::net_dead(const TransportSnapshot& transport) const {
  if (!transport.valid || transport.unacked == 0) return false;
  return transport.backoff >= profile_->dead_backoff ||
         std::chrono::milliseconds(transport.last_ack_received_ms) > profile_->ack_silence;
}

// One NOP at a time. Its time runs from here, not from when TCP took it: a socket that takes
// nothing is as silent as a peer that answers nothing.
bool Detector::ask(io::Instant now) {
  if (!nop_outstanding_) {
    nop_outstanding_ = true;
    nop_wanted_ = true;
    nop_since_ = now;
    last_nop_ = now;
  }
  return nop_wanted_;
}

Look Detector::look(io::Instant now, const TransportSnapshot& transport) {
  on_loop_late(now - promised_, now);
  Look look;
  if (link_down_) {
    look.verdict = now - link_down_since_ >= profile_->link_grace ? PathVerdict::link_lost
                                                                  : PathVerdict::suspect;
    look.next = std::max(now, link_down_since_ + profile_->link_grace);
  } else {
    look = judge_silence(now, transport);
    if (look.verdict == PathVerdict::ok) idle_work(now, look);
  }
  promised_ = look.next;
  return look;
}

Look Detector::judge_silence(io::Instant now, const TransportSnapshot& transport) {
  // Not further than the silence that may begin right after this look.
  Look look{.next = now + profile_->suspect_after};
  if (outstanding_ == 0 && !nop_outstanding_) return look;
  const io::Instant silence = silent_since();
  const io::Instant suspicious = silence + profile_->suspect_after;
  if (now < suspicious) {
    look.next = suspicious;
    // An idle path's NOP goes on being asked for until TCP has it.
    look.send_nop = nop_outstanding_ && nop_wanted_;
    return look;
  }
  look.send_nop = ask(now);
  // A NOP from before the last byte may wait behind much data; it is judged from that byte on.
  const io::Instant asked = std::max(nop_since_, silence);
  if (patient_ && now - asked < kNopGrace) {
    look.next = asked + kNopGrace;
    return look;
  }
  const io::Instant verdict_at = asked + profile_->nop_timeout;
  const io::Instant expiry = asked + profile_->target_stall;
  if (now < verdict_at) {
    look.verdict = PathVerdict::suspect;
    // Soon, so that a path that speaks again is not left out for long.
    look.next = std::min(now + io::Duration(kSuspectLook), verdict_at);
  } else if (net_dead(transport)) {
    look.verdict = PathVerdict::net_dead;
    look.next = now;
  } else if (now >= expiry) {
    look.verdict = PathVerdict::target_stall_expired;
    look.next = now;
  } else {
    look.verdict = PathVerdict::target_stalled;
    look.next = std::min(now + io::Duration(kSuspectLook), expiry);
  }
  return look;
}

void Detector::idle_work(io::Instant now, Look& look) {
  // Also beside slow commands: one that a reset has ended may never be answered, and the unit
  // attention that says so comes with a new command.
  if (now - last_test_ >= profile_->test_unit) {
    look.send_test = true;
    last_test_ = now;
  }
  look.next = std::min(look.next, last_test_ + profile_->test_unit);
  if (outstanding_ > 0) return;
  if (!nop_outstanding_ && now - std::max(last_nop_, last_received_) >= profile_->idle_nop) {
    look.send_nop = ask(now);
  }
  if (!nop_outstanding_) {
    look.next = std::min(look.next, std::max(last_nop_, last_received_) + profile_->idle_nop);
  }
}

}  // namespace holdfast::mpio
