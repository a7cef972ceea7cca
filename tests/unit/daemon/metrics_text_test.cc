#include "common/daemon/metrics_text.h"

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

TEST(MetricsText, IsPrometheusTextFormat) {
  MetricsText page("holdfast_test_");
  page.gauge("nodes", "Nodes.", 3);
  page.family("up", "Whether it is.", MetricsText::Type::Gauge);
  page.value(1, {{"node", "hv1"}});
  page.real(0.5, {{"node", "h\"v2"}});
  page.counter("events_total", "Events.", 7);
  EXPECT_EQ(page.text(),
            "# HELP holdfast_test_nodes Nodes.\n# TYPE holdfast_test_nodes gauge\n"
            "holdfast_test_nodes 3\n"
            "# HELP holdfast_test_up Whether it is.\n# TYPE holdfast_test_up gauge\n"
            "holdfast_test_up{node=\"hv1\"} 1\nholdfast_test_up{node=\"h\\\"v2\"} 0.5\n"
            "# HELP holdfast_test_events_total Events.\n"
            "# TYPE holdfast_test_events_total counter\nholdfast_test_events_total 7\n");
}

}  // namespace
}  // namespace holdfast::daemon
