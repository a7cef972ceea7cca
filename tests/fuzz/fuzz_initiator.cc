// A hostile target for a whole initiator::Session with commands under way. Byte 0 chooses what the
// initiator does, byte 1 how the bytes are cut; the rest is what the target sends from the
// connection on, without digests. What a fuzzer can not guess is mended: StatSN (unless bit 0x40 of
// the opcode is set), ISID and task tags (unless 0x80 is), the command window, digests. Mode bit
// 0x80: nothing is.

#include <algorithm>
#include <boost/intrusive/set.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/iscsi/pdu_writer.h"
#include "initiator/session.h"

namespace {

using holdfast::base::Bytes;
using namespace holdfast;             // NOLINT(google-build-using-namespace): a program of one file
using namespace holdfast::initiator;  // NOLINT(google-build-using-namespace)

// A loop without time, and the one connection of it.
class FuzzLoop final : public io::Loop, public io::Network {
 public:
  explicit FuzzLoop(uint8_t cut) : cut_(cut) {}

  std::string to_session;    // not received yet
  std::string from_session;  // sent

  // One completion. False: nothing can happen.
  bool step() {
    if (receive_ != nullptr && !to_session.empty()) fill();
    if (done_.empty()) {
      done_.swap(turn_end_);
      if (done_.empty()) return false;
    }
    const auto [op, result] = done_.front();
    done_.pop_front();
    op->complete(result);
    return true;
  }

  io::Instant now() const override { return {}; }
  void start(io::Timer& timer, io::Duration) override {
    if (!timer.armed()) timers_.insert(timer);
  }
  void stop(io::Timer& timer) override {
    if (timer.armed()) timers_.erase(timers_.iterator_to(timer));
  }
  void post(io::Task) override { ASSERT(false); }
  void complete_soon(io::Op& op, int32_t result) override { finish(op, result); }
  void at_turn_end(io::Op& op) override {
    op.begin();
    turn_end_.emplace_back(&op, 0);
  }

  base::Result<io::Socket> open_stream(const io::Endpoint&, const io::ConnectOptions&) override {
    return 5;
  }
  void connect(io::Op& op, io::Socket, const io::Endpoint&) override { finish(op, 0); }
  void receive(io::Op& op, io::Socket, std::span<const iovec> buffers) override {
    op.begin();
    ASSERT(receive_ == nullptr);
    receive_ = &op;
    buffers_.assign(buffers.begin(), buffers.end());
  }
  void watch_hangup(io::Op&, io::Socket) override { ASSERT(false); }
  void send(io::Op& op, io::Socket, std::span<const iovec> buffers) override {
    size_t room = (cut_ & 1) != 0 ? SIZE_MAX : 1000;
    const size_t before = from_session.size();
    for (const iovec& part : buffers) {
      const size_t bytes = std::min(room, part.iov_len);
      from_session.append(static_cast<const char*>(part.iov_base), bytes);
      room -= bytes;
    }
    finish(op, static_cast<int32_t>(from_session.size() - before));
  }
  void cancel(io::Op& op) override {
    if (receive_ != &op) return;
    receive_ = nullptr;
    done_.emplace_back(&op, -ECANCELED);
  }
  void shutdown(io::Socket) override {}
  void close(io::Socket, bool) override { ASSERT(receive_ == nullptr); }

  base::Result<io::Socket> listen(const io::Endpoint&) override { return 0; }
  base::Result<io::Socket> listen_unix(const std::string&, uint32_t) override { return 0; }
  void unlink_unix(const std::string&) override {}
  void accept(io::Op&, io::Socket) override { ASSERT(false); }
  base::Result<io::Socket> connect_unix(const std::string&) override { return 0; }
  void shutdown_send(io::Socket) override {}
  io::Endpoint local_endpoint(io::Socket) override { return {}; }
  io::Endpoint peer_endpoint(io::Socket) override { return {}; }
  io::TransportInfo transport_info(io::Socket) override { return {}; }

