#pragma once
// A lasting link to one node at one address, over one network: connects, and connects again.
//
// Owner: whoever constructs it; one loop's. After start() the owner keeps it until
// on_peer_closed(), from within which it may destroy it. No call of it calls back.

#include <memory>
#include <string>

#include "common/base/random.h"
#include "common/rpc/link.h"

namespace holdfast::rpc {

class Peer;

class PeerEvents {
 public:
  virtual ~PeerEvents() = default;
  virtual void on_peer_up(Peer& peer) noexcept = 0;
  // Only after on_peer_up(), and after all calls have ended. Attempts that came to nothing are told
  // by last_end().
  virtual void on_peer_down(Peer& peer, const ConnectionEnd& end) noexcept = 0;
  // After begin_close(); the last call.
  virtual void on_peer_closed(Peer& peer) noexcept = 0;
};

class Peer final : private LinkEvents {
 public:
  struct Options {
    std::string node;
    io::Endpoint address;
    // Its source address, and what else the network needs. not_sent_low_water: kNotSentLowWater
    // unless given.
    io::ConnectOptions connect;
    Connection::Options connection;
    io::Duration backoff_min = kBackoffMin;
    io::Duration backoff_max = kBackoffMax;
  };

  // `identity`, `random`, `handler` and `events` outlive it.
  struct Parts {
    io::Loop& loop;
    io::Network& network;
    base::Random& random;
    const TlsIdentity& identity;
    Handler& handler;
    PeerEvents& events;
  };
  Peer(const Parts& parts, Options options);
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer() override;

  void start();
  void begin_close();
  // Ends the connection or attempt that there is, and begins another: for who misses heartbeats.
  void drop(const char* why);

  bool up() const { return phase_ == Phase::connected && link_->up(); }
  // As of Link; Errc::closed while it is not up.
  base::Result<> call(uint16_t type, base::Bytes payload, const CallOptions& options,
                      CallDone done);
  base::Result<> notify(uint16_t type, base::Bytes payload, Priority priority = Priority::urgent);
  // As of Link; 0 while it is not up.
  size_t queued_bytes(Priority priority) const { return up() ? link_->queued_bytes(priority) : 0; }

  const Options& options() const { return options_; }
  // Why the last connection or attempt ended; `why` is empty before any did.
  const ConnectionEnd& last_end() const { return last_end_; }
  uint64_t attempts() const { return attempts_; }

 private:
  // connected: a link is there, up or on its way to it.
  enum class Phase : uint8_t { idle, connected, waiting, closing, closed };

  void on_up(Link& link) noexcept override;
  void on_down(Link& link, const ConnectionEnd& end) noexcept override;
  void connect();
  void wait();
  void on_timer() noexcept { connect(); }
  void on_closed(int32_t) noexcept;
  void log_end(const ConnectionEnd& end, bool was_up);

  const Parts parts_;
  const Options options_;
  Phase phase_ = Phase::idle;
  std::unique_ptr<Link> link_;
  bool told_up_ = false;
  io::Instant up_since_{};
  io::Duration backoff_;
  ConnectionEnd last_end_;
  uint64_t attempts_ = 0;
  io::TimerOf<Peer, &Peer::on_timer> timer_{*this};
  io::OpOf<Peer, &Peer::on_closed> closed_op_{*this};
};

}  // namespace holdfast::rpc
