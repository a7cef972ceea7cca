"""`bench/run failover`: which pause counts, percentiles, aims and tables."""

import unittest
import xml.etree.ElementTree as tree

from bench.lib import failover, failover_report, support


def told(*gaps, sessions=(1, 1), **device):
    side = {"max_us": 5000.0}
    counters = {"failovers": 1, "retries": 2, "reissued_writes": 3, "fences": 1,
                "fences_by_time": 0}
    return {"gaps": [{"at_s": at, "ms": ms} for at, ms in gaps], "iops": 10.0,
            "reads": side, "writes": {"max_us": 7000.0}, "all": {"max_us": 7000.0},
            "paths": [{"sessions": count} for count in sessions], "device": counters | device}


def cell(scenario, policy, *pauses, request=None, error=None, **more):
    runs = [failover_report.figures_of(told((10.0, pause)), 10.0, 0) | more
            | {"request_ms": request or pause} for pause in pauses]
    return {"job": scenario, "series": policy, "runs": runs, "error": error}


def results(*cells):
    return {"started": "2026-01-01T00:00", "commit": "abc", "repeats": 3, "depth": 8,
            "busy_cores": 0.5, "warnings": [], "cells": list(cells),
            "machine": {"cpu": "X", "cores": 2, "kernel": "6", "memory_gib": 4}}


class Figures(unittest.TestCase):
    def test_pauses_before_the_loss_do_not_count(self):
        figures = failover_report.figures_of(told((5.0, 900), (9.99, 40), (12.0, 30)), 10.0, 0.01)
        self.assertEqual(figures["gap_ms"], 40)  # it began with the last answer before the loss
        self.assertAlmostEqual(figures["gap_at_ms"], -10)
        self.assertAlmostEqual(figures["taking_ms"], 10)

    def test_no_pause_is_none(self):
        self.assertEqual(failover_report.figures_of(told((5.0, 900)), 10.0, 0)["gap_ms"], 0)

    def test_sessions_beyond_the_first_of_each_path_are_new(self):
        figures = failover_report.figures_of(told(sessions=(3, 1)), 0, 0)
        self.assertEqual(figures["new_sessions"], 2)
        self.assertEqual(figures["request_ms"], 7)

    def test_percentiles_are_values_that_were_measured(self):
        values = list(range(1, 51))
        self.assertEqual(failover_report.percentile(values, 50), 25)
        self.assertEqual(failover_report.percentile(values, 99), 50)
        self.assertEqual(failover_report.percentile([7], 50), 7)
        self.assertIsNone(failover_report.percentile([], 50))


class Aims(unittest.TestCase):
    @staticmethod
    def verdicts(*cells):
        return {aim.text: aim.verdict for aim in failover_report.aims(cells)}

    def test_the_worst_of_all_policies_counts(self):
        found = self.verdicts(cell("reset", "failover", 10, 20), cell("reset", "adaptive", 51))
        self.assertEqual(found["RST: pause between completions, worst of 3"], "not met")
        found = self.verdicts(cell("reset", "failover", 10, 49, request=60))
        self.assertEqual(found["RST: pause between completions, worst of 2"], "met")
        self.assertEqual(found["RST: longest request, worst of 2"], "not met")

    def test_a_stalled_target_must_cause_nothing(self):
        found = self.verdicts(cell("stall", "failover", 2000, new_sessions=0, reissued_writes=0))
        self.assertEqual(found["stalled target: sessions begun anew, worst of 1"], "met")
        found = self.verdicts(cell("stall", "failover", 2000, new_sessions=1, reissued_writes=2))
        self.assertEqual(found["stalled target: sessions begun anew, worst of 1"], "not met")
        self.assertEqual(found["stalled target: writes repeated, worst of 1"], "not met")

    def test_what_was_not_run_is_not_met_either(self):
        self.assertEqual(set(self.verdicts().values()), {"not measured"})

    def test_every_limit_is_of_a_scenario(self):
        names = {scenario.name for scenario in failover.SCENARIOS}
        self.assertLessEqual(set(failover_report.LIMITS), names)
        self.assertEqual(set(failover_report.LIMITS), set(failover_report.TITLES))


class Report(unittest.TestCase):
    def test_tables_and_failures(self):
        text = failover_report.markdown(results(
            cell("silent", "failover", 750, 760, 900), cell("silent", "adaptive", error="broke")),
            failover.SCENARIOS)
        self.assertIn("- silent adaptive: broke", text)
        rows = [line for line in text.split("## Pauses")[1].splitlines() if line.startswith("|")]
        self.assertEqual(len(rows), 4)
        self.assertEqual(len({row.count("|") for row in rows}), 1)

    def test_plot_has_a_dot_for_each_repeat(self):
        text = failover_report.svg(results(cell("silent", "failover", 750, 760, 900)),
                                   failover.SCENARIOS)
        tree.fromstring(text)
        self.assertEqual(text.count("<circle"), 6)  # pauses and longest requests

    def test_plot_of_nothing_is_a_picture_too(self):
        tree.fromstring(failover_report.svg(results(), failover.SCENARIOS))


class Run(unittest.TestCase):
    def test_an_unknown_policy_is_refused(self):
        self.assertEqual(failover.check_policies(["adaptive"]), ["adaptive"])
        with self.assertRaisesRegex(ValueError, "no policy 'best'"):
            failover.check_policies(["best"])

    def test_only_namespaces_of_runs_that_are_gone_are_stale(self):
        names = ["holdfast-10-server", "holdfast-11-host", "holdfast-x-host", "other"]
        self.assertEqual(support.stale(names, lambda pid: pid == 11), ["holdfast-10-server"])


if __name__ == "__main__":
    unittest.main()
