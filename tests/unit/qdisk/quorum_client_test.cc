#include "qdisk/quorum_client.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <condition_variable>
#include <deque>
#include <future>
#include <nlohmann/json.hpp>

#include "common/daemon/control_message.h"
#include "tests/unit/io/loop_fixture.h"

namespace holdfast::qdisk {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using State = QuorumClient::FenceResult::State;
using Answer = std::expected<std::string, std::string>;

// The quorum daemon: answers as it is told, and remembers what it was asked.
class FakeDaemon {
 public:
  daemon::Exchange exchange() {
    return [this](const std::string& socket, const std::string& line) -> Answer {
      EXPECT_EQ(socket, "/s");
      const std::lock_guard lock(mutex_);
      const json request = daemon::parse_line(line).value_or(json::object());
      asked_.push_back(request);
      changed_.notify_all();
      if (gone_) return std::unexpected("no daemon answers");
      return daemon::to_line(request["command"] == "fence" ? fence_ : view_);
    };
  }
  void show(Epoch epoch, Incarnation second, Epoch fenced) {
    const std::lock_guard lock(mutex_);
    std::vector<Incarnation> lives(kMaxNodes);
    lives[0] = 3;
    lives[1] = second;
    view_ = {{"ok", true}, {"epoch", epoch}, {"incarnations", lives}, {"fenced", fenced}};
  }
  void answer(json made) {
    const std::lock_guard lock(mutex_);
    view_ = std::move(made);
  }
  void fence_with(json made) {
    const std::lock_guard lock(mutex_);
    fence_ = std::move(made);
  }
  void go(bool gone) {
    const std::lock_guard lock(mutex_);
    gone_ = gone;
  }
  // A request of the kind comes, or has come.
  bool is_asked(const std::function<bool(const json&)>& of_kind) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, [&] { return std::ranges::any_of(asked_, of_kind); });
  }
  size_t times(const char* command) {
    const std::lock_guard lock(mutex_);
    return static_cast<size_t>(std::ranges::count_if(
        asked_, [&](const json& each) { return each["command"] == command; }));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  json view_ = {{"ok", true}, {"epoch", 0}};
  json fence_;
  bool gone_ = false;
  std::vector<json> asked_;
};

class QuorumClientTest : public testing::Test, public QuorumClient::Listener {
 protected:
  QuorumClientTest() {
    thread_.call([this] {
      client_ = std::make_unique<QuorumClient>(
          thread_.loop(),
          QuorumClient::Options{.name = "csvfsd", .socket = "/s", .exchange = daemon_.exchange()},
          *this);
    });
  }
  ~QuorumClientTest() override {
    thread_.call([this] { client_.reset(); });
  }

  QuorumClient::View next_view() { return next(views_); }
  std::string next_problem() { return next(problems_); }
  QuorumClient::FenceResult fence(bool strict, io::Duration limit) {
    std::promise<QuorumClient::FenceResult> done;
    thread_.call([&] {
      client_->fence("hv2", 7, strict, limit,
                     [&](QuorumClient::FenceResult result) noexcept { done.set_value(result); });
    });
    return done.get_future().get();
  }
  std::expected<void, std::string> asked(
      const std::function<void(QuorumClient&, QuorumClient::Done)>& ask) {
    std::promise<std::expected<void, std::string>> done;
    thread_.call([&] {
      ask(*client_, [&](std::expected<void, std::string> result) noexcept {
        done.set_value(std::move(result));
      });
    });
    return done.get_future().get();
  }

  FakeDaemon daemon_;
  io::LoopThread thread_;
  std::unique_ptr<QuorumClient> client_;

 private:
  void on_view(const QuorumClient::View& view) noexcept override { put(views_, view); }
  void on_unreachable(const std::string& why) noexcept override { put(problems_, why); }
  template <class T>
  void put(std::deque<T>& queue, const T& value) {
    const std::lock_guard lock(mutex_);
    queue.push_back(value);
    changed_.notify_all();
  }
  template <class T>
  T next(std::deque<T>& queue) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, 10s, [&] { return !queue.empty(); }));
    if (queue.empty()) return {};
    T value = queue.front();
    queue.pop_front();
    return value;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<QuorumClient::View> views_;
  std::deque<std::string> problems_;
};

