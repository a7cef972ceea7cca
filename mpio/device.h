#pragma once
// A multipath device: several paths to one logical unit, seen as one disk. It chooses the path of
// each command, repeats what a path could not finish, and keeps the promise that multipath is for:
// what it repeats or what comes later is never overwritten by an old attempt. docs/mpio.md.
//
// Owner: the daemon, or whoever embeds the library. One loop's; no call calls back.
//   device_io.cc        requests into commands, commands onto paths
//   device_recovery.cc  what becomes of a command that was not answered with success
//   device_paths.cc     paths, identity, unit attentions, fences
//   device_health.cc    marginal paths, commands that a reset ended

#include <boost/intrusive/list.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/io/buffer_pool.h"
#include "common/io/shared_block_device.h"
#include "mpio/fence.h"
#include "mpio/marginal.h"
#include "mpio/path.h"
#include "mpio/path_selector.h"
#include "mpio/reservations.h"
#include "mpio/retry.h"
#include "mpio/session_keys.h"
#include "mpio/target_table.h"
#include "mpio/task.h"
#include "mpio/unit_attention.h"

namespace holdfast::mpio {

// What a device that has ended leaves to those that come after it.
struct DeviceRemains {
  std::vector<uint64_t> unfenced;   // ISIDs of its own sessions of which a write may still land
  std::vector<LeftSession> fenced;  // of DeviceOptions::left
};

struct DeviceOptions {
  std::string name;
  uint16_t lun = 0;
  std::vector<PathSettings> paths;  // at least one; ISIDs persistent and unique
  Policy policy = Policy::adaptive;
  const Profile* profile = &kLan;
  io::Duration no_path_timeout = std::chrono::seconds(60);
  // A write that is repeated is answered once it is done on another path, and its first attempt
  // stays a ghost: what overlaps it waits, and so must whoever lets another host write there
  // (wait_ghosts). False: it is answered once the first attempt is fenced.
  bool ghost_tracked = false;
  bool in_cluster = false;
  bool unit_reset_in_cluster = false;
  TargetOverride target;
  std::optional<io::Duration> ghost_hold = io::Duration(kDefaultGhostHold);
  // By earlier processes, of whatever unit: the device takes what is of its own. docs/mpio.md,
  // "What a killed process leaves".
  std::vector<LeftSession> left;
  // Makes it durable that sessions with this ISID may have left something at these places and no
  // other, and answers whether it did, on the loop and before the device is destroyed. Asked before
  // one carries I/O where its path's `traces` do not say so. Empty: nothing is kept, and the next
  // process has no `left`.
  using Noted = std::move_only_function<void(bool) noexcept>;
  std::function<void(uint64_t isid, std::set<SessionTrace> traces, Noted)> note;
  // Each session registers a key of its own, under a reservation, so that it can be preempted when
  // it is dead. Not in a cluster, and not together with use_key().
  bool session_keys = false;
  // For tests that show what the fence is for, and a preemption's reservation. What they let happen
  // is the loss of data.
  bool fence = true;
  bool reserve_for_sessions = true;
};

struct DeviceCounters {
  uint64_t requests = 0, failed = 0;
  uint64_t retries = 0, reissued_writes = 0;
  uint64_t failovers = 0, fences = 0, fences_by_time = 0, fences_by_preempt = 0;
  uint64_t path_losses = 0;  // times no path was left
  uint64_t ghost_waits = 0;  // requests that had to wait for a ghost
};

class Device final : public io::SharedBlockDevice, public PathOwner, public FenceOwner {
 public:
  Device(const Path::Services& services, io::BufferPool& buffers, DeviceOptions options);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() override;

  void start();
  // Requests end with -ENOLINK, waits for ghosts with Errc::closed, paths log out. `stopped` once,
  // within kDrainLimit + kLogoutLimit.
  void stop(std::move_only_function<void() noexcept> stopped);
  // A path has been in service: size and identity are known.
  bool known() const { return identity_.has_value(); }
  // Once stopped.
  DeviceRemains remains() const;

  // io::SharedBlockDevice
  io::BlockInfo info() const override { return info_; }
  void submit(io::BlockRequest& request) override;
  void cancel(io::BlockRequest& request) override;
  void set_listener(Listener* listener) override { listener_ = listener; }
  void wait_ghosts(uint64_t offset, uint64_t length, Done done) override;
  void use_key(uint64_t key, Done done) override;
  void readmit(Done done) override;
  void verify_key(Done done) override;
  void reserve(io::ReservationType type, Done done) override;
  void preempt_and_abort(uint64_t victim, io::ReservationType type, Done done) override;
  void clear_reservations(Done done) override;
  void read_reservations(GotState done) override;

