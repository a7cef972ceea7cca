#include "common/base/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <time.h>

#include <memory>
#include <string>

namespace holdfast::base {
namespace {

std::atomic<LogLevel> g_level{LogLevel::info};

LogSink& sink() {
  static LogSink instance;
  return instance;
}

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = spdlog::stderr_logger_mt("holdfast");
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    made->set_level(spdlog::level::debug);
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

bool log_enabled(LogLevel level) noexcept {
  return level >= g_level.load(std::memory_order_relaxed);
}

void set_log_level(LogLevel level) noexcept { g_level.store(level, std::memory_order_relaxed); }

void set_log_sink(LogSink new_sink) { sink() = std::move(new_sink); }

void log_write(LogLevel level, std::string_view component, std::string_view message) noexcept {
  if (sink()) {
    sink()(level, component, message);
    return;
  }
  logger().log(spdlog_level(level), "{}: {}", component, message);
}

void log_format(LogLevel level, std::string_view component, fmt::string_view format,
                fmt::format_args args) noexcept {
  fmt::memory_buffer buffer;
  fmt::vformat_to(std::back_inserter(buffer), format, args);
  // A peer's text may hold control characters; a log line stays one line.
  for (char& c : buffer) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  log_write(level, component, {buffer.data(), buffer.size()});
}

bool LogLimiter::allow(uint64_t* suppressed) noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  int64_t second = second_.load(std::memory_order_relaxed);
  if (second != now.tv_sec && second_.compare_exchange_strong(second, now.tv_sec)) {
    in_second_.store(0, std::memory_order_relaxed);
  }
  if (in_second_.fetch_add(1, std::memory_order_relaxed) < kBurst) {
    *suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
    return true;
  }
  suppressed_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

}  // namespace holdfast::base
