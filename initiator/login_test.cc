#include "initiator/login_test.h"

#include <utility>

namespace holdfast::initiator {
namespace {

constexpr uint32_t kReportBytes = 8 + 8 * 256;
constexpr uint32_t kMaxAttentions = 8;

}  // namespace

LoginTest::LoginTest(io::Loop& loop, io::Network& network, base::Random& random,
                     Session::Options portal, std::optional<uint64_t> lun, Done done)
    : loop_(loop),
      network_(network),
      random_(random),
      portal_(std::move(portal)),
      lun_(lun),
      done_(std::move(done)),
      luns_(kReportBytes) {
  command_.owner = this;
}

LoginTest::~LoginTest() { ASSERT(session_ == nullptr); }

void LoginTest::start() {
  result_.portal = portal_.portal.to_string();
  loop_.start(timer_, kLoginTestTimeout);
  log_in();
}

void LoginTest::on_timer() noexcept {
  late_ = true;
  if (session_ != nullptr) session_->close(true, "the target did not answer in time");
}

int64_t LoginTest::since_mark() {
  const io::Instant before = std::exchange(mark_, loop_.now());
  return std::chrono::duration_cast<std::chrono::microseconds>(mark_ - before).count();
}

void LoginTest::log_in() {
  mark_ = loop_.now();
  session_ = std::make_unique<Session>(loop_, network_, random_, portal_, *this);
  session_->start();
}

void LoginTest::on_connected() noexcept { result_.connect_us = since_mark(); }

void LoginTest::on_up() noexcept {
  PortalResult& result = result_;
  result.login_us = since_mark();
  result.logged_in = true;
  result.chap_done = session_->chap_done();
  result.target_proved = session_->target_proved();
  result.portal_group_tag = session_->portal_group_tag();
  result.alias = session_->target_alias();
  result.local = session_->local_endpoint().to_string();
  result.parameters = session_->parameters();
  unit_ = 0;
  attentions_ = 0;
  if (!lun_.has_value()) return report_luns();
  result.units.push_back({.field = *lun_});
  probe_next();
}

void LoginTest::report_luns() {
  const scsi::OutgoingCdb cdb = scsi::build::report_luns(kReportBytes);
  command_.lun = 0;
  command_.cdb = cdb.bytes;
  command_.writes = false;
  command_.data_bytes = cdb.length;
  part_ = {luns_.data(), cdb.length};
  command_.data = std::span(&part_, 1);
  session_->submit(command_);
}

void LoginTest::on_reported() noexcept {
  if (command_.outcome != Outcome::answered) return;  // the session's end says why
  PortalResult& result = result_;
  if (command_.status == scsi::Status::check_condition &&
      command_.sense.key == scsi::SenseKey::unit_attention && ++attentions_ <= kMaxAttentions) {
    return report_luns();
  }
  result.report_us = since_mark();
  std::vector<uint64_t> fields{0};  // LUN 0 is always worth a question
  if (command_.status == scsi::Status::good) {
    const auto reported = scsi::parse_report_luns(base::Bytes(luns_).first(command_.moved));
    if (reported.has_value()) {
      result.reported = reported->fields.size();
      fields.clear();
      for (const base::be64& field : reported->fields) fields.push_back(field);
      if (fields.empty()) result.problem = "the target shows this initiator no unit";
    } else {
      result.problem = reported.error().what;
    }
  } else {
    result.problem = "REPORT LUNS is refused";
  }
  for (const uint64_t field : fields) {
    if (result.units.size() < kMaxProbedUnits) result.units.push_back({.field = field});
  }
  probe_next();
}

void LoginTest::probe_next() {
  PortalResult& result = result_;
  if (unit_ == result.units.size()) {
    mark_ = loop_.now();
    return session_->logout();
  }
  mark_ = loop_.now();
  probe_.emplace(*session_);
  probe_->start(result.units[unit_].field,
                [this](base::Result<LunFacts> facts) noexcept { take_facts(std::move(facts)); });
}

void LoginTest::take_facts(base::Result<LunFacts> facts) {
  Unit& unit = result_.units[unit_++];
  unit.probe_us = since_mark();
  if (facts.has_value()) {
    unit.facts = std::move(*facts);
  } else {
    unit.problem = facts.error().what;
    if (facts.error().code == base::Errc::closed) return;  // on_ended() follows
  }
  probe_next();
}

void LoginTest::on_ended(const SessionEnd& end) noexcept {
  PortalResult& result = result_;
  // Debian's tgt takes algorithm 7 for SHA1, and so refuses a right answer.
  const bool again = end.retry_without_sha256 && !late_;
  if (again) {
    result.without_sha256 = true;
    portal_.login.chap->algorithms.sha256 = false;
  } else if (end.kind == EndKind::logged_out) {
    result.logout_us = since_mark();
  } else if (end.kind == EndKind::redirected) {
    result.problem = "the target sends us to " + end.redirect.to_string();
  } else {
    result.problem = *end.why != '\0' ? end.why : to_string(end.kind);
    if (end.kind == EndKind::login_refused && end.chap_refused) {
      result.problem += std::string(" (") + iscsi::to_string(end.status) + ")";
    }
  }
  // Not from within it.
  loop_.post([this, again, session = std::move(session_)]() mutable noexcept {
    session.reset();
    on_gone(again);
  });
}

void LoginTest::on_gone(bool again) noexcept {
  probe_.reset();
  if (again && !late_) return log_in();
  loop_.stop(timer_);
  Done done = std::exchange(done_, nullptr);
  done(std::move(result_));  // may destroy this object
}

}  // namespace holdfast::initiator
