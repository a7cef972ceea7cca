"""A host that loses one of its two SAN subnets, silently or by a pulled cable, while it writes: no
error, every block is what was written last, and the pause is bounded. How long the pause is belongs
to the measurements; here it must only be far below what ordinary time-outs take.
"""

import subprocess
import time

from holdfast import case, paths
from holdfast.mpiod import Device
from holdfast.process import die_with_parent
from holdfast.subnets import SUBNETS, Subnets
from holdfast.target import slowness

BLOCK = 4096
LONGEST_PAUSE_S = 5.0
WRITES_S = 4.0


class Subnet(case.TestCase):
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

    def both(self):
        self.wait_until(lambda: self.mpio.states() == ["ACTIVE", "ACTIVE"], "both paths are active",
                        20)

    def ask(self, command) -> float:
        """The seconds that one command of the client took; it must have worked."""
        began = time.monotonic()
        print(command, file=self.client.stdin, flush=True)
        answer = self.client.stdout.readline()
        while "ops" not in answer:  # two lines each
            self.assertNotIn("ail", answer, f"{command}: {answer}")
            answer = self.client.stdout.readline()
        return time.monotonic() - began

    def longest_pause(self) -> float:
        """Of writes one after the other, for a while."""
        longest, end, number = 0.0, time.monotonic() + WRITES_S, 0
        while time.monotonic() < end:
            number += 1
            offset, value = number % 64 * BLOCK, number % 251 + 1
            longest = max(longest, self.ask(f"write -P {value} {offset} {BLOCK}"))
            self.written[offset] = value
        return longest

    def check(self):
        for offset, value in self.written.items():
            self.ask(f"read -P {value} {offset} {BLOCK}")

    def loses(self, number, lose, restore):
        self.longest_pause()
        lose(number)
        self.assertLess(self.longest_pause(), LONGEST_PAUSE_S * slowness())
        self.check()
        self.assertIn("ACTIVE", self.mpio.states())
        restore(number)
        self.both()
        self.longest_pause()
        self.check()

    def test_silent_loss_of_each_subnet(self):
        self.loses(0, self.net.silence, self.net.mend)
        self.loses(1, self.net.silence, self.net.mend)

    def test_pulled_cable_of_each_subnet(self):
        self.loses(0, self.net.pull, self.net.plug)
        self.loses(1, self.net.pull, self.net.plug)


if __name__ == "__main__":
    case.main()
