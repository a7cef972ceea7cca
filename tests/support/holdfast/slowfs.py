"""A FUSE file system whose delays and errors are set at run time: tests/support/slow_fuse.cc.

    fs = test.slowfs()                       # mounted at fs.mount, files really are in fs.backing
    fs.add("w", op="write", delay_ms=3000, start=1 << 20)     before the write reaches the file
    fs.add("e", op="write", error="ENOSPC", count=1)
    fs.add("h", op="fsync", hang=True)                        until fs.remove("h") or fs.clear()
    fs.held()                                                 requests that wait in a rule now
    fs.counts()                                               {"read": n, "write": n, ...} so far
    fs.clear()                                                drops all rules, releases all requests
    fs.pause(), fs.resume()                                   no answers in between; who waits can
                                                              be killed, unlike who a rule holds

op: read, write, fsync, fallocate or any; a write with RWF_DSYNC is a write and then an fsync.
start, end: byte range a read, write or fallocate must touch. count: how many requests the rule
applies to; then it is gone. when="after": the delay comes after the medium has changed. Rules apply
in the order added; the first that matches counts.
"""

import os
import pathlib
import signal
import socket
import subprocess
import time

from . import paths
from .process import die_with_parent, run

START_DEADLINE_S = 10


class SlowFs:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.mount = self.directory / "mount"
        self.backing = self.directory / "backing"
        self.control = self.directory / "control"
        self.process = None

    def start(self):
        if not os.path.exists("/dev/fuse"):
            run(["modprobe", "fuse"])
        self.mount.mkdir(parents=True)
        self.backing.mkdir()
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [paths.program("slow_fuse"), str(self.backing), str(self.control), str(self.mount)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM))
        end = time.monotonic() + START_DEADLINE_S
        while not (os.path.ismount(self.mount) and self.control.exists()):
            if self.process.poll() is not None or time.monotonic() > end:
                log = (self.directory / "log").read_text()
                self.stop()
                raise AssertionError(f"slow_fuse did not mount:\n{log}")
            time.sleep(0.01)
        return self

    def stop(self):
        """Releases everything, unmounts, ends the server."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.resume()
            self.clear()
        if os.path.ismount(self.mount):
            # Lazy: a process that still has a file open does not keep the mount in the tree.
            run(["fusermount3", "-u", "-z", str(self.mount)], deadline=10)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def add(self, name, op="any", delay_ms=0, error=None, hang=False, start=0, end=None, count=None,
            when="before"):
        words = [f"add {name} op={op} delay_ms={delay_ms} start={start} when={when}"]
        words += [f"error={error}"] if error else []
        words += ["hang=1"] if hang else []
        words += [f"end={end}"] if end is not None else []
        words += [f"count={count}"] if count is not None else []
        self._ask(" ".join(words))

    def remove(self, name):
        self._ask(f"remove {name}")

    def clear(self):
        self._ask("clear")

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def held(self) -> int:
        return self._numbers()["held"]

    def counts(self) -> dict:
        return self._numbers()

    def _numbers(self) -> dict:
        words = self._ask("stats").split()[1:]
        return {name: int(number) for name, number in (word.split("=") for word in words)}

    def _ask(self, line) -> str:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self.control))
            control.sendall(line.encode() + b"\n")
            answer = control.makefile().readline().strip()
        if not answer.startswith("ok"):
            raise AssertionError(f"slow_fuse: {line}: {answer}")
        return answer
