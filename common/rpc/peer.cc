#include "common/rpc/peer.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/base/log.h"

namespace holdfast::rpc {
namespace {

constexpr const char* kLog = "rpc";

Peer::Options completed(Peer::Options options) {
  if (options.connect.not_sent_low_water == 0) {
    options.connect.not_sent_low_water = kNotSentLowWater;
  }
  return options;
}

}  // namespace

Peer::Peer(const Parts& parts, Options options)
    : parts_(parts), options_(completed(std::move(options))), backoff_(options_.backoff_min) {}

Peer::~Peer() { ASSERT(phase_ == Phase::idle || phase_ == Phase::closed); }

void Peer::start() {
  ASSERT(phase_ == Phase::idle);
  connect();
}

void Peer::connect() {
  phase_ = Phase::connected;
  told_up_ = false;
  ++attempts_;
  LinkEvents& events = *this;
  link_ = std::make_unique<Link>(parts_.loop, parts_.network, options_.connection, parts_.handler,
                                 events);
  link_->connection().connect(parts_.identity.context(), options_.node, options_.address,
                              options_.connect);
}

void Peer::on_up(Link&) noexcept {
  if (phase_ != Phase::connected) return;
  told_up_ = true;
  up_since_ = parts_.loop.now();
  LOG_INFO(kLog, "peer up: node={} address={}", options_.node, options_.address.to_string());
  parts_.events.on_peer_up(*this);
}

void Peer::on_down(Link&, const ConnectionEnd& end) noexcept {
  const ConnectionEnd ended = end;  // it is in the link
  const bool was_up = told_up_;
  log_end(ended, was_up);
  last_end_ = ended;
  link_.reset();
  if (phase_ == Phase::closing) {
    parts_.loop.complete_soon(closed_op_, 0);
  } else {
    if (was_up && parts_.loop.now() - up_since_ >= kStableAfter) backoff_ = options_.backoff_min;
    wait();
  }
  if (was_up) parts_.events.on_peer_down(*this, ended);
}

void Peer::wait() {
  phase_ = Phase::waiting;
  // Between three quarters and five quarters of it.
  const auto nanoseconds = static_cast<uint64_t>(backoff_.count());
  const uint64_t spread = parts_.random.below(nanoseconds / 2 + 1);
  parts_.loop.start(timer_, io::Duration(nanoseconds - nanoseconds / 4 + spread));
  backoff_ = std::min(2 * backoff_, options_.backoff_max);
}

// What is tried in vain for days is said once.
void Peer::log_end(const ConnectionEnd& end, bool was_up) {
  const bool same = end.kind == last_end_.kind && end.error == last_end_.error &&
                    std::string_view(end.why) == last_end_.why;
  if (phase_ == Phase::closing || (same && !was_up)) return;
  LOG_WARNING(kLog, "{}: node={} address={}: {}", was_up ? "peer down" : "cannot connect",
              options_.node, options_.address.to_string(), describe(end));
}

void Peer::drop(const char* why) {
  if (phase_ == Phase::connected) link_->connection().begin_close(why);
}

void Peer::begin_close() {
  if (phase_ == Phase::closing || phase_ == Phase::closed) return;
  parts_.loop.stop(timer_);
  const bool linked = phase_ == Phase::connected;
  phase_ = Phase::closing;
  if (linked) {
    link_->connection().begin_close("this node closes the connection");
  } else {
    parts_.loop.complete_soon(closed_op_, 0);
  }
}

void Peer::on_closed(int32_t) noexcept {
  phase_ = Phase::closed;
  parts_.events.on_peer_closed(*this);  // may destroy this
}

base::Result<> Peer::call(uint16_t type, base::Bytes payload, const CallOptions& options,
                          CallDone done) {
  if (!up()) return base::fail(base::Errc::closed, "the peer is not connected");
  return link_->call(type, payload, options, std::move(done));
}

base::Result<> Peer::notify(uint16_t type, base::Bytes payload, Priority priority) {
  if (!up()) return base::fail(base::Errc::closed, "the peer is not connected");
  return link_->notify(type, payload, priority);
}

}  // namespace holdfast::rpc
