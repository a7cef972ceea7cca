"""The test double of a watchdog, for a host of a test:

    watchdog = LabWatchdog(case, node)     starts holdfast-lab-watchdog, and configures the daemon
    watchdog.guard(pid)                    what it kills when it fires; nothing so far
"""

import subprocess

from . import paths
from .process import die_with_parent


class LabWatchdog:
    def __init__(self, case, node):
        self.deadline = node.directory / "deadline"
        self.pids = node.directory / "pids"
        self.pids.write_text("")
        self.process = subprocess.Popen(
            [paths.program("holdfast-lab-watchdog"), "--deadline", self.deadline, "--kill-pids",
             self.pids], preexec_fn=die_with_parent(), stderr=subprocess.DEVNULL)
        case.addCleanup(self.process.wait)
        case.addCleanup(self.process.terminate)
        node.extra = f'[watchdog]\nlab = "{self.deadline}"\n'

    def guard(self, *pids):
        self.pids.write_text("".join(f"{pid}\n" for pid in pids))
