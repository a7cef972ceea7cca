#pragma once
// The simulated IP network: what all SimNetworks of a world are attached to. TCP as a program sees
// it: a byte stream with bounded buffers, delays, resets, silence.

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/io/network.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

struct FabricOptions {
  size_t send_buffer = 64 * 1024;
  size_t receive_buffer = 64 * 1024;
  size_t max_segment = 16 * 1024;
  Duration delay_min = std::chrono::microseconds(20);
  Duration delay_max = std::chrono::microseconds(300);
  uint32_t partial_per_million = 250'000;  // receives and sends cut short
  uint32_t reset_per_million = 0;          // a segment that kills its connection
  size_t backlog = 128;
  Duration connect_timeout = std::chrono::seconds(127);
  Duration stall_timeout = std::chrono::seconds(30);  // TCP_USER_TIMEOUT of both sides
};

class LinkObserver {
 public:
  virtual ~LinkObserver() = default;
  virtual void on_cable(const std::string& address, bool up) = 0;
};

// Owner: the test; lives as long as the world's processes use it. Addresses are texts: "10.1.0.1".
class SimFabric final : public ProcessWatcher {
 public:
  SimFabric(SimWorld& world, const FabricOptions& options);
  ~SimFabric() override;

  // Nothing sent by `from` reaches `to`. The other direction still works; acknowledgements of what
  // it carries do not come back.
  void block(const std::string& from, const std::string& to);
  void heal(const std::string& from, const std::string& to);
  void isolate(const std::string& address);  // both directions, all peers
  void heal_all();
  void set_delay(const std::string& from, const std::string& to, Duration low, Duration high);
  // The cable of the one interface that holds the address: like isolate(), but its host is told
  // (SimLinkWatch). heal_all() plugs nothing in.
  void set_link(const std::string& address, bool up);
  bool link_up(const std::string& address) const { return !links_down_.contains(address); }
  void watch_links(LinkObserver& observer) { observers_.push_back(&observer); }
  void unwatch_links(LinkObserver& observer) { std::erase(observers_, &observer); }
  void set_reset_rate(uint32_t per_million) { options_.reset_per_million = per_million; }
  void reset(io::Socket socket);
  // Every connection between the two addresses; returns how many.
  size_t reset_between(const std::string& a, const std::string& b);

  size_t sockets_of(const SimProcess& process) const;
  size_t connections_of(const SimProcess& process) const;
  // The process at the other end of a connection; null: none any more.
  const SimProcess* peer_process(io::Socket socket) const;
  // Accepted by the socket's kernel and not yet read by its peer.
  size_t unread_output(io::Socket socket) const;

  // The rest is for SimNetwork; the contracts are those of io::Network.
  base::Result<io::Socket> listen(SimLoop& loop, const io::Endpoint& endpoint);
  void accept(SimLoop& loop, uint64_t op, io::Socket listener);
  base::Result<io::Socket> open_stream(SimLoop& loop, const io::Endpoint& peer,
                                       const io::ConnectOptions& options);
  void connect(SimLoop& loop, uint64_t op, io::Socket id, const io::Endpoint& peer);
  // Unix sockets: a path is known in the whole fabric, so processes of two hosts need two paths.
  base::Result<io::Socket> listen_unix(SimLoop& loop, const std::string& path);
  void unlink_unix(const std::string& path);
  base::Result<io::Socket> connect_unix(SimLoop& loop, const std::string& path);
  void receive(SimLoop& loop, uint64_t op, io::Socket id, std::span<const iovec> buffers);
  void send(SimLoop& loop, uint64_t op, io::Socket id, std::span<const iovec> buffers);
  void watch_hangup(SimLoop& loop, uint64_t op, io::Socket id);
  void cancel(SimLoop& loop, uint64_t op);
  void shutdown(io::Socket id);
  void shutdown_send(io::Socket id);
  void close(io::Socket id, bool reset);
  io::Endpoint local_endpoint(io::Socket id) const;
  io::Endpoint peer_endpoint(io::Socket id) const;
  io::TransportInfo transport_info(io::Socket id) const;

  void on_process_ended(SimProcess& process, bool power_lost) override;

