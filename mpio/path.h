#pragma once
// One path of a device: its state machine, detector and session put together. It connects, logs in,
// probes, watches and reconnects by itself; the device decides what goes over it, and answers for
// what only it can know: whose unit this is, whose key, and what has to be fenced.
//
// Owner: Device, one loop's.

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "initiator/lun_probe.h"
#include "initiator/session.h"
#include "mpio/detector.h"
#include "mpio/path_load.h"
#include "mpio/path_state.h"
#include "mpio/session_trace.h"

namespace holdfast::mpio {

class Path;

struct PathSettings {
  std::string name;    // "10.1.0.10:3260", unique in its device
  std::string device;  // its name, for the log; filled in by the device
  initiator::Session::Options session;
  uint64_t lun = 0;  // the field
  // Where it is durable that its sessions may carry I/O: DeviceOptions::note.
  std::set<SessionTrace> traces;
};

// What the device does for its paths. Calls of a path's own may follow from within.
class PathOwner {
 public:
  virtual ~PathOwner() = default;
  virtual void on_path_state(Path& path) noexcept = 0;  // after each transition
  virtual void on_path_up(Path& path) noexcept = 0;     // it came into service
  virtual void on_path_down(Path& path) noexcept = 0;
  // The unit was asked what it is: answers with Path::probed(), at once or later.
  virtual void on_path_facts(Path& path) noexcept = 0;
  virtual void on_path_refreshed(Path& path) noexcept = 0;  // facts() are new
  virtual void on_unit_attention(Path& path, const scsi::Sense& sense) noexcept = 0;
  // The target moves an idle unit's access state.
  virtual void on_access_refused(Path& path, const scsi::Sense& sense) noexcept = 0;
  virtual void on_probe_read(Path& path, io::Duration latency) noexcept = 0;
  // Of the session that has ended: are there writes whose fate is unknown?
  virtual bool has_ghosts(const Path& path, uint64_t session) noexcept = 0;
  // All of its commands have ended, and it is about to log out: answers with Path::log_out(), at
  // once or later.
  virtual void on_path_leaves(Path& path) noexcept = 0;
  // Answers with Path::fenced().
  virtual void start_fence(Path& path) noexcept = 0;
  virtual void cancel_fence(Path& path) noexcept = 0;
};

struct PathCounters {
  uint64_t sessions = 0;
  uint64_t reads = 0, writes = 0, others = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
  uint64_t errors = 0;      // answers that were no success
  uint64_t given_back = 0;  // commands that a session could not finish
  uint64_t pings = 0;
  uint64_t identity_errors = 0;
};

class Path final : public initiator::SessionEvents {
 public:
  struct Services {
    io::Loop& loop;
    io::Network& network;
    base::Random& random;
  };

  Path(const Services& services, PathOwner& owner, const Profile& profile, PathSettings settings,
       size_t index, PathLoad& load);
  Path(const Path&) = delete;
  Path& operator=(const Path&) = delete;
  ~Path() override;

  void apply(PathEvent event, const char* why = nullptr);
  // The device's word on the facts of a probe: probe_passed, identity_mismatch, key_missing or
  // attempt_failed.
  void probed(PathEvent verdict, const char* why = nullptr);
  void fenced() {
    if (state() == PathState::fencing) apply(PathEvent::fence_done);
  }
  void log_out() {
    if (state() == PathState::logout && session_ != nullptr) session_->logout();
  }
  // No path of the device is usable: tries again sooner, also when it is waiting already.
  void set_urgent(bool urgent);
  void set_profile(const Profile& profile);
  // Asks the unit anew what it is, while I/O goes on: size, limits, access state.
  void refresh();
  // The path of the same address may have come back: no need to wait any longer.
  void link_changed(bool up);
  // Nothing of it is left to wait for.
  bool at_rest() const {
    return session_ == nullptr && state() != PathState::fencing && state() != PathState::failed;
  }

  // This node resets the unit: the path's next unit attention of a reset is no news.
  void expect_reset();
  bool take_expected_reset();

  // Reads the first block, for the time that takes: owner.on_probe_read(). One at a time; a failure
  // is the detector's business.
  void probe_read(uint32_t block_size);

  // A request was given to the session, or has come back.
  uint32_t count_submitted(SizeClass size);  // PathLoad::on_submitted()
  void count_completed();

  PathState state() const { return machine_.state(); }
  const PathMachine& machine() const { return machine_; }
  const PathSettings& settings() const { return settings_; }
  size_t index() const { return index_; }
  PathLoad& load() { return load_; }
  initiator::Session* session() { return session_.get(); }
  uint64_t session_number() const { return session_number_; }
  std::optional<uint16_t> portal_group_tag() const { return portal_group_tag_; }
  const std::optional<initiator::LunFacts>& facts() const { return facts_; }
  std::optional<initiator::LunFacts>& facts() { return facts_; }
  PathCounters& counters() { return counters_; }
  const PathCounters& counters() const { return counters_; }
  io::TransportInfo transport();
  bool session_up() const { return session_ != nullptr && session_->up(); }
  bool carries_io() const {
    return session_ != nullptr && session_->up() &&
           (state() == PathState::active || state() == PathState::marginal);
  }

 private:
  // initiator::SessionEvents
  void on_connected() noexcept override;
  void on_up() noexcept override;
  void on_ended(const initiator::SessionEnd& end) noexcept override;
  void on_received() noexcept override;
  void on_ping_answered() noexcept override;
  void on_async(const initiator::AsyncMessage& message) noexcept override;

  void carry_out(const PathEffects& effects);
  void start_session();
  void take_refusal(const initiator::SessionEnd& end);
  void start_probe();
  void follow_up(PathEvent event, const char* why = nullptr);
  void on_timer() noexcept;
  void on_look() noexcept;
  void look();
  void send_test();
  void on_tested() noexcept;
  void on_read() noexcept;

  Services services_;
  PathOwner& owner_;
  const Profile* profile_;
  PathSettings settings_;
  size_t index_;
  PathLoad& load_;
  PathMachine machine_;
  std::optional<Detector> detector_;
  std::unique_ptr<initiator::Session> session_;
  std::optional<initiator::LunProbe> probe_;
  bool probing_ = false;
  bool refresh_wanted_ = false;
  std::optional<initiator::LunFacts> facts_;
  std::optional<iscsi::TargetAddress> redirect_;
  uint32_t redirects_ = 0;
  std::optional<uint16_t> portal_group_tag_;
  uint64_t session_number_ = 0;
  PathCounters counters_;
  uint32_t outstanding_ = 0;
  io::Instant reset_expected_until_{};

  struct Pending {
    PathEvent event;
    const char* why;
  };
  std::deque<Pending> pending_;  // events that follow from carrying out effects: a handful
  bool stepping_ = false;

  initiator::Command test_{
      [](initiator::Command& command) noexcept { static_cast<Path*>(command.owner)->on_tested(); }};
  initiator::Command read_{
      [](initiator::Command& command) noexcept { static_cast<Path*>(command.owner)->on_read(); }};
  std::vector<uint8_t> read_data_;
  iovec read_part_{};
  io::Instant read_since_{};
  io::TimerOf<Path, &Path::on_timer> timer_{*this};
  io::TimerOf<Path, &Path::on_look> look_timer_{*this};
};

}  // namespace holdfast::mpio
