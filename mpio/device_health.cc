// What is looked at from time to time. Paths that work, but much worse than their siblings:
// MarginalJudge fed and obeyed, and the reads by which a path in quarantine shows that it is
// better. Commands that somebody's reset ended without an answer.

#include <utility>

#include "common/base/log.h"
#include "mpio/device.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "mpio";

}  // namespace

// A path is the worse for a failure only if a sibling held out: when the target goes all fail.
void Device::judge_failures() {
  const io::Instant now = services_.loop.now();
  for (size_t i = 0; i < paths_.size(); ++i) {
    if (!failed_at_[i] || now - *failed_at_[i] < kFailTogether) continue;
    const io::Instant at = *std::exchange(failed_at_[i], std::nullopt);
    const bool alone = std::ranges::any_of(paths_, [&](const auto& other) {
      return other->index() != i && other->carries_io() && other->machine().since() < at;
    });
    if (alone) judge_.on_failed(i, at);
  }
}

void Device::judge_paths() {
  judge_failures();
  const io::Instant now = services_.loop.now();
  if (now < judge_.next()) return;
  std::array<MarginalInput, kMaxPaths> inputs;
  for (const auto& path : paths_) {
    MarginalInput& input = inputs[path->index()];
    input.in_service = path->carries_io();
    if (!input.in_service) continue;
    if (path->facts().has_value()) {
      input.group = path->facts()->identification.target_port_group.value_or(0);
    }
    const io::TransportInfo transport = path->transport();
    judge_.on_transport(path->index(), transport.retransmits_total, transport.segments_sent);
  }
  const MarginalVerdicts verdicts = judge_.judge(std::span(inputs).first(paths_.size()), now);
  for (const auto& path : paths_) {
    if (verdicts.went_marginal.test(path->index())) {
      LOG_WARNING(kLog, "{}: path {} is marginal: {}", options_.name, path->settings().name,
                  judge_.why(path->index()));
      path->apply(PathEvent::went_marginal, judge_.why(path->index()));
    } else if (verdicts.went_healthy.test(path->index())) {
      path->apply(PathEvent::went_healthy, "as good as its siblings again");
    }
  }
  if (verdicts.went_marginal.any() && !marginal_timer_.armed()) {
    services_.loop.start(marginal_timer_, kMarginalProbe);
  }
}

// It carries nothing else: without these reads nobody would learn that it is better.
void Device::on_marginal_probe() noexcept {
  bool any = false;
  for (const auto& path : paths_) {
    if (!judge_.is_marginal(path->index())) continue;
    any = true;
    if (path->carries_io()) path->probe_read(info_.block_size);
  }
  if (any) services_.loop.start(marginal_timer_, kMarginalProbe);
}

void Device::on_probe_read(Path& path, io::Duration latency) noexcept {
  judge_.on_completed(path.index(), SizeClass::small, latency);
}

// With TAS=0 whoever's command was ended by another nexus gets no answer to it (SAM-5 5.3.1), only
// a unit attention with a later one: those that were under way then and stay silent are aborted,
// which says whether they are over.
void Device::ask_for_commands(Path& path) {
  Cleared& cleared = cleared_[path.index()];
  const io::Instant now = services_.loop.now();
  if (cleared.at == io::Instant{}) cleared.ask_at = now + kAnswerAfterReset;
  cleared.at = now;
}

void Device::ask_silent_commands() {
  const io::Instant now = services_.loop.now();
  for (const auto& path : paths_) {
    Cleared& cleared = cleared_[path->index()];
    if (cleared.at == io::Instant{} || now < cleared.ask_at) continue;
    const io::Instant at = std::exchange(cleared, {}).at;
    for (Task& task : flights_[path->index()]) {
      if (task.submitted <= at && task.command.sent()) abort_on_path(task);
    }
  }
}

}  // namespace holdfast::mpio
