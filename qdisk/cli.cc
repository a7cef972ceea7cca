#include "qdisk/cli.h"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <ostream>

#include "common/daemon/config_values.h"
#include "common/daemon/control_message.h"
#include "common/daemon/text_table.h"
#include "qdisk/cli_daemon.h"
#include "qdisk/cli_report.h"
#include "qdisk/guarded_call.h"
#include "qdisk/named_timers.h"
#include "qdisk/witness_format.h"

namespace holdfast::qdisk {
namespace {

using daemon::printable;
using nlohmann::json;

static_assert(kMaxClusterNameBytes == 64);  // what daemon::name_problem() allows

// As JSON for programs to standard output, as text for people to standard error.
Outcome failure(const QuorumCommand& command, const std::vector<std::string>& problems,
                int status) {
  Outcome out{.status = status};
  if (command.json) {
    out.out = daemon::to_line(daemon::refusal(problems));
  } else {
    for (const std::string& problem : problems) out.err += printable(problem) + "\n";
  }
  return out;
}

Outcome failure(const QuorumCommand& command, const base::Error& error) {
  std::string text = fmt::format("{}: {}", command.device, error.what);
  // The other codes have a text that says it all.
  if (error.sys != 0 && error.code == base::Errc::io) {
    text += fmt::format(" ({})", std::strerror(error.sys));
  }
  return failure(command, {text}, kExitRefused);
}

std::string indented(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

// A version 4 uuid (RFC 9562).
Uuid random_uuid(base::Random& random) {
  Uuid uuid;
  random.fill(uuid);
  uuid[6] = static_cast<uint8_t>(0x40 | (uuid[6] & 0x0f));
  uuid[8] = static_cast<uint8_t>(0x80 | (uuid[8] & 0x3f));
  return uuid;
}

Outcome show(const QuorumCommand& command) {
  auto file = WitnessFile::open(command.device, WitnessFile::Use::look);
  if (!file) return failure(command, file.error());
  const auto contents = read_witness(*file);
  if (!contents) return failure(command, contents.error());
  const WitnessContents& found = **contents;
  Outcome out{.status =
                  found.superblock.valid() && found.corrupt().empty() ? kExitOk : kExitRefused};
  if (command.json) {
    json report = to_json(found);
    report["device"] = command.device;
    out.out = indented(report);
  } else {
    out.out = describe(found);
  }
  return out;
}

Outcome format(const QuorumCommand& command, Superblock superblock, const Progress& progress) {
  auto file = WitnessFile::open(command.device, WitnessFile::Use::format);
  if (!file) return failure(command, file.error());
  file->on_progress(progress);
  if (file->size_bytes() < kMinWitnessBytes) {
    return failure(
        command,
        {fmt::format("{}: a witness has at least {}, and this has {}", command.device,
                     daemon::human_size(kMinWitnessBytes), daemon::human_size(file->size_bytes()))},
        kExitRefused);
  }
  if (!command.force) {
    const auto there = what_is_on(*file, command.device);
    if (!there) return failure(command, there.error());
    std::vector<std::string> problems;
    for (const std::string& each : *there) {
      problems.push_back(fmt::format("{} holds something: {}", command.device, each));
    }
    if (!problems.empty()) {
      problems.emplace_back("nothing was written; --force formats it all the same");
      return failure(command, problems, kExitRefused);
    }
  }
  superblock.sector_bytes = file->sector_bytes();
  if (const auto done = format_witness(*file, superblock); !done) {
    return failure(command, done.error());
  }
  Outcome out;
  if (command.json) {
    json report = {{"ok", true}, {"device", command.device}, {"size_bytes", file->size_bytes()}};
    report["superblock"] = to_json(superblock);
    out.out = indented(report);
  } else {
    out.out = describe(superblock) +
              fmt::format("{} is formatted, and was read back.\n", printable(command.device));
  }
  return out;
}

// What can be said without the device. Fills the superblock; returns the problems.
std::vector<std::string> prepare(const QuorumCommand& command, base::Random& random,
                                 Superblock& superblock) {
  std::vector<std::string> problems;
  if (auto problem = daemon::name_problem("cluster", command.cluster)) problems.push_back(*problem);
  superblock.generation = 1;
  superblock.cluster_name = command.cluster;
  superblock.cluster = random_uuid(random);
  if (!command.cluster_uuid.empty()) {
    const auto uuid = parse_uuid(command.cluster_uuid);
    if (!uuid || *uuid == Uuid{}) {
      problems.push_back(fmt::format("--cluster-uuid: \"{}\" is no uuid", command.cluster_uuid));
    }
    superblock.cluster = uuid.value_or(Uuid{});
  }
  superblock.witness = random_uuid(random);
  superblock.timers = timers_of(command.profile);
  for (const std::string& each : command.timers) {
    if (auto problem = set_timer(superblock.timers, each)) problems.push_back(*problem);
  }
  return problems;
}

Outcome silent(const QuorumCommand& command) {
  std::string text =
      fmt::format("{}: it does not answer within {}", command.device, to_text(command.silence));
  if (command.verb == QuorumCommand::Verb::witness_format) {
    text += "; it is not formatted, and what was on it may be gone";
  }
  return failure(command, {text}, kExitRefused);
}

Outcome run(const QuorumCommand& command, base::Random& random) {
  GuardedWork work = [&](const Progress&) { return show(command); };
  Superblock superblock;
  if (command.verb == QuorumCommand::Verb::witness_format) {
    std::vector<std::string> problems = prepare(command, random, superblock);
    if (!problems.empty()) return failure(command, problems, kExitUsage);
    problems = violations(superblock.timers);
    if (!problems.empty()) return failure(command, problems, kExitRefused);
    work = [&](const Progress& progress) { return format(command, superblock, progress); };
  }
  const auto outcome = call_guarded(work, command.silence);
  return outcome ? *outcome : silent(command);
}

}  // namespace

int run_quorum_command(const QuorumCommand& command, base::Random& random,
                       const daemon::Exchange& exchange, std::ostream& out, std::ostream& err) {
  const bool witness = command.verb == QuorumCommand::Verb::witness_format ||
                       command.verb == QuorumCommand::Verb::witness_show;
  const Outcome outcome = witness ? run(command, random) : run_with_daemon(command, exchange);
  out << outcome.out;
  err << outcome.err;
  return outcome.status;
}

}  // namespace holdfast::qdisk
