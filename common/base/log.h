#pragma once
// One line per event: LOG_INFO("iscsi", "login ok: initiator={} isid={:012x}", name, isid).
// Never secrets. Never on the data path: count there instead. A site that a peer can trigger uses
// LOG_LIMITED, which lets through a few lines a second and counts the rest.

#include <fmt/core.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

namespace holdfast::base {

enum class LogLevel : uint8_t { debug, info, warning, error };

bool log_enabled(LogLevel level) noexcept;
void log_write(LogLevel level, std::string_view component, std::string_view message) noexcept;
void log_format(LogLevel level, std::string_view component, fmt::string_view format,
                fmt::format_args args) noexcept;

void set_log_level(LogLevel level) noexcept;
// Tests capture lines; null restores stderr. Not thread-safe: call before threads start.
using LogSink = std::function<void(LogLevel, std::string_view component, std::string_view message)>;
void set_log_sink(LogSink sink);

// At most kBurst lines a second from one site; allow() is thread-safe.
class LogLimiter {
 public:
  static constexpr uint32_t kBurst = 5;
  // True when the line may be written; then *suppressed is how many were dropped before it.
  bool allow(uint64_t* suppressed) noexcept;

 private:
  std::atomic<int64_t> second_{0};
  std::atomic<uint32_t> in_second_{0};
  std::atomic<uint64_t> suppressed_{0};
};

template <class... Args>
void log_line(LogLevel level, std::string_view component, fmt::format_string<Args...> format,
              Args&&... args) noexcept {
  if (log_enabled(level)) log_format(level, component, format, fmt::make_format_args(args...));
}

}  // namespace holdfast::base

#define LOG_AT(level, component, ...) \
  ::holdfast::base::log_line(::holdfast::base::LogLevel::level, component, __VA_ARGS__)
#define LOG_DEBUG(component, ...) LOG_AT(debug, component, __VA_ARGS__)
#define LOG_INFO(component, ...) LOG_AT(info, component, __VA_ARGS__)
#define LOG_WARNING(component, ...) LOG_AT(warning, component, __VA_ARGS__)
#define LOG_ERROR(component, ...) LOG_AT(error, component, __VA_ARGS__)
#define LOG_LIMITED(level, component, ...)                                       \
  do {                                                                           \
    static ::holdfast::base::LogLimiter log_limiter;                             \
    uint64_t log_suppressed = 0;                                                 \
    if (log_limiter.allow(&log_suppressed)) {                                    \
      if (log_suppressed > 0)                                                    \
        LOG_AT(level, component, "{} similar lines suppressed", log_suppressed); \
      LOG_AT(level, component, __VA_ARGS__);                                     \
    }                                                                            \
  } while (false)
