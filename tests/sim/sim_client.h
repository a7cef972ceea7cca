#pragma once
// A host that uses the target: random commands, impatience, reconnects; and what every answer means
// to the models.

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/judge.h"
#include "tests/sim/sim_initiator.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {

struct ClientOptions {
  uint32_t index = 0;
  std::string address;                           // "10.1.0.1"
  uint32_t depth = 4;                            // commands under way
  Duration patience = std::chrono::seconds(12);  // with a command, before it is aborted
  uint32_t reserve_per_mille = 60;  // share of PERSISTENT RESERVE OUT among the commands
  uint32_t manage_per_mille = 8;    // of task management without need
  bool new_isids = true;            // sometimes comes back as another nexus
};

// Owner: the test. Runs in a process of its own, which is never killed: what it knows is the
// model's.
class SimClient final : public InitiatorEvents {
 public:
  SimClient(Judge& judge, SimFabric& fabric, TargetHost& target, const ClientOptions& options);
  ~SimClient() override;

  void start();
  void drop();  // its connection, by a reset
  // Issues nothing of its own any more, but goes on reconnecting.
  void quiesce() { quiet_ = true; }
  // Logged in, every unit answers, nothing is under way.
  bool settled() const;
  // Reads everything, and the reservations; settled() again when done.
  void verify();

  const std::string& name() const { return name_; }
  const std::string& address() const { return options_.address; }
  std::string describe() const;  // for a failure's report

 private:
  enum class Kind : uint8_t {
    probe,
    read,
    write,
    zero,
    swap,
    sync,
    reserve_in,
    reserve_out,
  };
  struct Operation {
    Kind kind = Kind::probe;
    Unit* unit = nullptr;
    DataModel::Range range;
    WriteId write = 0;
    uint64_t read = 0;
    Duration began{0};
    bool fua = false;
    std::vector<uint8_t> compared;
    PrCommand reserve;
    std::vector<WriteOwner> older;  // what the target had when PREEMPT AND ABORT was sent
  };
  struct UnitView {
    Unit* unit = nullptr;
    bool ready = false;
    bool probing = false;
  };
  struct Management {
    bool active = false;
    uint32_t tag = 0;
    Unit* unit = nullptr;
    iscsi::TaskFunction function{};
    Duration began{0};
    std::vector<uint32_t> victims;   // own commands it ends without an answer
    std::vector<WriteOwner> others;  // what it also ends
  };

  // InitiatorEvents
  void on_logged_in() override;
  void on_login_refused(iscsi::LoginStatus status) override;
  void on_command_done(uint32_t tag, const ScsiResult& result) override;
  void on_task_management_done(uint32_t tag, bool answered, iscsi::TaskResponse) override;
  void on_logged_out() override;
  void on_connection_lost() override;
  void on_breach(const std::string& what) override;

  // sim_client.cc
  void on_tick() noexcept;
  void connect();
  void choose_isid();
  void watch_patience();
  void escalate(uint32_t tag, const Operation& operation);
  void manage(iscsi::TaskFunction function, Unit& unit, uint32_t referenced);
  void forget(uint32_t tag);
  void settle_reserve_out();
  PrNexus nexus() const { return {name_, isid_}; }

  // sim_client_commands.cc
  void probe(UnitView& view);
  void issue_one();
  void issue(Operation operation, ScsiRequest request);
  DataModel::Range choose_blocks(const Unit& unit, uint64_t most);
  void read(Unit& unit, uint64_t lba, uint64_t count);
  void write(Unit& unit, uint64_t lba, uint64_t count);
  void zero(Unit& unit, uint64_t lba, uint64_t count);
  void swap(Unit& unit, uint64_t lba, uint64_t count);
  void sync(Unit& unit);
  void reserve_in(Unit& unit);
  void reserve_out(Unit& unit);

  // sim_client_answers.cc
  enum class Verdict : uint8_t { done, refused, conflict, miscompare, ended, unknown };
  Verdict judge_answer(const Operation& operation, const ScsiResult& result);
  void data_answered(const Operation& operation, const ScsiResult& result, Verdict verdict);
  void write_answered(const Operation& operation, Verdict verdict, const ScsiResult& result);
  void reserve_in_answered(const Operation& operation, const ScsiResult& result, Verdict verdict);
  void reserve_out_answered(const Operation& operation, const ScsiResult& result, Verdict verdict);

  Judge& judge_;
  TargetHost& target_;
  const ClientOptions options_;
  const std::string name_;
  SimWorld& world_;
  SimFabric& fabric_;
  SimProcess& process_;
  SimLoop& loop_;
  SimNetwork network_;
  base::SeededRandom random_;
  uint64_t isid_;
  uint64_t isids_used_ = 0;
  uint32_t instance_ = 0;  // of the target this session is with; 0: one that has ended
  bool quiet_ = false;
  bool logged_in_ = false;
  bool logging_out_ = false;
  Duration connect_began_{0};
  Duration next_connect_{0};
  Unit* unsettled_reserve_out_ = nullptr;  // its fate shows at the next login
  std::unique_ptr<SimInitiator> connection_;
  std::vector<std::unique_ptr<SimInitiator>> closing_;
  std::vector<UnitView> units_;
  std::map<uint32_t, Operation> operations_;
  Management management_;
  io::TimerOf<SimClient, &SimClient::on_tick> timer_{*this};
};

}  // namespace holdfast::sim
