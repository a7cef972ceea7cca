// The Network half of UringLoop.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>

#include "common/io/uring_loop.h"

namespace holdfast::io {
namespace {

constexpr int kListenBacklog = 1024;
constexpr int kKeepaliveIdleSeconds = 30;
constexpr int kKeepaliveIntervalSeconds = 10;

bool set_option(Socket socket, int level, int option, int value) {
  return setsockopt(socket, level, option, &value, sizeof(value)) == 0;
}

void set_message(Op& op, std::span<const iovec> buffers) {
  op.message = {};
  op.message.msg_iov = const_cast<iovec*>(buffers.data());  // the kernel only reads the array
  op.message.msg_iovlen = buffers.size();
}

}  // namespace

base::Result<Socket> UringLoop::listen(const Endpoint& endpoint) {
  socklen_t length = 0;
  const sockaddr_storage address = endpoint.to_sockaddr(&length);
  const Socket socket = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return base::fail(base::Errc::limit, "no socket to be had", errno);
  set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  // Accepted sockets inherit these. Responses are coalesced by us, so Nagle would only add delay;
  // keepalive finds peers that vanished without a word.
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  if (endpoint.is_v6()) set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (bind(socket, reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    const int error = errno;
    ::close(socket);
    return base::fail(error == EADDRINUSE ? base::Errc::busy : base::Errc::invalid_argument,
                      error == EADDRINUSE ? "another program listens there"
                                          : "this host does not have the address",
                      error);
  }
  if (::listen(socket, kListenBacklog) != 0) {
    const int error = errno;
    ::close(socket);
    return base::fail(base::Errc::io, "listen failed", error);
  }
  return socket;
}

void UringLoop::accept(Op& op, Socket listener) {
  io_uring_prep_accept(prepare(op), listener, nullptr, nullptr, SOCK_CLOEXEC);
}

void UringLoop::receive(Op& op, Socket socket, std::span<const iovec> buffers) {
  ASSERT(!buffers.empty() && buffers.size() <= kMaxIovecs);
  if (buffers.size() == 1) {
    io_uring_prep_recv(prepare(op), socket, buffers[0].iov_base, buffers[0].iov_len, 0);
    return;
  }
  set_message(op, buffers);
  io_uring_prep_recvmsg(prepare(op), socket, &op.message, 0);
}

void UringLoop::send(Op& op, Socket socket, std::span<const iovec> buffers) {
  ASSERT(!buffers.empty() && buffers.size() <= kMaxIovecs);
  if (buffers.size() == 1) {
    io_uring_prep_send(prepare(op), socket, buffers[0].iov_base, buffers[0].iov_len, MSG_NOSIGNAL);
    return;
  }
  set_message(op, buffers);
  io_uring_prep_sendmsg(prepare(op), socket, &op.message, MSG_NOSIGNAL);
}

void UringLoop::shutdown(Socket socket) { ::shutdown(socket, SHUT_RDWR); }

void UringLoop::shutdown_send(Socket socket) { ::shutdown(socket, SHUT_WR); }

void UringLoop::close(Socket socket, bool reset) {
  if (reset) {
    const linger now{.l_onoff = 1, .l_linger = 0};
    setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  }
  ::close(socket);
}

Endpoint UringLoop::local_endpoint(Socket socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return {};
  return Endpoint::from(address);
}

Endpoint UringLoop::peer_endpoint(Socket socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return {};
  return Endpoint::from(address);
}

}  // namespace holdfast::io