 private:
  void finish(io::Op& op, int32_t result) {
    op.begin();
    done_.emplace_back(&op, result);
  }
  void fill() {
    const size_t most = (cut_ & 2) != 0 ? SIZE_MAX : size_t{7} * (cut_ >> 2) + 1;
    size_t done = 0;
    for (const iovec& buffer : buffers_) {
      const size_t bytes =
          std::min({buffer.iov_len, to_session.size() - taken_ - done, most - done});
      std::memcpy(buffer.iov_base, to_session.data() + taken_ + done, bytes);
      done += bytes;
    }
    taken_ += done;
    if (taken_ == to_session.size()) {
      to_session.clear();
      taken_ = 0;
    }
    done_.emplace_back(std::exchange(receive_, nullptr), static_cast<int32_t>(done));
  }

  const uint8_t cut_;
  size_t taken_ = 0;  // of to_session
  std::deque<std::pair<io::Op*, int32_t>> done_, turn_end_;
  io::Op* receive_ = nullptr;
  std::vector<iovec> buffers_;
  struct Key {
    using type = io::Instant;
    const type& operator()(const io::Timer& timer) const { return timer.deadline; }
  };
  boost::intrusive::multiset<io::Timer,
                             boost::intrusive::member_hook<
                                 io::Timer, boost::intrusive::set_member_hook<>, &io::Timer::hook>,
                             boost::intrusive::key_of_value<Key>>
      timers_;
};

uint8_t pattern(size_t at) { return static_cast<uint8_t>(at * 7 + at / 251); }

// Its memory is freed as soon as it is done, so that a later use shows.
struct FuzzCommand {
  FuzzCommand() { command.owner = this; }
  void make(bool writes, std::vector<size_t> lengths) {
    size_t at = 0;
    for (const size_t length : lengths) {
      memory.push_back(std::make_unique<uint8_t[]>(length));
      for (size_t i = 0; i < length; ++i, ++at) memory.back()[i] = pattern(at);
      parts.push_back({memory.back().get(), length});
    }
    command.writes = writes;
    command.data_bytes = static_cast<uint32_t>(at);
    command.data = parts;
  }
  bool waiting = false;
  int left = 1;  // times it is submitted again
  Session* session = nullptr;
  std::vector<std::unique_ptr<uint8_t[]>> memory;
  std::vector<iovec> parts;
  Command command{[](Command& done) noexcept {
    auto& self = *static_cast<FuzzCommand*>(done.owner);
    ASSERT(std::exchange(self.waiting, false));
    ASSERT(done.moved <= done.data_bytes);
    if (self.session->up() && self.left-- > 0) {
      self.waiting = true;
      return self.session->submit(done);
    }
    self.memory.clear();
  }};
};

struct FuzzFunction {
  FuzzFunction() { function.owner = this; }
  bool waiting = false;
  TaskManagement function{[](TaskManagement& done) noexcept {
    ASSERT(std::exchange(static_cast<FuzzFunction*>(done.owner)->waiting, false));
  }};
};

class Exchange final : private SessionEvents {
 public:
  Exchange(uint8_t mode, uint8_t cut)
      : mode_(mode), loop_(cut), session_(loop_, loop_, random_, options(mode), *this) {
    commands_[0].make(false, {4000, 0, 4192});
    commands_[1].make(false, {4096});
    commands_[2].make(true, {1, 30'000, 40'003});
    commands_[3].make(true, {512});
    commands_[4].make(false, {});
    commands_[5].make(true, std::vector<size_t>(kMaxDataIovecs, 700));
  }

  void run(Bytes stream) {
    session_.start();
    while (true) {
      while (loop_.step()) look_at_output();
      look_at_output();
      if (ended_ || stream.empty()) break;
      stream = stream.subspan(feed(stream));
    }
    if (!ended_) session_.close((mode_ & 1) != 0, "no more input");
    while (loop_.step()) {
    }
    ASSERT(ended_);
    for (const FuzzCommand& each : commands_) ASSERT(!each.waiting && !each.command.busy());
    ASSERT(!reset_.waiting && !abort_.waiting && !text_waits_);
  }

