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

namespace holdfast::mpio {

class NbdServer;
class NbdConnection;

inline constexpr uint32_t kMaxNbdPayload = 32 * 1024 * 1024;  // the most QEMU sends
inline constexpr size_t kNbdSlab = 1024 * 1024;
inline constexpr size_t kMaxNbdParts = kMaxNbdPayload / kNbdSlab;
// Requests of one client that are under way; more stay in its socket.
inline constexpr size_t kMaxNbdRequests = 128;
inline constexpr size_t kNbdStatusExtents = 64;
// From the connection to the first request.
inline constexpr auto kNbdHandshakeTimeout = std::chrono::seconds(10);
// A client that takes no answer for so long is gone.
inline constexpr auto kNbdSendTimeout = std::chrono::seconds(60);

struct NbdRequest : io::BlockRequest {
  NbdRequest();

  NbdConnection* connection = nullptr;
  boost::intrusive::list_member_hook<> list_hook;
  nbd::Request wire;
  std::array<io::Buffer, kMaxNbdParts> buffers;
  std::array<iovec, kMaxNbdParts> parts{};
  size_t part_count = 0;
  // The answer: a header of `head_bytes`, then, of a read, the parts.
  std::array<uint8_t, 64 + kNbdStatusExtents * sizeof(nbd::StatusDescriptor)> head{};
  size_t head_bytes = 0;
  bool with_data = false;
  std::array<io::Extent, kNbdStatusExtents> extent_space{};
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
  // Slabs have been given back.
  void buffers_freed();

  boost::intrusive::list_member_hook<> hook;

 private:
  friend struct NbdRequest;
  using RequestList = boost::intrusive::list<
      NbdRequest, boost::intrusive::member_hook<NbdRequest, boost::intrusive::list_member_hook<>,
                                                &NbdRequest::list_hook>>;
  enum class Phase : uint8_t { negotiation, header, payload, closing };

  void arm_receive();
  void on_received(int32_t result) noexcept;
  void process(base::Bytes input);
  void negotiate(base::Bytes& input);
  bool take_header(base::Bytes& input);
  bool begin_request();
  bool acquire_buffers(NbdRequest& request, uint32_t bytes);
  void take_payload(base::Bytes& input);
  void submit(NbdRequest& request);
  void refuse(NbdRequest& request, uint32_t error);
  uint32_t problem_of(const NbdRequest& request) const;
  void on_request_done(NbdRequest& request, int32_t result) noexcept;
  void answer(NbdRequest& request, int32_t result);
  void answer_status(NbdRequest& request);
  void release(NbdRequest& request);
  void arm_send();
  void on_flush(int32_t) noexcept;
  void on_sent(int32_t result) noexcept;
  void on_timer() noexcept;
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
  bool waiting_ = false;  // for a slot or for buffers
  bool refused_ = false;  // the client will get what is queued, then the end
  bool processing_ = false;

  std::vector<std::unique_ptr<NbdRequest>> pool_;
  std::vector<NbdRequest*> free_;
  size_t under_way_ = 0;  // with the device
  RequestList answers_;   // to be sent
  RequestList sending_;
  std::array<iovec, io::kMaxIovecs> send_iovecs_{};
  std::span<iovec> unsent_;
  std::vector<uint8_t> negotiation_output_;

  io::OpOf<NbdConnection, &NbdConnection::on_received> receive_op_{*this};
  io::OpOf<NbdConnection, &NbdConnection::on_sent> send_op_{*this};
  io::OpOf<NbdConnection, &NbdConnection::on_flush> flush_op_{*this};
  io::TimerOf<NbdConnection, &NbdConnection::on_timer> timer_{*this};
};

}  // namespace holdfast::mpio
