#pragma once
// A host that uses the target through the product's own initiator::Session: random commands whose
// answers, and whose want of answers, the model judges. It owns the LUNs alone.

#include <memory>
#include <string>
#include <vector>

#include "initiator/session.h"
#include "tests/sim/judge.h"
#include "tests/sim/sim_network.h"

namespace holdfast::sim {

// What it does wrong on purpose, so that a run which finds nothing says something.
enum class SessionSabotage : uint8_t {
  none,
  offset,  // writes give their data in another order
  unsent,  // what was not answered counts as not sent
  reuse,   // memory is used again while the command is under way
};

// Owner: the test. Runs in a process of its own, which is never killed.
class SessionUser final : public initiator::SessionEvents {
 public:
  struct Options {
    io::Endpoint portal;
    std::string address;  // "10.1.0.1"
    uint32_t depth = 8;
    Duration patience = std::chrono::seconds(5);  // with a command, before it is aborted
    SessionSabotage sabotage = SessionSabotage::none;
  };
  SessionUser(Judge& judge, SimFabric& fabric, const Options& options);
  ~SessionUser() override;

  void start();
  void drop(bool reset);
  // Issues nothing of its own any more, but goes on reconnecting.
  void quiesce() { quiet_ = true; }
  // Logged in, and nothing is under way.
  bool settled() const { return up() && !logging_out_ && busy_ == 0 && unverified_.empty(); }
  // Reads everything; settled() again when done.
  void verify();
  // Ends its session; then it may be destroyed.
  void stop();
  bool stopped() const { return stopping_ && session_ == nullptr; }
  std::string describe() const;

 private:
  enum class Kind : uint8_t { read, write, zero, swap, sync };
  struct Operation {
    explicit Operation(SessionUser& its_user) : user(its_user) {
      command.owner = this;
      abort.owner = this;
    }
    bool idle() const { return !command.busy() && !abort.busy(); }

    SessionUser& user;
    Kind kind = Kind::read;
    Unit* unit = nullptr;
    DataModel::Range range;
    WriteId write = 0;
    uint64_t read = 0;
    Duration began{0};
    bool fua = false;
    std::vector<uint8_t> memory, compared;
    std::vector<iovec> parts;
    initiator::Command command{[](initiator::Command& done) noexcept {
      auto& operation = *static_cast<Operation*>(done.owner);
      operation.user.on_done(operation);
    }};
    initiator::TaskManagement abort{[](initiator::TaskManagement& done) noexcept {
      auto& operation = *static_cast<Operation*>(done.owner);
      operation.user.on_aborted(done);
    }};
  };
  enum class Verdict : uint8_t { done, refused, miscompare, ended, unknown };

  bool up() const { return session_ != nullptr && session_->up(); }
  void connect();
  void on_tick() noexcept;
  void issue_one(Operation& operation);
  void issue(Operation& operation, const std::array<uint8_t, 16>& cdb, size_t bytes, bool writes);
  void cut(Operation& operation, size_t bytes);
  void read_whole(Unit& unit);
  void watch_patience();
  Verdict judge_outcome(const Operation& operation);
  void on_done(Operation& operation);
  void on_aborted(const initiator::TaskManagement& function);
  void take_back(Operation& operation);
  void write_ended(Operation& operation, Verdict verdict);

  // SessionEvents
  void on_up() noexcept override;
  void on_ended(const initiator::SessionEnd& end) noexcept override;
  void on_ping_answered() noexcept override;

  Judge& judge_;
  const Options options_;
  SimWorld& world_;
  SimProcess& process_;
  SimLoop& loop_;
  SimNetwork network_;
  base::SeededRandom random_;
  base::SeededRandom session_random_;
  bool quiet_ = false, stopping_ = false, logging_out_ = false, closed_ = false;
  Duration next_connect_{0};
  Duration pinged_{0};
  uint64_t sessions_ = 0;
  uint32_t busy_ = 0;
  std::vector<Unit*> unverified_;
  std::unique_ptr<initiator::Session> session_;
  std::vector<std::unique_ptr<Operation>> operations_;
  struct Open {
    Unit* unit;
    WriteId write;
  };
  std::vector<Open> open_;  // not answered; the next login makes an end of them
  io::TimerOf<SessionUser, &SessionUser::on_tick> timer_{*this};
};

}  // namespace holdfast::sim
