#pragma once
// A loop's io::Network on a simulated fabric.

#include "tests/sim/sim_fabric.h"

namespace holdfast::sim {

// Owner: the test, beside its loop. Sockets are valid in every SimNetwork of the fabric.
class SimNetwork final : public io::Network {
 public:
  SimNetwork(SimFabric& fabric, SimLoop& loop) : fabric_(fabric), loop_(loop) {}

  base::Result<io::Socket> listen(const io::Endpoint& endpoint) override;
  void accept(io::Op& op, io::Socket listener) override;
  base::Result<io::Socket> listen_unix(const std::string& path, uint32_t mode) override;
  void unlink_unix(const std::string& path) override;
  base::Result<io::Socket> open_stream(const io::Endpoint& peer,
                                       const io::ConnectOptions& options) override;
  void connect(io::Op& op, io::Socket socket, const io::Endpoint& peer) override;
  base::Result<io::Socket> connect_unix(const std::string& path) override;
  void receive(io::Op& op, io::Socket socket, std::span<const iovec> buffers) override;
  void send(io::Op& op, io::Socket socket, std::span<const iovec> buffers) override;
  void watch_hangup(io::Op& op, io::Socket socket) override;
  void cancel(io::Op& op) override;
  void shutdown(io::Socket socket) override;
  void shutdown_send(io::Socket socket) override;
  void close(io::Socket socket, bool reset) override;
  io::Endpoint local_endpoint(io::Socket socket) override;
  io::Endpoint peer_endpoint(io::Socket socket) override;
  io::TransportInfo transport_info(io::Socket socket) override;

 private:
  SimFabric& fabric_;
  SimLoop& loop_;
};

}  // namespace holdfast::sim
