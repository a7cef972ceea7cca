"""`bench/run mpio`: its arithmetic, command lines, parsers and tables."""

import json
import unittest
import xml.etree.ElementTree as tree

from bench.lib import fio, load, mpio, mpio_jobs, mpio_report

JOB = {job.name: job for job in mpio_jobs.JOBS}
SERIES = {one.name: one for one in mpio_jobs.SERIES}


def run(iops=1000.0, cpu_us=10.0, depth=1, **more):
    ios = iops * 2
    figures = {"ios": ios, "iops": iops, "mb_s": iops * 4096 / 1e6, "p50_us": None, "p99_us": None,
               "initiator_cpu_s": cpu_us * ios / 1e6, "target_cpu_us": 5.0}
    return mpio_report.figures_of(figures | more, depth) | {"busy_cores": 1.0, "others_cores": 0.0}


def cell(job, series, *runs, error=None):
    return {"job": job, "series": series, "runs": list(runs), "error": error}


def verdicts(*cells):
    return {aim.text: aim.verdict for aim in mpio_report.aims(cells)}


def results(*cells):
    return {"started": "2026-01-01T00:00", "commit": "abc", "repeats": 3, "seconds": 5,
            "peers": "libiscsi 1", "size_mib": 64, "limit_mbit": 400, "limiter": "tbf",
            "machine": {"cpu": "X", "cores": 2, "kernel": "6", "memory_gib": 4}, "warnings": [],
            "cells": list(cells)}


class Matrix(unittest.TestCase):
    def test_parts_do_not_mix_and_what_only_reads_does_not_write(self):
        self.assertTrue(SERIES["iscsi-perf"].runs(JOB["r4k-q32"]))
        self.assertFalse(SERIES["iscsi-perf"].runs(JOB["w4k-q32"]))
        self.assertFalse(SERIES["library"].runs(JOB["equal-r64k"]))
        self.assertTrue(SERIES["two"].runs(JOB["equal-w64k"]))
        self.assertFalse(SERIES["both"].runs(JOB["r4k-q32"]))

    def test_a_series_without_a_job_is_not_started(self):
        plan = mpio.Plan([JOB["far-w4k"]], list(mpio_jobs.SERIES), 1, 1, 64)
        self.assertEqual([one.name for one in plan.series], ["good", "both", "both-rr"])
        self.assertFalse(plan.has("side"))

    def test_each_repeat_begins_with_another_series(self):
        plan = mpio.Plan([JOB["r4k-q1"]], list(mpio_jobs.SERIES), 3, 1, 64)
        firsts = [next(iter(plan.cells(repeat)))[1].name for repeat in range(3)]
        self.assertEqual(len(set(firsts)), 3)


class Loads(unittest.TestCase):
    def test_command_of_the_library(self):
        words = load.command("x", "iqn.a:b", ["h:1", "h:2"], JOB["w4k-q32"], 5, "round-robin")
        text = " ".join(words)
        for part in ("--depth 32", "--block 4096", "--write-percent 100", "--policy round-robin",
                     "--portal h:1 --portal h:2", "--seconds 5"):
            self.assertIn(part, text)
        self.assertNotIn("--sequential", words)
        self.assertIn("--sequential", load.command("x", "t", ["h:1"], JOB["r128k-q8"], 5))

    @staticmethod
    def told(errors=0, ios=10):
        return json.dumps({"depth": 1, "errors": errors, "first_error": -5, "all": {"ios": ios}})

    def test_figures_are_found_among_log_lines(self):
        text = 'a line\n{"event": "started"}\n' + self.told() + "\nanother\n"
        self.assertEqual(load.parse(text)["all"]["ios"], 10)

    def test_failed_requests_and_silence_are_errors(self):
        for text in ("", "log", self.told(errors=1), self.told(ios=0)):
            with self.assertRaises(fio.LoadError):
                load.parse(text)

    def test_qemu_img_output(self):
        self.assertEqual(load.parse_qemu_img("Sending 5 ...\nRun completed in 1.250 seconds.\n"),
                         1.25)
        with self.assertRaises(fio.LoadError):
            load.parse_qemu_img("qemu-img: Could not open")


