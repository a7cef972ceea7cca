// holdfast-bench-exchange: runs one bare TCP exchange and prints what it reached as JSON.

#include <fmt/core.h>

#include <cstdio>
#include <cstring>
#include <string_view>

#include "bench/exchange_run.h"
#include "bench/parse_number.h"

namespace {

using holdfast::base::Errc;
using holdfast::base::fail;
using holdfast::base::Result;
using holdfast::bench::ExchangeOptions;
using holdfast::bench::ExchangeResult;
using holdfast::bench::parse_number;

constexpr const char* kUsage =
    "usage: holdfast-bench-exchange [--request BYTES] [--response BYTES] [--depth N]\n"
    "                               [--connections N] [--servers N] [--spin] [--seconds S]\n"
    "A bare TCP exchange on 127.0.0.1. Prints its rate, latency and CPU time as JSON.\n";

Result<ExchangeOptions> parse_options(int argc, char** argv) {
  ExchangeOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--spin") {
      options.spin = true;
      continue;
    }
    const std::string_view value = i + 1 < argc ? argv[++i] : "";
    const bool good = name == "--request"       ? parse_number(value, &options.request_bytes)
                      : name == "--response"    ? parse_number(value, &options.response_bytes)
                      : name == "--depth"       ? parse_number(value, &options.depth)
                      : name == "--connections" ? parse_number(value, &options.connections)
                      : name == "--servers"     ? parse_number(value, &options.servers)
                      : name == "--seconds"     ? parse_number(value, &options.seconds)
                                                : false;
    if (!good) return fail(Errc::invalid_argument, "an unknown option, or one without a number");
  }
  return options;
}

void print(const ExchangeOptions& options, const ExchangeResult& result) {
  const double count = static_cast<double>(result.exchanges);
  fmt::print(
      "{{\"request_bytes\": {}, \"response_bytes\": {}, \"depth\": {}, \"connections\": {}, "
      "\"servers\": {}, \"spin\": {}, \"seconds\": {:.3f}, \"exchanges\": {}, \"rate\": {:.1f}, "
      "\"p50_us\": {:.2f}, \"p99_us\": {:.2f}, \"server_cpu_us\": {:.3f}, "
      "\"client_cpu_us\": {:.3f}}}\n",
      options.request_bytes, options.response_bytes, options.depth, options.connections,
      options.servers, options.spin, result.seconds, result.exchanges, count / result.seconds,
      result.p50_us, result.p99_us, result.server_cpu_us / count, result.client_cpu_us / count);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    fmt::print("{}", kUsage);
    return 0;
  }
  const Result<ExchangeOptions> options = parse_options(argc, argv);
  if (!options.has_value()) {
    fmt::print(stderr, "holdfast-bench-exchange: {}\n{}", options.error().what, kUsage);
    return 2;
  }
  const Result<ExchangeResult> result = holdfast::bench::run_exchange(*options);
  if (!result.has_value()) {
    const char* why = result.error().sys != 0 ? std::strerror(result.error().sys) : "";
    fmt::print(stderr, "holdfast-bench-exchange: {} {}\n", result.error().what, why);
    return result.error().code == Errc::invalid_argument ? 2 : 1;
  }
  print(*options, *result);
  return 0;
}
