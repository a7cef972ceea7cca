"""holdfast-lab-watchdog, the test double of a watchdog: whom it kills, when, and whom it does not.
The file it shares with a daemon is written here as qdisk/lab_watchdog_file.h says.
"""

import contextlib
import mmap
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from holdfast import case, paths
from holdfast.daemon import slowness
from holdfast.process import die_with_parent, run

TIMEOUT_S = 0.4  # D
LATE_S = 0.3  # from the deadline to the last one's death
DISARMED, FIRED = 0, 1
DEADLINE, FIRED_AT, WATCHED_AT = 1, 2, 3  # words of 8 bytes
NS = 1_000_000_000


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class DeadlineFile:
    """A client of the double; also one of its own process, below."""

    def __init__(self, path):
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 4096)
        self.words = memoryview(self.map).cast("Q")
        if self.map[:8] != b"HFLABWD1":
            raise AssertionError(f"{path} is another file")

    def pet(self, timeout_s=TIMEOUT_S):
        """The first one arms it."""
        self.words[DEADLINE] = now_ns() + int(timeout_s * NS)

    def __getitem__(self, word):
        return self.words[word]

    def disarm(self):
        self.words[DEADLINE] = DISARMED


def pet_for_ever(path):
    """What a daemon does, as a process of its own."""
    file = DeadlineFile(path)
    while True:
        file.pet()
        print("petted", flush=True)
        time.sleep(TIMEOUT_S / 5)


