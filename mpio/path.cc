#include "mpio/path.h"

#include <utility>

#include "common/base/log.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "mpio";
// A target that sends us in a circle is a target that cannot be reached.
constexpr uint32_t kMaxRedirects = 3;

TransportSnapshot snapshot_of(const io::TransportInfo& info) {
  return {.valid = info.valid,
          .backoff = static_cast<uint8_t>(std::min(info.backoff, 255u)),
          .unacked = info.unacked,
          .unsent_bytes = info.unsent_bytes,
          .last_ack_received_ms = info.last_ack_received_ms,
          .last_data_received_ms = info.last_data_received_ms,
          .rtt_us = info.rtt_us,
          .retransmits_total = info.retransmits_total};
}

bool is_access_refusal(const scsi::Sense& sense) {
  return sense.key == scsi::SenseKey::not_ready && sense.asc == 0x04 && sense.ascq >= 0x0a &&
         sense.ascq <= 0x0c;
}

}  // namespace

Path::Path(const Services& services, PathOwner& owner, const Profile& profile,
           PathSettings settings, size_t index, PathLoad& load)
    : services_(services),
      owner_(owner),
      profile_(&profile),
      settings_(std::move(settings)),
      index_(index),
      load_(load),
      machine_(profile, services.random, services.loop.now()) {
  test_.owner = this;
  test_.lun = settings_.lun;
  test_.cdb = scsi::build::test_unit_ready().bytes;
  read_.owner = this;
  read_.lun = settings_.lun;
}

Path::~Path() {
  ASSERT(session_ == nullptr);
  services_.loop.stop(timer_);
  services_.loop.stop(look_timer_);
}

io::TransportInfo Path::transport() {
  return session_ == nullptr ? io::TransportInfo{} : session_->transport_info();
}

void Path::set_profile(const Profile& profile) {
  profile_ = &profile;
  machine_.set_profile(profile);
  if (detector_.has_value()) detector_->set_profile(profile);
}

void Path::set_urgent(bool urgent) {
  machine_.set_urgent(urgent);
  const io::Instant soon = services_.loop.now() + kUrgentBackoff;
  if (urgent && state() == PathState::backoff && timer_.armed() && timer_.deadline > soon) {
    services_.loop.start(timer_, kUrgentBackoff);
  }
}

// --- the state machine ---

void Path::follow_up(PathEvent event, const char* why) { pending_.push_back({event, why}); }

void Path::apply(PathEvent event, const char* why) {
  follow_up(event, why);
  if (stepping_) return;
  stepping_ = true;
  while (!pending_.empty()) {
    const Pending next = pending_.front();
    pending_.pop_front();
    const PathState before = state();
    const PathEffects effects = machine_.step(next.event, services_.loop.now(), next.why);
    if (state() != before) {
      LOG_INFO(kLog, "{}: path {}: {} -> {}: {}", settings_.device, settings_.name,
               to_string(before), to_string(state()), machine_.reason());
    }
    carry_out(effects);
    if (state() != before) owner_.on_path_state(*this);
  }
  stepping_ = false;
}

void Path::carry_out(const PathEffects& effects) {
  using Effect = PathEffect;
  io::Loop& loop = services_.loop;
  if (effects.has(Effect::arm_timer)) loop.start(timer_, effects.timer);
  if (effects.has(Effect::stop_timer)) loop.stop(timer_);
  if (effects.has(Effect::notify_down)) owner_.on_path_down(*this);
  if (effects.has(Effect::cancel_fence)) owner_.cancel_fence(*this);
  if (effects.has(Effect::reset_socket)) {
    if (session_ == nullptr) {
      follow_up(owner_.has_ghosts(*this, session_number_) ? PathEvent::closed_with_ghosts
                                                          : PathEvent::closed);
    } else {
      session_->close(true, machine_.reason());
    }
  }
  if (effects.has(Effect::start_fence)) owner_.start_fence(*this);
  if (effects.has(Effect::start_connect)) start_session();
  if (effects.has(Effect::start_probe)) start_probe();
  if (effects.has(Effect::start_drain) && load_.in_flight() == 0) follow_up(PathEvent::drained);
  if (effects.has(Effect::send_logout)) owner_.on_path_leaves(*this);
  if (effects.has(Effect::close_socket)) {
    session_ == nullptr ? follow_up(PathEvent::closed) : session_->close(false, "logged out");
  }
  if (effects.has(Effect::notify_up)) owner_.on_path_up(*this);
}

void Path::on_timer() noexcept { apply(PathEvent::timer); }

