#include "mpio/reservation_client.h"

#include <utility>

#include "mpio/limits.h"

namespace holdfast::mpio {
namespace {

using base::Errc;
using base::Result;

constexpr uint32_t kMaxAttentions = 8;

}  // namespace

ReservationClient::ReservationClient(io::Loop& loop) : loop_(loop), data_(kReservationBytes) {
  command_.owner = this;
}

ReservationClient::~ReservationClient() {
  ASSERT(!command_.busy());
  loop_.stop(timer_);
}

void ReservationClient::add(Operation operation) {
  queue_.push_back(std::move(operation));
  if (std::exchange(running_, true)) return;
  // Never from inside the caller's call.
  loop_.post([this]() noexcept { finish(); });
}

void ReservationClient::finish() {
  if (queue_.empty()) {
    running_ = false;
    return;
  }
  Operation next = std::move(queue_.front());
  queue_.pop_front();
  next();
}

void ReservationClient::stop() {
  stopping_ = true;
  loop_.stop(timer_);
}

void ReservationClient::run(Path& path, const scsi::OutgoingCdb& cdb,
                            const scsi::PrOutParameters* parameters, Answer answer,
                            Patience patience) {
  answer_ = std::move(answer);
  path_ = &path;
  session_ = path.session_number();
  attentions_ = 0;
  command_.lun = path.settings().lun;
  command_.cdb = cdb.bytes;
  command_.writes = cdb.direction == scsi::DataDirection::out;
  command_.data_bytes = cdb.length;
  if (parameters != nullptr) {
    scsi::encode_pr_out_parameters(*parameters, base::MutableBytes(data_).first(cdb.length));
  }
  part_ = {data_.data(), cdb.length};
  command_.data = {&part_, 1};
  if (patience == Patience::short_time) loop_.start(timer_, kReservationTimeout);
  submit();
}

void ReservationClient::submit() {
  initiator::Session* session = path_->session();
  if (stopping_ || session == nullptr || !session->up() || !session->has_slot() ||
      path_->session_number() != session_) {
    loop_.stop(timer_);
    return std::exchange(answer_, nullptr)(base::fail(Errc::closed, "the path went away"));
  }
  session->submit(command_);
}

void ReservationClient::on_timeout() noexcept {
  // The session gives the command back.
  path_->apply(PathEvent::lost, "a reservation command was not answered");
}

void ReservationClient::on_command_done() noexcept {
  using scsi::SenseKey;
  const bool answered = command_.outcome == initiator::Outcome::answered;
  if (answered && command_.status == scsi::Status::check_condition &&
      command_.sense.key == SenseKey::unit_attention && ++attentions_ <= kMaxAttentions) {
    return submit();
  }
  loop_.stop(timer_);
  Answer answer = std::exchange(answer_, nullptr);
  if (!answered) {
    return answer(base::fail(Errc::closed, "the path went away: whether it was done is not known"));
  }
  switch (command_.status) {
    case scsi::Status::good:
      return answer(base::Bytes(data_).first(command_.writes ? 0 : command_.moved));
    case scsi::Status::reservation_conflict:
      return answer(base::fail(Errc::permission, "reservation conflict"));
    case scsi::Status::busy:
    case scsi::Status::task_set_full:
      return answer(base::fail(Errc::busy, "the target is busy"));
    default:
      break;
  }
  if (command_.status == scsi::Status::check_condition &&
      command_.sense.key == SenseKey::illegal_request) {
    return answer(base::fail(Errc::unsupported, "the unit refuses the reservation command"));
  }
  answer(base::fail(Errc::io, "the unit could not carry out the reservation command"));
}

void ReservationClient::read_keys(Path& path, GotKeys got) {
  run(path, scsi::build::persistent_reserve_in(scsi::ReserveIn::read_keys, kReservationBytes),
      nullptr, [got = std::move(got)](Result<base::Bytes> answer) mutable noexcept {
        auto keys =
            answer.has_value() ? scsi::parse_read_keys(*answer) : std::unexpected(answer.error());
        if (keys.has_value() && !keys->complete) {
          keys = base::fail(Errc::limit, "more reservation keys than can be looked at");
        }
        got(std::move(keys));
      });
}

void ReservationClient::read_reservation(Path& path, GotReservation got) {
  run(path, scsi::build::persistent_reserve_in(scsi::ReserveIn::read_reservation, 64), nullptr,
      [got = std::move(got)](Result<base::Bytes> answer) mutable noexcept {
        got(answer.has_value() ? scsi::parse_read_reservation(*answer)
                               : std::unexpected(answer.error()));
      });
}

}  // namespace holdfast::mpio
