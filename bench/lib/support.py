"""The parts of the system tests that the runs use too: daemons, namespaces. See their own heads."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from holdfast import paths  # noqa: E402  (the path is set above)
from holdfast.mpiod import Device, Mpiod  # noqa: E402, F401
from holdfast.subnets import SUBNETS, Subnets  # noqa: E402
from holdfast.target import TARGET_NAME, Disk, Target, free_port  # noqa: E402, F401

PORT = 3260
_OURS = re.compile(r"holdfast-(\d+)-(?:server|host|switch|store|lan|hv\d+)$")


def use(programs):
    """Daemons are started from this directory."""
    paths.BIN = pathlib.Path(programs)


def stale(names, exists):
    """Of the names of namespaces, those that a killed run left behind."""
    found = (_OURS.match(name) for name in names)
    return [match[0] for match in found if match and not exists(int(match[1]))]


def remove_stale():
    """Namespaces of killed runs."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    names = [line.split()[0] for line in listed.stdout.splitlines() if line.split()]
    for name in stale(names, lambda pid: pathlib.Path("/proc", str(pid)).exists()):
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


class SanSite:
    """Two SAN subnets with a storage server and a host, in namespaces of this run."""

    def __init__(self, directory, disk, threads=1):
        if os.geteuid() != 0:
            raise OSError("network namespaces need root")
        remove_stale()
        directory.mkdir(parents=True)
        self.net = Subnets(directory)
        self.target = Target(directory / "target", disks=[disk], settings={"threads": threads})
        self.target.portal_groups = {1: [f"{subnet}.10" for subnet in SUBNETS]}
        self.target.port = PORT
        self.target.program = self.net.inside("server", self.target.program)
        self.target.rewrite()

    def start(self):
        self.target.start()
        return self

    def program(self, role, name):
        """A script that runs a program of ours on the `server` or the `host`."""
        return self.net.inside(role, paths.program(name))

    @staticmethod
    def portal(number, port=PORT):
        """Address, port and source of the host's path number 0 or 1."""
        return f"{SUBNETS[number]}.10:{port}@{SUBNETS[number]}.1"

    @staticmethod
    def server(number, port=PORT):
        return f"{SUBNETS[number]}.10:{port}"

    def limit(self, bits_per_second):
        """Each subnet carries so much, in each direction; False where the kernel has no tbf."""
        for role in ("server", "host"):
            for number in range(len(SUBNETS)):
                done = subprocess.run(
                    ["tc", "-n", self.net.names[role], "qdisc", "add", "dev", f"san{number}",
                     "root", "tbf", "rate", str(bits_per_second), "burst", "128kb", "latency",
                     "50ms"], capture_output=True, text=True, check=False)
                if done.returncode:
                    return False
        return True

    def close(self):
        with contextlib.suppress(Exception):
            self.target.kill()
        self.net.close()
