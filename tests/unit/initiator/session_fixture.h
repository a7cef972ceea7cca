#pragma once
// A session, and the scripted target that it talks to: tests say what arrives there, and what it
// answers.

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/scsi/report_luns.h"
#include "initiator/session.h"
#include "tests/unit/initiator/scripted_target.h"

namespace holdfast::initiator {

using iscsi::Opcode;

// A command with its memory, and what came of it.
class TestCommand {
 public:
  explicit TestCommand(std::string its_name = "command") : name(std::move(its_name)) {
    command.owner = this;
    command.lun = scsi::encode_lun(1);
  }
  // `parts`: the lengths of the pieces its memory lies in; they add up to `bytes`.
  void make(bool writes, uint32_t bytes, std::vector<size_t> parts = {}) {
    if (parts.empty() && bytes > 0) parts = {bytes};
    memory.clear();
    iovecs.clear();
    uint32_t at = 0;
    for (const size_t part : parts) {
      memory.push_back(std::make_unique<uint8_t[]>(part));
      for (size_t i = 0; i < part; ++i, ++at) memory.back()[i] = writes ? pattern(at) : 0xee;
      iovecs.push_back({memory.back().get(), part});
    }
    ASSERT_EQ(at, bytes);
    command.cdb = {static_cast<uint8_t>(writes ? 0x8a : 0x88)};
    command.writes = writes;
    command.data_bytes = bytes;
    command.data = iovecs;
  }
  void write(uint32_t bytes, std::vector<size_t> parts = {}) {
    make(true, bytes, std::move(parts));
  }
  void read(uint32_t bytes, std::vector<size_t> parts = {}) {
    make(false, bytes, std::move(parts));
  }
  std::vector<uint8_t> content() const {
    std::vector<uint8_t> all;
    for (const iovec& part : iovecs) {
      const auto* bytes = static_cast<const uint8_t*>(part.iov_base);
      all.insert(all.end(), bytes, bytes + part.iov_len);
    }
    return all;
  }
  static uint8_t pattern(uint32_t at) { return static_cast<uint8_t>(at * 7 + at / 251); }

  const std::string name;
  int done = 0;
  std::function<void()> then;                 // in its callback
  std::vector<std::string>* order = nullptr;  // of completions
  std::vector<std::unique_ptr<uint8_t[]>> memory;
  std::vector<iovec> iovecs;
  Command command{[](Command& done_command) noexcept {
    auto& self = *static_cast<TestCommand*>(done_command.owner);
    ++self.done;
    if (self.order != nullptr) self.order->push_back(self.name);
    if (self.then) self.then();
  }};
};

class TestFunction {
 public:
  explicit TestFunction(iscsi::TaskFunction which, std::string its_name = "function")
      : name(std::move(its_name)) {
    function.owner = this;
    function.function = which;
    function.lun = scsi::encode_lun(1);
  }
  const std::string name;
  int done = 0;
  std::function<void()> then;
  std::vector<std::string>* order = nullptr;
  TaskManagement function{[](TaskManagement& done_function) noexcept {
    auto& self = *static_cast<TestFunction*>(done_function.owner);
    ++self.done;
    if (self.order != nullptr) self.order->push_back(self.name);
    if (self.then) self.then();
  }};
};

inline std::vector<uint8_t> pattern(uint32_t offset, uint32_t length) {
  std::vector<uint8_t> bytes(length);
  for (uint32_t i = 0; i < length; ++i) bytes[i] = TestCommand::pattern(offset + i);
  return bytes;
}

class SessionTest : public testing::Test, public SessionEvents {
 protected:
  SessionTest() {
    options_.portal = ScriptedTarget::portal();
    options_.connect.source = io::Endpoint::parse("10.1.0.1:0").value();
    options_.login.initiator_name = "iqn.2026-11.org.holdfast:hv1";
    options_.login.target_name = "iqn.2026-11.org.holdfast:store";
    options_.login.isid = 0x800000010203;
    options_.login.parameters.header_digest = iscsi::DigestChoice::none;
    options_.login.parameters.data_digest = iscsi::DigestChoice::none;
  }
  ~SessionTest() override {
    if (session_ && starts_ > 0 && !end_) {
      session_->close(true, "the test is over");
      EXPECT_TRUE(run_until([this] { return end_.has_value(); }));
    }
    EXPECT_LE(ends_, starts_);
  }

