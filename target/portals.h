#pragma once
// Listening, accepting, and placing connections on the shards by load.

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "common/io/loop.h"
#include "common/io/network.h"
#include "target/config.h"
#include "target/shards.h"

namespace holdfast::target {

// Out of file descriptors: only the end of some connection helps, so asking again at once is vain.
inline constexpr io::Duration kAcceptRetry = std::chrono::milliseconds(100);
// An address may come back.
inline constexpr io::Duration kAddressRetry = std::chrono::seconds(2);
// A descriptor is about to be free, and others wait in the backlog.
inline constexpr io::Duration kAcceptRetryAfterDrop = std::chrono::milliseconds(2);

struct Portal {
  io::Endpoint endpoint;
  uint16_t portal_group_tag = 0;
};
std::vector<Portal> portals_of(const Config& config);

// Owner: NodeState. Thread: the control loop's.
class Portals {
 public:
  Portals(io::Loop& loop, io::Network& network, Shards& shards)
      : loop_(loop), network_(network), shards_(shards) {}
  Portals(const Portals&) = delete;
  Portals& operator=(const Portals&) = delete;
  ~Portals();

  // Before the first commit().
  void set_max_connections(uint32_t count);

  // Two steps, so that nothing has changed when a portal cannot be had. prepare() binds the new
  // ones without accepting on them; what it could not bind is said in the sentences it returns, and
  // then nothing is kept. commit() goes over to the prepared set: accepts on the new ones, closes
  // those that are no longer wanted; rollback() gives the new ones up.
  // `wait_for_addresses`: a portal whose address this host lacks at present, as when a card has
  // failed, is taken all the same, unless all are so; it is tried until it can be had.
  std::vector<std::string> prepare(const std::vector<Portal>& wanted, bool wait_for_addresses);
  void commit();
  void rollback();

  // Accepts nothing any more; done when no operation is pending.
  void close(std::move_only_function<void() noexcept> done);

  std::vector<PortalStatus> status() const;
  uint64_t connections_total() const { return accepted_; }
  uint64_t connections_refused() const { return refused_; }

 private:
  struct Listener {
    Listener(Portals& all, Portal where, io::Socket listening)
        : portals(all), portal(where), socket(listening) {}
    void on_accepted(int32_t result) noexcept { portals.on_accepted(*this, result); }
    void on_retry() noexcept { portals.on_retry(*this); }

    Portals& portals;
    Portal portal;
    io::Socket socket;
    bool closing = false;
    int32_t trouble = 0;  // errno of the last accept; 0: fine
    io::OpOf<Listener, &Listener::on_accepted> accept_op{*this};
    io::TimerOf<Listener, &Listener::on_retry> retry{*this};
  };
  // Told to a shard, whose load() does not show it yet.
  struct Placing {
    std::atomic<uint32_t> adopting = 0;
    std::atomic<uint32_t> dropping = 0;
  };

  Listener* find(const io::Endpoint& endpoint);
  void accept(Listener& listener);
  void on_retry(Listener& listener);
  void on_accepted(Listener& listener, int32_t result);
  void place(io::Socket socket, uint16_t portal_group_tag);
  bool drop_oldest_login();
  void begin_close(Listener& listener);
  void end_close(Listener& listener);

  io::Loop& loop_;
  io::Network& network_;
  Shards& shards_;
  uint32_t max_connections_ = 0;
  uint64_t accepted_ = 0;
  uint64_t refused_ = 0;
  std::vector<std::unique_ptr<Placing>> placing_;  // by shard
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::unique_ptr<Listener>> prepared_;
  std::vector<Portal> wanted_;
  std::move_only_function<void() noexcept> on_closed_;
};

}  // namespace holdfast::target