class LabWatchdog(case.TestCase):
    def setUp(self):
        super().setUp()
        self.file, self.log = self.scratch / "deadline", self.scratch / "log"
        self.pids = self.scratch / "pids"
        self.pids.write_text("")

    def double(self, *words, wait=True):
        """The program; and its file, once it watches it."""
        words = words or ("--kill-pids", self.pids)
        process = subprocess.Popen(
            [paths.program("holdfast-lab-watchdog"), "--deadline", self.file, "--log", self.log,
             *words], preexec_fn=die_with_parent(), stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end, process)
        if not wait:
            return process
        begun = now_ns()
        self.wait_until(lambda: self.file.exists() and self.file.stat().st_size == 4096, "the file")
        file = self.wait_until(self.client, "its magic")
        self.addCleanup(file.map.close)
        self.addCleanup(file.words.release)
        self.wait_until(lambda: file[WATCHED_AT] > begun, "the double watches")
        return process, file

    def client(self):
        try:
            return DeadlineFile(self.file)
        except AssertionError:
            return None

    @staticmethod
    def end(process, group=False):
        """Not until the end of its output, which its children may have open."""
        if group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def process(self, command=("sleep", "100"), group=False, **options):
        """group: it leads one of its own."""
        process = subprocess.Popen([paths.tool(command[0]), *command[1:]],
                                   preexec_fn=die_with_parent(), stdout=subprocess.PIPE, text=True,
                                   start_new_session=group, **options)
        self.addCleanup(self.end, process, group)
        return process

    def daemon(self):
        """A process that pets, and has petted."""
        process = subprocess.Popen([sys.executable, __file__, "--pet", self.file],
                                   preexec_fn=die_with_parent(), stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end, process)
        self.assertEqual(process.stdout.readline(), "petted\n")
        return process

    def list_pids(self, *pids):
        self.pids.write_text(" ".join(map(str, pids)))

    def looked_after(self, file, moment_ns):
        """The double has looked after that, and has done what it did then."""
        for _ in range(2):
            self.wait_until(lambda: file[WATCHED_AT] > moment_ns, "the double's next look")
            moment_ns = file[WATCHED_AT]

    def assert_killed_in_time(self, process, deadline_ns):
        self.assertEqual(process.wait(10 * slowness()), -signal.SIGKILL)
        late = (now_ns() - deadline_ns) / NS
        self.assertGreaterEqual(late, 0)
        self.assertLess(late, LATE_S * slowness())

    def lines(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def test_a_host_that_is_stopped_is_killed_once_its_time_is_over(self):
        _, file = self.double()
        daemon, other = self.daemon(), self.process()
        self.list_pids(daemon.pid, other.pid)
        os.kill(daemon.pid, signal.SIGSTOP)
        self.wait_until(lambda: self.state(daemon.pid) == "T", "it is stopped")
        deadline = file[DEADLINE]
        self.assertGreater(deadline, now_ns())
        self.assertIsNone(other.poll())
        self.assert_killed_in_time(daemon, deadline)
        self.assert_killed_in_time(other, deadline)
        self.looked_after(file, deadline)
        self.assertEqual(file[DEADLINE], FIRED)
        self.assertGreaterEqual(file[FIRED_AT], deadline)
        line, = self.lines()
        self.assertRegex(line, rf"^fired_at={file[FIRED_AT]} deadline={deadline} late_ms=\d+ "
                               rf"killed: {daemon.pid} {other.pid}$")

    @staticmethod
    def state(pid):
        return re.search(r"\) (\w)", pathlib.Path(f"/proc/{pid}/stat").read_text())[1]

    def test_a_daemon_that_was_killed_has_not_disarmed(self):
        _, file = self.double()
        daemon, other = self.daemon(), self.process()
        self.list_pids(daemon.pid, other.pid)
        daemon.kill()
        daemon.wait()
        self.assertIsNone(other.poll())
        self.assert_killed_in_time(other, file[DEADLINE])

    def test_what_is_petted_or_disarmed_lives(self):
        _, file = self.double()
        daemon = self.daemon()
        self.list_pids(daemon.pid)
        first = file[DEADLINE]
        self.looked_after(file, first + int(2 * TIMEOUT_S * NS))
        self.assertIsNone(daemon.poll())
        self.assertEqual(file[FIRED_AT], 0)
        os.kill(daemon.pid, signal.SIGSTOP)
        self.wait_until(lambda: self.state(daemon.pid) == "T", "it is stopped")
        last = file[DEADLINE]
        file.disarm()
        self.looked_after(file, last + int(TIMEOUT_S * NS))
        self.assertIsNone(daemon.poll())
        self.assertEqual((file[DEADLINE], file[FIRED_AT]), (DISARMED, 0))
        self.assertEqual(self.lines(), [])

    def test_it_goes_on_watching_after_it_has_fired(self):
        _, file = self.double()
        for count in (1, 2):
            process = self.process()
            self.list_pids(process.pid)
            file.pet()
            self.assert_killed_in_time(process, file[DEADLINE])
            self.wait_until(lambda: len(self.lines()) == count, "its line")

    def test_a_group_is_killed_whole(self):
        _, file = self.double()
        shell = self.process(("sh", "-c", "sleep 100 & echo $!; wait"), group=True)
        child = int(shell.stdout.readline())
        self.list_pids(-shell.pid)
        file.pet()
        self.assert_killed_in_time(shell, file[DEADLINE])
        self.wait_until(lambda: self.gone(child), "its child's end")

    @classmethod
    def gone(cls, pid):
        try:
            return cls.state(pid) == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    def test_a_cgroup_is_killed_whole(self):
        cgroup = self.cgroup()
        shell = self.process(("sh", "-c", "read go; sleep 100 & echo $!; wait"),
                             stdin=subprocess.PIPE, group=True)
        if cgroup is None:
            # No kernel that has them: a directory stands in.
            cgroup = self.scratch / "host"
            cgroup.mkdir()
            (cgroup / "cgroup.kill").write_text("")
            _, file = self.double("--kill-cgroup", cgroup)
            file.pet()
            self.wait_until(lambda: (cgroup / "cgroup.kill").read_text() == "1", "its kill")
            return
        (cgroup / "cgroup.procs").write_text(str(shell.pid))
        shell.stdin.write("go\n")
        shell.stdin.flush()
        child = int(shell.stdout.readline())
        inside = subprocess.run(
            ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', cgroup,
             paths.program("holdfast-lab-watchdog"), "--deadline", self.scratch / "other",
             "--kill-cgroup", cgroup], capture_output=True, text=True, check=False, timeout=10)
        self.assertEqual(inside.returncode, 1)
        self.assertIn("start it outside", inside.stderr)
        _, file = self.double("--kill-cgroup", cgroup)
        os.kill(child, signal.SIGSTOP)
        file.pet()
        self.assert_killed_in_time(shell, file[DEADLINE])
        self.wait_until(lambda: (cgroup / "cgroup.procs").read_text() == "", "everybody's end")
        self.wait_until(self.lines, "its line")
        self.assertIn(f"killed: everything in {cgroup}", self.lines()[0])

    def cgroup(self):
        """A new cgroup v2, or None where this machine has none to make."""
        for line in pathlib.Path("/proc/mounts").read_text().splitlines():
            _, mount, kind, *_ = line.split()
            if kind != "cgroup2":
                continue
            made = pathlib.Path(mount) / self.scratch.name
            try:
                made.mkdir()
            except OSError:
                continue
            self.addCleanup(self.remove_cgroup, made)
            if (made / "cgroup.kill").exists():
                return made
        return None

    def remove_cgroup(self, directory):
        if (directory / "cgroup.kill").exists():
            (directory / "cgroup.kill").write_text("1")
        self.wait_until(lambda: self.removed(directory), f"the end of {directory}")

    @staticmethod
    def removed(directory):
        try:
            directory.rmdir()
        except OSError:
            return False
        return True

    def test_one_that_is_started_again_goes_on(self):
        double, file = self.double()
        process = self.process()
        self.list_pids(process.pid)
        file.pet(TIMEOUT_S)
        deadline = file[DEADLINE]
        double.kill()
        double.wait()
        self.wait_until(lambda: now_ns() > deadline, "the deadline")
        self.assertIsNone(process.poll())
        self.double()
        self.assertEqual(process.wait(10), -signal.SIGKILL)

    def test_only_the_lab_ends_it(self):
        double, file = self.double()
        self.assertNotEqual(os.getpgid(double.pid), os.getpgid(0))
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1,
                       signal.SIGTSTP):
            os.kill(double.pid, number)
        self.looked_after(file, now_ns())
        self.assertIsNone(double.poll())
        double.terminate()
        self.assertEqual(double.wait(5), 0)

    def test_two_do_not_watch_one_file(self):
        self.double()
        second = self.double("--kill-pids", self.pids, wait=False)
        _, said = second.communicate(timeout=30)
        self.assertEqual(second.returncode, 1)
        self.assertIn("another lab watchdog watches", said)

    def test_its_arguments(self):
        program = paths.program("holdfast-lab-watchdog")
        self.assertIn("NOT a watchdog", run([program, "--help"]).stdout)
        wrong = run([program, "--deadline", self.file], check=False)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("--kill-cgroup", wrong.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--pet"]:
        pet_for_ever(sys.argv[2])
    case.main()
