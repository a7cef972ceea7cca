"""The arithmetic of a run: medians, ratios, aims and what the tables say."""

import unittest

from bench.lib import jobs, plot, report


def figures(iops=1000.0, cpu=10.0, p50=100.0, **more):
    run = {"ios": iops, "iops": iops, "mb_s": iops * 4096 / 1e6, "p50_us": p50, "p99_us": p50 * 2,
           "target_cpu_us": cpu, "generator_cpu_s": 0.5, "busy_cores": 1.0, "others_cores": 0.0}
    return report.figures_of(run | more)


def cell(job, series, *runs, error=None):
    return {"job": job, "series": series, "runs": list(runs), "error": error}


def results(*cells):
    return {"started": "2026-01-01T00:00", "commit": "abc", "repeats": 3, "seconds": 5,
            "generator": "fio", "tgt": "tgt 1", "size_mib": 512, "spin_us": 100, "warnings": [],
            "machine": {"cpu": "X", "cores": 2, "kernel": "6", "memory_gib": 4},
            "cells": list(cells)}


def aim(cells, start, **criteria):
    found = [one for one in report.aims(cells) if one.text.startswith(start)]
    found = [one for one in found if all(getattr(one, k) == v for k, v in criteria.items())]
    assert len(found) == 1, (start, [one.text for one in found])
    return found[0]


