#pragma once
// One TLS connection between two nodes, over a socket: frames in, frames out. docs/rpc.md.
//
// A connection is open when each side has proved to the other who it is, and the accepting side has
// said hello: a client of TLS 1.3 is through before the server has looked at its certificate.

#include <memory>
#include <string>
#include <vector>

#include "common/io/loop.h"
#include "common/io/network.h"
#include "common/rpc/frame.h"
#include "common/rpc/limits.h"
#include "common/rpc/send_queue.h"
#include "common/rpc/tls_engine.h"

namespace holdfast::rpc {

enum class EndKind : uint8_t {
  closed,             // by begin_close()
  connect_failed,     // `error` is the errno
  timed_out,          // not open within the handshake's deadline
  tls_failed,         // `tls` says why
  refused,            // the peer knows who this node is and does not want it; or we the peer
  peer_closed,        // FIN, or TLS's word for it
  connection_failed,  // RST, ETIMEDOUT: `error` is the errno
  stalled,            // the peer did not take what was sent
  protocol_error,     // its frames make no sense
};
const char* to_string(EndKind kind) noexcept;

struct ConnectionEnd {
  EndKind kind = EndKind::closed;
  int32_t error = 0;
  TlsFailure tls = TlsFailure::none;
  const char* why = "";  // static text
};
// "tls failed: the peer's certificate has expired"
std::string describe(const ConnectionEnd& end);

class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;
  // The accepting side: the peer has proved to be peer(). False: it is told that it is not wanted.
  virtual bool on_identified() noexcept { return true; }
  virtual void on_opened() noexcept = 0;
  // The payload is valid during the call.
  virtual void on_frame(const FrameHeader& header, base::Bytes payload) noexcept = 0;
  // The last call, always from the loop. The connection may be destroyed from within it.
  virtual void on_ended(const ConnectionEnd& end) noexcept = 0;
};

// Owner: whoever constructs it; one loop's. After connect() or accept() the owner keeps it until
// on_ended(). No call of it calls back.
class Connection {
 public:
  struct Options {
    io::Duration handshake_timeout = kHandshakeTimeout;
    io::Duration send_timeout = kSendTimeout;
  };

  Connection(io::Loop& loop, io::Network& network, const Options& options,
             ConnectionEvents& events);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  // One of the two, once. `node`: the only one that will do.
  void connect(std::shared_ptr<const TlsContext> tls, const std::string& node,
               const io::Endpoint& address, const io::ConnectOptions& options);
  // The socket is the connection's from now on.
  void accept(std::shared_ptr<const TlsContext> tls, io::Socket socket);

  bool open() const { return phase_ == Phase::open; }
  // From on_identified() or on_opened() on; empty before.
  const NodeIdentity& peer() const { return peer_; }

  // Copies the frame to the queue. Errc::closed: not open. Errc::limit: the queue of this priority
  // is full; it empties as the peer takes what was sent. Errc::invalid_argument: too long.
  base::Result<> send(Priority priority, const FrameHeader& header, base::Bytes payload);
  // What waits to be sent is thrown away; the peer is told if it takes that soon. Any number of
  // times; the first reason counts.
  void begin_close(const char* why);
  // The frames make no sense to whoever reads them.
  void reject(const char* why) { end(EndKind::protocol_error, why); }

  // What waits behind the send that is under way.
  size_t queued_bytes() const { return queue_.size_bytes(); }
  size_t queued_bytes(Priority priority) const { return queue_.size_bytes(priority); }

 private:
  enum class Phase : uint8_t { idle, connecting, handshake, open, closing, ended };

  void on_connected(int32_t result) noexcept;
  void on_received(int32_t result) noexcept;
  void on_sent(int32_t result) noexcept;
  void on_flush(int32_t) noexcept;
  void on_end(int32_t) noexcept { check_ended(); }
  void on_timer() noexcept;

  void begin_handshake(TlsEngine::Side side, const std::string& node);
  void arm_receive();
  void process(base::Bytes received);
  void identify();
  void read_frames();
  void on_first_frame();
  void become_open();
  void say(FrameKind kind, base::Bytes payload);
  void arm_flush();
  void pump();
  void send_rest();
  bool take_output();
  void end(EndKind kind, const char* why, int32_t error = 0);
  void say_farewell();
  void check_ended();
  bool live() const { return phase_ == Phase::handshake || phase_ == Phase::open; }

  io::Loop& loop_;
  io::Network& network_;
  const Options options_;
  ConnectionEvents& events_;
  Phase phase_ = Phase::idle;
  bool client_ = false;
  bool identified_ = false;
  bool reset_ = false;
  io::Socket socket_ = io::kNoSocket;
  std::shared_ptr<const TlsContext> tls_;
  std::string node_;
  NodeIdentity peer_;
  std::unique_ptr<TlsEngine> engine_;
  ConnectionEnd end_;

  FrameReader reader_{kMaxPayload};
  std::vector<uint8_t> receive_buffer_;
  std::vector<uint8_t> plain_;
  iovec receive_iovec_{};

  SendQueue queue_;
  std::vector<uint8_t> sending_;  // the kernel reads from it: stays as it is
  size_t sent_bytes_ = 0;
  iovec send_iovec_{};

  io::OpOf<Connection, &Connection::on_connected> connect_op_{*this};
  io::OpOf<Connection, &Connection::on_received> receive_op_{*this};
  io::OpOf<Connection, &Connection::on_sent> send_op_{*this};
  io::OpOf<Connection, &Connection::on_flush> flush_op_{*this};
  io::OpOf<Connection, &Connection::on_end> end_op_{*this};
  io::TimerOf<Connection, &Connection::on_timer> timer_{*this};
};

}  // namespace holdfast::rpc
