#include "qdisk/cli_daemon.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Verb = QuorumCommand::Verb;

constexpr const char* kStatus = R"({"ok": true, "status": {
  "cluster": "lab", "node": "hv1", "mode": "node-and-disk-majority", "quorum": true,
  "member": true, "lease_left_ms": 3400, "epoch": "1.17", "forced": false, "fenced": true,
  "votes": 3, "needed": 2, "watchdog": "/dev/watchdog (iTCO_wdt), 10 s",
  "nodes": [
    {"node": "hv1", "id": 0, "this_node": true, "member": true, "votes": true, "vouches": true,
     "heard": true, "state": "member", "incarnation": 4, "remembers": true,
     "networks": [true, true], "heard_on_disk": true},
    {"node": "hv2\u001b[31m", "id": 1, "member": false, "votes": true, "vouches": false,
     "heard": false, "state": "none", "incarnation": 0, "networks": [false, false]}],
  "witness": {"usable": true, "votes": true, "vouches": true, "problem": ""},
  "volumes": [{"name": "Volume1", "number": 0, "coordinator": "hv1", "term": 3, "usable": false,
               "problem": "no path"}],
  "why": ["There is quorum."],
  "next_failures": [{"what": "hv1", "goes_on": false, "text": "If hv1 fails now, it stops."}]}})";

struct Asked {
  Outcome outcome;
  std::string request;
};

Asked ask(Verb verb, const std::string& answer, bool json = false, bool heard_too = false) {
  Asked out;
  const QuorumCommand command{.verb = verb, .json = json, .socket = "/s", .heard_too = heard_too};
  out.outcome = run_with_daemon(command, [&](const std::string& socket, const std::string& line) {
    EXPECT_EQ(socket, "/s");
    out.request = line;
    return std::expected<std::string, std::string>(answer);
  });
  return out;
}

TEST(QuorumDaemonCli, StatusIsShown) {
  const Asked asked = ask(Verb::status, kStatus);
  EXPECT_EQ(asked.outcome.status, kExitOk);
  EXPECT_THAT(asked.request, HasSubstr("\"status\""));
  EXPECT_THAT(asked.outcome.out,
              AllOf(HasSubstr("Cluster lab, node hv1: quorum\n"), HasSubstr("epoch     1.17\n"),
                    HasSubstr("lease     3.4 s left"), HasSubstr("usable, votes (there)"),
                    HasSubstr("/dev/watchdog (iTCO_wdt)"), HasSubstr("hv1 *"), HasSubstr("SILENT"),
                    HasSubstr("DOWN DOWN"), HasSubstr("NOT USABLE: no path")));
  EXPECT_THAT(asked.outcome.out, Not(HasSubstr("\x1b"))) << "what a terminal obeys is not printed";
}

TEST(QuorumDaemonCli, VotesAndReasonsAreShown) {
  const std::string votes = ask(Verb::votes, kStatus).outcome.out;
  EXPECT_THAT(votes, AllOf(HasSubstr("3 votes, 2 needed (node-and-disk-majority)"),
                           HasSubstr("hv1"), HasSubstr("missing"), HasSubstr("the witness")));
  EXPECT_EQ(ask(Verb::explain, kStatus).outcome.out,
            "There is quorum.\nIf hv1 fails now, it stops.\n");
}

TEST(QuorumDaemonCli, ProgramsGetTheStatusAsItIs) {
  const std::string out = ask(Verb::status, kStatus, true).outcome.out;
  EXPECT_THAT(out, HasSubstr("\"lease_left_ms\": 3400"));
  EXPECT_THAT(out, Not(HasSubstr("\"ok\"")));
}

TEST(QuorumDaemonCli, OrdersArePassedOn) {
  EXPECT_THAT(ask(Verb::create, R"({"ok": true})").request, HasSubstr("\"create\""));
  EXPECT_THAT(ask(Verb::force, R"({"ok": true})").request, HasSubstr("\"heard_too\":false"));
  const Asked forced = ask(Verb::force, R"({"ok": true})", false, true);
  EXPECT_THAT(forced.request, HasSubstr("\"heard_too\":true"));
  EXPECT_THAT(forced.outcome.out, HasSubstr("goes on alone"));
}

