#include "common/daemon/metrics_text.h"

#include <prometheus/text_serializer.h>

#include <utility>

namespace holdfast::daemon {

void MetricsText::family(const char* name, const char* help, Type type) {
  families_.push_back({prefix_ + name, help, type, {}});
}

void MetricsText::real(double value, Labels labels) {
  prometheus::ClientMetric& metric = add(std::move(labels));
  metric.gauge.value = value;
  metric.counter.value = value;
}

void MetricsText::histogram(prometheus::ClientMetric::Histogram histogram, Labels labels) {
  add(std::move(labels)).histogram = std::move(histogram);
}

void MetricsText::gauge(const char* name, const char* help, uint64_t number) {
  family(name, help, Type::Gauge);
  value(number);
}

void MetricsText::counter(const char* name, const char* help, uint64_t number) {
  family(name, help, Type::Counter);
  value(number);
}

std::string MetricsText::text() const { return prometheus::TextSerializer().Serialize(families_); }

prometheus::ClientMetric& MetricsText::add(Labels labels) {
  prometheus::ClientMetric& metric = families_.back().metric.emplace_back();
  metric.label = std::move(labels);
  return metric;
}

}  // namespace holdfast::daemon
