#pragma once
// Exports one block device to NBD clients over a Unix socket. Several clients may be connected at a
// time and see each other's flushed writes (multi-conn): all requests go to the one device, and a
// flush covers what every connection has had answered.
//
// Owner: the daemon. One loop's. The device outlives it. The pool may be that of several servers.

#include <boost/intrusive/list.hpp>
#include <memory>
#include <string>

#include "common/io/buffer_pool.h"
#include "common/io/network.h"
#include "common/io/shared_block_device.h"
#include "mpio/nbd_connection.h"

namespace holdfast::mpio {

class NbdServer {
 public:
  struct Options {
    std::string name;    // of the export
    std::string socket;  // its path; mode 0600
    bool read_only = false;
  };

  NbdServer(io::Loop& loop, io::Network& network, io::BufferPool& buffers,
            io::SharedBlockDevice& device, Options options);
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;
  ~NbdServer();

  // Errc::limit: the buffers do not hold the largest request, which then would wait for ever.
  base::Result<> start();
  // No new clients, connections end, requests are waited for. `stopped` once.
  void stop(std::move_only_function<void() noexcept> stopped);

  // The device has another size: new clients are told, and the others may use it.
  void refresh_info();

  size_t connections() const { return connections_.size(); }
  const Options& options() const { return options_; }

 private:
  friend class NbdConnection;

  void on_accepted(int32_t result) noexcept;
  void on_retry() noexcept;
  void accept();
  void gone(NbdConnection& connection);  // destroys it in a later step
  void on_bury(int32_t) noexcept;

  // What overlaps a change of a vanished client waits for it: the older one could land on top of
  // the newer one, or what was read change by itself.
  bool must_wait_for_orphans(const nbd::Request& request) const;
  // Connections that wait for a request slot or for buffers, in the order in which they began to.
  void wait(NbdConnection& connection);
  void watch_pool(const NbdConnection& connection);
  void no_longer_waiting(NbdConnection& connection);
  bool is_first_for_pool(const NbdConnection& connection) const;
  // Large requests leave a reserve, from which small ones are served meanwhile.
  bool may_take(const NbdConnection& connection, uint32_t bytes) const;
  uint64_t reserve() const;
  // Bytes of buffers that one client may hold with more than one request.
  uint64_t share() const { return buffers_.total_bytes() / 2; }
  // Those who wait go on, in a later step: never from inside another connection's work.
  void something_freed();
  void on_freed(int32_t) noexcept;
  void on_pool_timer() noexcept;

  using ConnectionList = boost::intrusive::list<
      NbdConnection,
      boost::intrusive::member_hook<NbdConnection, boost::intrusive::list_member_hook<>,
                                    &NbdConnection::hook>>;
  using WaitingList = boost::intrusive::list<
      NbdConnection,
      boost::intrusive::member_hook<NbdConnection, boost::intrusive::list_member_hook<>,
                                    &NbdConnection::waiting_hook>>;

  io::Loop& loop_;
  io::Network& network_;
  io::BufferPool& buffers_;
  io::SharedBlockDevice& device_;
  Options options_;
  nbd::ExportInfo info_;
  io::Socket listener_ = io::kNoSocket;
  bool stopping_ = false;
  size_t orphans_ = 0;  // requests under way of clients that hear nothing any more
  size_t closing_ = 0;  // connections that wait for them
  uint64_t small_bytes_ = 0;
  ConnectionList connections_;
  ConnectionList gone_;
  WaitingList waiting_;
  std::move_only_function<void() noexcept> stopped_;
  io::OpOf<NbdServer, &NbdServer::on_accepted> accept_op_{*this};
  io::OpOf<NbdServer, &NbdServer::on_bury> bury_op_{*this};
  io::OpOf<NbdServer, &NbdServer::on_freed> freed_op_{*this};
  io::TimerOf<NbdServer, &NbdServer::on_retry> retry_timer_{*this};
  io::TimerOf<NbdServer, &NbdServer::on_pool_timer> pool_timer_{*this};
};

}  // namespace holdfast::mpio
