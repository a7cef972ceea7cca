"""The harness around the arithmetic: selection, command lines, parsers, the published page."""

import json
import pathlib
import tempfile
import tomllib
import unittest

from bench.lib import fio, floor, install, jobs, machine, page, peers, process, target

JOB = {job.name: job for job in jobs.JOBS}
SERIES = {one.name: one for one in jobs.SERIES}


class Selection(unittest.TestCase):
    def names(self, *patterns):
        return [one.name for one in jobs.select(jobs.SERIES, patterns, "series")]

    def test_by_name_pattern_and_kind(self):
        self.assertEqual(self.names("tgt-ram"), ["tgt-ram"])
        self.assertEqual(self.names("floor*"), ["floor", "floor-spin", "floor-2t"])
        self.assertEqual(len(self.names("tgt")), 4)
        self.assertEqual(self.names("tgt-disk", "floor-spin"), ["floor-spin", "tgt-disk"])

    def test_a_pattern_without_a_hit_is_an_error_that_lists_the_names(self):
        with self.assertRaisesRegex(ValueError, "'spdk'.*floor-spin"):
            self.names("floor", "spdk")

    def test_quick_names_exist(self):
        jobs.select(jobs.JOBS, jobs.QUICK_JOBS, "job")
        jobs.select(jobs.SERIES, jobs.QUICK_SERIES, "series")

    def test_which_series_runs_which_job(self):
        self.assertTrue(SERIES["floor-spin"].runs(JOB["r4k-q1"]))
        self.assertFalse(SERIES["floor-spin"].runs(JOB["r4k-q32"]))
        self.assertTrue(SERIES["holdfast-ram-2t"].runs(JOB["r4k-q32-s4"]))
        self.assertFalse(SERIES["holdfast-ram-2t"].runs(JOB["r4k-q32"]))
        self.assertTrue(all(SERIES["tgt-disk"].runs(job) for job in jobs.JOBS))

    def test_a_series_without_a_job_is_not_started(self):
        plan = target.Plan([JOB["r4k-q1"]], jobs.select(jobs.SERIES, ["holdfast"], "series"), 1,
                           1, 64, 100)
        self.assertEqual([one.name for one in plan.series],
                         ["holdfast-ram", "holdfast-ram-spin", "holdfast-disk"])

    def test_repeats_are_interleaved_and_begin_with_another_series(self):
        plan = target.Plan([JOB["r4k-q32"]], jobs.select(jobs.SERIES, ["tgt"], "series"), 3, 5,
                           64, 100)
        orders = [[one.name for _, one in plan.cells(repeat)] for repeat in range(3)]
        self.assertEqual({frozenset(order) for order in orders}, {frozenset(orders[0])})
        self.assertEqual(len({order[0] for order in orders}), 3)


class Generators(unittest.TestCase):
    def test_fio_command(self):
        command = fio.fio_command("fio", JOB["r4k-q32-s4"], "iscsi://127.0.0.1:99/iqn.x:y/1", 5,
                                  "out")
        for word in ("--rw=randread", "--bs=4096", "--iodepth=32", "--numjobs=4", "--runtime=5",
                     r"--filename=iscsi\://127.0.0.1\:99/iqn.x\:y/1"):
            self.assertIn(word, command)
        sequential = fio.fio_command("fio", JOB["w128k-q8"], "u", None, "out")
        self.assertIn("--rw=write", sequential)
        self.assertNotIn("--time_based", sequential)

    @staticmethod
    def fio_json(error=0, ios=1000):
        side = {"total_ios": ios, "iops": 500.0, "bw_bytes": 2048000,
                "clat_ns": {"percentile": {"50.000000": 70000, "99.000000": 90000}}}
        return json.dumps({"jobs": [{"error": error, "read": side,
                                     "write": {"total_ios": 0}}]})

    def test_fio_output(self):
        self.assertEqual(fio.parse_fio("a log line\n" + self.fio_json(), "read"),
                         {"ios": 1000, "iops": 500.0, "mb_s": 2.048, "p50_us": 70.0,
                          "p99_us": 90.0})

    def test_fio_failures_are_errors(self):
        for text in ("", "iscsi: failed to connect", self.fio_json(error=5),
                     self.fio_json(ios=0)):
            with self.assertRaises(fio.LoadError):
                fio.parse_fio(text, "read")
        with self.assertRaises(fio.LoadError):
            fio.parse_fio(self.fio_json(), "write")

    def test_iscsi_perf_output(self):
        text = "\r  1s - iops current 900 average\rfinished - iops average 1234 (4 MB/s)\n"
        run = fio.parse_iscsi_perf(text, 4096)
        self.assertEqual(run["iops"], 1234)
        self.assertIsNone(run["p50_us"])
        with self.assertRaises(fio.LoadError):
            fio.parse_iscsi_perf("cannot connect", 4096)

    def test_floor_has_the_job_s_sizes(self):
        command = floor.command("x", JOB["w128k-q8-s4"], SERIES["floor-2t"], 5)
        self.assertEqual(command, ["x", "--request", "131120", "--response", "48", "--depth", "8",
                                   "--connections", "4", "--servers", "2", "--seconds", "5"])
        spinning = floor.command("x", JOB["r4k-q1"], SERIES["floor-spin"], 5)
        self.assertEqual(spinning[2:5:2] + spinning[-1:], ["48", "4144", "--spin"])


