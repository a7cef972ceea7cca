#pragma once
// What a session has to send, cut into PDUs only when it is sent: numbers are those of that moment,
// one send carries many PDUs, and an urgent one waits for one send at most. Order: control PDUs,
// data for commands that were sent, commands as far as the target's window goes.

#include <array>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <span>
#include <vector>

#include "common/iscsi/parameters.h"
#include "common/iscsi/pdu_writer.h"
#include "initiator/command.h"

namespace holdfast::initiator {

struct ControlPdu {
  boost::intrusive::list_member_hook<> hook;
  iscsi::Bhs header;  // all but CmdSN and ExpStatSN
  std::vector<uint8_t> data;
  bool in_use = false;
};

struct SequenceNumbers {
  uint32_t cmd_sn = 0;  // of the next command
  uint32_t max_cmd_sn = 0;
  uint32_t exp_stat_sn = 0;
};

class SendQueue {
 public:
  SendQueue() = default;
  SendQueue(const SendQueue&) = delete;
  SendQueue& operator=(const SendQueue&) = delete;
  ~SendQueue() { ASSERT(control_.empty() && transfers_.empty() && commands_.empty()); }

  // From the first PDU after the login.
  void configure(const iscsi::SessionParameters& parameters) {
    parameters_ = parameters;
    plain_ = false;
  }

  void push(ControlPdu& pdu) { control_.push_back(pdu); }
  void push(Transfer& transfer) { transfers_.push_back(transfer); }
  void push(Command& command) { commands_.push_back(command); }
  // One that waits in it: false when it was cut already.
  bool withdraw(Command& command);
  // What is not cut of the data that R2Ts asked for; not what was announced without one.
  void drop_solicited(Command& command);

  bool has_unsent() const { return !unsent_.empty(); }
  // The iovecs of the next send: what is left of the last one, else new PDUs; empty: nothing may be
  // sent now. Valid until advance().
  std::span<const iovec> prepare(SequenceNumbers& numbers);
  // So many bytes were taken by the kernel. True: the send is through, and no memory named in it is
  // looked at any more: see sent_commands() and recycle().
  bool advance(size_t bytes);
  // Commands with PDUs in the send that ended, one entry a PDU. Also after a failed send, once the
  // operation has completed.
  std::span<Command* const> sent_commands() const { return {frame_commands_.data(), frame_count_}; }
  void recycle();
  // The session is over, and no send under way: everything that waits is forgotten.
  void clear();

 private:
  template <class T, auto kHook>
  using List = boost::intrusive::list<
      T, boost::intrusive::member_hook<T, boost::intrusive::list_member_hook<>, kHook>>;

  // For a PDU whose data lies in so many parts.
  bool room(size_t parts) const {
    return frame_count_ < kMaxSendPdus && iovec_count_ + parts + 2 <= io::kMaxIovecs &&
           bytes_ < kMaxSendBytes;
  }
  uint32_t longest_segment() const;
  void cut_control(ControlPdu& pdu, const SequenceNumbers& numbers);
  void cut_command(Command& command, SequenceNumbers& numbers);
  void cut_transfer(Transfer& transfer, const SequenceNumbers& numbers);
  void begin(Command* command);
  void add_data(const Command& command, uint32_t offset, uint32_t length);
  void finish(const iscsi::Bhs& header, size_t first_part, uint32_t length);

  struct Frame {
    std::array<uint8_t, iscsi::kMaxWireHeaderBytes> header;
    iscsi::DataTrailer trailer;
  };

  iscsi::SessionParameters parameters_;
  bool plain_ = true;        // the login: no digests
  bool logged_out_ = false;  // no request may follow (RFC 7143 11.14)
  List<ControlPdu, &ControlPdu::hook> control_;
  List<ControlPdu, &ControlPdu::hook> control_in_flight_;
  List<Transfer, &Transfer::hook> transfers_;
  List<Command, &Command::hook_> commands_;

  std::array<iovec, io::kMaxIovecs> iovecs_;
  std::span<iovec> unsent_;
  size_t iovec_count_ = 0;
  size_t bytes_ = 0;
  std::array<Frame, kMaxSendPdus> frames_;
  std::array<Command*, kMaxSendPdus> frame_commands_{};
  size_t frame_count_ = 0;
};

}  // namespace holdfast::initiator