TEST_F(QuorumClientTest, ItHearsOfEachDecisionOnceAndSaysWhatItHasDropped) {
  daemon_.show(8, 4, 8);
  thread_.call([this] { client_->start(); });
  const QuorumClient::View first = next_view();
  EXPECT_EQ(first.epoch, 8U);
  EXPECT_EQ(first.incarnations[0], 3U);
  EXPECT_EQ(first.incarnations[1], 4U);
  EXPECT_TRUE(daemon_.is_asked([](const json& each) { return each.value("epoch", 0) == 8; }));
  daemon_.show(9, 0, 8);
  EXPECT_EQ(next_view().incarnations[1], 0U);
  thread_.call([this] { client_->quiesced(9); });
  EXPECT_TRUE(daemon_.is_asked([](const json& each) { return each.value("quiesced", 0) == 9; }));
  daemon_.show(9, 0, 9);
  EXPECT_EQ(next_view().fenced, 9U);
}

TEST_F(QuorumClientTest, ADaemonThatIsRestartedIsSaidOnceAndWaitedFor) {
  daemon_.go(true);
  thread_.call([this] { client_->start(); });
  EXPECT_EQ(next_problem(), "no daemon answers");
  daemon_.show(8, 4, 8);
  daemon_.go(false);
  EXPECT_EQ(next_view().epoch, 8U);
  daemon_.answer({{"ok", true}, {"epoch", 0}});  // it is about to begin: nothing is new
  daemon_.go(true);
  EXPECT_EQ(next_problem(), "no daemon answers");
}

TEST_F(QuorumClientTest, StrangeAnswersAreNoViews) {
  Epoch fenced = 8;
  for (const json& strange :
       {json{{"ok", true}}, json{{"ok", true}, {"epoch", 3}},
        json{{"ok", true}, {"epoch", 3}, {"incarnations", {1, 2}}},
        json{{"ok", true}, {"epoch", 3}, {"incarnations", std::vector<int>(64, -1)}}}) {
    daemon_.answer(strange);
    if (fenced == 8) thread_.call([this] { client_->start(); });
    EXPECT_THAT(next_problem(), HasSubstr("not understood"));
    daemon_.show(8, 4, fenced++);  // another one each time
    EXPECT_EQ(next_view().epoch, 8U);
  }
}

TEST_F(QuorumClientTest, AFenceIsAskedForUntilItIsDone) {
  daemon_.fence_with({{"ok", true}, {"state", "pending"}, {"why", "It waits for hv3."}});
  std::promise<QuorumClient::FenceResult> done;
  thread_.call([&] {
    client_->fence("hv2", 7, true, 60s,
                   [&](QuorumClient::FenceResult result) noexcept { done.set_value(result); });
  });
  EXPECT_TRUE(daemon_.is_asked([](const json& each) {
    return each["command"] == "fence" && each["node"] == "hv2" && each["incarnation"] == 7 &&
           each["strict"] == true;
  }));
  daemon_.fence_with({{"ok", true}, {"state", "drained"}, {"lab", true}});
  const QuorumClient::FenceResult result = done.get_future().get();
  EXPECT_EQ(result.state, State::drained);
  EXPECT_TRUE(result.lab);
  EXPECT_GE(daemon_.times("fence"), 2U);
}

TEST_F(QuorumClientTest, AFenceThatDoesNotComeToItsEndIsSaid) {
  daemon_.fence_with({{"ok", true}, {"state", "pending"}, {"why", "It waits for hv3."}});
  EXPECT_EQ(fence(false, 0s).why, "It waits for hv3.");
  daemon_.fence_with({{"ok", true}, {"state", "refused"}, {"why", "Strict: no."}});
  const QuorumClient::FenceResult refused = fence(true, 60s);
  EXPECT_EQ(refused.state, State::failed);
  EXPECT_EQ(refused.why, "Strict: no.");
  daemon_.fence_with({{"ok", false}, {"problems", {"no [[node]] is named `hv2`"}}});
  EXPECT_EQ(fence(false, 60s).why, "no [[node]] is named `hv2`");
  daemon_.fence_with({{"ok", true}, {"state", "timed"}});
  EXPECT_EQ(fence(false, 60s).state, State::timed);
  daemon_.go(true);
  EXPECT_EQ(fence(false, 0s).why, "no daemon answers");
}

TEST_F(QuorumClientTest, WhatRunsAndThatItLeavesIsAnswered) {
  EXPECT_TRUE(asked([](QuorumClient& client, QuorumClient::Done done) {
    client.set_runs(true, std::move(done));
  }));
  EXPECT_TRUE(daemon_.is_asked([](const json& each) {
    return each["user"] == "csvfsd" && each.value("runs", false) && !each.contains("quiesced");
  }));
  daemon_.answer({{"ok", false}, {"problems", {"there are too many"}}});
  const auto refused =
      asked([](QuorumClient& client, QuorumClient::Done done) { client.leave(std::move(done)); });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), "there are too many");
}

}  // namespace
}  // namespace holdfast::qdisk
