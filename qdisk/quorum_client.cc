#include "qdisk/quorum_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/daemon/control_message.h"

namespace holdfast::qdisk {

using daemon::number_member;
using daemon::string_member;
using nlohmann::json;

namespace {

// While the quorum daemon does not answer; and while it is not told that all has been dropped.
constexpr auto kRetry = std::chrono::milliseconds(200);
// The daemon itself waits for news before it answers. A peer that does not is not asked more often.
constexpr auto kLeast = std::chrono::milliseconds(10);

constexpr const char* kStrange = "the quorum daemon's answer is not understood";

bool flag(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

// The answer's object, or what the daemon said against it.
std::expected<json, std::string> accepted(const std::expected<std::string, std::string>& line) {
  if (!line) return std::unexpected(line.error());
  auto answer = daemon::parse_line(*line);
  if (!answer) return std::unexpected(kStrange);
  if (flag(*answer, "ok")) return std::move(*answer);
  std::string why;
  for (const std::string& each : daemon::strings_member(*answer, "problems")) {
    why += (why.empty() ? "" : "; ") + each;
  }
  return std::unexpected(why.empty() ? kStrange : why);
}

std::expected<QuorumClient::View, std::string> read_view(const json& answer) {
  QuorumClient::View view;
  const auto epoch = number_member(answer, "epoch");
  if (!epoch) return std::unexpected(kStrange);
  view.epoch = *epoch;
  if (view.epoch == 0) return view;
  view.fenced = number_member(answer, "fenced").value_or(0);
  const auto lives = answer.find("incarnations");
  if (lives == answer.end() || !lives->is_array() || lives->size() != kMaxNodes) {
    return std::unexpected(kStrange);
  }
  for (size_t node = 0; node < kMaxNodes; ++node) {
    const json& life = (*lives)[node];
    if (!life.is_number_unsigned() || life.get<uint64_t>() > UINT32_MAX) {
      return std::unexpected(kStrange);
    }
    view.incarnations[node] = life.get<Incarnation>();
  }
  return view;
}

}  // namespace

QuorumClient::QuorumClient(io::Loop& loop, Options options, Listener& listener)
    : loop_(loop), options_(std::move(options)), listener_(listener) {}

QuorumClient::~QuorumClient() {
  loop_.stop(attend_timer_);
  loop_.stop(retry_timer_);
}

// False: too much waits already.
bool QuorumClient::ask(daemon::FileWorker& worker, const std::string& request,
                       std::move_only_function<void(const Line&) noexcept> answered) {
  return worker.submit([&loop = loop_, weak = std::weak_ptr(self_), exchange = options_.exchange,
                        socket = options_.socket, request,
                        answered = std::move(answered)]() mutable noexcept {
    loop.post([weak, line = exchange(socket, request),
               answered = std::move(answered)]() mutable noexcept {
      if (!weak.expired()) answered(line);
    });
  });
}

// --- what has been decided ---

void QuorumClient::start() { loop_.start(attend_timer_, io::Duration::zero()); }

void QuorumClient::quiesced(Epoch epoch) {
  quiesced_ = std::max(quiesced_, epoch);
  if (!attending_) loop_.start(attend_timer_, io::Duration::zero());
}

void QuorumClient::attend() noexcept {
  if (attending_) return;
  told_ = quiesced_;
  json request = {{"command", "attend"}, {"user", options_.name}, {"quiesced", told_}};
  if (view_) {
    request["epoch"] = view_->epoch;
    request["fenced"] = view_->fenced;
  }
  attending_ = true;
  const bool asked = ask(attendance_, daemon::to_line(request),
                         [this](const Line& line) noexcept { on_attended(line); });
  ASSERT(asked);  // one at a time
}

// The quorum daemon waits for news before it answers; not where it is still to be told something.
void QuorumClient::on_attended(const Line& line) {
  attending_ = false;
  const auto why = take_view(line);
  const bool first = why && !std::exchange(unreachable_, true);
  if (!why) unreachable_ = false;
  const bool all_told = told_ == quiesced_ && (!view_ || quiesced_ >= view_->epoch);
  const bool pause = why || (!all_told && told_ == quiesced_);
  loop_.start(attend_timer_, pause ? kRetry : kLeast);
  if (first) listener_.on_unreachable(*why);
}

// Nothing, or why there is none.
std::optional<std::string> QuorumClient::take_view(const Line& line) {
  const auto answer = accepted(line);
  if (!answer) return answer.error();
  const auto view = read_view(*answer);
  if (!view) return view.error();
  // Between two of its lives the daemon knows nothing: what it said before stays true.
  if (view->epoch == 0 || view_ == *view) return std::nullopt;
  view_ = *view;
  listener_.on_view(*view);
  return std::nullopt;
}

// --- what this daemon asks for ---

void QuorumClient::run(std::shared_ptr<Job> job) {
  const bool asked = ask(requests_, job->request, [this, job](const Line& line) noexcept {
    if (job->take(line)) return;
    if (line) return run(job);
    retries_.push_back(job);
    loop_.start(retry_timer_, kRetry);
  });
  if (asked) return;
  loop_.post([job]() noexcept {
    (void)job->take(daemon::to_line(daemon::refusal({"too many requests wait already"})));
  });
}

void QuorumClient::on_retry() noexcept {
  for (std::shared_ptr<Job>& job : std::exchange(retries_, {})) run(std::move(job));
}

void QuorumClient::run_simple(const std::string& request, Done done) {
  auto shared = std::make_shared<Done>(std::move(done));
  run(std::make_shared<Job>(Job{.request = request, .take = [shared](const Line& line) {
                                  const auto answer = accepted(line);
                                  (*shared)(answer ? std::expected<void, std::string>()
                                                   : std::unexpected(answer.error()));
                                  return true;
                                }}));
}

void QuorumClient::set_runs(bool runs, Done done) {
  const json request = {{"command", "attend"}, {"user", options_.name}, {"runs", runs}};
  run_simple(daemon::to_line(request), std::move(done));
}

void QuorumClient::leave(Done done) {
  run_simple(daemon::to_line({{"command", "leave"}, {"user", options_.name}}), std::move(done));
}

void QuorumClient::fence(const std::string& node, Incarnation incarnation, bool strict,
                         io::Duration limit, Fenced done) {
  auto shared = std::make_shared<Fenced>(std::move(done));
  const auto take = [this, shared, until = loop_.now() + limit](const Line& line) {
    const auto answer = accepted(line);
    const std::string state = answer ? string_member(*answer, "state").value_or("") : "";
    if (state == "drained" || state == "timed") {
      (*shared)(
          {.state = state == "timed" ? FenceResult::State::timed : FenceResult::State::drained,
           .lab = flag(*answer, "lab")});
      return true;
    }
    // A daemon that is being restarted is asked again.
    const bool over = line && (!answer || state != "pending");
    if (!over && loop_.now() < until) return false;
    (*shared)({.why = answer ? string_member(*answer, "why").value_or(kStrange) : answer.error()});
    return true;
  };
  const json request = {
      {"command", "fence"}, {"node", node}, {"incarnation", incarnation}, {"strict", strict}};
  run(std::make_shared<Job>(Job{.request = daemon::to_line(request), .take = take}));
}

}  // namespace holdfast::qdisk
