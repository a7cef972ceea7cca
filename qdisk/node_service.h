#pragma once
// What the daemon runs of the node: one life after the other. A life begins with a look at the
// witness and the local state; when it is evicted the next one begins, which asks to be admitted.
//
// Owner: main; one loop's. Files are read and written on the thread of `files`.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/daemon/file_worker.h"
#include "qdisk/config.h"
#include "qdisk/fence_agent.h"
#include "qdisk/fence_request.h"
#include "qdisk/lease_page.h"
#include "qdisk/node.h"
#include "qdisk/node_configuration.h"
#include "qdisk/quorum_status.h"
#include "qdisk/state_file.h"
#include "qdisk/watchdog.h"
#include "qdisk/watchdog_pet.h"
#include "qdisk/witness_look.h"

namespace holdfast::qdisk {

class NodeService final : private NodeListener {
 public:
  struct Services {
    io::Loop& loop;
    base::Random& random;
    Transport& transport;
    daemon::FileWorker& files;
    LeasePage& page;
    FenceAgents& agents;
    Watchdog* watchdog = nullptr;  // none: nothing ends this host when the daemon hangs
  };
  using Done = std::move_only_function<void(std::expected<void, std::string>) noexcept>;
  // Why no life can begin, for the administrator. The daemon is to end.
  using Failed = std::move_only_function<void(std::string why) noexcept>;

  // The devices outlive it; `boot`: of this boot of the host, all zeroes: not known.
  NodeService(const Services& services, const Config& config, std::vector<GuardedDevice> devices,
              const Uuid& boot);
  NodeService(const NodeService&) = delete;
  NodeService& operator=(const NodeService&) = delete;
  ~NodeService() override;

  // `running` once, when the first life has begun.
  void start(io::Task running, Failed failed);
  // Leaves the cluster, so that the others need not wait for anything, and ends. Once.
  void stop(io::Task stopped);

  // A cluster of this node alone, which the others join. Only where none is known; and where all
  // others are heard, but for `although_silent`.
  void create(bool although_silent, Done done);
  // An operator's word instead of a majority. `heard_too`: also while other nodes are heard, of
  // whom the operator says that they are no part of the cluster any more.
  void force(bool heard_too, Done done);

  // --- for the other daemons of this host: node_service_users.cc ---

  struct Seen {
    Decision decision;
    Epoch fenced = 0;
    bool lease = false;
  };
  // The other daemon acts by this host's lease until it leaves. What it has dropped, and whether it
  // runs something that has to end with the lease (nothing: as before), is as of now.
  std::expected<void, std::string> attend(const std::string& user, Epoch quiesced,
                                          std::optional<bool> runs);
  std::expected<void, std::string> leave(const std::string& user);
  // Nothing: between two lives.
  std::optional<Seen> seen() const;
  struct Fence {
    Incarnation incarnation = 0;
    FenceAnswer answer;
  };
  // Answers as of now, and does what is to be done for it: to be asked again while it is pending.
  // `incarnation`: of the life that is meant; 0: the one that is a member, or was last.
  std::expected<Fence, std::string> fence(const std::string& node, Incarnation incarnation,
                                          bool strict);
  // Null: between two lives.
  NodeConfiguration* configuration() const { return configuration_.get(); }
  // Called when a decision is learnt and with each tick.
  void on_change(std::move_only_function<void() noexcept> changed) {
    changed_ = std::move(changed);
  }

  // Another witness than the cluster has: the one that this node is configured with.
  std::expected<void, std::string> use_witness();

  bool has_lease() const { return node_ != nullptr && node_->lease_valid(); }
  QuorumStatus status() const;

  // In which stop() has ended, but for a disk that does not answer.
  static constexpr io::Duration kLeaveLimit = std::chrono::seconds(1);

 private:
  // looking at the witness, opening the local state, running, ending a life to begin another; and
  // waiting until what an earlier life has started here has ended.
  enum class Phase : uint8_t {
    idle,
    looking,
    opening,
    running,
    ending,
    waiting,
    stopping,
    stopped
  };

  void on_decision(const Decision& decision) override;
  void on_evicted() override;
  void on_config(NodeId from, const ConfigMessage& message) override {
    if (configuration_ != nullptr) configuration_->on_message(from, message);
  }

  void begin();
  void look(io::Task then);
  void on_looked(const base::Result<WitnessSight>& sight, io::Task then);
  void open_state();
  void on_opened(std::expected<std::shared_ptr<StateDirectory>, std::string> directory);
  void run(const NodeRecord& record);
  bool may_have_lived_before() const;
  void when_nothing_runs(io::Task then);
  void look_whether_anything_runs();
  void tell_quiesced();
  void switch_off(const Life& life);
  void end_life(io::Task then);
  void close_node(io::Task then);
  void begin_next(const char* why);
  void refuse_to_begin(std::string why);
  void try_create();
  void create_now();
  void refuse_to_create(const std::string& why);
  void found(Done done);
  void finish_stop();
  std::optional<std::string> obstacle_to_create() const;
  std::optional<std::string> obstacle_on_witness() const;
  const NodeConfig* silent_node() const;
  void on_tick() noexcept;
  void ask_for_what_is_configured();
  void publish();
  void tend_watchdog();
  void disarm_watchdog();
  const GuardedDevice* witness() const;

  const Services services_;
  const Config& config_;
  const std::vector<GuardedDevice> devices_;
  const Uuid boot_;
  io::Task running_;
  Failed failed_;
  WatchdogPetter petter_;
  LeaseUsers users_;
  // The lease of this life that the daemon before this one had: it holds until it ends, and those
  // who act by it do not notice that the daemon was restarted.
  std::optional<LeaseView> carried_;
  std::move_only_function<void() noexcept> changed_;
  struct AgentFailure {
    std::string reason;   // empty: none
    io::Instant until{};  // it may be tried again
  };
  std::array<AgentFailure, kMaxNodes> agent_failures_;

  Phase phase_ = Phase::idle;
  std::unique_ptr<WitnessLook> look_;
  std::optional<WitnessSight> sight_;
  std::shared_ptr<StateDirectory> directory_;
  std::unique_ptr<StateFile> store_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<NodeConfiguration> configuration_;
  bool evicted_ = false;  // the life before
  Incarnation seen_ = 0;  // a later life of this node than the present one
  std::string problem_;
  struct Creating {
    bool although_silent = false;
    io::Instant hears_until{};
    Done done;
  };
  std::optional<Creating> creating_;
  io::Task when_nothing_runs_;
  io::Instant leave_until_{};
  io::Task stopped_;
  io::TimerOf<NodeService, &NodeService::on_tick> timer_{*this};
  // What other threads and later steps answer: nobody is there any more once it has gone.
  std::shared_ptr<NodeService*> self_ = std::make_shared<NodeService*>(this);
};

}  // namespace holdfast::qdisk