class Arithmetic(unittest.TestCase):
    def test_median_is_of_each_metric_by_itself(self):
        runs = [figures(iops=10, cpu=3), figures(iops=30, cpu=1), figures(iops=20, cpu=2)]
        medians = report.median_of(runs)
        self.assertEqual(medians["iops"], 20)
        self.assertEqual(medians["target_cpu_us"], 2)

    def test_median_of_an_even_number_is_the_mean_of_the_middle(self):
        self.assertEqual(report.median_of([figures(iops=10), figures(iops=20)])["iops"], 15)

    def test_median_without_a_metric_is_none(self):
        self.assertIsNone(report.median_of([figures(p50_us=None)])["p50_us"])
        self.assertIsNone(report.median_of([])["iops"])

    def test_one_outlier_does_not_move_the_median(self):
        runs = [figures(iops=100), figures(iops=101), figures(iops=1)]
        self.assertEqual(report.median_of(runs)["iops"], 100)

    def test_generator_cpu_is_per_io(self):
        run = figures(iops=1000, generator_cpu_s=0.02)
        self.assertAlmostEqual(run["generator_cpu_us"], 20)

    def test_spread(self):
        self.assertAlmostEqual(report.spread_of([figures(iops=90), figures(iops=100),
                                                 figures(iops=120)]), 0.3)
        self.assertEqual(report.spread_of([]), 0)

    def test_ratio_of_what_is_missing(self):
        self.assertEqual(report.ratio(6, 3), 2)
        self.assertIsNone(report.ratio(None, 3))
        self.assertIsNone(report.ratio(6, None))
        self.assertIsNone(report.ratio(6, 0))

    def test_numbers(self):
        for value, text in ((None, "-"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"),
                            (1234, "1234"), (12345, "12.3k"), (123456, "123k")):
            self.assertEqual(report.number(value), text)


class Ratios(unittest.TestCase):
    def rows(self, *cells):
        return {(row["job"], row["series"]): row
                for row in report.ratios(cells, jobs.JOBS, jobs.SERIES)}

    def test_against_tgt_and_floor_of_the_same_job(self):
        row = self.rows(cell("r4k-q32", "holdfast-ram", figures(iops=120e3, cpu=6, p50=200)),
                        cell("r4k-q32", "tgt-ram", figures(iops=30e3, cpu=36, p50=900)),
                        cell("r4k-q32", "tgt-ram-aio", figures(iops=60e3, cpu=18, p50=500)),
                        cell("r4k-q32", "floor", figures(iops=200e3, cpu=4, p50=160)),
                        cell("w4k-q32", "floor", figures(iops=1, cpu=1, p50=1)))[
                            "r4k-q32", "holdfast-ram"]
        self.assertAlmostEqual(row["iops_over_tgt"], 4)
        self.assertAlmostEqual(row["iops_over_tgt_aio"], 2)
        self.assertAlmostEqual(row["iops_per_cpu_second_over_tgt"], 6)
        self.assertAlmostEqual(row["iops_per_cpu_second_over_tgt_aio"], 3)
        self.assertAlmostEqual(row["iops_over_floor"], 0.6)
        self.assertAlmostEqual(row["p50_over_floor"], 1.25)
        self.assertAlmostEqual(row["cpu_over_floor"], 1.5)

    def test_each_variant_has_its_own_floor_and_backing(self):
        rows = self.rows(cell("r4k-q1", "holdfast-ram-spin", figures(p50=30)),
                         cell("r4k-q1", "holdfast-disk", figures(p50=140)),
                         cell("r4k-q1", "floor", figures(p50=70)),
                         cell("r4k-q1", "floor-spin", figures(p50=20)),
                         cell("r4k-q1", "tgt-ram", figures(iops=500)),
                         cell("r4k-q1", "tgt-disk", figures(iops=250)))
        self.assertAlmostEqual(rows["r4k-q1", "holdfast-ram-spin"]["p50_over_floor"], 1.5)
        self.assertAlmostEqual(rows["r4k-q1", "holdfast-disk"]["p50_over_floor"], 2)
        self.assertAlmostEqual(rows["r4k-q1", "holdfast-ram-spin"]["iops_over_tgt"], 2)
        self.assertAlmostEqual(rows["r4k-q1", "holdfast-disk"]["iops_over_tgt"], 4)

    def test_two_threads_are_held_against_two_servers(self):
        rows = self.rows(cell("r4k-q32-s4", "holdfast-ram-2t", figures(iops=100)),
                         cell("r4k-q32-s4", "floor", figures(iops=1000)),
                         cell("r4k-q32-s4", "floor-2t", figures(iops=200)))
        self.assertAlmostEqual(rows["r4k-q32-s4", "holdfast-ram-2t"]["iops_over_floor"], 0.5)

    def test_without_peers_the_ratios_are_missing(self):
        row = self.rows(cell("r4k-q1", "holdfast-ram", figures()))["r4k-q1", "holdfast-ram"]
        self.assertIsNone(row["iops_over_tgt"])
        self.assertIsNone(row["iops_per_cpu_second_over_tgt"])

    def test_without_ours_there_is_no_row(self):
        self.assertEqual(self.rows(cell("r4k-q1", "tgt-ram", figures())), {})
        self.assertEqual(self.rows(cell("r4k-q1", "holdfast-ram", error="died")), {})


class Aims(unittest.TestCase):
    def test_nothing_measured_nothing_met(self):
        self.assertEqual({one.verdict for one in report.aims([])}, {"not measured"})

    def test_cpu_per_io(self):
        text = "4 KiB random read, depth 32: target CPU per I/O"
        for cpu, verdict in ((6.0, "met"), (6.1, "not met")):
            cells = [cell("r4k-q32", "holdfast-ram", figures(cpu=cpu))]
            self.assertEqual(aim(cells, text).verdict, verdict)

    def test_five_times_tgt_per_cpu_second(self):
        text = "4 KiB random write, depth 32: IOPS per CPU second"
        for tgt, verdict in ((30.0, "met"), (29.0, "not met")):
            cells = [cell("w4k-q32", "holdfast-ram", figures(cpu=6)),
                     cell("w4k-q32", "tgt-ram", figures(cpu=tgt))]
            self.assertEqual(aim(cells, text).verdict, verdict)

    def test_latency_against_the_right_exchange(self):
        cells = [cell("r4k-q1", "holdfast-ram", figures(p50=90)),
                 cell("r4k-q1", "holdfast-ram-spin", figures(p50=30)),
                 cell("r4k-q1", "floor", figures(p50=70)),
                 cell("r4k-q1", "floor-spin", figures(p50=20))]
        sleeping = aim(cells, "4 KiB read, depth 1: p50")
        spinning = aim(cells, "4 KiB read, depth 1, spin: p50")
        self.assertAlmostEqual(sleeping.value, 90 / 70)
        self.assertEqual(sleeping.verdict, "met")
        self.assertAlmostEqual(spinning.value, 1.5)
        self.assertEqual(spinning.verdict, "not met")

    def test_sequential_within_a_factor_of_the_exchange(self):
        cells = [cell("w128k-q8", "holdfast-ram", figures(mb_s=1000.0)),
                 cell("w128k-q8", "floor", figures(mb_s=1300.0))]
        one = aim(cells, "128 KiB sequential write")
        self.assertAlmostEqual(one.value, 1.3)
        self.assertEqual(one.verdict, "not met")

    def test_four_sessions(self):
        cells = [cell("r4k-q32", "holdfast-ram", figures(iops=100)),
                 cell("r4k-q32-s4", "holdfast-ram", figures(iops=130)),
                 cell("r4k-q32-s4", "holdfast-ram-2t", figures(iops=120))]
        self.assertEqual(aim(cells, "4 KiB read: IOPS of 4 sessions on 2 threads / 1").verdict,
                         "met")
        self.assertEqual(aim(cells, "4 KiB read: IOPS of 4 sessions on 2 threads / the").verdict,
                         "not met")

    def test_every_aim_needs_jobs_and_series_that_exist(self):
        every = [cell(job.name, one.name, figures()) for job in jobs.JOBS for one in jobs.SERIES
                 if one.runs(job)]
        self.assertNotIn("not measured", {one.verdict for one in report.aims(every)})


class Text(unittest.TestCase):
    def test_marks(self):
        noisy = cell("r4k-q1", "tgt-ram", figures(iops=50), figures(iops=100), error="hung")
        busy = cell("r4k-q1", "floor", figures(generator_cpu_s=0.99, others_cores=0.5))
        text = report.results_tables(results(noisy, busy), jobs.JOBS, jobs.SERIES)
        lines = text.splitlines()
        self.assertTrue(next(x for x in lines if "tmpfs (rdwr)" in x).endswith("~! |"), text)
        self.assertTrue(next(x for x in lines if "bare TCP" in x).endswith("*# |"), text)

    def test_four_sessions_saturate_the_machine_rather_than_one_core(self):
        self.assertFalse(report.is_saturated([figures(generator_cpu_s=1.2)], 4, 2))
        self.assertTrue(report.is_saturated([figures(busy_cores=1.95)], 4, 2))

    def test_a_failed_cell_is_reported_not_hidden(self):
        text = report.markdown(results(cell("r4k-q1", "tgt-ram", error="it died: why")),
                               jobs.JOBS, jobs.SERIES)
        self.assertIn("- r4k-q1 tgt-ram: it died: why", text)
        self.assertIn("failed", text)

    def test_the_report_has_all_parts(self):
        text = report.markdown(results(cell("r4k-q32", "holdfast-ram", figures(cpu=5.0)),
                                       cell("r4k-q32", "tgt-ram", figures(cpu=30.0))),
                               jobs.JOBS, jobs.SERIES)
        for part in ("## Aims", "## Ratios", "## Results", " met |", "not measured", "6.00 "):
            self.assertIn(part, text)

    def test_disturbed_share(self):
        cells = [cell("r4k-q1", "floor", figures(others_cores=0.5)),
                 cell("w4k-q1", "floor", figures()), cell("r4k-q32", "floor", error="x")]
        self.assertAlmostEqual(report.disturbed_share(cells), 0.5)
        self.assertEqual(report.disturbed_share([]), 0)

    def test_plot_shows_what_was_measured_and_is_well_formed(self):
        import xml.etree.ElementTree as tree
        text = plot.svg(results(cell("r4k-q1", "holdfast-ram", figures(p50=77.7)),
                                cell("r4k-q1", "tgt-ram", error="a < b")),
                        jobs.JOBS, jobs.SERIES)
        root = tree.fromstring(text)
        texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("77.7", texts)
        self.assertIn("Holdfast, memory", texts)
        self.assertNotIn("tgt, file on tmpfs (rdwr)", texts)


if __name__ == "__main__":
    unittest.main()
