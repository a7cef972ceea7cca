"""bench/run quorum from end to end, as short as it goes: its files, what is in them, and that
nothing is left behind, also after Ctrl-C."""

import json
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


def namespaces():
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}


def start(out, *arguments):
    return subprocess.Popen([sys.executable, ROOT / "bench" / "run", "quorum", *arguments, "--bin",
                             PROGRAMS, "--out", out], text=True, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def children_of(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


class BenchQuorum(unittest.TestCase):
    def nothing_of(self, pids):
        self.assertEqual([name for name in namespaces() if name.split("-")[1] in pids], [])
        self.assertEqual([path for path in pathlib.Path("/dev/shm").glob("holdfast-bench-*")
                          if path.name.split("-")[2] in pids], [])

    def owners(self, run):
        """The processes of the run that own a cluster; their namespaces have been made."""
        end = time.monotonic() + 30
        while time.monotonic() < end and run.poll() is None:
            pids = children_of(run.pid)
            if pids and all(f"holdfast-{pid}-hv3" in namespaces() for pid in pids):
                return pids
            time.sleep(0.05)
        self.fail(f"no cluster was made: {run.poll()}")

    def test_one_repeat(self):
        with tempfile.TemporaryDirectory() as out:
            run = start(out, "--faults", "killed,networks", "--profiles", "lan-fast", "--repeats",
                        "1")
            self.addCleanup(run.kill)
            owners = self.owners(run)
            said, log = run.communicate(timeout=120)
            self.assertEqual(run.returncode, 0, log)
            self.assertEqual(said.strip(), pathlib.Path(out, "quorum.md").read_text().strip())
            tree.parse(pathlib.Path(out, "quorum.svg"))
            results = json.loads(pathlib.Path(out, "quorum.json").read_text())
            lines = pathlib.Path(out, "quorum-runs.jsonl").read_text().splitlines()
        self.assertEqual(len(owners), 2)
        self.nothing_of(owners)
        self.assertEqual(sum("figures" in json.loads(line) for line in lines), 2)
        timers = results["timers"]["lan-fast"]
        runs = {cell["job"]: cell["runs"][0] for cell in results["cells"]}
        self.assertEqual(set(runs), {"killed", "networks"})
        for figures in runs.values():
            # Nobody is given up before its silence has lasted, since its last heartbeat.
            self.assertGreater(figures["detected_s"], timers["net_dead"] - 3 * timers["hb_net"])
            self.assertLessEqual(figures["detected_s"], figures["decided_s"])
            self.assertLessEqual(figures["decided_s"], figures["fenced_s"])
            self.assertLessEqual(figures["fenced_s"], figures["taken_s"])
            self.assertLess(figures["lease_end_s"], timers["lease"] + timers["hb_net"])
            self.assertFalse(figures["violation"])
        verdicts = {aim["text"]: aim["verdict"] for aim in results["aims"]}
        self.assertEqual(verdicts["lan-fast: taken over from one that had its lease and was not "
                                  "fenced, times in 2"], "met")

    def test_ctrl_c_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as out:
            run = start(out, "--faults", "killed", "--profiles", "lan-fast")
            self.addCleanup(run.kill)
            owners = self.owners(run)
            run.send_signal(signal.SIGINT)
            _, log = run.communicate(timeout=60)
            self.assertEqual(run.returncode, 1, log)
            self.assertIn("interrupted", log)
            self.nothing_of(owners)

    def test_wrong_usage_is_refused(self):
        for arguments, said in ((["--faults", "x"], "no fault matches 'x'"),
                                (["--profiles", "wan"], "no profile 'wan'"),
                                (["--repeats", "0"], "--repeats")):
            run = start("/nonexistent", *arguments)
            _, log = run.communicate(timeout=20)
            self.assertEqual(run.returncode, 2, arguments)
            self.assertIn(said, log)


if __name__ == "__main__":
    unittest.main()