 private:
  static Session::Options options(uint8_t mode) {
    Session::Options options;
    options.login.initiator_name = "iqn.2026-11.org.holdfast:hv1";
    if ((mode & 2) == 0) options.login.target_name = "iqn.2026-11.org.holdfast:store";
    options.login.isid = 0x800000010203;
    const auto digest = (mode & 4) != 0 ? iscsi::DigestChoice::required : iscsi::DigestChoice::none;
    options.login.parameters.header_digest = options.login.parameters.data_digest = digest;
    return options;
  }

  // One PDU, or what is left. Returns how much was taken of the input.
  size_t feed(Bytes stream) {
    if (stream.size() < iscsi::kBhsBytes || (mode_ & 0x80) != 0) {
      loop_.to_session.append(base::as_text(stream));
      return stream.size();
    }
    auto bhs = base::load<iscsi::Bhs>(stream);
    Bytes rest = stream.subspan(iscsi::kBhsBytes);
    const size_t ahs = std::min<size_t>(bhs.total_ahs_length * 4u, rest.size());
    const Bytes additional = rest.first(ahs);
    rest = rest.subspan(ahs);
    const size_t length = std::min<size_t>(bhs.data_segment_length, rest.size());
    const Bytes data = rest.first(length);
    rest = rest.subspan(std::min(rest.size(), length + iscsi::padding_length(length)));
    mend(bhs);
    const bool digests = full_feature_ && (mode_ & 4) != 0;
    loop_.to_session.append(base::as_text(base::as_bytes(bhs)));
    loop_.to_session.append(base::as_text(additional));
    if (digests) {
      base::Crc32c crc;
      crc.update(base::as_bytes(bhs));
      crc.update(additional);
      loop_.to_session.append(base::as_text(base::as_bytes(base::le32(crc.value()))));
    }
    loop_.to_session.append(base::as_text(data));
    if (length > 0) {
      loop_.to_session.append(base::as_text(iscsi::data_trailer(data, digests).bytes()));
    }
    return stream.size() - rest.size();
  }

  void mend(iscsi::Bhs& bhs) {
    struct Numbers {
      std::array<uint8_t, 24> before;
      base::be32 stat_sn, exp_cmd_sn, max_cmd_sn;
      std::array<uint8_t, 12> after;
    };
    static_assert(base::WireStruct<Numbers, iscsi::kBhsBytes>);
    using iscsi::Opcode;
    const bool login = bhs.code() == Opcode::login_response;
    if ((bhs.opcode & 0x80) == 0) {
      if (login) {
        auto response = base::load<iscsi::LoginResponsePdu>(base::as_bytes(bhs));
        response.isid = session_.isid();
        bhs = base::load<iscsi::Bhs>(base::as_bytes(response));
      }
      if (bhs.itt != iscsi::kReservedTag && !tags_.empty()) {
        bhs.itt = tags_[bhs.itt % tags_.size()];
      }
    }
    if ((bhs.opcode & 0x40) != 0) return;
    auto numbers = base::load<Numbers>(base::as_bytes(bhs));
    numbers.stat_sn = stat_sn_;
    const bool none = bhs.code() == Opcode::r2t ||
                      (bhs.code() == Opcode::data_in && (bhs.flags & 1) == 0) ||
                      (bhs.code() == Opcode::nop_in && bhs.itt == iscsi::kReservedTag);
    if (!none) ++stat_sn_;
    numbers.exp_cmd_sn = cmd_sn_;
    numbers.max_cmd_sn = cmd_sn_ + 16;
    bhs = base::load<iscsi::Bhs>(base::as_bytes(numbers));
    bhs.opcode &= 0x3f;
  }

