"""Child processes that never outlive the run, their CPU time, and the directories of a run."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PREFIX = "holdfast-bench-"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def say(text):
    """What goes on, beside the results on standard output."""
    print(text, file=sys.stderr, flush=True)


def end_with_parent(signal_number):
    """This process gets the signal when its parent ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal_number))


def _die_with_parent():
    end_with_parent(signal.SIGKILL)


def start(command, **options):
    """Popen whose process the kernel kills should this one die without its clean-up."""
    return subprocess.Popen([str(word) for word in command], preexec_fn=_die_with_parent,
                            **options)


def parse_stat_cpu(stat):
    """utime + stime, in seconds, of a /proc/PID/stat line; the command may hold spaces and ')'."""
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def cpu_seconds(pid):
    return parse_stat_cpu(pathlib.Path(f"/proc/{pid}/stat").read_text())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, alive, seconds=15):
    """True once something listens; False when `alive()` turns false or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and alive():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.05)
    return False


def _remove_stale(parent):
    for path in pathlib.Path(parent).glob(PREFIX + "*"):
        owner = path.name[len(PREFIX):].split("-")[0]
        if owner.isdigit() and not pathlib.Path("/proc", owner).exists():
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def directory(parent):
    """A directory of this run under `parent`, removed at its end, as are those of killed runs."""
    pathlib.Path(parent).mkdir(parents=True, exist_ok=True)
    _remove_stale(parent)
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