  // --- the initiator's side ---
  void start() {
    session_ = std::make_unique<Session>(loop_, network_, random_, options_, *this);
    end_.reset();
    up_ = connected_ = false;
    ++starts_;
    session_->start();
  }
  void log_in() {
    start();
    ASSERT_TRUE(run_until([this] { return up_ || end_; }));
    ASSERT_FALSE(end_) << end_->why;
    ASSERT_TRUE(run_until([this] { return target_.logged_in(); }));
  }
  void submit(TestCommand& test) {
    test.order = &order_;
    session_->submit(test.command);
    EXPECT_FALSE(test.done > 0 && !test.command.busy());  // never from inside
  }
  // Commands and functions live as long as the fixture.
  TestCommand& new_write(uint32_t bytes, std::vector<size_t> parts = {}, std::string name = "w") {
    commands_.emplace_back(std::move(name)).write(bytes, std::move(parts));
    return commands_.back();
  }
  TestCommand& new_read(uint32_t bytes, std::vector<size_t> parts = {}, std::string name = "r") {
    commands_.emplace_back(std::move(name)).read(bytes, std::move(parts));
    return commands_.back();
  }
  TestCommand& write(uint32_t bytes, std::vector<size_t> parts = {}, std::string name = "w") {
    TestCommand& test = new_write(bytes, std::move(parts), std::move(name));
    submit(test);
    return test;
  }
  TestCommand& read(uint32_t bytes, std::vector<size_t> parts = {}, std::string name = "r") {
    TestCommand& test = new_read(bytes, std::move(parts), std::move(name));
    submit(test);
    return test;
  }
  TestFunction& new_function(iscsi::TaskFunction which, std::string name = "function") {
    return functions_.emplace_back(which, std::move(name));
  }
  TestFunction& manage(iscsi::TaskFunction which, TestCommand* task = nullptr) {
    TestFunction& test = new_function(which);
    if (task != nullptr) test.function.task = &task->command;
    manage(test);
    return test;
  }
  void manage(TestFunction& test) {
    test.order = &order_;
    session_->manage(test.function);
  }
  bool run_until(const std::function<bool()>& condition,
                 io::Duration within = std::chrono::seconds(1)) {
    return world_.run_until(condition, within);
  }
  void settle() { world_.run_for(std::chrono::milliseconds(50)); }
  bool wait_done(const TestCommand& test, int times = 1) {
    return run_until([&] { return test.done >= times; });
  }
  bool wait_end(io::Duration within = std::chrono::seconds(1)) {
    return run_until([this] { return end_.has_value(); }, within);
  }
  // How it ended; `why` is in the message of a failure.
  EndKind ended(io::Duration within = std::chrono::seconds(1)) {
    EXPECT_TRUE(wait_end(within));
    if (!end_) return EndKind::closed;
    last_why_ = end_->why;
    return end_->kind;
  }

  // --- the target's side ---
  ReceivedPdu expect(Opcode opcode) {
    EXPECT_TRUE(run_until([this] { return !target_.received.empty(); }))
        << "nothing came instead of opcode " << int(opcode) << (end_ ? end_->why : "");
    if (target_.received.empty()) return {};
    ReceivedPdu pdu = std::move(target_.received.front());
    target_.received.pop_front();
    EXPECT_EQ(pdu.bhs.code(), opcode);
    EXPECT_TRUE(pdu.data_digest_ok);
    return pdu;
  }
  void expect_nothing() {
    settle();
    EXPECT_TRUE(target_.received.empty()) << "opcode " << int(target_.received.front().bhs.code());
  }
  iscsi::ScsiCommandPdu expect_command() {
    return expect(Opcode::scsi_command).as<iscsi::ScsiCommandPdu>();
  }
  // Data-Out [offset, offset + length), its content, numbers and F bit.
  void expect_data_out(const iscsi::ScsiCommandPdu& command, uint32_t ttt, uint32_t data_sn,
                       uint32_t offset, uint32_t length, bool final) {
    SCOPED_TRACE("Data-Out at " + std::to_string(offset));
    const ReceivedPdu received = expect(Opcode::data_out);
    const auto pdu = received.as<iscsi::DataOutPdu>();
    EXPECT_EQ(pdu.itt, command.itt);
    EXPECT_EQ(pdu.lun, command.lun);
    EXPECT_EQ(pdu.ttt, ttt);
    EXPECT_EQ(pdu.data_sn, data_sn);
    EXPECT_EQ(pdu.buffer_offset, offset);
    EXPECT_EQ(received.bhs.final(), final);
    EXPECT_EQ(received.data, pattern(offset, length));
  }
  static constexpr uint8_t kU = iscsi::residual_flags::kUnderflow;
  static constexpr uint8_t kO = iscsi::residual_flags::kOverflow;

