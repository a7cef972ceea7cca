#pragma once
// One NBD client: negotiation, then requests, many at a time, answered in the order in which the
// device completes them. Data goes from the socket to the slab that the device writes from.
// Owner: NbdServer.

#include <array>
#include <boost/intrusive/list.hpp>
#include <memory>
#include <vector>

#include "common/io/buffer_pool.h"
#include "common/io/loop.h"
#include "common/io/network.h"
#include "common/io/shared_block_device.h"
#include "mpio/nbd_negotiation.h"
#include "mpio/nbd_transmission.h"

namespace holdfast::mpio {

class NbdServer;
class NbdConnection;

inline constexpr size_t kNbdSlab = 1024 * 1024;
inline constexpr size_t kMaxNbdParts = nbd::kMaxPayload / kNbdSlab;
static_assert(kMaxNbdParts + 2 <= io::kMaxIovecs);  // with a head, or the negotiation's last words
// Of a request's data. Larger ones leave a part of the buffers to these.
inline constexpr uint32_t kSmallNbdBytes = 256 * 1024;
constexpr bool is_small(uint64_t bytes) { return bytes <= kSmallNbdBytes; }
// Requests of one client that are under way; more stay in its socket.
inline constexpr size_t kMaxNbdRequests = 128;
// From the connection to the end of the negotiation.
inline constexpr auto kNbdHandshakeTimeout = std::chrono::seconds(10);
// A client that takes no answer for so long is gone.
inline constexpr auto kNbdSendTimeout = std::chrono::seconds(60);
// So is one that has not sent the whole data of a WRITE by then: it holds buffers all the while.
inline constexpr auto kNbdPayloadTimeout = std::chrono::seconds(60);

struct NbdRequest : io::BlockRequest {
  NbdRequest();

  NbdConnection* connection = nullptr;
  boost::intrusive::list_member_hook<> list_hook;
  nbd::Request wire;
  std::array<io::Buffer, kMaxNbdParts> buffers;
  std::array<iovec, kMaxNbdParts> parts{};
  size_t part_count = 0;
  // The answer: a header of `head_bytes`, then, of a read, the parts.
  std::array<uint8_t, nbd::kMaxHeadBytes> head{};
  size_t head_bytes = 0;
  bool with_data = false;
  std::array<io::Extent, nbd::kStatusExtents> extent_space{};
};

class NbdConnection {
 public:
  NbdConnection(NbdServer& server, io::Socket socket);
  NbdConnection(const NbdConnection&) = delete;
  NbdConnection& operator=(const NbdConnection&) = delete;
  ~NbdConnection();

  void start();
  // No more requests are taken; those under way are waited for, then the server hears gone().
  void close(const char* why);
  // For the server: something that it waited for may be there now.
  void go_on();
  bool waits_for_pool() const { return waiting_ == Waiting::pool; }
  // The client hears nothing any more, and a change that it asked for within the range is still
  // under way.
  bool orphan_changes(uint64_t offset, uint64_t length) const;
  uint64_t held_bytes() const { return held_bytes_; }

  boost::intrusive::list_member_hook<> hook;
  boost::intrusive::list_member_hook<> waiting_hook;  // linked while it waits

 private:
  friend struct NbdRequest;
  using RequestList = boost::intrusive::list<
      NbdRequest, boost::intrusive::member_hook<NbdRequest, boost::intrusive::list_member_hook<>,
                                                &NbdRequest::list_hook>>;
  // draining: nothing more is taken from the client, what is under way is still answered, if it
  // stays to hear it.
  enum class Phase : uint8_t { negotiation, header, payload, draining, closing };
  // What keeps the next request, whose header is complete, from being begun: a request slot, this
  // client's share of the buffers, or what a vanished client left under way; the buffers of all.
  enum class Waiting : uint8_t { no, own, pool };

  void arm_receive();
  void on_received(int32_t result) noexcept;
  void process(base::Bytes input);
  void negotiate(base::Bytes& input);
  bool take_header(base::Bytes& input);
  bool begin_request();
  bool wait(Waiting what);
  void on_hangup(int32_t) noexcept;
  bool is_orphaned() const { return phase_ == Phase::draining || phase_ == Phase::closing; }
  Waiting acquire_buffers(NbdRequest& request, uint32_t bytes);
  void take_payload(base::Bytes& input);
  void submit(NbdRequest& request);
  nbd::Agreed agreed() const;
  void on_request_done(NbdRequest& request, int32_t result) noexcept;
  void answer(NbdRequest& request, uint32_t error);
  void release(NbdRequest& request);
  void arm_send();
  void on_flush(int32_t) noexcept;
  void on_sent(int32_t result) noexcept;
  void on_timer() noexcept;
  void on_payload_timer() noexcept;
  void drain(const char* why);
  void check_drained();
  void check_gone();
  NbdRequest* new_request();

  NbdServer& server_;
  io::Socket socket_;
  Phase phase_ = Phase::negotiation;
  nbd::Negotiation negotiation_;
  std::vector<uint8_t> receive_buffer_;
  std::array<iovec, kMaxNbdParts + 1> receive_iovecs_{};
  base::Bytes input_;  // received and not taken, while waiting for buffers or a request slot
  std::array<uint8_t, sizeof(nbd::Request)> header_{};
  size_t header_filled_ = 0;
  NbdRequest* incoming_ = nullptr;  // whose payload is being received
  uint64_t payload_filled_ = 0;
  uint64_t discard_ = 0;  // payload of a request that was refused
  Waiting waiting_ = Waiting::no;
  bool processing_ = false;
  const char* drain_reason_ = "";
  uint64_t held_bytes_ = 0;  // of the buffers

  std::vector<std::unique_ptr<NbdRequest>> pool_;
  std::vector<NbdRequest*> free_;
  size_t under_way_ = 0;  // with the device
  RequestList answers_;   // to be sent
  RequestList sending_;
  std::array<iovec, io::kMaxIovecs> send_iovecs_{};
  std::span<iovec> unsent_;
  std::vector<uint8_t> negotiation_output_;   // to be sent
  std::vector<uint8_t> negotiation_sending_;  // the kernel reads from it: stays as it is

  io::OpOf<NbdConnection, &NbdConnection::on_received> receive_op_{*this};
  io::OpOf<NbdConnection, &NbdConnection::on_sent> send_op_{*this};
  io::OpOf<NbdConnection, &NbdConnection::on_flush> flush_op_{*this};
  io::OpOf<NbdConnection, &NbdConnection::on_hangup> hangup_op_{*this};
  io::TimerOf<NbdConnection, &NbdConnection::on_timer> timer_{*this};
  io::TimerOf<NbdConnection, &NbdConnection::on_payload_timer> payload_timer_{*this};
};

}  // namespace holdfast::mpio