// Each answer in turn; what was asked.
struct Dialogue {
  Outcome outcome;
  std::vector<std::string> requests;
};

Dialogue fence(std::vector<std::string> answers, uint32_t wait_s = 120, bool strict = true) {
  Dialogue out;
  const QuorumCommand command{
      .verb = Verb::fence, .node = "hv2", .strict = strict, .wait_s = wait_s};
  out.outcome = run_with_daemon(command, [&](const std::string&, const std::string& line) {
    out.requests.push_back(line);
    return std::expected<std::string, std::string>(answers.at(out.requests.size() - 1));
  });
  return out;
}

constexpr const char* kPending =
    R"({"ok": true, "state": "pending", "incarnation": 4, "why": "It waits for hv3."})";
constexpr const char* kDrained = R"({"ok": true, "state": "drained", "incarnation": 4})";

TEST(QuorumDaemonCli, AFenceIsAskedForUntilItIsDone) {
  const Dialogue done = fence({kPending, kPending, kDrained});
  EXPECT_EQ(done.outcome.status, kExitOk);
  EXPECT_EQ(done.outcome.out,
            "Nothing of hv2 (life 4) can land any more: its devices and all members have said "
            "so.\nWhat it ran has stopped.\n");
  ASSERT_EQ(done.requests.size(), 3U);
  EXPECT_THAT(done.requests[0], Not(HasSubstr("incarnation")));
  EXPECT_THAT(done.requests[2], AllOf(HasSubstr("\"incarnation\":4"), HasSubstr("\"strict\":true")))
      << "the life that was meant first";
  EXPECT_THAT(fence({R"({"ok": true, "state": "timed"})"}, 120, false).outcome.out,
              HasSubstr("so much time has gone by"));
  EXPECT_THAT(fence({R"({"ok": true, "state": "drained", "lab": true})"}).outcome.out,
              HasSubstr("test double"));
}

TEST(QuorumDaemonCli, AFenceThatDoesNotComeToItsEndIsSaid) {
  const Dialogue late = fence({kPending}, 0);
  EXPECT_EQ(late.outcome.status, kExitRefused);
  EXPECT_EQ(late.outcome.err, "not done within 0 s: It waits for hv3.\n");
  const Dialogue refused = fence({R"({"ok": true, "state": "refused", "why": "Strict: no."})"});
  EXPECT_EQ(refused.outcome.status, kExitRefused);
  EXPECT_EQ(refused.outcome.err, "Strict: no.\n");
  EXPECT_EQ(fence({R"({"ok": true, "state": "done"})"}).outcome.status, kExitUsage);
  EXPECT_EQ(fence({R"({"ok": false, "problems": ["no [[node]]"]})"}).outcome.err, "no [[node]]\n");
}

TEST(QuorumDaemonCli, ARefusalAndAStrangeAnswerAreToldApart) {
  const Asked refused = ask(Verb::force, R"({"ok": false, "problems": ["there is quorum"]})");
  EXPECT_EQ(refused.outcome.status, kExitRefused);
  EXPECT_EQ(refused.outcome.err, "there is quorum\n");
  for (const char* answer : {"", "[]", "{}", R"({"ok": true})", R"({"ok": true, "status": 3})"}) {
    const Asked strange = ask(Verb::status, answer);
    EXPECT_EQ(strange.outcome.status, kExitUsage) << answer;
    EXPECT_THAT(strange.outcome.err, HasSubstr("same version")) << answer;
  }
  // Of another version: what is missing or of another kind is left out.
  EXPECT_EQ(ask(Verb::status, R"({"ok": true, "status": {"nodes": 3, "witness": [], "why": {}}})")
                .outcome.status,
            kExitOk);
}

TEST(QuorumDaemonCli, ADaemonThatIsNotThereIsSaid) {
  const Outcome outcome =
      run_with_daemon({.json = true}, [](const std::string&, const std::string&) {
        return std::expected<std::string, std::string>(std::unexpected("holdfast-qdiskd: no"));
      });
  EXPECT_EQ(outcome.status, kExitUsage);
  EXPECT_THAT(outcome.out, HasSubstr("holdfast-qdiskd: no"));
}

}  // namespace
}  // namespace holdfast::qdisk
