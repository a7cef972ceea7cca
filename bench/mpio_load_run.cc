#include "bench/mpio_load_run.h"

#include <time.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "common/base/random.h"
#include "common/io/netlink_link_watch.h"
#include "common/io/uring_loop.h"
#include "common/scsi/report_luns.h"
#include "initiator/limits.h"

namespace holdfast::bench {
namespace {

using base::Errc;
using base::fail;
using base::Result;
using std::chrono::milliseconds;

// As holdfast-mpiod sets its sessions up.
constexpr uint64_t kPoolBytes = uint64_t{64} << 20;
constexpr uint32_t kNotSentLowWater = 128 * 1024;
constexpr uint64_t kRandomIsid = uint64_t{0x80} << 40;  // RFC 7143 11.12.5: random, and a qualifier

constexpr auto kLook = milliseconds(5);
constexpr auto kUpLimit = std::chrono::seconds(15);
constexpr auto kEndLimit = std::chrono::seconds(90);  // what is under way when the time is over

uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}
uint64_t now_ns() { return clock_ns(CLOCK_MONOTONIC); }

mpio::DeviceOptions device_options(const LoadOptions& options, base::Random& random) {
  mpio::DeviceOptions made{.name = "bench", .policy = options.policy, .profile = options.profile};
  made.lun = options.lun;
  made.ghost_tracked = options.ghost_tracked;
  const uint64_t own = random.below(1 << 24);
  for (const LoadPortal& portal : options.portals) {
    mpio::PathSettings path{.name = portal.address.to_string(),
                            .lun = uint64_t{scsi::encode_lun(options.lun)}};
    path.session.portal = portal.address;
    if (portal.source) path.session.connect.source = *portal.source;
    path.session.connect.not_sent_low_water = kNotSentLowWater;
    auto& login = path.session.login;
    login.initiator_name = "iqn.2026-11.org.holdfast:bench-mpio";
    login.target_name = options.target;
    login.isid = kRandomIsid | own << 16 | made.paths.size();
    login.parameters.max_recv_data_segment_length = initiator::kMaxDataSegment;
    login.parameters.max_outstanding_r2t = initiator::kMaxOutstandingR2t;
    made.paths.push_back(std::move(path));
  }
  return made;
}

// Owner: run_load(), one loop's. begin() ... finished().
class Load final : public io::LinkListener {
 public:
  Load(io::UringLoop& loop, io::BufferPool& pool, const LoadOptions& options,
       std::function<void()> started)
      : loop_(loop),
        pool_(pool),
        options_(options),
        started_(std::move(started)),
        device_({.loop = loop, .network = loop, .random = system_}, pool,
                device_options(options, system_)),
        random_(system_.next()) {}
  ~Load() override { loop_.stop(timer_); }

  void begin();
  Result<LoadResult> take() { return std::move(result_); }

 private:
  struct Lane {
    explicit Lane(Load& owner) : load(owner) {}
    void on_done(int32_t result) noexcept { load.on_done(*this, result); }
    Load& load;
    io::Buffer buffer;
    iovec part{};
    uint64_t began_ns = 0;
    io::BlockRequestOf<Lane, &Lane::on_done> request{*this};
  };

  void on_timer() noexcept;
  void await_paths();
  void start_load();
  bool make_lanes();
  void next(Lane& lane);
  uint64_t next_block();
  void on_done(Lane& lane, int32_t result);
  void end_load();
  void collect();
  void fail_with(const char* why);
  void stop_device();
  void close_links();
  void on_link(const io::LinkEvent& event) noexcept override;

  enum class Phase : uint8_t { connecting, loading, draining, stopping };

