#pragma once
// What a connection has to send, cut into PDUs only when it is sent: so the sequence numbers are
// those of that moment, one send carries many PDUs, and a big read needs no PDU objects.

#include <array>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <span>

#include "common/io/op.h"
#include "common/iscsi/pdu.h"
#include "common/iscsi/pdu_writer.h"
#include "target/limits.h"

namespace holdfast::target {

// Data-In numbering of one command (RFC 7143 11.7.5).
struct DataInProgress {
  uint32_t data_sn = 0;
  uint32_t burst_left = 0;  // until the sequence must end with F (MaxBurstLength)
};

// Embedded in its owner, which keeps it and its data until sent() was called.
struct SendItem {
  enum class Kind : uint8_t { pdu, data_in };
  using Sent = void (*)(SendItem&) noexcept;

  SendItem(void* embedding, Sent callback) : owner(embedding), sent(callback) {}
  SendItem(const SendItem&) = delete;
  SendItem& operator=(const SendItem&) = delete;

  void* owner;  // the object it is embedded in
  Sent sent;    // the bytes are with the kernel, or the connection is gone
  boost::intrusive::list_member_hook<> hook;
  Kind kind = Kind::pdu;
  bool takes_stat_sn = true;  // pdu: the StatSN advances
  bool plain = false;         // pdu: without digests, as in the login
  iscsi::Bhs header;          // pdu: all but the sequence numbers and the data length
  base::Bytes data;

  // data_in
  uint32_t itt = 0;
  uint32_t buffer_offset = 0;          // of data[0] in the command's data
  uint32_t cut = 0;                    // bytes of data in PDUs already
  DataInProgress* progress = nullptr;  // pdu: of a SCSI response whose ExpDataSN counts it
  bool ends_data = false;              // the command's last data
  bool with_status = false;            // ... whose PDU carries the status (RFC 7143 11.7.3)
  uint8_t status = 0;
  uint8_t residual_flags = 0;
  uint32_t residual = 0;
};

struct SequenceNumbers {
  uint32_t stat_sn = 0;  // of the next response
  uint32_t exp_cmd_sn = 0;
  uint32_t max_cmd_sn = 0;
};

class SendQueue {
 public:
  SendQueue() = default;
  SendQueue(const SendQueue&) = delete;
  SendQueue& operator=(const SendQueue&) = delete;
  ~SendQueue() { ASSERT(items_.empty() && in_flight_.empty()); }

  void configure(iscsi::Digests digests, uint32_t max_data_segment, uint32_t max_burst);

  void push(SendItem& item) { items_.push_back(item); }
  bool empty() const { return items_.empty() && unsent_.empty(); }

  // The iovecs of the next send: what is left of the last one, else new PDUs. Valid until
  // advance().
  std::span<const iovec> prepare(SequenceNumbers& numbers);
  // So many bytes were taken by the kernel. Items that are sent whole get their callback.
  void advance(size_t bytes);
  // The connection is gone: every item gets its callback. No send may be in flight.
  void clear();

  // Burst length a command's Data-In starts with.
  uint32_t max_burst() const { return max_burst_; }

 private:
  using ItemList = boost::intrusive::list<
      SendItem, boost::intrusive::member_hook<SendItem, boost::intrusive::list_member_hook<>,
                                              &SendItem::hook>>;

  void cut_pdu(SendItem& item, SequenceNumbers& numbers);
  void cut_data_in(SendItem& item, SequenceNumbers& numbers);
  void append(const iscsi::Bhs& header, base::Bytes data, bool plain);
  void release(ItemList& items);

  iscsi::Digests digests_;
  uint32_t max_data_segment_ = iscsi::kDefaultDataSegmentBytes;
  uint32_t max_burst_ = 0;
  ItemList items_;      // not cut to the end
  ItemList in_flight_;  // cut to the end; their last bytes are in this send
  std::array<iovec, kMaxSendIovecs> iovecs_;
  std::span<iovec> unsent_;
  size_t iovec_count_ = 0;
  struct Frame {
    std::array<uint8_t, iscsi::kMaxWireHeaderBytes> header;
    iscsi::DataTrailer trailer;
  };
  std::array<Frame, kMaxSendPdus> frames_;
  size_t frame_count_ = 0;
};

}  // namespace holdfast::target
