"""A host with one multipath device over two SAN subnets, and a client that writes through it:

    class Example(SubnetCase):
        def test_something(self):
            self.net.silence(0)
            self.longest_pause()     # of verified writes one after the other
            self.check()             # every block is what was written last
"""

import re
import subprocess
import time

from . import case
from .mpiod import Device
from .process import die_with_parent
from .subnets import SUBNETS, Subnets

BLOCK = 4096
WRITES_S = 4.0
# "path 10.1.0.10:3260: ACTIVE -> SUSPECT: why"
STEP = re.compile(r"path (\S+): (\w+) -> (\w+): (.*)")


class SubnetCase(case.TestCase):
    def setUp(self):
        super().setUp()
        self.net = Subnets(self.scratch)
        self.addCleanup(self.net.close)
        target = self.target(start=False)
        target.portal_groups = {1: [f"{subnet}.10" for subnet in SUBNETS]}
        target.port = 3260
        target.program = self.net.inside("server", target.program)
        target.rewrite()
        target.start()
        self.daemon = target
        self.mpio = self.mpiod(target, start=False, devices=[Device(portals=[
            (f"{subnet}.10:3260", f"{subnet}.1") for subnet in SUBNETS])])
        self.mpio.program = self.net.inside("host", self.mpio.program)
        self.mpio.start()
        self.both()
        self.client = subprocess.Popen(
            ["qemu-io", "-f", "raw", self.mpio.url("csv1")], text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent())
        self.addCleanup(self.end_client)
        self.written = {}

    def end_client(self):
        self.client.kill()
        self.client.communicate()

    def both(self, deadline=20):
        self.wait_until(lambda: self.mpio.states() == ["ACTIVE", "ACTIVE"], "both paths are active",
                        deadline)

    def ask(self, command) -> float:
        """The seconds that one command of the client took; it must have worked."""
        began = time.monotonic()
        print(command, file=self.client.stdin, flush=True)
        answer = self.client.stdout.readline()
        while "ops" not in answer:  # two lines each
            self.assertNotIn("ail", answer, f"{command}: {answer}")
            answer = self.client.stdout.readline()
        return time.monotonic() - began

    def longest_pause(self, seconds=WRITES_S) -> float:
        """Of writes one after the other, for a while."""
        longest, end, number = 0.0, time.monotonic() + seconds, 0
        while time.monotonic() < end:
            number += 1
            offset, value = number % 64 * BLOCK, number % 251 + 1
            longest = max(longest, self.ask(f"write -P {value} {offset} {BLOCK}"))
            self.written[offset] = value
        return longest

    def check(self):
        for offset, value in self.written.items():
            self.ask(f"read -P {value} {offset} {BLOCK}")

    def steps(self, after=0) -> list:
        """[(path, from, to, why)] since the log had so many characters."""
        return STEP.findall(self.mpio.log()[after:])
