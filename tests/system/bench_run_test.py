"""bench/run from end to end with the bare exchange only: its files, its errors, its clean-up."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as tree

PROGRAMS = sys.argv.pop()
ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = (pathlib.Path("/dev/shm"), ROOT / "build" / "bench" / "work")


def command(*arguments):
    return [sys.executable, ROOT / "bench" / "run", "target", *arguments]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False,
                          timeout=50)


def left_over(pid):
    return [path for parent in WORK for path in parent.glob(f"holdfast-bench-{pid}-*")]


class BenchRun(unittest.TestCase):
    def test_a_run_writes_table_json_and_plot(self):
        with tempfile.TemporaryDirectory() as out:
            done = run("--only", "floor", "--jobs", "r4k-q1", "--seconds", "1", "--repeats", "1",
                       "--bin", PROGRAMS, "--out", out)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.strip(),
                             pathlib.Path(out, "target.md").read_text().strip())
            results = json.loads(pathlib.Path(out, "target.json").read_text())
            cells = {cell["series"]: cell for cell in results["cells"]}
            self.assertEqual(set(cells), {"floor", "floor-spin"})
            for cell in cells.values():
                self.assertEqual(cell["job"], "r4k-q1")
                self.assertGreater(cell["median"]["iops"], 10)
            self.assertEqual({aim["verdict"] for aim in results["aims"]}, {"not measured"})
            tree.parse(pathlib.Path(out, "target.svg"))

    def test_wrong_usage_is_refused(self):
        for arguments, said in ((["--only", "spdk"], "no series matches 'spdk'"),
                                (["--jobs", "x"], "no job matches 'x'"),
                                (["--repeats", "0"], "--repeats")):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(said, done.stderr)

    def test_missing_programs_are_named(self):
        done = run("--only", "floor", "--bin", "/nonexistent")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/holdfast-bench-exchange does not exist", done.stderr)

    def test_ctrl_c_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as out:
            child = subprocess.Popen(command("--only", "floor", "--jobs", "r4k-q1", "--bin",
                                             PROGRAMS, "--seconds", "30", "--out", out),
                                     stderr=subprocess.PIPE, start_new_session=True)
            deadline = time.monotonic() + 20
            while not left_over(child.pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertTrue(left_over(child.pid))
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=20)
            self.assertEqual(child.returncode, 1)
            self.assertIn(b"interrupted", said)
            self.assertEqual(left_over(child.pid), [])
            # Nobody of its session is left: neither it nor the exchange's processes.
            with self.assertRaises(ProcessLookupError):
                for _ in range(100):
                    os.killpg(child.pid, 0)
                    time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
