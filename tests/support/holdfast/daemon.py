"""A daemon of ours as a process. Target and Mpiod are made from this.

    daemon.launch(); daemon.wait_ready()    waits for READY=1 on a notify socket
    daemon.kill()                           SIGKILL, and waits for the end of the process
    daemon.stop()                           SIGTERM; AssertionError unless it exits 0 within 5 s
    daemon.log()                            what it wrote to stderr, over all starts
"""

import os
import pathlib
import signal
import socket
import subprocess
import time

START_DEADLINE_S = 10
STOP_DEADLINE_S = 5  # what the interface promises
SANITIZER_FACTOR = 3  # sanitized programs are that much slower to start and stop


def slowness() -> float:
    """How much longer deadlines of the process itself are in this build."""
    return SANITIZER_FACTOR if os.environ.get("HOLDFAST_SANITIZED") == "1" else 1


class Daemon:
    """Needs self.directory, self.program, self.config_file, self.preexec."""

    noun = "the daemon"
    process = None

    @property
    def log_file(self) -> pathlib.Path:
        return self.directory / "log"

    def launch(self):
        """Starts the daemon without waiting."""
        assert self.process is None, f"{self.noun} runs already"
        notify_path = str(self.directory / "notify")
        if os.path.exists(notify_path):
            os.unlink(notify_path)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(notify_path)
        environment = dict(os.environ, NOTIFY_SOCKET=notify_path)
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen([self.program, "--config", str(self.config_file)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment, start_new_session=True,
                                            preexec_fn=self.preexec)

    def wait_ready(self, deadline=START_DEADLINE_S):
        end = time.monotonic() + deadline * slowness()
        self._notify.settimeout(0.1)
        while True:
            try:
                if "READY=1" in self._notify.recv(4096).decode(errors="replace").splitlines():
                    return
            except TimeoutError:
                pass
            if self.process.poll() is not None:
                raise AssertionError(f"{self.noun} ended with status {self.process.returncode} "
                                     f"before it was ready:\n{self.log()}")
            if time.monotonic() > end:
                raise AssertionError(f"{self.noun} was not ready in {deadline} s:\n{self.log()}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self, deadline=30):
        """SIGKILL, and waits for the end of the process."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(deadline)
        self._forget()

    def abandon(self):
        """SIGKILL without waiting: the daemon can be launched again at once. Returns the process,
        which lives on while requests of it hang in the kernel; the caller has to wait for it."""
        process = self.process
        process.kill()
        self._forget()
        return process

    def wait_ended(self, deadline):
        """Waits until the process has ended by itself and returns its exit status."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.noun} still runs after {deadline} s:\n{self.log()}") from None
        self._forget()
        return status

    def stop(self, deadline=STOP_DEADLINE_S):
        """SIGTERM, and asserts a clean exit in time. Nothing to do if it does not run."""
        if self.process is None:
            return
        if self.process.poll() is not None:
            status = self.process.returncode
            self._forget()
            raise AssertionError(f"{self.noun} ended by itself with status {status}")
        self.signal(signal.SIGTERM)
        try:
            status = self.process.wait(deadline * slowness())
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.noun} did not end in {deadline} s of SIGTERM") from None
        self._forget()
        if status != 0:
            raise AssertionError(f"{self.noun} ended with status {status} after SIGTERM")

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _forget(self):
        self.process = None
        self._notify.close()

    # --- the process seen from outside

    def memory_bytes(self) -> int:
        """Resident memory."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def waits_for_files(self) -> bool:
        """One of its threads waits for the answer of a FUSE file system."""
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                if (task / "wchan").read_text() == "request_wait_answer":
                    return True
            except FileNotFoundError:
                pass  # the thread has ended
        return False

    def descriptor_count(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))