  iscsi::ScsiResponsePdu response(const iscsi::ScsiCommandPdu& command,
                                  scsi::Status status = scsi::Status::good, uint8_t flags = 0,
                                  uint32_t residual = 0) {
    iscsi::ScsiResponsePdu pdu;
    pdu.flags = static_cast<uint8_t>(iscsi::kFinal | flags);
    pdu.status = static_cast<uint8_t>(status);
    pdu.itt = command.itt;
    pdu.residual_count = residual;
    return pdu;
  }
  void respond(const iscsi::ScsiCommandPdu& command, scsi::Status status = scsi::Status::good,
               uint8_t flags = 0, uint32_t residual = 0) {
    target_.send(response(command, status, flags, residual), true);
  }
  void respond_check(const iscsi::ScsiCommandPdu& command, const scsi::Sense& sense) {
    std::vector<uint8_t> data(2 + 18);
    const size_t length = scsi::encode(sense, false, base::MutableBytes(data).subspan(2));
    base::store(data, base::be16(static_cast<uint16_t>(length)));
    target_.send(response(command, scsi::Status::check_condition), true, data);
  }
  iscsi::R2tPdu r2t(const iscsi::ScsiCommandPdu& command, uint32_t ttt, uint32_t sn,
                    uint32_t offset, uint32_t length) {
    iscsi::R2tPdu pdu;
    pdu.lun = command.lun;
    pdu.itt = command.itt;
    pdu.ttt = ttt;
    pdu.r2t_sn = sn;
    pdu.buffer_offset = offset;
    pdu.desired_data_transfer_length = length;
    return pdu;
  }
  void send_r2t(const iscsi::ScsiCommandPdu& command, uint32_t ttt, uint32_t sn, uint32_t offset,
                uint32_t length) {
    target_.send(r2t(command, ttt, sn, offset, length), false);
  }
  iscsi::DataInPdu data_in(const iscsi::ScsiCommandPdu& command, uint32_t sn, uint32_t offset,
                           uint8_t flags = 0) {
    iscsi::DataInPdu pdu;
    pdu.flags = flags;
    pdu.itt = command.itt;
    pdu.data_sn = sn;
    pdu.buffer_offset = offset;
    return pdu;
  }
  static constexpr uint8_t kWithStatus = iscsi::kFinal | iscsi::data_in_flags::kStatus;
  // The pattern of the place.
  void send_data_in(const iscsi::ScsiCommandPdu& command, uint32_t sn, uint32_t offset,
                    uint32_t length, uint8_t flags = 0) {
    target_.send(data_in(command, sn, offset, flags), (flags & iscsi::data_in_flags::kStatus) != 0,
                 pattern(offset, length));
  }
  iscsi::TaskManagementRequestPdu expect_function() {
    return expect(Opcode::task_management_request).as<iscsi::TaskManagementRequestPdu>();
  }
  void answer_function(const iscsi::TaskManagementRequestPdu& request,
                       iscsi::TaskResponse how = iscsi::TaskResponse::function_complete) {
    iscsi::TaskManagementResponsePdu pdu;
    pdu.response = static_cast<uint8_t>(how);
    pdu.itt = request.itt;
    target_.send(pdu, true);
  }
  void reject(const ReceivedPdu& what, iscsi::RejectReason why) {
    iscsi::RejectPdu pdu;
    pdu.reason = static_cast<uint8_t>(why);
    target_.send(pdu, true, base::as_bytes(what.bhs));
  }

  // SessionEvents
  void on_connected() noexcept override {
    connected_ = true;
    if (when_connected_) when_connected_();
  }
  void on_up() noexcept override {
    up_ = true;
    if (when_up_) when_up_();
  }
  void on_ended(const SessionEnd& end) noexcept override {
    ++ends_;
    end_ = end;
    order_.push_back("end");
    if (when_ended_) when_ended_();
  }
  void on_received() noexcept override {
    ++receptions_;
    if (when_received_) when_received_();
  }
  void on_ping_answered() noexcept override { ++pings_; }
  void on_async(const AsyncMessage& message) noexcept override { messages_.push_back(message); }

  sim::SimWorld world_{31};
  sim::SimFabric fabric_{world_, sim::FabricOptions{}};
  ScriptedTarget target_{world_, fabric_};
  sim::SimProcess& process_ = world_.make_process("initiator");
  sim::SimLoop& loop_ = process_.make_loop();
  sim::SimNetwork network_{fabric_, loop_};
  base::SeededRandom random_{5};
  Session::Options options_;
  std::deque<TestCommand> commands_;
  std::deque<TestFunction> functions_;
  std::unique_ptr<Session> session_;

  bool connected_ = false, up_ = false;
  int starts_ = 0, ends_ = 0, receptions_ = 0, pings_ = 0;
  std::optional<SessionEnd> end_;
  std::string last_why_;
  std::vector<AsyncMessage> messages_;
  std::vector<std::string> order_;  // of completions
  std::function<void()> when_connected_, when_up_, when_ended_, when_received_;
};

}  // namespace holdfast::initiator
