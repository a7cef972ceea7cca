#pragma once
// A dry run of the first step of a fence: an extra session, with an ISID of its own, is opened
// through one portal and reinstated through another. It says whether reinstatement works there and
// how long it takes; no session that carries I/O is touched.
//
// Whether the target also waits for writes in progress it cannot say: that takes a slow write.
//
// Owner: the device's service, one loop's.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "initiator/session.h"
#include "mpio/path.h"

namespace holdfast::mpio {

// Below the two seconds in which the command line answers.
inline constexpr auto kFenceTestLimit = std::chrono::milliseconds(1600);

class FenceTest {
 public:
  struct Result {
    bool reinstated = false;  // the second login ended the first session
    int64_t login_us = -1;    // of the second login; -1: it was not answered
    int64_t end_us = -1;      // from the second login's begin until the first session had ended
    std::vector<std::string> lines;  // in words
  };
  using Done = std::move_only_function<void(Result) noexcept>;

  // `first` and `second`: the sessions of two paths, whose ISID and time limits are not used.
  FenceTest(const Path::Services& services, initiator::Session::Options first,
            initiator::Session::Options second, uint64_t isid, Done done);
  ~FenceTest();

  void start();
  // Ends early; `done` still comes, once.
  void cancel();
  // Nothing of it is under way: it may be destroyed.
  bool over() const { return !first_.session && !second_.session && !done_; }

 private:
  struct Side final : initiator::SessionEvents {
    explicit Side(FenceTest& owner) : test(owner) {}
    void on_up() noexcept override;
    void on_ended(const initiator::SessionEnd& end) noexcept override;

    FenceTest& test;
    std::unique_ptr<initiator::Session> session;
    std::string portal;
    std::optional<uint16_t> group;
    bool was_up = false;
    initiator::SessionEnd end;
    io::Instant up_at{}, ended_at{};
  };

  void open(Side& side, initiator::Session::Options options);
  void on_side_up(Side& side);
  void on_side_ended(Side& side);
  void on_timer() noexcept;
  void wind_up();
  void finish();
  void describe(Result& result) const;

  Path::Services services_;
  initiator::Session::Options first_options_, second_options_;
  Done done_;
  Side first_{*this};
  Side second_{*this};
  io::Instant second_began_{};
  bool winding_up_ = false;
  bool ended_by_target_ = false;
  io::TimerOf<FenceTest, &FenceTest::on_timer> timer_{*this};
};

}  // namespace holdfast::mpio