  // Administration.
  void set_policy(Policy policy);
  void set_profile(const Profile& profile);
  void set_no_path_timeout(io::Duration timeout);
  bool set_path_enabled(std::string_view path, bool enabled);
  void fail_queue();  // what waits for a path ends now
  void link_changed(const io::Endpoint& source, bool up);

  const DeviceOptions& options() const { return options_; }
  std::string_view policy_name() const { return selector_->name(); }
  std::string wwid() const;
  const std::vector<std::unique_ptr<Path>>& paths() const { return paths_; }
  const std::vector<std::unique_ptr<Fence>>& fences() const { return fences_; }
  const Ghosts& ghosts() const { return ghosts_; }
  const DeviceCounters& counters() const { return counters_; }
  size_t waiting() const { return waiting_count_; }  // for a path
  size_t executing() const { return jobs_in_use_; }
  std::optional<io::Instant> without_path_since() const { return no_path_since_; }
  // Of the last fence that was cleared.
  struct LastFence {
    std::string path;
    FenceProof proof{};
    io::Duration took{};
  };
  const std::optional<LastFence>& last_fence() const { return last_fence_; }
  const SessionKeys& session_keys() const { return *session_keys_; }
  // Of earlier processes' and dead sessions of this initiator and ISID nothing can land any more.
  // False, if they are not ours.
  bool has_nothing_left(std::string_view initiator_name, uint64_t isid) const;
  const TargetRow* target_row() const { return target_row_; }
  TargetKnowledge target_known() const { return target_knowledge(target_row_, options_.target); }

 private:
  friend struct Job;
  friend struct Task;
  friend class Reservations;
  template <class T, auto kHook>
  using List = boost::intrusive::list<
      T, boost::intrusive::member_hook<T, boost::intrusive::list_member_hook<>, kHook>>;
  using TaskList = List<Task, &Task::hook>;
  using FlightList = List<Task, &Task::path_hook>;
  using JobList = List<Job, &Job::hook>;
  using RequestList = List<io::Op, &io::Op::hook>;
  struct GhostWatch {
    GhostWaiter waiter;
    Done done;
  };

  // device_io.cc
  bool valid(const io::BlockRequest& request) const;
  void begin(io::BlockRequest& request);
  void feed(Job& job);
  bool make_task(Job& job);
  void enqueue(Task& task);
  void pump();
  scsi::OutgoingCdb zeroes_command(Task& task, const scsi::BlockRange& range, bool fua);
  bool prepare(Task& task);  // its command; false: no buffer for its parameter data now
  void dispatch(Task& task, size_t path);
  void on_command_done(Task& task) noexcept;
  void take_result(Task& task);
  void widen(Path& path);
  void take_extents(Task& task);
  void finish(Task& task, int32_t error);
  void reuse(Task& task);
  void finish_if_done(Job& job);
  void complete(io::BlockRequest& request, int32_t result);
  void on_completions(int32_t) noexcept;
  void run_waiting_requests();
  uint64_t most_bytes(io::BlockRequest::Kind kind) const;

  // device_recovery.cc
  void recover(Task& task);
  void retry(Task& task, const RetryDecision& decision);
  void split_zeroes(Task& task);
  void take_read_back(Task& task);
  void check_registration(Task& task);
  void delay(Task& task, io::Duration delay);
  void on_delayed() noexcept;
  void on_job_deadline(Job& job);
  void end_early(Job& job, int32_t error);
  void end_task_early(Task& task);
  void abort_on_path(Task& task);
  void fail_all(int32_t error);
  void after_fence(SessionId session);
  void release_ghost_waiters();
  void give_up(std::unique_ptr<GhostWatch> watch);
  void on_no_path_timeout() noexcept;
  void update_no_path();

