"""A multipath device over NBD, with the fence or without: tests/support/mpio_export.cc.

    export = Exporter(directory, TARGET_NAME, 0, mode, [wire.address, ...])   all paths are active
    export.qemu_io("write -P 0x11 0 4096", ...)      one client for all commands
    export.log()                                     what it said, among it what each fence proved
    export.close()

mode: strict, ghost-tracked, nofence, session-keys, or unreserved.
"""

import pathlib
import subprocess
import time

from . import paths
from .daemon import START_DEADLINE_S
from .process import die_with_parent, run


class Exporter:
    def __init__(self, directory, target, lun, mode, portals, key=None):
        self.socket = pathlib.Path(directory) / "disk.nbd"
        self.log_file = pathlib.Path(directory) / "mpio_export.log"
        words = [] if key is None else ["--key", str(key)]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [paths.program("mpio_export"), *words, self.socket, target, str(lun), mode,
                 "failover", *portals],
                stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=die_with_parent())
        if self.process.stdout.readline() != "ready\n":
            self.close()
            raise AssertionError(f"mpio_export is not ready:\n{self.log()}")
        end = time.monotonic() + START_DEADLINE_S
        while self.log().count("-> ACTIVE") < len(portals):  # it is ready with the first
            if time.monotonic() > end:
                self.close()
                raise AssertionError(f"not all paths are active:\n{self.log()}")
            time.sleep(0.02)

    def qemu_io(self, *commands):
        words = [word for command in commands for word in ("-c", command)]
        return run(["qemu-io", "-f", "raw", *words, f"nbd+unix:///disk?socket={self.socket}"],
                   deadline=60)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def kill(self):
        self.process.kill()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
