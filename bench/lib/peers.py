"""Starts and stops the targets on loopback: ours and Debian's tgt."""

import os
import shutil
import signal
import subprocess
import time

from bench.lib import process

HOLDFAST_IQN = "iqn.2026-11.org.holdfast:bench"
TGT_IQN = "iqn.2026-11.org.holdfast:bench-tgt"
STOP_SECONDS = 10


class PeerError(Exception):
    """A target did not start; the text says why."""


class Daemon:
    """One target process. `urls` maps a series' name to the LUN it is measured on."""

    def __init__(self, title, directory):
        self.title = title
        self.directory = directory
        self.port = process.free_port()
        self.urls = {}
        self.disk_files = []  # flushed before each measurement
        self._process = None
        self._log_path = directory / "log"

    def _start(self, command, environment=None):
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("wb") as log:
            self._process = process.start(command, stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=log, env=environment)
        if not process.wait_for_port(self.port, self.alive):
            code = self._process.poll()
            how = "it does not listen" if code is None else f"exit status {code}"
            self.kill()
            raise PeerError(f"{self.title} did not start ({how}): {self.last_words()}")

    def alive(self):
        return self._process is not None and self._process.poll() is None

    def cpu_seconds(self):
        return process.cpu_seconds(self._process.pid)

    def last_words(self):
        lines = self._log_path.read_text(errors="replace").splitlines()[-5:]
        return " | ".join(lines) or "it wrote nothing"

    def obituary(self):
        return f"{self.title} died (status {self._process.poll()}): {self.last_words()}"

    def stop(self):
        """Ends the process; returns a complaint when it did not stop cleanly, else None."""
        self.kill()

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Holdfast(Daemon):
    """holdfast-targetd with a memory disk and, when a series wants one, a file disk."""

    def __init__(self, binary, directory, series, size_mib, disk_directory, spin_us):
        threads = series[0].threads
        spin = spin_us if series[0].spin else 0
        super().__init__(f"holdfast-targetd (threads {threads}, spin {spin} us)", directory)
        backings = sorted({one.backing for one in series})
        disks = {backing: disk_directory / f"{directory.name}.img" for backing in backings}
        self.disk_files = [path for backing, path in disks.items() if backing == "disk"]
        directory.mkdir(parents=True)
        config = directory / "target.toml"
        config.write_text(holdfast_config(directory, self.port, threads, spin, size_mib, disks))
        self._start([binary, "--config", config])
        for one in series:
            lun = backings.index(one.backing)
            self.urls[one.name] = f"iscsi://127.0.0.1:{self.port}/{HOLDFAST_IQN}/{lun}"

    def stop(self):
        if not self.alive():
            return self.obituary()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.title} did not stop within {STOP_SECONDS} s of SIGTERM"
        return f"{self.title} exited with status {code}" if code else None


def holdfast_config(directory, port, threads, spin_us, size_mib, disks):
    """The target's configuration; `disks` maps a backing (ram | disk) to its file."""
    lines = [
        f'state_dir = "{directory}/state"',
        f'control_socket = "{directory}/control.sock"',
        f"threads = {threads}",
    ]
    if spin_us:
        lines.append(f"spin_us = {spin_us}")
    lines += ["", "[[portal_group]]", "tag = 1", f'portals = ["127.0.0.1:{port}"]']
    for backing, path in disks.items():
        lines += ["", "[[disk]]", f'name = "{backing}"', f'size = "{size_mib}MiB"',
                  "block_size = 512"]
        if backing == "ram":
            lines += ['kind = "memory"']
        else:
            lines += ['kind = "file"', f'path = "{path}"', "thin = false"]
    luns = ", ".join(f'{{ lun = {lun}, disk = "{name}" }}' for lun, name in enumerate(disks))
    lines += ["", "[[target]]", f'name = "{HOLDFAST_IQN}"', "portal_groups = [1]",
              f"luns = [{luns}]", "[[target.initiator]]", 'name = "*"']
    return "\n".join(lines) + "\n"


class Tgt(Daemon):
    """tgtd as Debian ships it, with its own defaults, one LUN for each series."""

    def __init__(self, directory, series, size_mib, ram_directory, disk_directory):
        super().__init__("tgtd", directory)
        self._control = os.getpid() % 30000 + 1000
        # The control socket goes into our directory, so a tgtd of the machine is not disturbed.
        self._environment = dict(os.environ, TGT_IPC_SOCKET=str(directory / "control"))
        self._start([shutil.which("tgtd", path=os.environ["PATH"] + ":/usr/sbin"), "-f",
                     "-C", self._control, "--iscsi", f"portal=127.0.0.1:{self.port}"],
                    self._environment)
        try:
            self._configure(series, size_mib, ram_directory, disk_directory)
        except BaseException:
            self.kill()
            raise

    def _configure(self, series, size_mib, ram_directory, disk_directory):
        self._admin("target", "new", "--tid", 1, "--targetname", TGT_IQN)
        self._admin("target", "bind", "--tid", 1, "--initiator-address", "ALL")
        for lun, one in enumerate(series, start=1):
            parent = ram_directory if one.backing == "ram" else disk_directory
            path = parent / f"{one.name}.img"
            with path.open("wb") as image:
                image.truncate(size_mib << 20)
            self._admin("logicalunit", "new", "--tid", 1, "--lun", lun, "--backing-store", path,
                        "--bstype", one.engine)
            if one.backing == "disk":
                self.disk_files.append(path)
            self.urls[one.name] = f"iscsi://127.0.0.1:{self.port}/{TGT_IQN}/{lun}"

    def _admin(self, mode, operation, *arguments):
        command = ["tgtadm", "-C", self._control, "--lld", "iscsi", "--mode", mode, "--op",
                   operation, *arguments]
        command[0] = shutil.which("tgtadm", path=os.environ["PATH"] + ":/usr/sbin")
        for attempt in range(20):
            done = subprocess.run([str(word) for word in command], env=self._environment,
                                  capture_output=True, text=True, check=False, timeout=30)
            if done.returncode == 0:
                return
            # Just after the start the control socket may not answer yet.
            if "can't connect" not in done.stderr and attempt > 2:
                break
            time.sleep(0.1)
        raise PeerError(f"tgtadm {mode} {operation} failed: {done.stderr.strip()}")

    # stop() is the inherited kill: SIGTERM does not end a tgtd that has targets.
