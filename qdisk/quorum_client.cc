#include "qdisk/quorum_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/daemon/control_message.h"
#include "common/daemon/edge_thread.h"

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

// What the thread knows.
struct QuorumClient::Attendance {
  std::optional<View> view;
  bool unreachable = false;
};

QuorumClient::QuorumClient(io::Loop& loop, Options options, Listener& listener)
    : loop_(loop), options_(std::move(options)), listener_(listener) {
  worker_ = daemon::start_edge_thread("quorum-ask", [this] { work(); });
}

QuorumClient::~QuorumClient() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (attendance_.joinable()) attendance_.join();
  worker_.join();
}

// Nobody is there any more once the client has gone.
void QuorumClient::post(io::Task task) {
  loop_.post([weak = std::weak_ptr(self_), task = std::move(task)]() mutable noexcept {
    if (!weak.expired()) task();
  });
}

// --- what has been decided ---

void QuorumClient::start() {
  ASSERT(!attendance_.joinable());
  attendance_ = daemon::start_edge_thread("quorum-attend", [this] { attend(); });
}

void QuorumClient::quiesced(Epoch epoch) {
  {
    const std::lock_guard lock(mutex_);
    quiesced_ = std::max(quiesced_, epoch);
  }
  changed_.notify_all();
}

void QuorumClient::take_view(const std::string& line, Attendance& known) {
  const auto answer = accepted(line);
  const auto view = answer ? read_view(*answer) : std::unexpected(answer.error());
  if (!view) {
    if (std::exchange(known.unreachable, true)) return;
    return post([this, why = view.error()]() noexcept { listener_.on_unreachable(why); });
  }
  known.unreachable = false;
  // Between two of its lives the daemon knows nothing: what it said before stays true.
  if (view->epoch == 0 || known.view == *view) return;
  known.view = *view;
  post([this, view = *view]() noexcept { listener_.on_view(view); });
}

void QuorumClient::attend() {
  Attendance known;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Epoch told = quiesced_;
    json request = {{"command", "attend"}, {"user", options_.name}, {"quiesced", told}};
    if (known.view) {
      request["epoch"] = known.view->epoch;
      request["fenced"] = known.view->fenced;
    }
    lock.unlock();
    const auto line = options_.exchange(options_.socket, daemon::to_line(request));
    const bool failed = !line || known.unreachable;
    take_view(line ? *line : daemon::to_line(daemon::refusal({line.error()})), known);
    lock.lock();
    const bool waits = failed || known.unreachable || (known.view && quiesced_ < known.view->epoch);
    changed_.wait_for(lock, waits ? kRetry : kLeast,
                      [&] { return stopping_ || quiesced_ != told; });
  }
}

// --- what this daemon asks for ---

void QuorumClient::submit(Job job, io::Task refused) {
  {
    const std::lock_guard lock(mutex_);
    if (jobs_.size() < kMaxJobs) {
      jobs_.push_back(std::move(job));
      refused = nullptr;
    }
  }
  changed_.notify_all();
  if (refused) post(std::move(refused));
}

void QuorumClient::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    std::list<Job> job;
    job.splice(job.begin(), jobs_, jobs_.begin());
    lock.unlock();
    const auto line = options_.exchange(options_.socket, job.front().request);
    auto done = job.front().take(line);
    if (done) post(std::move(*done));
    lock.lock();
    if (done) continue;
    jobs_.splice(jobs_.end(), job);
    if (!line) changed_.wait_for(lock, kRetry, [this] { return stopping_; });
  }
}

void QuorumClient::submit_simple(std::string request, Done done) {
  auto shared = std::make_shared<Done>(std::move(done));
  const auto take = [shared](const std::expected<std::string, std::string>& line) {
    const auto answer = accepted(line);
    return std::optional<io::Task>([shared, answer]() noexcept {
      if (answer) return (*shared)({});
      (*shared)(std::unexpected(answer.error()));
    });
  };
  submit({.request = std::move(request), .take = take},
         [shared]() noexcept { (*shared)(std::unexpected("too many requests wait already")); });
}

void QuorumClient::set_runs(bool runs, Done done) {
  json request = {{"command", "attend"}, {"user", options_.name}, {"runs", runs}};
  submit_simple(daemon::to_line(request), std::move(done));
}

void QuorumClient::leave(Done done) {
  submit_simple(daemon::to_line({{"command", "leave"}, {"user", options_.name}}), std::move(done));
}

void QuorumClient::fence(const std::string& node, Incarnation incarnation, bool strict,
                         io::Duration limit, Fenced done) {
  auto shared = std::make_shared<Fenced>(std::move(done));
  const auto answer_with = [shared](FenceResult result) {
    return std::optional<io::Task>([shared, result]() noexcept { (*shared)(result); });
  };
  const auto until = std::chrono::steady_clock::now() + limit;
  const auto take =
      [answer_with,
       until](const std::expected<std::string, std::string>& line) -> std::optional<io::Task> {
    const auto answer = accepted(line);
    const std::string state = answer ? string_member(*answer, "state").value_or("") : "";
    if (state == "drained" || state == "timed") {
      return answer_with(
          {.state = state == "timed" ? FenceResult::State::timed : FenceResult::State::drained,
           .lab = flag(*answer, "lab")});
    }
    std::string why = answer ? string_member(*answer, "why").value_or(kStrange) : answer.error();
    // A daemon that is being restarted is asked again.
    const bool over = line && (!answer || state != "pending");
    if (over || std::chrono::steady_clock::now() >= until) return answer_with({.why = why});
    return std::nullopt;
  };
  const json request = {
      {"command", "fence"}, {"node", node}, {"incarnation", incarnation}, {"strict", strict}};
  submit({.request = daemon::to_line(request), .take = take},
         [shared]() noexcept { (*shared)({.why = "too many requests wait already"}); });
}

}  // namespace holdfast::qdisk
