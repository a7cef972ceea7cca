#pragma once
// TCP, and Unix stream sockets, through the loop. One Network per loop; a Socket may be handed from
// one loop's Network to another's of the same world while it has no operation in flight.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/io/loop.h"
#include "common/io/op.h"

namespace holdfast::io {

// An IPv4 or IPv6 address and a TCP port, in host order.
class Endpoint {
 public:
  Endpoint() = default;
  // "10.1.0.10:3260", "[fe80::1]:3260". Numeric only: a name service may hang.
  static base::Result<Endpoint> parse(std::string_view text);
  static Endpoint from(const sockaddr_storage& address);
  sockaddr_storage to_sockaddr(socklen_t* length) const;

  std::string to_string() const;          // "10.1.0.10:3260"
  std::string address_to_string() const;  // "10.1.0.10"
  bool is_v6() const { return v6_; }
  bool is_unspecified() const;
  bool is_loopback() const;  // 127.0.0.0/8, ::1
  uint16_t port() const { return port_; }
  // 4 or 16 bytes, network order.
  std::span<const uint8_t> address() const { return {address_, v6_ ? 16u : 4u}; }
  bool operator==(const Endpoint&) const = default;

 private:
  uint8_t address_[16] = {};
  uint16_t port_ = 0;
  bool v6_ = false;
};

// "10.2.0.0/24" or a single address.
class AddressRange {
 public:
  static base::Result<AddressRange> parse(std::string_view text);
  bool contains(const Endpoint& endpoint) const;
  std::string to_string() const;  // as parse() reads it
  bool operator==(const AddressRange&) const = default;

 private:
  Endpoint base_;
  unsigned prefix_bits_ = 0;
};

using Socket = int;  // a file descriptor in production, a number in the simulator
inline constexpr Socket kNoSocket = -1;

// How a connection is made: open_stream().
struct ConnectOptions {
  Endpoint source;        // its address; unspecified: the kernel chooses. Its port is ignored
  std::string interface;  // leaves by this one only (SO_BINDTODEVICE); empty: as the routes say
  // TCP_USER_TIMEOUT; zero: the kernel's minutes. It also ends a connection whose peer keeps its
  // window shut, though its kernel answers: docs/event_loop.md.
  Duration user_timeout{0};
  uint32_t not_sent_low_water = 0;  // TCP_NOTSENT_LOWAT, bytes; zero: the kernel's value
  // When this process ends without a close(), however it ends, the kernel resets the connection and
  // forgets what it has not sent. Else it goes on sending for minutes, for a process that is gone.
  bool reset_at_exit = false;
};

// What the kernel knows about a TCP connection's way to its peer.
struct TransportInfo {
  uint32_t rtt_us = 0;   // smoothed
  uint32_t unacked = 0;  // segments sent and not acknowledged
  // Time-outs in a row, of retransmission and also of probes of a shut window, answered or not: it
  // says something about the network only while unacked > 0.
  uint32_t backoff = 0;
  uint32_t probes = 0;  // probes of a shut window or of an idle peer in a row without an answer
  uint32_t last_ack_received_ms = 0;
  uint32_t last_data_received_ms = 0;
  uint32_t retransmits_total = 0;
  uint32_t segments_sent = 0;  // with data, repetitions too; 0: not known
  uint32_t unsent_bytes = 0;   // taken by send() and not yet sent once
  uint32_t mss = 0;
  uint32_t path_mtu = 0;
  bool valid = false;  // false: not a connected TCP socket
};

class Network {
 public:
  virtual ~Network() = default;

  // A listening socket, non-blocking, close-on-exec, SO_REUSEADDR.
  virtual base::Result<Socket> listen(const Endpoint& endpoint) = 0;
  // A listening Unix socket; its folder is made if absent, and its file has the mode before anyone
  // can connect. The file of a dead process is replaced, one in use is not (Errc::busy), nor what
  // is no socket. The caller removes it with unlink_unix() before it closes the listener.
  virtual base::Result<Socket> listen_unix(const std::string& path, uint32_t mode) = 0;
  virtual void unlink_unix(const std::string& path) = 0;
  // Completes with the new Socket. TCP_NODELAY is set on it where it is TCP.
  virtual void accept(Op& op, Socket listener) = 0;
  // A socket for one connect() to a peer of that address family, TCP_NODELAY, bound as the options
  // say. Errc::not_found: this host lacks the source address or the interface (now).
  virtual base::Result<Socket> open_stream(const Endpoint& peer, const ConnectOptions& options) = 0;
  // Completes with 0 or -errno. No deadline of its own: cancel() it. Whatever the result, the
  // socket stays the caller's to close(); after a failure it is good for nothing else.
  virtual void connect(Op& op, Socket socket, const Endpoint& peer) = 0;
  // Does not wait: a full backlog is Errc::busy.
  virtual base::Result<Socket> connect_unix(const std::string& path) = 0;
  // Completes with bytes received (0: the peer closed). The iovec array and the memory it names
  // stay the caller's duty until completion.
  virtual void receive(Op& op, Socket socket, std::span<const iovec> buffers) = 0;
  // Completes with bytes sent, which may be fewer than given. At most one send per socket at a
  // time.
  virtual void send(Op& op, Socket socket, std::span<const iovec> buffers) = 0;
  // Completes with 0 or more when the peer is gone: it neither sends nor receives any more, though
  // what it sent before may still be unread. At most one per socket at a time.
  virtual void watch_hangup(Op& op, Socket socket) = 0;
  // Makes the op complete soon (with -ECANCELED unless it was done already).
  virtual void cancel(Op& op) = 0;
  // Both directions end; pending operations complete. The socket stays open until close().
  virtual void shutdown(Socket socket) = 0;
  // No more output after what was sent: the peer reads it, then the end.
  virtual void shutdown_send(Socket socket) = 0;
  // No operation may be pending on it. Pending output is still sent unless `reset`.
  virtual void close(Socket socket, bool reset = false) = 0;

  virtual Endpoint local_endpoint(Socket socket) = 0;
  virtual Endpoint peer_endpoint(Socket socket) = 0;
  virtual TransportInfo transport_info(Socket socket) = 0;
};

// The most iovecs one receive or send takes.
inline constexpr size_t kMaxIovecs = 64;

}  // namespace holdfast::io
