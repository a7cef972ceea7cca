"""Runs the bare exchange for a moment in each shape that bench/run uses, and checks its JSON."""

import json
import subprocess
import sys
import unittest

PROGRAM = sys.argv.pop()
FIELDS = {"request_bytes", "response_bytes", "depth", "connections", "servers", "spin", "seconds",
          "exchanges", "rate", "p50_us", "p99_us", "server_cpu_us", "client_cpu_us"}


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False,
                          timeout=30)


class Exchange(unittest.TestCase):
    def check(self, *arguments):
        done = run("--seconds", "0.2", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = json.loads(done.stdout)
        self.assertEqual(set(figures), FIELDS)
        self.assertGreater(figures["exchanges"], 10)
        self.assertAlmostEqual(figures["rate"], figures["exchanges"] / figures["seconds"],
                               delta=figures["rate"] * 0.02)
        self.assertGreaterEqual(figures["seconds"], 0.2)
        self.assertGreater(figures["p50_us"], 0)
        self.assertGreaterEqual(figures["p99_us"], figures["p50_us"])
        self.assertGreater(figures["server_cpu_us"], 0)
        self.assertGreater(figures["client_cpu_us"], 0)
        return figures

    def test_depth_one_takes_one_round_trip_at_a_time(self):
        figures = self.check()
        self.assertEqual((figures["request_bytes"], figures["response_bytes"]), (48, 4144))
        # One in flight: the median cannot be longer than twice the mean.
        self.assertLess(figures["p50_us"], 2e6 / figures["rate"])

    def test_spinning_server(self):
        self.assertTrue(self.check("--spin")["spin"])
        self.assertTrue(self.check("--spin", "--connections", "2")["spin"])

    def test_deep_queues(self):
        self.check("--depth", "32")
        self.check("--request", "4144", "--response", "48", "--depth", "32")

    def test_large_blocks(self):
        self.check("--request", "48", "--response", "131120", "--depth", "8")
        self.check("--request", "131120", "--response", "48", "--depth", "8")

    def test_connections_spread_over_servers(self):
        self.check("--depth", "32", "--connections", "4")
        self.check("--depth", "32", "--connections", "4", "--servers", "2")

    def test_wrong_options_are_refused(self):
        for arguments in (["--depth", "0"], ["--depth", "many"], ["--depth"], ["--what", "1"],
                          ["--depth", "1025"], ["--response", "4194305"], ["--seconds", "nan"],
                          ["--seconds", "-1"], ["--connections", "2", "--servers", "3"]):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertEqual(done.stdout, "")
            self.assertIn("holdfast-bench-exchange:", done.stderr)


if __name__ == "__main__":
    unittest.main()