void Path::link_changed(bool up) {
  if (detector_.has_value()) {
    const io::Instant now = services_.loop.now();
    up ? detector_->on_link_up(now) : detector_->on_link_down(now);
    look();
  }
  apply(up ? PathEvent::link_up : PathEvent::link_down);
}

// --- the session ---

void Path::start_session() {
  ASSERT(session_ == nullptr);
  initiator::Session::Options options = settings_.session;
  options.connect_timeout = profile_->connect;
  options.login_timeout = profile_->login;
  if (const auto redirect = std::exchange(redirect_, std::nullopt)) {
    if (const auto portal = io::Endpoint::parse(redirect->to_string())) options.portal = *portal;
  }
  session_ = std::make_unique<initiator::Session>(services_.loop, services_.network,
                                                  services_.random, std::move(options), *this);
  ++session_number_;
  ++counters_.sessions;
  session_->start();
}

void Path::on_connected() noexcept { apply(PathEvent::connected); }

void Path::on_up() noexcept {
  redirects_ = 0;
  portal_group_tag_ = session_->portal_group_tag();
  detector_.emplace(*profile_, services_.loop.now());
  load_.restart();
  outstanding_ = 0;
  reset_expected_until_ = {};
  apply(PathEvent::logged_in);
  look();
}

// All of its commands have been given back: what of them is a ghost is known.
void Path::on_ended(const initiator::SessionEnd& end) noexcept {
  using initiator::EndKind;
  const std::unique_ptr<initiator::Session> session = std::move(session_);
  services_.loop.stop(look_timer_);
  detector_.reset();
  probe_.reset();
  probing_ = refresh_wanted_ = false;
  load_.oldest_in_flight.reset();
  switch (state()) {
    case PathState::failed:
      return apply(owner_.has_ghosts(*this, session_number_) ? PathEvent::closed_with_ghosts
                                                             : PathEvent::closed);
    case PathState::logout:
      // Its effect closes the socket, which is gone: `closed` follows from that.
      if (end.kind == EndKind::logged_out) return apply(PathEvent::logged_out);
      if (end.kind == EndKind::closed) return apply(PathEvent::closed);
      return apply(PathEvent::lost, end.why);
    default:
      break;
  }
  switch (end.kind) {
    case EndKind::login_refused:
      return take_refusal(end);
    case EndKind::login_failed:
      return apply(PathEvent::refused, end.why);
    case EndKind::redirected:
      if (++redirects_ <= kMaxRedirects && end.redirect.numeric()) redirect_ = end.redirect;
      return apply(PathEvent::attempt_failed, end.why);
    case EndKind::connect_failed:
    case EndKind::timed_out:
      return apply(PathEvent::attempt_failed, end.why);
    default:
      return apply(PathEvent::lost, end.why);
  }
}

// Class 3: the target could not now. Class 2: it does not want us (RFC 7143 11.13.5), or takes CHAP
// algorithm 7 for something else than SHA-256 (tgt): then the next logins of this path and of its
// fences do without it, unless that was not the reason either.
void Path::take_refusal(const initiator::SessionEnd& end) {
  std::optional<iscsi::ChapCredentials>& chap = settings_.session.login.chap;
  if (end.chap_refused) chap->algorithms.sha256 = !end.retry_without_sha256;
  const bool later = end.retry_without_sha256 || iscsi::status_class(end.status) == 3;
  apply(later ? PathEvent::attempt_failed : PathEvent::refused, end.why);
}

void Path::on_async(const initiator::AsyncMessage& message) noexcept {
  using iscsi::AsyncEvent;
  switch (message.event) {
    case AsyncEvent::logout_request:
      return apply(PathEvent::logout_requested);
    case AsyncEvent::connection_dropped:
    case AsyncEvent::all_connections_dropped:
      return apply(PathEvent::lost, "the target drops the session");
    case AsyncEvent::scsi:
      return owner_.on_unit_attention(*this, message.sense);
    default:
      return;
  }
}

// --- probing ---

void Path::start_probe() {
  if (probing_) return;  // a refresh is under way: readmitted, and its answer will do
  probe_.emplace(*session_);
  probing_ = true;
  probe_->start(settings_.lun, [this](base::Result<initiator::LunFacts> facts) noexcept {
    probing_ = false;
    const bool probed = state() == PathState::probe;
    if (!facts.has_value()) {
      if (probed) apply(PathEvent::attempt_failed, facts.error().what);
      return;
    }
    facts_ = std::move(*facts);
    const std::vector<scsi::Sense> attentions = facts_->attentions;
    for (const scsi::Sense& sense : attentions) owner_.on_unit_attention(*this, sense);
    if (state() == PathState::probe) {
      owner_.on_path_facts(*this);
    } else if (in_service(state())) {
      owner_.on_path_refreshed(*this);
    }
    if (std::exchange(refresh_wanted_, false)) refresh();
  });
}

