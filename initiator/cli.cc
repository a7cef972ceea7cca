#include "initiator/cli.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <expected>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>

#include "common/base/random.h"
#include "common/daemon/chap_config.h"
#include "common/daemon/config_values.h"
#include "common/daemon/control_message.h"
#include "common/daemon/text_table.h"
#include "common/io/uring_loop.h"
#include "common/scsi/report_luns.h"
#include "initiator/cli_report.h"
#include "initiator/discovery.h"
#include "initiator/login_test.h"

namespace holdfast::initiator {
namespace {

using nlohmann::json;
using Problem = std::optional<std::string>;
using Options = std::expected<std::vector<Session::Options>, std::string>;

// ISIDs of type 10b (RFC 7143 11.12.5) with random bits: nothing of ours is reinstated.
uint64_t random_isid(base::Random& random) {
  return uint64_t{2} << 46 | (random.next() & 0xffffff'ffff);
}

std::string default_name() {
  std::array<char, 65> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return "";
  std::string name;
  for (const char c : std::string_view(host.data())) {
    const auto lower = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    const bool allowed = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') ||
                         lower == '-' || lower == '.';
    name += allowed ? lower : '-';
  }
  return "iqn.2026-11.org.holdfast:" + name;
}

std::expected<iscsi::ChapAccount, std::string> account(const std::string& user,
                                                       const std::string& file) {
  std::error_code ignored;  // reading it says it better
  daemon::ChapConfig config{.user = user,
                            .secret_file = std::filesystem::absolute(file, ignored).string()};
  if (const auto problem = daemon::chap_user_problem(user)) return std::unexpected(*problem);
  if (const auto problem = daemon::read_secret(config)) return std::unexpected(*problem);
  auto secret = iscsi::ChapSecret::create(base::as_bytes(std::string_view(config.secret)));
  if (!secret) return std::unexpected(std::string(secret.error().what));
  return iscsi::ChapAccount{.user = user, .secret = *secret};
}

std::expected<io::Endpoint, std::string> portal_of(const std::string& text) {
  auto made = io::Endpoint::parse(text);
  if (made && made->port() != 0) return *made;
  // Without a port: "10.1.0.10", "fd00::1", "[fd00::1]".
  const bool bare_v6 = text.find(':') != std::string::npos && !text.starts_with('[');
  made = io::Endpoint::parse((bare_v6 ? "[" + text + "]" : text) + ":3260");
  if (made) return *made;
  return std::unexpected(
      fmt::format("portal \"{}\": {}; names are not looked up", text, made.error().what));
}

std::expected<io::Endpoint, std::string> source_of(const std::string& text) {
  const bool v6 = text.find(':') != std::string::npos;
  const auto made = io::Endpoint::parse(v6 ? "[" + text + "]:0" : text + ":0");
  if (made) return *made;
  return std::unexpected(fmt::format("source \"{}\": a numeric address is wanted", text));
}

std::expected<Session::Options, std::string> common_options(const InitiatorCommand& command) {
  Session::Options made;
  made.login.initiator_name =
      command.initiator_name.empty() ? default_name() : command.initiator_name;
  for (const std::string& name : {made.login.initiator_name, command.target}) {
    if (name.empty() && command.verb == InitiatorCommand::Verb::discover) continue;
    if (const auto problem = daemon::iscsi_name_problem(name)) return std::unexpected(*problem);
  }
  made.login.target_name = command.target;
  if (command.chap_user.empty()) return made;
  auto own = account(command.chap_user, command.chap_secret_file);
  if (!own) return std::unexpected(own.error());
  // A portal that asks for no CHAP is worth knowing of, and no reason to end.
  made.login.chap = iscsi::ChapCredentials{.initiator = std::move(*own), .required = false};
  if (command.target_user.empty()) return made;
  auto target = account(command.target_user, command.target_secret_file);
  if (!target) return std::unexpected(target.error());
  made.login.chap->target = std::move(*target);
  return made;
}

Options session_options(const InitiatorCommand& command, base::Random& random) {
  auto common = common_options(command);
  if (!common) return std::unexpected(common.error());
  if (command.sources.size() > 1 && command.sources.size() != command.portals.size()) {
    return std::unexpected("give --source once, or once for each portal");
  }
  std::vector<Session::Options> out;
  for (size_t i = 0; i < command.portals.size(); ++i) {
    Session::Options made = *common;
    auto portal = portal_of(command.portals[i]);
    if (!portal) return std::unexpected(portal.error());
    made.portal = *portal;
    made.login.isid = random_isid(random);  // one would reinstate the other
    if (!command.sources.empty()) {
      auto source = source_of(command.sources[command.sources.size() == 1 ? 0 : i]);
      if (!source) return std::unexpected(source.error());
      made.connect.source = *source;
    }
    out.push_back(std::move(made));
  }
  return out;
}

int fail(const InitiatorCommand& command, const std::string& problem, int status, std::ostream& out,
         std::ostream& err) {
  if (command.json) {
    out << daemon::to_line(daemon::refusal({problem}));
  } else {
    err << daemon::printable(problem) << "\n";
  }
  return status;
}

void print(const InitiatorCommand& command, const json& report, const std::string& text,
           std::ostream& out) {
  if (command.json) {
    out << report.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
  } else {
    out << text;
  }
}

struct Asked {
  std::optional<iscsi::SendTargetsAnswer> targets;
  SessionEnd end;
  io::Duration took{};
};

Asked ask_targets(io::UringLoop& loop, base::Random& random, Session::Options options,
                  io::Duration limit) {
  Asked asked;
  std::unique_ptr<Discovery> discovery;
  discovery = std::make_unique<Discovery>(loop, loop, random, std::move(options),
                                          [&](const Discovery::Answer& answer) noexcept {
                                            if (answer.targets.has_value())
                                              asked.targets = *answer.targets;
                                            asked.end = answer.end;
                                            loop.post([&]() noexcept {
                                              discovery.reset();
                                              loop.stop();
                                            });
                                          });
  loop.post([&]() noexcept { discovery->start(limit); });
  loop.run();
  return asked;
}

int discover(const InitiatorCommand& command, Session::Options options, std::ostream& out,
             std::ostream& err) {
  base::SystemRandom random;
  const auto run = [&](io::Duration limit) -> std::expected<Asked, std::string> {
    auto loop = io::UringLoop::open({});
    if (!loop) return std::unexpected(std::string(loop.error().what));
    const io::Instant begun = (*loop)->now();
    Asked asked = ask_targets(**loop, random, options, limit);
    asked.took = (*loop)->now() - begun;
    return asked;
  };
  auto asked = run(kDiscoveryTimeout);
  // As LoginTest does: algorithm 7 is SHA1 to some targets.
  if (asked && asked->end.retry_without_sha256) {
    options.login.chap->algorithms.sha256 = false;
    asked = run(kDiscoveryTimeout - asked->took);
  }
  if (!asked) return fail(command, asked.error(), kExitRefused, out, err);
  const std::string portal = options.portal.to_string();
  if (!asked->targets) {
    const SessionEnd& end = asked->end;
    return fail(command,
                fmt::format("{}: {}{}", portal, *end.why != '\0' ? end.why : to_string(end.kind),
                            end.kind == EndKind::login_refused && end.chap_refused
                                ? fmt::format(" ({})", iscsi::to_string(end.status))
                                : ""),
                kExitRefused, out, err);
  }
  print(command, to_json(*asked->targets, portal), describe(*asked->targets, portal), out);
  return kExitOk;
}

int login_test(const InitiatorCommand& command, std::vector<Session::Options> portals,
               std::ostream& out, std::ostream& err) {
  base::SystemRandom random;
  auto loop = io::UringLoop::open({});
  if (!loop) return fail(command, loop.error().what, kExitRefused, out, err);
  std::optional<uint64_t> lun;
  if (command.lun) lun = uint64_t{scsi::encode_lun(*command.lun)};
  // All at a time: portals that do not answer must not add up.
  std::vector<LoginTest::PortalResult> results(portals.size());
  std::vector<std::unique_ptr<LoginTest>> tests;
  size_t open = portals.size();
  for (size_t i = 0; i < portals.size(); ++i) {
    tests.push_back(std::make_unique<LoginTest>(**loop, **loop, random, std::move(portals[i]), lun,
                                                [&, i](LoginTest::PortalResult made) noexcept {
                                                  results[i] = std::move(made);
                                                  if (--open == 0) (*loop)->stop();
                                                }));
  }
  for (const auto& test : tests) {
    (*loop)->post([test = test.get()]() noexcept { test->start(); });
  }
  (*loop)->run();
  const std::vector<std::string> problems = problems_of(results);
  print(command, to_json(results, problems), describe(results, problems), out);
  return problems.empty() ? kExitOk : kExitRefused;
}

}  // namespace

int run_initiator_command(const InitiatorCommand& command, std::ostream& out, std::ostream& err) {
  base::SystemRandom random;
  auto options = session_options(command, random);
  if (!options) return fail(command, options.error(), kExitUsage, out, err);
  if (command.verb == InitiatorCommand::Verb::discover) {
    return discover(command, std::move(options->front()), out, err);
  }
  return login_test(command, std::move(*options), out, err);
}

}  // namespace holdfast::initiator
