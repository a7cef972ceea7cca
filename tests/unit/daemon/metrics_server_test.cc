#include "common/daemon/metrics_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class MetricsServerTest : public testing::Test {
 protected:
  std::string ask(const std::string& request) {
    std::string text;
    EXPECT_EQ(protocol_->request_length(request), request.size());
    protocol_->on_request(request, [&](StreamServer::Answer answer) { text = answer(); });
    return text;
  }
  int asked_ = 0;
  std::unique_ptr<StreamServer::Protocol> protocol_ =
      make_metrics_protocol([this](StreamServer::Reply reply) {
        ++asked_;
        reply([] { return std::string("a_metric 1\n"); });
      });
};

TEST_F(MetricsServerTest, AnswersGetAndHead) {
  const std::string get = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(get, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
  const size_t body = get.find("\r\n\r\n") + 4;
  EXPECT_THAT(get, HasSubstr("Content-Length: " + std::to_string(get.size() - body) + "\r\n"));
  EXPECT_EQ(get.substr(body), "a_metric 1\n");
  EXPECT_THAT(ask("GET /metrics?name=x HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.1 200 OK"));
  const std::string head = ask("HEAD /metrics HTTP/1.1\r\n\r\n");
  EXPECT_THAT(head, EndsWith("\r\n\r\n"));
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(MetricsServerTest, RefusesTheRestWithoutAskingForThePage) {
  EXPECT_THAT(ask("GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("GET /metrics/../etc HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n"),
              StartsWith("HTTP/1.1 405 "));
  for (const char* request : {"\r\n\r\n", "GET\r\n\r\n", "GET /metrics\r\n\r\n",
                              "GET /metrics SPDY/9\r\n\r\n", "  \r\n\r\n"}) {
    EXPECT_THAT(ask(request), StartsWith("HTTP/1.1 400 ")) << request;
  }
  EXPECT_EQ(asked_, 0);
}

TEST_F(MetricsServerTest, WaitsForTheWholeHeader) {
  EXPECT_EQ(protocol_->request_length(""), std::nullopt);
  EXPECT_EQ(protocol_->request_length("GET /metrics HTTP/1.1\r\nHost: x\r\n"), std::nullopt);
  EXPECT_FALSE(protocol_->keeps_connections());
  EXPECT_THAT(protocol_->describe(StreamServer::Failure::timed_out), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(protocol_->describe(StreamServer::Failure::request_too_long),
              StartsWith("HTTP/1.1 431 "));
}

}  // namespace
}  // namespace holdfast::daemon