 private:
  struct Waiter {
    SimLoop* loop = nullptr;
    uint64_t op = 0;
    std::vector<iovec> buffers;
    bool waiting() const { return loop != nullptr && loop->unfinished(op); }
    bool undelivered() const { return loop != nullptr && loop->pending(op); }
  };
  // What an end's kernel measures.
  struct Meter {
    Duration rtt{0};  // smoothed; 0: nothing measured yet
    Duration last_ack{0}, last_data{0};
    Duration silent_since{0};  // of what is not acknowledged: sent then, or the last progress
    uint64_t timed_end = 0;    // the byte whose acknowledgement is timed; 0: none
    Duration timed_at{0};
    uint32_t retransmits = 0;  // of silences that are over
    // The peer's window is shut and something waits for it.
    bool shut = false;
    uint64_t shut_number = 0;
    uint32_t window_backoff = 0, probes = 0;
  };
  enum class Kind : uint8_t { listener, idle, connecting, stream };
  // One end. Its output is a stream of bytes numbered from 0:
  // read <= delivered <= sent <= written, and acked <= delivered.
  struct End {
    io::Socket id = io::kNoSocket;
    Kind kind = Kind::stream;
    SimProcess* owner = nullptr;
    io::Endpoint local, peer;
    bool local_only = false;  // a Unix socket
    Duration user_timeout{0};
    bool reset_at_exit = false;
    Meter meter;
    io::Socket remote = io::kNoSocket;
    int error = 0;        // errno that ended the connection
    bool closed = false;  // by its program; the kernel still sends what is pending
    bool shut = false;
    bool accepted = true;  // false: still in the listener's queue
    Waiter receiver, sender, connector, hangup;
    std::deque<Waiter> acceptors;  // listener
    std::deque<io::Socket> accept_queue;
    std::string output;  // bytes [read, written)
    uint64_t read = 0, delivered = 0, acked = 0, sent = 0, written = 0;
    uint64_t window_edge = 0;
    bool fin = false, fin_sent = false, fin_delivered = false;
    Duration last_arrival{0};
    // What a blocked direction holds back.
    uint64_t stalled_up_to = 0;
    bool stalled_fin = false, stalled_ack = false, stalled_syn = false;
    bool stalling = false;
    uint64_t stall_number = 0;
  };
  struct Link {
    bool blocked = false;
    bool has_delay = false;
    Duration delay_min{0}, delay_max{0};
  };

  End* find(io::Socket id);
  const End* find(io::Socket id) const;
  End& must_find(io::Socket id);
  End& make_end(Kind kind, SimProcess& owner);
  void erase(io::Socket id);
  bool blocked(const io::Endpoint& from, const io::Endpoint& to) const;
  Duration delay(const io::Endpoint& from, const io::Endpoint& to);
  io::Endpoint with_port(const io::Endpoint& endpoint, uint16_t port) const;

  // sim_fabric.cc: set-up and end of connections
  void fail_connect(io::Socket id, int error);
  void send_syn(io::Socket id);
  void on_syn(io::Socket id);
  void establish(End& client, End& listener);
  void complete_accepts(End& listener);
  void send_reset(const End& from);
  void on_reset(io::Socket id, int error);
  void fail_end(End& end, int error);
  void close_stream(End& end, bool reset);
  void close_listener(End& end);
  void finish_waiter(Waiter& waiter, int32_t result);

  // sim_transport.cc: what a kernel knows of the way to the peer
  void meter_sent(End& end);
  void meter_ack(End& end, uint64_t acked);
  void watch_window(End& end);
  void probe(io::Socket id, uint64_t number);
  uint32_t timeouts(const End& end) const;

  // sim_stream.cc: the bytes
  void try_receive(io::Socket id);
  void try_hangup(End& end);
  void try_send(io::Socket id);
  void pump(End& end);
  void on_segment(io::Socket id, uint64_t up_to, bool fin);
  void schedule_ack(End& sender);
  void on_ack(io::Socket id, uint64_t acked, uint64_t window_edge, bool fin);
  void stall(End& end);
  void retry_stalled();
  void erase_if_done(End& end);
  size_t copy_out(End& writer, const std::vector<iovec>& buffers);

  SimWorld& world_;
  FabricOptions options_;
  io::Socket next_socket_ = 100;
  uint16_t next_port_ = 40'000;
  std::map<io::Socket, End> ends_;
  std::map<std::pair<std::string, std::string>, Link> links_;
  std::set<std::string> isolated_;
  std::set<std::string> links_down_;
  std::vector<LinkObserver*> observers_;
  std::map<std::string, io::Socket> unix_files_;  // the listener may be gone
};

}  // namespace holdfast::sim