  // What the session sends must always be a stream of PDUs, and its data that of the command.
  void look_at_output() {
    const std::string taken = std::exchange(loop_.from_session, {});
    Bytes input = base::as_bytes(std::string_view(taken));
    while (true) {
      const auto event = reader_.next(input);
      ASSERT(event.has_value());
      if (*event == iscsi::PduReader::Event::need_more) return;
      if (*event == iscsi::PduReader::Event::header) {
        data_.resize(reader_.data_length());
        if (!data_.empty()) reader_.set_data_target(data_);
      } else {
        on_sent_pdu();
      }
    }
  }
  void on_sent_pdu() {
    ASSERT(reader_.data_digest_ok());
    const iscsi::Bhs& bhs = reader_.bhs();
    if (bhs.itt != iscsi::kReservedTag && std::ranges::count(tags_, bhs.itt.get()) == 0) {
      tags_.push_back(bhs.itt);
      if (tags_.size() > 32) tags_.erase(tags_.begin());
    }
    size_t offset = 0;
    if (bhs.code() == iscsi::Opcode::login_request) {
      cmd_sn_ = reader_.as<iscsi::LoginRequestPdu>().cmd_sn;
      return;
    }
    if (bhs.code() == iscsi::Opcode::scsi_command) {
      ASSERT(reader_.as<iscsi::ScsiCommandPdu>().cmd_sn == cmd_sn_ || (mode_ & 0x80) != 0);
      ++cmd_sn_;
    } else if (bhs.code() == iscsi::Opcode::data_out) {
      offset = reader_.as<iscsi::DataOutPdu>().buffer_offset;
    } else {
      return;
    }
    for (size_t i = 0; i < data_.size(); ++i) ASSERT(data_[i] == pattern(offset + i));
  }

  void on_up() noexcept override {
    look_at_output();
    full_feature_ = true;
    const iscsi::SessionParameters& active = session_.parameters();
    reader_.set_digests(active.header_digest, active.data_digest);
    reader_.set_max_data_segment(iscsi::kMaxDataSegmentBytes);
    for (FuzzCommand& each : commands_) {
      each.session = &session_;
      each.waiting = true;
      session_.submit(each.command);
    }
    session_.ping();
    if ((mode_ & 8) != 0) {
      text_waits_ = true;
      session_.text(base::as_bytes(std::string_view("SendTargets=All\0", 16)),
                    [this](base::Result<std::vector<uint8_t>>) noexcept {
                      ASSERT(std::exchange(text_waits_, false));
                    });
    }
    if ((mode_ & 16) != 0) {
      reset_.function.function = iscsi::TaskFunction::logical_unit_reset;
      reset_.waiting = true;
      session_.manage(reset_.function);
    }
  }
  void on_received() noexcept override {
    if ((mode_ & 32) != 0 && session_.up() && commands_[0].command.busy() &&
        commands_[0].command.sent() && !abort_.waiting) {
      abort_.function.task = &commands_[0].command;
      abort_.waiting = true;
      session_.manage(abort_.function);
    }
    if ((mode_ & 64) != 0 && session_.up() && ++receptions_ == 40) session_.logout();
  }
  void on_ended(const SessionEnd&) noexcept override {
    ASSERT(!std::exchange(ended_, true));
    for (const FuzzCommand& each : commands_) ASSERT(!each.waiting);
  }

  const uint8_t mode_;
  base::SeededRandom random_{1};
  FuzzLoop loop_;
  std::array<FuzzCommand, 6> commands_;
  FuzzFunction reset_, abort_;
  Session session_;
  bool ended_ = false, full_feature_ = false, text_waits_ = false;
  int receptions_ = 0;
  uint32_t stat_sn_ = 0xfffffff0, cmd_sn_ = 0;
  std::vector<uint32_t> tags_;
  iscsi::PduReader reader_;
  std::vector<uint8_t> data_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  base::set_log_sink([](base::LogLevel, std::string_view, std::string_view) {});
  auto exchange = std::make_unique<Exchange>(data[0], data[1]);
  exchange->run(Bytes(data + 2, size - 2));
  return 0;
}
