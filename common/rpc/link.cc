#include "common/rpc/link.h"

#include <algorithm>

namespace holdfast::rpc {

using base::Errc;
using base::fail;

const char* to_string(CallOutcome outcome) noexcept {
  switch (outcome) {
    case CallOutcome::reply:
      return "reply";
    case CallOutcome::refused:
      return "refused";
    case CallOutcome::timed_out:
      return "timed out";
    case CallOutcome::lost:
      return "lost";
  }
  return "";
}

// --- answering ---

Responder::Responder(std::weak_ptr<Link*> link, const FrameHeader& request)
    : link_(std::move(link)), request_(request) {}

Responder& Responder::operator=(Responder&& other) noexcept {
  if (this == &other) return *this;
  if (pending()) refuse(Refusal::unanswered);
  link_ = std::move(other.link_);
  request_ = std::exchange(other.request_, {});
  return *this;
}

Responder::~Responder() {
  if (pending()) refuse(Refusal::unanswered);
}

base::Result<> Responder::reply(base::Bytes payload, Priority priority) {
  ASSERT(pending());
  const std::shared_ptr<Link*> link = link_.lock();
  if (link == nullptr) return fail(Errc::closed, "the connection of the request is over");
  const FrameHeader header = {.kind = FrameKind::reply, .type = request_.type, .id = request_.id};
  TRY((*link)->answer(header, payload, priority));
  request_ = {};
  return {};
}

void Responder::refuse(Refusal why) {
  ASSERT(pending());
  const FrameHeader request = std::exchange(request_, {});
  const std::shared_ptr<Link*> link = link_.lock();
  if (link == nullptr) return;
  --(*link)->unanswered_;
  (*link)->refuse(request, why);
}

base::Result<> Link::answer(const FrameHeader& header, base::Bytes payload, Priority priority) {
  TRY(connection_.send(priority, header, payload));
  --unanswered_;
  return {};
}

// If there is no room even for this, the caller's deadline ends its call.
void Link::refuse(FrameHeader header, Refusal why) {
  header.kind = FrameKind::refusal;
  const auto code = static_cast<uint8_t>(why);
  [[maybe_unused]] const auto sent = connection_.send(Priority::urgent, header, {&code, 1});
}

// --- the link ---

Link::Link(io::Loop& loop, io::Network& network, const Connection::Options& options,
           Handler& handler, LinkEvents& events)
    : loop_(loop),
      handler_(handler),
      events_(events),
      self_(std::make_shared<Link*>(this)),
      connection_(loop, network, options, *this) {}

void Link::on_opened() noexcept {
  opened_ = true;
  events_.on_up(*this);
}

void Link::on_frame(const FrameHeader& header, base::Bytes payload) noexcept {
  switch (header.kind) {
    case FrameKind::notice:
      return handler_.on_notice({.from = node(), .type = header.type, .payload = payload});
    case FrameKind::request:
      return on_request(header, payload);
    case FrameKind::reply:
    case FrameKind::refusal:
      return on_answer(header, payload);
    case FrameKind::hello:
      return connection_.reject("a second hello, or one from the connecting side");
  }
}

void Link::on_request(const FrameHeader& header, base::Bytes payload) {
  if (unanswered_ >= kMaxUnanswered) return refuse(header, Refusal::busy);
  ++unanswered_;
  handler_.on_request({.from = node(), .type = header.type, .payload = payload},
                      Responder(self_, header));
}

void Link::on_ended(const ConnectionEnd& end) noexcept {
  // A callback may try to call again, in vain. In the order in which they were made.
  std::vector<Call*> left;
  for (const auto& call : calls_) {
    if (call->id != 0) left.push_back(call.get());
  }
  std::ranges::sort(left, {}, [](const Call* call) { return call->id; });
  for (Call* call : left) finish(*call, {.outcome = CallOutcome::lost, .why = end.why});
  events_.on_down(*this, end);  // may destroy this
}

// --- calling ---

base::Result<> Link::notify(uint16_t type, base::Bytes payload, Priority priority) {
  return connection_.send(priority, {.kind = FrameKind::notice, .type = type}, payload);
}

Link::Call* Link::free_call() {
  if (free_calls_.empty()) {
    if (calls_.size() == kMaxCalls) return nullptr;
    calls_.push_back(std::make_unique<Call>(*this));
    free_calls_.push_back(calls_.back().get());
  }
  return free_calls_.back();
}

base::Result<> Link::call(uint16_t type, base::Bytes payload, const CallOptions& options,
                          CallDone done) {
  if (!up()) return fail(Errc::closed, "the peer is not connected");
  Call* const call = free_call();
  if (call == nullptr) return fail(Errc::limit, "too many calls are outstanding");
  TRY(connection_.send(options.priority,
                       {.kind = FrameKind::request, .type = type, .id = next_call_}, payload));
  free_calls_.pop_back();
  call->id = next_call_++;
  call->type = type;
  call->done = std::move(done);
  ++outstanding_;
  loop_.start(call->timer, options.deadline);
  return {};
}

void Link::on_answer(const FrameHeader& header, base::Bytes payload) {
  if (header.id == 0 || header.id >= next_call_) {
    return connection_.reject("an answer to what was never asked");
  }
  const auto found =
      std::ranges::find(calls_, header.id, [](const auto& call) { return call->id; });
  if (found == calls_.end()) {
    ++late_answers_;
    return;
  }
  if ((*found)->type != header.type) return connection_.reject("an answer of another type");
  if (header.kind == FrameKind::reply) {
    return finish(**found, {.outcome = CallOutcome::reply, .payload = payload});
  }
  const auto why = static_cast<Refusal>(payload[0]);
  finish(**found, {.outcome = CallOutcome::refused, .why = to_string(why)});
}

void Link::Call::on_deadline() noexcept {
  link.finish(*this, {.outcome = CallOutcome::timed_out, .why = "no answer within the deadline"});
}

void Link::finish(Call& call, const CallResult& result) {
  loop_.stop(call.timer);
  call.id = 0;
  --outstanding_;
  free_calls_.push_back(&call);
  CallDone done = std::move(call.done);  // it may make the next call, in this place
  done(result);
}

}  // namespace holdfast::rpc