  // device_paths.cc
  void on_path_state(Path& path) noexcept override;
  void on_path_up(Path& path) noexcept override;
  void on_path_down(Path& path) noexcept override;
  void on_path_facts(Path& path) noexcept override;
  void on_path_refreshed(Path& path) noexcept override;
  void on_unit_attention(Path& path, const scsi::Sense& sense) noexcept override;
  void on_access_refused(Path& path, const scsi::Sense& sense) noexcept override;
  bool has_ghosts(const Path& path, uint64_t session) noexcept override;
  void on_path_leaves(Path& path) noexcept override;
  void start_fence(Path& path) noexcept override;
  void cancel_fence(Path& path) noexcept override;
  Path* survivor(const DeadSession& dead) noexcept override;
  void on_fence_waits(Fence& fence) noexcept override;
  void on_fence_cleared(Fence& fence) noexcept override;
  void on_fence_finished(Fence& fence) noexcept override;
  void on_unit_reset() noexcept override;
  void on_unit_reset_done() noexcept override;
  void on_unit_reset_over(const Fence& fence) noexcept override;
  bool unit_is_being_reset(const Fence& by_others_than) noexcept override;
  Preemption::Keys preemption_keys(const DeadSession& dead, const Path& by) noexcept override;
  void on_preempt_failed(Path& survivor) noexcept override;
  void admit(Path& path);
  void register_path(Path& path);
  void verify_registration(Path& path);
  std::set<SessionTrace> open_traces(const Path& path) const;
  bool takes(const LeftSession& left) const;
  bool may_have_left(const Path& path) const;
  void add_fence(DeadSession dead);
  SessionId left_id(size_t index) const;
  void fence_left_sessions();
  void start_left_fences();
  bool is_ours(Path& path, const scsi::Sense& sense) const;

  // device_health.cc
  void judge_paths();
  void judge_failures();
  void ask_for_commands(Path& path);
  void ask_silent_commands();
  void on_marginal_probe() noexcept;
  void on_probe_read(Path& path, io::Duration latency) noexcept override;

  void update_tier(Path& path);
  void take_facts(const initiator::LunFacts& facts);
  void tell(io::BlockEvent::Kind kind, const char* path = "", const char* why = "");
  void on_housekeeping() noexcept;
  void check_stopped();
  SessionId session_of(const Path& path) const {
    return {static_cast<uint32_t>(path.index()), static_cast<uint32_t>(path.session_number())};
  }

  Path::Services services_;
  io::BufferPool& buffers_;
  DeviceOptions options_;
  std::vector<PathLoad> loads_;
  std::vector<std::unique_ptr<Path>> paths_;
  std::vector<FlightList> flights_;  // by path
  std::unique_ptr<PathSelector> selector_;
  std::vector<std::unique_ptr<Fence>> fences_;
  Ghosts ghosts_;
  RetryBudget retry_budget_;
  AttentionFilter attentions_;
  MarginalJudge judge_;
  std::vector<std::optional<io::Instant>> failed_at_;  // by path: not judged yet
  std::vector<std::unique_ptr<GhostWatch>> ghost_watches_;
  std::vector<QueueLimit> queue_limits_;  // by path
  std::vector<uint32_t> slow_start_;      // by path
  // What is durable of where a path's sessions may have left something.
  struct Noted {
    std::set<SessionTrace> traces;
    uint32_t open = 0;  // notes under way: until they are answered nobody knows
  };
  std::vector<Noted> noted_;  // by path
  // The last time its commands may have been ended, and when those of them that are silent are
  // asked for.
  struct Cleared {
    io::Instant at{}, ask_at{};
  };
  std::vector<Cleared> cleared_;  // by path

  std::optional<scsi::UnitIdentity> identity_;
  io::BlockInfo info_;
  scsi::BlockLimits limits_;
  scsi::ProvisioningLimits provisioning_;
  const TargetRow* target_row_ = nullptr;
  bool no_write_same_ = false;

  std::vector<std::unique_ptr<Job>> jobs_;
  std::vector<Job*> free_jobs_;
  std::vector<std::unique_ptr<Task>> tasks_;
  std::vector<Task*> free_tasks_;
  size_t jobs_in_use_ = 0;
  size_t waiting_count_ = 0;
  RequestList requests_;   // no job is free
  RequestList completed_;  // their callbacks come at the end of the turn
  JobList hungry_;         // jobs with more to send than tasks were free
  TaskList ready_;
  TaskList delayed_;
  TaskList fencing_;

  Listener* listener_ = nullptr;
  DeviceCounters counters_;
  io::Instant started_at_{};
  std::optional<io::Instant> no_path_since_;
  bool no_path_expired_ = false;
  bool node_fenced_ = false;  // our key is gone, and the owner has not decided otherwise
  bool stopping_ = false;
  std::move_only_function<void() noexcept> stopped_;
  std::unique_ptr<Reservations> reservations_;
  std::unique_ptr<SessionKeys> session_keys_;
  std::optional<LastFence> last_fence_;

  io::OpOf<Device, &Device::on_completions> completions_op_{*this};
  io::TimerOf<Device, &Device::on_delayed> delay_timer_{*this};
  io::TimerOf<Device, &Device::on_no_path_timeout> no_path_timer_{*this};
  io::TimerOf<Device, &Device::on_housekeeping> housekeeping_timer_{*this};
  io::TimerOf<Device, &Device::on_marginal_probe> marginal_timer_{*this};
};

}  // namespace holdfast::mpio
