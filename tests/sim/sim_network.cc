#include "tests/sim/sim_network.h"

namespace holdfast::sim {

base::Result<io::Socket> SimNetwork::listen(const io::Endpoint& endpoint) {
  return fabric_.listen(loop_, endpoint);
}

void SimNetwork::accept(io::Op& op, io::Socket listener) {
  fabric_.accept(loop_, loop_.begin(op), listener);
}

base::Result<io::Socket> SimNetwork::listen_unix(const std::string& path, uint32_t) {
  return fabric_.listen_unix(loop_, path);
}

void SimNetwork::unlink_unix(const std::string& path) {
  if (loop_.alive()) fabric_.unlink_unix(path);
}

base::Result<io::Socket> SimNetwork::open_stream(const io::Endpoint& peer,
                                                 const io::ConnectOptions& options) {
  return fabric_.open_stream(loop_, peer, options);
}

void SimNetwork::connect(io::Op& op, io::Socket socket, const io::Endpoint& peer) {
  fabric_.connect(loop_, loop_.begin(op), socket, peer);
}

base::Result<io::Socket> SimNetwork::connect_unix(const std::string& path) {
  return fabric_.connect_unix(loop_, path);
}

void SimNetwork::receive(io::Op& op, io::Socket socket, std::span<const iovec> buffers) {
  fabric_.receive(loop_, loop_.begin(op), socket, buffers);
}

void SimNetwork::send(io::Op& op, io::Socket socket, std::span<const iovec> buffers) {
  fabric_.send(loop_, loop_.begin(op), socket, buffers);
}

void SimNetwork::watch_hangup(io::Op& op, io::Socket socket) {
  fabric_.watch_hangup(loop_, loop_.begin(op), socket);
}

void SimNetwork::cancel(io::Op& op) {
  if (op.busy()) fabric_.cancel(loop_, op.scratch);
}

void SimNetwork::shutdown(io::Socket socket) {
  if (loop_.alive()) fabric_.shutdown(socket);
}

void SimNetwork::shutdown_send(io::Socket socket) {
  if (loop_.alive()) fabric_.shutdown_send(socket);
}

void SimNetwork::close(io::Socket socket, bool reset) {
  if (loop_.alive()) fabric_.close(socket, reset);
}

io::Endpoint SimNetwork::local_endpoint(io::Socket socket) {
  return fabric_.local_endpoint(socket);
}

io::Endpoint SimNetwork::peer_endpoint(io::Socket socket) { return fabric_.peer_endpoint(socket); }

io::TransportInfo SimNetwork::transport_info(io::Socket socket) {
  return fabric_.transport_info(socket);
}

}  // namespace holdfast::sim