class Aims(unittest.TestCase):
    def test_cpu_is_per_io(self):
        figures = run(iops=1000, cpu_us=5, generator_cpu_s=0.02)  # 2000 I/Os
        self.assertAlmostEqual(figures["initiator_cpu_us"], 5)
        self.assertAlmostEqual(figures["ios_per_cpu_s"], 200_000)
        self.assertAlmostEqual(figures["generator_cpu_us"], 10)

    def test_work_per_cpu_second_is_compared_with_each_peer(self):
        found = verdicts(cell("r4k-q32", "library", run(cpu_us=5)),
                         cell("r4k-q32", "iscsi-perf", run(cpu_us=8)),
                         cell("r4k-q32", "qemu-img", run(cpu_us=7)))
        text = "4 KiB read, depth 32: IOPS per CPU second of the initiator / "
        self.assertEqual(found[text + "iscsi-perf"], "met")  # 1.6
        self.assertEqual(found[text + "qemu-img bench"], "not met")  # 1.4

    def test_latency_at_depth_1_is_the_inverse_of_iops(self):
        self.assertEqual(run(iops=8000, depth=1)["mean_us"], 125)
        self.assertEqual(run(iops=8000, depth=32)["mean_us"], 4000)
        found = verdicts(cell("w4k-q1", "library", run(iops=900)),
                         cell("w4k-q1", "qemu-img", run(iops=1000)))
        self.assertEqual(found["4 KiB write, depth 1: mean latency / qemu-img bench"], "not met")

    def test_what_a_second_path_brings_and_costs(self):
        found = verdicts(cell("equal-r64k", "one", run(iops=100)),
                         cell("equal-r64k", "two", run(iops=181)),
                         cell("far-w4k", "good", run(iops=1000)),
                         cell("far-w4k", "both", run(iops=899)))
        self.assertEqual(found["64 KiB read, rate-limited: two equal paths / one"], "met")
        self.assertEqual(
            found["4 KiB write: with a path 5 ms farther away / the good path alone"], "not met")
        self.assertEqual(found["64 KiB write, rate-limited: two equal paths / one"],
                         "not measured")


class Report(unittest.TestCase):
    def test_tables_say_what_was_measured_and_what_failed(self):
        paths = [{"reads": 30, "writes": 0}, {"reads": 10, "writes": 0}]
        text = mpio_report.markdown(results(
            cell("r4k-q1", "library-2p", run(paths=paths)),
            cell("r4k-q1", "qemu-img", error="it broke")), mpio_jobs.JOBS, mpio_jobs.SERIES)
        self.assertIn("75 : 25", text)
        self.assertIn("- r4k-q1 qemu-img: it broke", text)
        self.assertIn("| qemu-img bench on libiscsi | failed", text)
        self.assertNotIn("far-r4k", text)

    def test_every_table_row_is_as_long_as_its_head(self):
        text = mpio_report.results_tables(results(
            cell("r4k-q1", "library", run()), cell("r4k-q1", "qemu-img", error="x")),
            mpio_jobs.JOBS, mpio_jobs.SERIES)
        rows = [line for line in text.splitlines() if line.startswith("|")]
        self.assertEqual(len({row.count("|") for row in rows}), 1)

    def test_plot_shows_what_was_measured(self):
        text = mpio_report.svg(results(cell("r4k-q32", "library", run()),
                                       cell("r4k-q32", "iscsi-perf", run())),
                               mpio_jobs.JOBS, mpio_jobs.SERIES)
        tree.fromstring(text)
        self.assertIn("iscsi-perf", text)
        self.assertNotIn("Rate-limited", text)


if __name__ == "__main__":
    unittest.main()
