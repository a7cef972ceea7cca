#include "common/daemon/command_line.h"

#include <fmt/format.h>

#include <cstdio>

namespace holdfast::daemon {
namespace {

constexpr int kExitUsage = 2;

std::string usage(std::string_view program) {
  return fmt::format(
      "usage: {} --config FILE [--check]\n"
      "  --config FILE  the configuration (docs/config.md)\n"
      "  --check        say what is wrong with it, start nothing\n"
      "  --version\n"
      "Runs in the foreground, logs to stderr. SIGHUP applies the changed file, SIGTERM ends it.\n",
      program);
}

}  // namespace

std::expected<CommandLine, CommandLineEnd> parse_command_line(
    std::string_view program, std::string_view version, std::span<const char* const> arguments) {
  constexpr std::string_view kConfig = "--config";
  const auto wrong = [program](std::string_view what) {
    return std::unexpected(
        CommandLineEnd{.status = kExitUsage, .text = fmt::format("{}\n{}", what, usage(program))});
  };
  CommandLine made;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      return std::unexpected(CommandLineEnd{.text = usage(program)});
    }
    if (argument == "--version") {
      return std::unexpected(CommandLineEnd{.text = fmt::format("{} {}\n", program, version)});
    }
    if (argument == "--check") {
      made.check = true;
    } else if (argument == kConfig || argument.starts_with("--config=")) {
      const bool apart = argument == kConfig;
      if (apart && i + 1 < arguments.size()) made.config = arguments[++i];
      if (!apart) made.config = argument.substr(kConfig.size() + 1);
      if (made.config.empty() || (apart && made.config.starts_with("--"))) {
        return wrong("--config needs a file");
      }
    } else {
      return wrong(fmt::format("unknown argument `{}`", argument));
    }
  }
  if (made.config.empty()) return wrong("which configuration? --config FILE is missing");
  return made;
}

std::expected<CommandLine, int> read_command_line(std::string_view program,
                                                  std::string_view version, int argc, char** argv) {
  const std::span<const char* const> all(argv, static_cast<size_t>(argc));
  auto parsed = parse_command_line(program, version, all.subspan(argc > 0 ? 1 : 0));
  if (parsed) return std::move(*parsed);
  std::fputs(parsed.error().text.c_str(), parsed.error().status == 0 ? stdout : stderr);
  return std::unexpected(parsed.error().status);
}

}  // namespace holdfast::daemon
