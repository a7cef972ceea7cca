"""A host with one multipath device over two SAN subnets, and a client that writes through it:

    class Example(SubnetCase):
        def test_something(self):
            self.net.silence(0)
            self.longest_pause()     # of verified writes one after the other
            self.check()             # every block is what was written last

PORTAL_GROUPS: {tag: number of the subnet}, or None if both are one; DEVICE: more of the device's.
"""

import re
import time

from . import case, nbd, stamp
from .mpiod import Device
from .subnets import SUBNETS, Subnets

BLOCK = stamp.BLOCK
WRITER = "host"
WRITES_S = 4.0
# "path 10.1.0.10:3260: ACTIVE -> SUSPECT: why"
STEP = re.compile(r"path (\S+): (\w+) -> (\w+): (.*)")


class SubnetCase(case.TestCase):
    PORTAL_GROUPS = None
    DEVICE = {}

    def setUp(self):
        super().setUp()
        self.net = Subnets(self.scratch)
        self.addCleanup(self.net.close)
        target = self.target(start=False)
        target.portal_groups = {1: [f"{subnet}.10" for subnet in SUBNETS]}
        if self.PORTAL_GROUPS:
            target.portal_groups = {tag: [f"{SUBNETS[number]}.10"]
                                    for tag, number in self.PORTAL_GROUPS.items()}
            target.targets[0].portal_groups = list(target.portal_groups)
        target.port = 3260
        target.program = self.net.inside("server", target.program)
        target.rewrite()
        target.start()
        self.daemon = target
        self.mpio = self.mpiod(target, start=False, devices=[Device(portals=[
            (f"{subnet}.10:3260", f"{subnet}.1") for subnet in SUBNETS], extra=self.DEVICE)])
        self.mpio.program = self.net.inside("host", self.mpio.program)
        self.mpio.start()
        self.both()
        self.client = nbd.Client(self.mpio.nbd("csv1"), "csv1", deadline=60)
        self.addCleanup(self.client.close)
        self.written = {}  # {offset: the number of the last write there}
        self.number = 0

    def both(self, deadline=20):
        self.wait_until(lambda: self.mpio.states() == ["ACTIVE", "ACTIVE"], "both paths are active",
                        deadline)

    def write(self, offset) -> float:
        """The seconds that it took; it must have worked."""
        began = time.monotonic()
        self.number += 1
        self.client.write(offset, stamp.block(offset, self.number, WRITER))
        self.written[offset] = self.number
        return time.monotonic() - began

    def longest_pause(self, seconds=WRITES_S) -> float:
        """Of writes one after the other, for a while."""
        longest, end = 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            longest = max(longest, self.write(self.number % 64 * BLOCK))
        return longest

    def check(self):
        for offset, number in self.written.items():
            stamp.check(self.client.read(offset, BLOCK), offset, number, WRITER)

    def steps(self, after=0) -> list:
        """[(path, from, to, why)] since the log had so many characters."""
        return STEP.findall(self.mpio.log()[after:])
