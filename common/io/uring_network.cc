// The Network half of UringLoop.

#include <linux/sockios.h>
#include <linux/tcp.h>  // its tcp_info, unlike that of <netinet/tcp.h>, counts segments
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/io/unix_socket.h"
#include "common/io/uring_loop.h"

namespace holdfast::io {
namespace {

// States of a connection, which only <netinet/tcp.h> has names for.
enum TcpState : uint8_t { kEstablished = 1, kFinWait1 = 4, kFinWait2 = 5, kCloseWait = 8 };

constexpr int kListenBacklog = 1024;
constexpr int kKeepaliveIdleSeconds = 30;
constexpr int kKeepaliveIntervalSeconds = 10;

bool set_option(Socket socket, int level, int option, int value) {
  return setsockopt(socket, level, option, &value, sizeof(value)) == 0;
}

// Accepted sockets inherit these of their listener. What is sent is coalesced by us, so Nagle would
// only add delay; keepalive finds peers that vanished without a word.
void set_stream_options(Socket socket) {
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
}

base::Result<> bind_to_interface(Socket socket, const std::string& interface) {
  if (setsockopt(socket, SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(),
                 static_cast<socklen_t>(interface.size() + 1)) == 0) {
    return {};
  }
  if (errno == EPERM) {
    return base::fail(base::Errc::permission, "binding to an interface needs CAP_NET_RAW", errno);
  }
  return base::fail(base::Errc::not_found, "this host does not have the interface", errno);
}

base::Result<> bind_to_source(Socket socket, const Endpoint& source) {
  // The kernel chooses the port in connect(), where it knows the peer: one port can serve several.
  set_option(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  socklen_t length = 0;
  sockaddr_storage address = source.to_sockaddr(&length);
  if (source.is_v6()) {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = 0;
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = 0;
  }
  if (bind(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0) return {};
  return base::fail(errno == EADDRNOTAVAIL ? base::Errc::not_found : base::Errc::invalid_argument,
                    "this host does not have the source address", errno);
}

void set_reset_on_close(Socket socket, bool reset) {
  const linger how{.l_onoff = reset ? 1 : 0, .l_linger = 0};
  setsockopt(socket, SOL_SOCKET, SO_LINGER, &how, sizeof(how));
}

base::Result<> apply(Socket socket, const ConnectOptions& options) {
  set_stream_options(socket);
  // Before the source address: one of IPv6's link-local addresses means something on a link only.
  if (!options.interface.empty()) TRY(bind_to_interface(socket, options.interface));
  if (!options.source.is_unspecified()) TRY(bind_to_source(socket, options.source));
  if (options.user_timeout > Duration::zero()) {
    const auto timeout = std::chrono::ceil<std::chrono::milliseconds>(options.user_timeout);
    set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(timeout.count()));
  }
  if (options.not_sent_low_water != 0) {
    set_option(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
               static_cast<int>(options.not_sent_low_water));
  }
  if (options.reset_at_exit) set_reset_on_close(socket, true);
  return {};
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
  set_stream_options(socket);
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

base::Result<Socket> UringLoop::listen_unix(const std::string& path, uint32_t mode) {
  return io::listen_unix(path, mode);
}

void UringLoop::unlink_unix(const std::string& path) { io::unlink_unix(path); }

base::Result<Socket> UringLoop::connect_unix(const std::string& path) {
  return io::connect_unix(path);
}

base::Result<Socket> UringLoop::open_stream(const Endpoint& peer, const ConnectOptions& options) {
  if (!options.source.is_unspecified() && options.source.is_v6() != peer.is_v6()) {
    return base::fail(base::Errc::invalid_argument,
                      "the source address and the peer's are of two families", EAFNOSUPPORT);
  }
  const int family = peer.is_v6() ? AF_INET6 : AF_INET;
  const Socket socket = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return base::fail(base::Errc::limit, "no socket to be had", errno);
  if (const base::Result<> applied = apply(socket, options); !applied.has_value()) {
    ::close(socket);
    return std::unexpected(applied.error());
  }
  return socket;
}

void UringLoop::connect(Op& op, Socket socket, const Endpoint& peer) {
  socklen_t length = 0;
  const sockaddr_storage address = peer.to_sockaddr(&length);
  ASSERT(length <= sizeof(op.address));
  io_uring_sqe* sqe = prepare(op);
  std::memcpy(&op.address, &address, length);
  io_uring_prep_connect(sqe, socket, reinterpret_cast<const sockaddr*>(&op.address), length);
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

void UringLoop::watch_hangup(Op& op, Socket socket) {
  io_uring_prep_poll_add(prepare(op), socket, POLLHUP | POLLERR);
}

void UringLoop::shutdown(Socket socket) { ::shutdown(socket, SHUT_RDWR); }

void UringLoop::shutdown_send(Socket socket) { ::shutdown(socket, SHUT_WR); }

void UringLoop::close(Socket socket, bool reset) {
  set_reset_on_close(socket, reset);  // also off: ConnectOptions::reset_at_exit
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

TransportInfo UringLoop::transport_info(Socket socket) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return {};
  int unsent = 0;
  if (ioctl(socket, SIOCOUTQNSD, &unsent) != 0) unsent = 0;
  // TCP_INFO's are milliseconds since; a closed connection's are of no use to anyone.
  return {.rtt_us = info.tcpi_rtt,
          .unacked = info.tcpi_unacked,
          .backoff = info.tcpi_backoff,
          .probes = info.tcpi_probes,
          .last_ack_received_ms = info.tcpi_last_ack_recv,
          .last_data_received_ms = info.tcpi_last_data_recv,
          .retransmits_total = info.tcpi_total_retrans,
          .segments_sent = info.tcpi_data_segs_out,
          .unsent_bytes = static_cast<uint32_t>(unsent),
          .mss = info.tcpi_snd_mss,
          .path_mtu = info.tcpi_pmtu,
          .valid = info.tcpi_state == kEstablished || info.tcpi_state == kCloseWait ||
                   info.tcpi_state == kFinWait1 || info.tcpi_state == kFinWait2};
}

}  // namespace holdfast::io