void Path::refresh() {
  if (session_ == nullptr || !session_->up() || !session_->has_slot()) return;
  if (probing_) {
    refresh_wanted_ = true;
    return;
  }
  if (in_service(state())) start_probe();
}

void Path::probed(PathEvent verdict, const char* why) {
  if (state() != PathState::probe) return;
  if (verdict == PathEvent::identity_mismatch) ++counters_.identity_errors;
  apply(verdict, why);
}

void Path::expect_reset() { reset_expected_until_ = services_.loop.now() + kFenceStepLimit; }

bool Path::take_expected_reset() {
  return std::exchange(reset_expected_until_, io::Instant{}) > services_.loop.now();
}

// --- detection ---

void Path::on_received() noexcept {
  if (!detector_.has_value()) return;
  detector_->on_received(services_.loop.now());
  if (state() == PathState::suspect) look();
}

void Path::on_ping_answered() noexcept {
  if (!detector_.has_value()) return;
  detector_->on_nop_answered(services_.loop.now());
  look();
}

uint32_t Path::count_submitted(SizeClass size) {
  const io::Instant now = services_.loop.now();
  const uint32_t depth = load_.on_submitted(size, now);
  ++outstanding_;
  if (detector_.has_value()) {
    detector_->on_outstanding(outstanding_, now);
    // From idle the next look may be a second away. Never put off the one that was promised: the
    // detector would take our delay for a stall of ours, and begin to wait anew.
    if (outstanding_ == 1 &&
        (!look_timer_.armed() || look_timer_.deadline > now + profile_->suspect_after)) {
      services_.loop.start(look_timer_, profile_->suspect_after);
    }
  }
  return depth;
}

void Path::count_completed() {
  --outstanding_;
  if (detector_.has_value()) detector_->on_outstanding(outstanding_, services_.loop.now());
  if (state() == PathState::drain && load_.in_flight() == 0) apply(PathEvent::drained);
}

void Path::on_look() noexcept { look(); }

void Path::look() {
  if (!detector_.has_value() || session_ == nullptr) return;
  const io::Instant now = services_.loop.now();
  const Look look = detector_->look(now, snapshot_of(session_->transport_info()));
  if (look.send_nop && session_->ping()) {
    ++counters_.pings;
    detector_->on_nop_sent();
  }
  if (look.send_test && state() != PathState::probe) send_test();
  services_.loop.start(look_timer_,
                       std::max<io::Duration>(look.next - now, std::chrono::milliseconds(1)));
  if (gives_up(look.verdict)) {
    apply(PathEvent::lost, to_string(look.verdict));
  } else if (look.verdict != PathVerdict::ok) {
    if (state() == PathState::active || state() == PathState::marginal) {
      apply(PathEvent::suspected, to_string(look.verdict));
    }
  } else if (state() == PathState::suspect) {
    apply(PathEvent::progressed);
  }
}

void Path::send_test() {
  if (test_.busy() || !session_->up() || !session_->has_slot()) return;
  session_->submit(test_);
}

void Path::on_tested() noexcept {
  if (test_.outcome != initiator::Outcome::answered) return;
  if (test_.status == scsi::Status::good) {
    if (carries_io() && load_.tier == PathTier::unusable) refresh();  // it serves again
    return;
  }
  if (test_.status != scsi::Status::check_condition) return;
  if (test_.sense.key == scsi::SenseKey::unit_attention) {
    owner_.on_unit_attention(*this, test_.sense);
  } else if (is_access_refusal(test_.sense)) {
    owner_.on_access_refused(*this, test_.sense);
  }
}

void Path::probe_read(uint32_t block_size) {
  if (read_.busy() || session_ == nullptr || !session_->up() || !session_->has_slot()) return;
  read_data_.resize(block_size);
  read_part_ = {read_data_.data(), block_size};
  read_.cdb = scsi::build::read16({0, 1}, block_size, false).bytes;
  read_.data = {&read_part_, 1};
  read_.data_bytes = block_size;
  read_since_ = services_.loop.now();
  session_->submit(read_);
}

void Path::on_read() noexcept {
  const bool good =
      read_.outcome == initiator::Outcome::answered && read_.status == scsi::Status::good;
  if (good) owner_.on_probe_read(*this, services_.loop.now() - read_since_);
}

}  // namespace holdfast::mpio
