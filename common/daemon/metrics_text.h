#pragma once
// The text of a metrics page, family by family: Prometheus text format 0.0.4.

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

namespace holdfast::daemon {

class MetricsText {
 public:
  using Labels = std::vector<prometheus::ClientMetric::Label>;
  using Type = prometheus::MetricType;

  // Of every family's name: "holdfast_target_".
  explicit MetricsText(std::string prefix) : prefix_(std::move(prefix)) {}

  // What follows belongs to it.
  void family(const char* name, const char* help, Type type);
  void value(uint64_t value, Labels labels = {}) {
    real(static_cast<double>(value), std::move(labels));
  }
  void real(double value, Labels labels = {});
  void histogram(prometheus::ClientMetric::Histogram histogram, Labels labels);

  // A family of one value.
  void gauge(const char* name, const char* help, uint64_t number);
  void counter(const char* name, const char* help, uint64_t number);

  std::string text() const;

 private:
  prometheus::ClientMetric& add(Labels labels);

  std::string prefix_;
  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace holdfast::daemon