class Targets(unittest.TestCase):
    def config(self, spin, disks):
        text = peers.holdfast_config(pathlib.Path("/tmp/d"), 4000, 2, spin, 64, disks)
        return tomllib.loads(text)

    def test_our_configuration(self):
        config = self.config(0, {"ram": pathlib.Path("/r"), "disk": pathlib.Path("/d.img")})
        self.assertEqual(config["threads"], 2)
        self.assertNotIn("spin_us", config)
        self.assertEqual(config["portal_group"][0]["portals"], ["127.0.0.1:4000"])
        ram, disk = config["disk"]
        self.assertEqual((ram["kind"], disk["kind"], disk["path"]), ("memory", "file", "/d.img"))
        self.assertNotIn("path", ram)
        self.assertEqual(config["target"][0]["luns"],
                         [{"lun": 0, "disk": "ram"}, {"lun": 1, "disk": "disk"}])
        self.assertEqual(config["target"][0]["initiator"], [{"name": "*"}])

    def test_spin_is_a_top_level_key(self):
        self.assertEqual(self.config(100, {"ram": None})["spin_us"], 100)

    def test_cpu_time_of_a_process_with_a_hostile_name(self):
        stat = "1 (a) b) S " + " ".join(str(n) for n in range(4, 53))
        # Fields 14 and 15 of the line.
        self.assertAlmostEqual(process.parse_stat_cpu(stat),
                               (14 + 15) / process.TICKS_PER_SECOND)

    def test_busy_and_stolen_time(self):
        busy, steal = machine.parse_proc_stat("cpu  100 20 300 9999 77 5 6 40 0 0\ncpu0 1\n")
        self.assertAlmostEqual(busy, 431 / process.TICKS_PER_SECOND)
        self.assertAlmostEqual(steal, 40 / process.TICKS_PER_SECOND)

    def test_directories_of_killed_runs_are_removed_and_others_kept(self):
        with tempfile.TemporaryDirectory() as parent:
            stale = pathlib.Path(parent, process.PREFIX + "999999999-x")
            alive = pathlib.Path(parent, process.PREFIX + "1-x")
            for path in (stale, alive):
                path.mkdir()
            with process.directory(parent) as path:
                self.assertTrue(path.is_dir())
                self.assertFalse(stale.exists())
                self.assertTrue(alive.exists())
            self.assertFalse(path.exists())


class Sources(unittest.TestCase):
    def test_both_formats_of_apt_become_sources(self):
        self.assertEqual(
            install.source_entries("# deb a\ndeb [x=y] http://m/ s main\ndeb-src http://m/ s m\n",
                                   True),
            "deb-src [x=y] http://m/ s main\ndeb-src http://m/ s m\n")
        self.assertEqual(install.source_entries("Types: deb deb-src\nURIs: http://m/\n", False),
                         "Types: deb-src\nURIs: http://m/\n")


class Page(unittest.TestCase):
    def test_only_the_section_between_the_marks_changes(self):
        begin, end = page.marks("mpio")
        text = f"head\n{begin}\nold\n{end}\ntail\n"
        once = page.with_section(text, "mpio", "new")
        self.assertEqual(once, f"head\n{begin}\n\nnew\n\n{end}\ntail\n")
        self.assertEqual(page.with_section(once, "mpio", "new"), once)

    def test_a_page_without_marks_is_refused(self):
        begin, end = page.marks("mpio")
        for text in ("", begin, end + begin, "\n".join(page.marks("target"))):
            with self.assertRaises(ValueError):
                page.with_section(text, "mpio", "new")

    def test_each_benchmark_has_its_own_section_in_docs(self):
        text = page.PAGE.read_text()
        for benchmark in ("target", "mpio", "failover"):
            text = page.with_section(text, benchmark, f"new {benchmark}")
        for benchmark in ("target", "mpio", "failover"):
            self.assertEqual(text.count(f"new {benchmark}\n"), 1)


if __name__ == "__main__":
    unittest.main()