  io::UringLoop& loop_;
  io::BufferPool& pool_;
  const LoadOptions& options_;
  std::function<void()> started_;
  base::SystemRandom system_;
  mpio::Device device_;
  base::SeededRandom random_;  // a system call per request would be part of the figure
  std::unique_ptr<io::NetlinkLinkWatch> links_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Phase phase_ = Phase::connecting;
  io::Instant limit_{};
  uint64_t blocks_ = 0;
  uint64_t next_ = 0;
  uint64_t active_ = 0;
  uint64_t begin_ns_ = 0, end_ns_ = 0, begin_cpu_ns_ = 0;
  std::optional<Gaps> gaps_;
  LoadResult figures_;
  Result<LoadResult> result_ = fail(Errc::closed, "the load has not run");
  io::TimerOf<Load, &Load::on_timer> timer_{*this};
};

void Load::begin() {
  // Without it a lost carrier is found by silence: not what is to be measured.
  if (std::ranges::any_of(options_.portals,
                          [](const auto& each) { return each.source.has_value(); })) {
    auto links = io::NetlinkLinkWatch::open(loop_, {});
    if (!links.has_value()) {
      result_ = std::unexpected(links.error());
      return loop_.stop();
    }
    links_ = std::move(*links);
    links_->add(*this);
  }
  limit_ = loop_.now() + kUpLimit;
  device_.start();
  loop_.start(timer_, kLook);
}

void Load::on_timer() noexcept {
  if (phase_ == Phase::connecting) return await_paths();
  if (phase_ == Phase::loading) {
    phase_ = Phase::draining;
    if (active_ == 0) return end_load();
    return loop_.start(timer_, kEndLimit);
  }
  if (phase_ == Phase::draining) {
    end_load();  // stop() ends what is under way
    result_ = fail(Errc::timed_out, "requests were not answered long after the end of the load");
  }
}

void Load::await_paths() {
  const bool up = device_.known() && std::ranges::all_of(device_.paths(), [](const auto& path) {
                    return path->carries_io();
                  });
  if (up && (links_ == nullptr || links_->ready())) return start_load();
  if (loop_.now() > limit_) return fail_with("not every path came into service in time");
  loop_.start(timer_, kLook);
}

bool Load::make_lanes() {
  for (uint32_t i = 0; i < options_.depth; ++i) {
    auto lane = std::make_unique<Lane>(*this);
    lane->buffer = pool_.acquire(options_.block);
    if (!lane->buffer) return false;
    std::ranges::fill(lane->buffer.first(options_.block), static_cast<uint8_t>(i + 1));
    lane->part = {lane->buffer.data(), options_.block};
    lanes_.push_back(std::move(lane));
  }
  return true;
}

void Load::start_load() {
  const io::BlockInfo info = device_.info();
  blocks_ = info.size_bytes / options_.block;
  if (blocks_ == 0 || options_.block % info.block_size != 0) {
    return fail_with("the block size does not fit the logical unit");
  }
  if (!make_lanes()) return fail_with("no memory for so many requests of this size");
  phase_ = Phase::loading;
  begin_ns_ = now_ns();
  begin_cpu_ns_ = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  gaps_.emplace(begin_ns_, static_cast<uint64_t>(options_.gap_ms * 1e6));
  loop_.start(timer_, io::Duration(static_cast<int64_t>(options_.seconds * 1e9)));
  active_ = lanes_.size();
  for (const auto& lane : lanes_) next(*lane);
  started_();
}

uint64_t Load::next_block() {
  if (options_.random) return random_.below(blocks_);
  return next_++ % blocks_;
}

void Load::next(Lane& lane) {
  io::BlockRequest& request = lane.request;
  const bool write = options_.write_percent > 0 && random_.below(100) < options_.write_percent;
  request.kind = write ? io::BlockRequest::Kind::write : io::BlockRequest::Kind::read;
  request.offset = next_block() * options_.block;
  request.length = options_.block;
  request.data = {&lane.part, 1};
  lane.began_ns = now_ns();
  device_.submit(request);
}

void Load::on_done(Lane& lane, int32_t result) {
  if (phase_ != Phase::stopping) {
    const uint64_t now = now_ns();
    if (result < 0) {
      ++figures_.errors;
      if (figures_.first_error == 0) figures_.first_error = result;
    } else {
      const bool write = lane.request.kind == io::BlockRequest::Kind::write;
      SideResult& side = write ? figures_.writes : figures_.reads;
      const uint64_t latency = now - lane.began_ns;
      ++side.count;
      side.sum_ns += latency;
      side.max_ns = std::max(side.max_ns, latency);
      side.latency.add(latency);
      gaps_->at(now);
    }
    // A device that refuses everything must not keep the loop from its timers: it answers at the
    // end of a turn, so each refusal costs a turn.
    if (phase_ == Phase::loading) return next(lane);
  }
  if (--active_ == 0 && phase_ == Phase::draining) {
    loop_.stop(timer_);
    end_load();
  }
}

void Load::end_load() {
  end_ns_ = now_ns();
  gaps_->at(end_ns_);
  collect();
  result_ = std::move(figures_);
  stop_device();
}

void Load::collect() {
  LoadResult& out = figures_;
  out.seconds = static_cast<double>(end_ns_ - begin_ns_) / 1e9;
  out.begin_s = static_cast<double>(begin_ns_) / 1e9;
  out.cpu_s = static_cast<double>(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_cpu_ns_) / 1e9;
  out.gaps = gaps_->kept();
  out.gap_count = gaps_->count();
  out.longest_gap_ns = gaps_->longest_ns();
  out.device = device_.counters();
  for (const auto& path : device_.paths()) {
    out.paths.push_back({.name = path->settings().name,
                         .state = mpio::to_string(path->state()),
                         .counters = path->counters()});
  }
}

void Load::fail_with(const char* why) {
  result_ = fail(Errc::timed_out, why);
  stop_device();
}

void Load::stop_device() {
  phase_ = Phase::stopping;
  device_.stop([this]() noexcept { close_links(); });
}

void Load::close_links() {
  const auto end = [this]() noexcept { loop_.stop(); };
  if (links_ == nullptr) return end();
  links_->remove(*this);
  links_->close(end);
}

void Load::on_link(const io::LinkEvent& event) noexcept {
  using Change = io::LinkEvent::Change;
  for (const LoadPortal& portal : options_.portals) {
    if (!portal.source) continue;
    if (event.change == Change::link) {
      const auto where = links_->find(*portal.source);
      if (where && where->interface == event.interface) {
        device_.link_changed(*portal.source, event.up);
      }
    } else if (std::ranges::equal(event.address.address(), portal.source->address())) {
      device_.link_changed(*portal.source, event.change == Change::address_added && event.up);
    }
  }
}

bool valid(const LoadOptions& options) {
  return !options.portals.empty() && !options.target.empty() && options.depth > 0 &&
         options.depth <= kMaxLoadDepth && options.block > 0 && options.block % 512 == 0 &&
         options.block <= kMaxLoadBlock && options.write_percent <= 100 && options.seconds > 0 &&
         options.seconds <= 3600 && options.gap_ms >= 0;
}

}  // namespace

Result<LoadResult> run_load(const LoadOptions& options, std::function<void()> started) {
  if (!valid(options)) return fail(Errc::invalid_argument, "an option is missing or out of range");
  auto loop = io::UringLoop::open({});
  if (!loop.has_value()) return std::unexpected(loop.error());
  auto pool = io::BufferPool::create(kPoolBytes);
  if (!pool.has_value()) return std::unexpected(pool.error());
  auto load = std::make_unique<Load>(**loop, **pool, options, std::move(started));
  (*loop)->post([&load]() noexcept { load->begin(); });
  (*loop)->run();
  return load->take();
}

}  // namespace holdfast::bench
