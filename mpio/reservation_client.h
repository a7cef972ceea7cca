#pragma once
// PERSISTENT RESERVE commands of a device: one operation at a time, in the order of the calls, as
// parallel registrations stall on some arrays. An operation is made of commands, one after the
// other, each on a path of its choice.
//
// Owner: whoever has a key (Reservations, SessionKeys), or a fence. One loop's.

#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "common/scsi/build_cdb.h"
#include "common/scsi/parse_reservations.h"
#include "initiator/session.h"
#include "mpio/path.h"

namespace holdfast::mpio {

class ReservationClient {
 public:
  // Begins when its turn has come, and calls finish() when it is over.
  using Operation = std::move_only_function<void() noexcept>;
  using Answer = std::move_only_function<void(base::Result<base::Bytes>) noexcept>;
  using GotKeys = std::move_only_function<void(base::Result<scsi::ReportedKeys>) noexcept>;
  using GotReservation =
      std::move_only_function<void(base::Result<scsi::ReportedReservation>) noexcept>;
  enum class Patience : uint8_t {
    short_time,  // then the path is given up
    any_time,    // the target drains before it answers: the caller has a time of its own
  };

  explicit ReservationClient(io::Loop& loop);
  ReservationClient(const ReservationClient&) = delete;
  ReservationClient& operator=(const ReservationClient&) = delete;
  ~ReservationClient();

  void add(Operation operation);
  void finish();
  // Nothing is sent any more; what an operation still asks for is answered with an error.
  void stop();
  bool idle() const { return !running_ && !command_.busy(); }
  bool busy() const { return answer_ != nullptr; }  // a command is under way

  // Through the path: repeated after unit attentions. Errc::permission: conflict;
  // Errc::unsupported: illegal request; Errc::closed: the path went away, perhaps after it was
  // done.
  void run(Path& path, const scsi::OutgoingCdb& cdb, const scsi::PrOutParameters* parameters,
           Answer answer, Patience patience = Patience::short_time);
  void read_keys(Path& path, GotKeys got);  // all of them, or an error
  void read_reservation(Path& path, GotReservation got);

 private:
  void submit();
  void on_command_done() noexcept;
  void on_timeout() noexcept;

  io::Loop& loop_;
  bool stopping_ = false;
  bool running_ = false;
  std::deque<Operation> queue_;

  Path* path_ = nullptr;  // that the command is on
  uint64_t session_ = 0;
  uint32_t attentions_ = 0;
  Answer answer_;
  std::vector<uint8_t> data_;
  iovec part_{};
  initiator::Command command_{[](initiator::Command& command) noexcept {
    static_cast<ReservationClient*>(command.owner)->on_command_done();
  }};
  io::TimerOf<ReservationClient, &ReservationClient::on_timeout> timer_{*this};
};

}  // namespace holdfast::mpio
