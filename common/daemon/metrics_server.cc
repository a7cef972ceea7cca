#include "common/daemon/metrics_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;
constexpr StreamServer::Limits kLimits{.max_clients = kMaxMetricsClients,
                                       .max_request_bytes = kMaxMetricsRequest,
                                       .request_deadline = seconds(5),
                                       .reply_deadline = seconds(8),  // Prometheus gives up at 10
                                       .send_deadline = seconds(5)};

std::string response(std::string_view status, std::string_view body, bool with_body = true) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
      "Content-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{}",
      status, body.size(), with_body ? body : std::string_view{});
}

// "GET /metrics HTTP/1.1" of a request's first line.
struct RequestLine {
  std::string_view method, path;
  bool good = false;
};

RequestLine parse_request_line(std::string_view request) {
  const std::string_view line = request.substr(0, request.find_first_of("\r\n"));
  const size_t first = line.find(' ');
  if (first == std::string_view::npos) return {};
  const size_t second = line.find(' ', first + 1);
  if (second == std::string_view::npos) return {};
  RequestLine out{.method = line.substr(0, first),
                  .path = line.substr(first + 1, second - first - 1),
                  .good = line.substr(second + 1).starts_with("HTTP/1.")};
  out.path = out.path.substr(0, out.path.find('?'));
  return out;
}

class MetricsProtocol final : public StreamServer::Protocol {
 public:
  explicit MetricsProtocol(MetricsPage page) : page_(std::move(page)) {}

  bool admit(int) override { return true; }
  std::optional<size_t> request_length(std::string_view received) override {
    const size_t end = received.find("\r\n\r\n");
    if (end == std::string_view::npos) return std::nullopt;
    return end + 4;
  }
  void on_request(std::string request, StreamServer::Reply reply) override {
    const RequestLine line = parse_request_line(request);
    const char* refusal = !line.good                                      ? "400 Bad Request"
                          : line.method != "GET" && line.method != "HEAD" ? "405 Method Not Allowed"
                          : line.path != "/metrics"                       ? "404 Not Found"
                                                                          : nullptr;
    if (refusal != nullptr) {
      return reply([refusal] { return response(refusal, "the metrics are at /metrics\n"); });
    }
    page_([reply = std::move(reply),
           with_body = line.method == "GET"](StreamServer::Answer text) mutable {
      reply([text = std::move(text), with_body]() mutable {
        return response("200 OK", text(), with_body);
      });
    });
  }
  std::string describe(StreamServer::Failure failure) override {
    if (failure == StreamServer::Failure::request_too_long) {
      return response("431 Request Header Fields Too Large", "the request is too long\n");
    }
    return response("503 Service Unavailable", "the daemon did not answer in time\n");
  }
  bool keeps_connections() const override { return false; }

 private:
  MetricsPage page_;
};

class Server final : public MetricsServer {
 public:
  explicit Server(MetricsPage page) : protocol_(std::move(page)) {}
  base::Result<> start(int listener) {
    TRY_ASSIGN(streams_, StreamServer::start(listener, kLimits, protocol_, "hf-metrics"));
    return {};
  }

 private:
  MetricsProtocol protocol_;
  std::unique_ptr<StreamServer> streams_;
};

}  // namespace

std::unique_ptr<StreamServer::Protocol> make_metrics_protocol(MetricsPage page) {
  return std::make_unique<MetricsProtocol>(std::move(page));
}

std::expected<std::unique_ptr<MetricsServer>, std::string> MetricsServer::start(
    const io::Endpoint& endpoint, MetricsPage page) {
  socklen_t length = 0;
  const sockaddr_storage address = endpoint.to_sockaddr(&length);
  const int fd = ::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      ::listen(fd, static_cast<int>(kMaxMetricsClients)) != 0) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    return std::unexpected(
        fmt::format("cannot serve metrics on {}: {}", endpoint.to_string(), std::strerror(error)));
  }
  auto server = std::make_unique<Server>(std::move(page));
  if (const auto started = server->start(fd); !started) {
    return std::unexpected(std::string(started.error().what));
  }
  return server;
}

}  // namespace holdfast::daemon
