"""What the numbers were measured on."""

import os
import pathlib
import platform
import re
import subprocess
import time

from bench.lib.process import TICKS_PER_SECOND


def describe():
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"(?m)^model name\s*:\s*(.+)$", cpuinfo)
    memory = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "memory_gib": round(int(memory.group(1)) / (1 << 20)),
    }


def parse_proc_stat(text):
    """(busy, steal) of all cores since boot, in seconds, from /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(field) for field in text.split("\n", 1)[0].split()[1:9])
    return ((user + nice + system + irq + softirq) / TICKS_PER_SECOND,
            steal / TICKS_PER_SECOND)


class Activity:
    """What the machine's cores did from the start of a measurement to its end."""

    def __init__(self):
        self._start = self._now()

    @staticmethod
    def _now():
        return time.monotonic(), *parse_proc_stat(pathlib.Path("/proc/stat").read_text())

    def end(self, own_seconds):
        """Cores that were busy, and cores that others took: other processes, the host."""
        elapsed, busy, steal = (now - before for now, before in zip(self._now(), self._start))
        return {"busy_cores": (busy + steal) / elapsed,
                "others_cores": max(busy + steal - own_seconds, 0) / elapsed}


def commit(root):
    """The commit that is measured, marked when the tree differs from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty=, modified", "--exclude=*"],
                          cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
