#pragma once
// One change of what is served: made ready as far as possible without touching anything, then put
// into force, then the commands and sessions that it concerns are ended.

#include <optional>
#include <string>
#include <vector>

#include "target/config_diff.h"
#include "target/node_state.h"
#include "target/unit_operations.h"

namespace holdfast::target {

// New disks, the state store and growing disks together; beyond it the change is given up, or goes
// on in the background where that is no longer possible.
inline constexpr io::Duration kPrepareWait = std::chrono::seconds(5);

struct ChangePlan {
  std::vector<std::string> sentences;  // one for each thing done
  std::vector<DiskConfig> added_disks;
  DiskOrigin origin = DiskOrigin::file;  // of the added ones
  std::vector<ConfigDiff::Growth> grown_disks;
  std::vector<std::string> removed_disks;
  std::optional<DiskConfig> remember;  // a disk of `disk create`, new or grown
  std::optional<std::string> forget;
  std::optional<Config> config;
  std::vector<ConfigDiff::LunRemoval> removed_luns;
  std::vector<std::string> other_lun_inventory;
};

// Owner: TargetNode. Thread: the control loop's. One change at a time.
class NodeChange {
 public:
  using Outcome = NodeControl::Outcome;
  using Reply = NodeControl::Reply<Outcome>;

  NodeChange(NodeState& node, UnitOperations& operations) : node_(node), operations_(operations) {}
  NodeChange(const NodeChange&) = delete;
  NodeChange& operator=(const NodeChange&) = delete;
  ~NodeChange() { stop(); }

  bool busy() const { return step_ != Step::idle; }
  // Called whenever a change is over. Must not begin one from within.
  void set_on_idle(std::move_only_function<void() noexcept> callback) {
    on_idle_ = std::move(callback);
  }
  // Backings that work on a growth and will answer to the loop.
  size_t growing() const { return growing_; }
  // It is answered, and goes on in the background until a disk has been grown.
  bool waits_for_growth() const { return step_ == Step::growing && !reply_; }
  // A disk whose storage hangs must not stand in the way of another change, which may keep somebody
  // out. Precondition: waits_for_growth().
  void give_up_growth();
  void begin(ChangePlan plan, Reply reply);  // not busy()
  void stop();

 private:
  enum class Step : uint8_t { idle, opening, storing, growing, ending };
  struct Opened {
    DiskConfig config;
    DiskRecord record{};
    Reservations reservations{};
    std::shared_ptr<io::Backing> backing{};
    UnitId unit = 0;  // once it is in force
  };

  void open_next();
  void on_identified(base::Result<DiskRecord> record);
  void on_opened(base::Result<std::shared_ptr<io::Backing>> backing);
  void prepare_portals();
  void store();
  void on_stored(const char* what, base::Result<> result);
  void grow_next();
  void on_grown(base::Result<> result);
  void commit();
  void apply_to_state();
  void publish(std::shared_ptr<const NodeMap> map);
  std::vector<Shards::Ask> lun_drains();
  void remove_disks();
  void end_sessions();
  void part_ended(bool all);
  void on_deadline() noexcept;
  void fail(std::string reason);
  void finish();
  // A callback for the change that runs now; ignored once that one is over.
  template <auto kMethod, class... Bound>
  auto callback(Bound... bound);

  NodeState& node_;
  UnitOperations& operations_;
  Step step_ = Step::idle;
  uint64_t serial_ = 0;
  ChangePlan plan_;
  Reply reply_;  // empty: answered, the rest goes on in the background
  std::move_only_function<void() noexcept> on_idle_;
  io::Instant begun_at_{};
  std::vector<Opened> opened_;
  DiskOpener::Ticket ticket_ = 0;
  size_t grown_ = 0;
  size_t growing_ = 0;
  size_t parts_left_ = 0;
  io::TimerOf<NodeChange, &NodeChange::on_deadline> timer_{*this};
};

}  // namespace holdfast::target
