"""bench/run mpio and bench/run failover from end to end, as short as they go: their files, what is
in them, what becomes of failures, and that nothing is left behind."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as tree

PROGRAMS = sys.argv.pop()
ROOT = pathlib.Path(__file__).resolve().parents[2]


def left_over(pid):
    """Files and namespaces of a run."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if line.startswith(f"holdfast-{pid}-")] + \
        list(pathlib.Path("/dev/shm").glob(f"holdfast-bench-{pid}-*"))


def run(*arguments):
    """Runs it to its end; nothing of it may be left."""
    child = subprocess.Popen([sys.executable, ROOT / "bench" / "run", *arguments], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, said = child.communicate(timeout=200)
    finally:
        child.kill()
    if left := left_over(child.pid):
        raise AssertionError(f"left behind: {left}\n{said}")
    return subprocess.CompletedProcess(child.args, child.returncode, out, said)


class BenchPaths(unittest.TestCase):
    def measure(self, benchmark, *arguments):
        with tempfile.TemporaryDirectory() as out:
            done = run(benchmark, *arguments, "--bin", PROGRAMS, "--out", out)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.strip(),
                             pathlib.Path(out, f"{benchmark}.md").read_text().strip())
            tree.parse(pathlib.Path(out, f"{benchmark}.svg"))
            results = json.loads(pathlib.Path(out, f"{benchmark}.json").read_text())
        self.assertEqual(results["benchmark"], benchmark)
        return results, {(cell["job"], cell["series"]): cell for cell in results["cells"]}

    def test_the_initiators_side_by_side(self):
        results, cells = self.measure("mpio", "--jobs", "r4k-q32,far-r4k", "--only",
                                      "library,library-2p,nbd,iscsi-perf,qemu-img,both,both-rr",
                                      "--seconds", "1", "--repeats", "1", "--size", "32")
        self.assertEqual(set(cells), {("r4k-q32", name) for name in (
            "library", "library-2p", "nbd", "iscsi-perf", "qemu-img")}
            | {("far-r4k", "both"), ("far-r4k", "both-rr")})
        for cell in cells.values():
            self.assertGreater(cell["median"]["iops"], 10)
            self.assertGreater(cell["median"]["ios_per_cpu_s"], 10)
        library = cells["r4k-q32", "library"]["runs"][0]
        self.assertGreater(library["p99_us"], library["p50_us"])
        self.assertIsNone(cells["r4k-q32", "iscsi-perf"]["median"]["p50_us"])
        # Of the far path every request waits 5 ms: 32 at a time are 6400 in the one second. The
        # near one has no such bound: on a busy machine the far one may be suspected.
        in_turn = cells["far-r4k", "both-rr"]["runs"][0]
        self.assertLess(in_turn["paths"][1]["reads"], 32 / 0.005 * 1.1)
        self.assertGreater(in_turn["p99_us"], 5000)
        for run_of_two in (in_turn, cells["far-r4k", "both"]["runs"][0]):
            self.assertEqual(len(run_of_two["paths"]), 2)
            self.assertGreater(run_of_two["paths"][0]["reads"], 0)
        aims = {aim["text"]: aim["verdict"] for aim in results["aims"]}
        self.assertNotEqual(aims["4 KiB read, depth 32: IOPS per CPU second of the initiator / "
                                 "iscsi-perf"], "not measured")
        self.assertEqual(aims["64 KiB write, rate-limited: two equal paths / one"], "not measured")

    def test_rate_limited_paths(self):
        results, cells = self.measure("mpio", "--jobs", "equal-r64k", "--only", "one,two",
                                      "--seconds", "1", "--repeats", "1", "--size", "32")
        limit_mb_s = results["limit_mbit"] / 8
        one, two = (cells["equal-r64k", name]["median"]["mb_s"] for name in ("one", "two"))
        self.assertLess(one, limit_mb_s * 1.1)  # the bottleneck
        self.assertLess(two, limit_mb_s * 2.2)
        self.assertGreater(two, one)

    def test_losses_of_a_path(self):
        results, cells = self.measure("failover", "--scenarios", "carrier,reset,stall",
                                      "--policies", "failover", "--repeats", "1")
        runs = {job: cell["runs"][0] for (job, _), cell in cells.items()}
        self.assertEqual(set(runs), {"carrier", "reset", "stall"})
        # The time that a link may be away before its path is given up.
        self.assertGreater(runs["carrier"]["gap_ms"], 50)
        for job in ("carrier", "reset"):
            self.assertEqual(runs[job]["failovers"], 1)
            self.assertLess(runs[job]["gap_ms"], 1300)
        self.assertGreaterEqual(runs["stall"]["gap_ms"], results["stall_ms"] * 0.9)
        for counter in ("failovers", "new_sessions", "reissued_writes"):
            self.assertEqual(runs["stall"][counter], 0, counter)
        verdicts = {aim["text"]: aim["verdict"] for aim in results["aims"]}
        self.assertEqual(verdicts["stalled target: writes repeated, worst of 1"], "met")
        self.assertEqual(verdicts["silent loss: longest request, worst of 0"], "not measured")

    def test_a_cell_that_fails_is_listed_and_the_run_goes_on(self):
        with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as programs:
            for path in pathlib.Path(PROGRAMS).glob("holdfast*"):
                pathlib.Path(programs, path.name).symlink_to(path)
            broken = pathlib.Path(programs, "holdfast-mpiod")
            broken.unlink(missing_ok=True)
            broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
            broken.chmod(0o755)
            done = run("mpio", "--jobs", "r4k-q1", "--only", "library,nbd", "--seconds", "1",
                       "--repeats", "1", "--size", "16", "--bin", programs, "--out", out)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("## Failures", done.stdout)
            self.assertIn("it is broken", done.stdout)
            results = json.loads(pathlib.Path(out, "mpio.json").read_text())
            cells = {cell["series"]: cell for cell in results["cells"]}
            self.assertIn("it is broken", cells["nbd"]["error"])
            self.assertGreater(cells["library"]["median"]["iops"], 10)

    def test_wrong_usage_is_refused(self):
        for arguments, said in ((["mpio", "--only", "spdk"], "no series matches 'spdk'"),
                                (["failover", "--scenarios", "x"], "no scenario matches 'x'"),
                                (["failover", "--policies", "best"], "no policy 'best'"),
                                (["failover", "--repeats", "0"], "--repeats")):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main()
