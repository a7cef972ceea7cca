#pragma once
// The command line of a daemon: --config FILE [--check], --help, --version.

#include <expected>
#include <span>
#include <string>
#include <string_view>

namespace holdfast::daemon {

struct CommandLine {
  std::string config;  // the file
  bool check = false;  // say what is wrong with it, start nothing
};

// Nothing is started: `text` is the answer to --help or --version and belongs on standard output
// when `status` is 0, else it says what is wrong with the arguments.
struct CommandLineEnd {
  int status = 0;
  std::string text;
};

// `program` is its name, `arguments` are those after it.
std::expected<CommandLine, CommandLineEnd> parse_command_line(
    std::string_view program, std::string_view version, std::span<const char* const> arguments);

// The same of main(), with the answer printed: the exit status then.
std::expected<CommandLine, int> read_command_line(std::string_view program,
                                                  std::string_view version, int argc, char** argv);

}  // namespace holdfast::daemon
