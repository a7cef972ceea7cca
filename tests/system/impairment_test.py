"""Networks that are neither well nor dead, and a target that stops for a while: no error, every
block is what was written last, and the paths are judged for what they are.
"""

import concurrent.futures
import signal
import time

from holdfast import case
from holdfast.subnet_case import SubnetCase
from holdfast.target import slowness

LONGEST_PAUSE_S = 5.0


class OneWay(SubnetCase):
    def loses(self, role):
        """What is sent to one end of subnet 0 does not arrive; the other direction works."""
        self.longest_pause(1)
        before = len(self.mpio.log())
        self.net.drop(role, 0, 1000)
        self.assertLess(self.longest_pause(), LONGEST_PAUSE_S * slowness())
        self.check()
        self.assertEqual(self.mpio.states()[1], "ACTIVE")
        self.assertIn("FAILED", [after for path, _, after, _ in self.steps(before)
                                     if path.startswith("10.1.")], "the loss was not noticed")
        self.net.drop(role, 0, 0)
        self.both()
        self.longest_pause(1)
        self.check()

    def test_from_the_host_to_the_target(self):
        self.loses("server")

    def test_from_the_target_to_the_host(self):
        self.loses("host")


class Lossy(SubnetCase):
    def test_a_path_that_loses_packets_is_marginal_and_the_other_carries_the_load(self):
        for role in ("server", "host"):
            self.net.drop(role, 0, 50)
        end = time.monotonic() + 60 * slowness()
        while "MARGINAL" not in self.mpio.states():
            self.assertLess(time.monotonic(), end, f"never marginal: {self.mpio.paths()}")
            self.assertLess(self.longest_pause(2), LONGEST_PAUSE_S * slowness())
        self.assertEqual(self.mpio.states(), ["MARGINAL", "ACTIVE"])
        # Neither is there a pause from now on: requests go elsewhere.
        self.assertLess(self.longest_pause(), 0.5 * slowness())
        self.check()
        self.assertEqual(self.mpio.states()[1], "ACTIVE")


class Stopped(SubnetCase):
    """A target that does not answer is not a network that is dead: to log in anew would not help,
    and all hosts would do it at once."""

    def setUp(self):
        super().setUp()
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        self.in_background = pool.submit

    def stopped(self, seconds) -> list:
        self.longest_pause(1)
        before, began = len(self.mpio.log()), time.monotonic()
        self.daemon.signal(signal.SIGSTOP)
        try:
            write = self.in_background(self.write, 0)
            time.sleep(seconds)
        finally:
            self.daemon.signal(signal.SIGCONT)
        write.result(60)
        self.assertGreaterEqual(time.monotonic() - began, seconds)
        self.both(40)
        self.longest_pause(1)
        self.check()
        return self.steps(before)

    def test_for_three_seconds_it_is_only_suspected(self):
        sessions = {session["id"] for session in self.daemon.cli.json("session", "list")}
        states = {after for _, _, after, _ in self.stopped(3)}
        self.assertIn("SUSPECT", states)
        self.assertLessEqual(states, {"SUSPECT", "ACTIVE"})
        self.assertEqual({session["id"] for session in self.daemon.cli.json("session", "list")},
                         sessions, "a session was given up")

    def test_for_ten_seconds_each_path_fails_once(self):
        steps = self.stopped(10)
        for name in self.mpio.paths():
            lost = [why for path, before, after, why in steps
                    if path == name and before == "SUSPECT" and after != "ACTIVE"]
            self.assertEqual(len(lost), 1, steps)


class Flapping(SubnetCase):
    def test_a_path_that_comes_and_goes_is_marginal_and_nothing_leaks(self):
        self.longest_pause(1)
        descriptors = self.mpio.descriptor_count(), self.daemon.descriptor_count()
        for _ in range(4):
            self.net.silence(0)
            self.assertLess(self.longest_pause(2), LONGEST_PAUSE_S * slowness())
            self.net.mend(0)
            self.wait_until(lambda: self.mpio.states()[0] in ("ACTIVE", "MARGINAL"),
                            "the path is back", 30)
            self.longest_pause(1)
        self.assertEqual(self.mpio.states(), ["MARGINAL", "ACTIVE"])
        self.assertLess(self.longest_pause(), 0.5 * slowness())
        self.check()
        self.wait_until(lambda: len(self.daemon.cli.json("session", "list")) == 2,
                        "two sessions are left", 30)
        self.wait_until(lambda: (self.mpio.descriptor_count(), self.daemon.descriptor_count()) ==
                        descriptors, f"as many descriptors as before: {descriptors}", 30)


if __name__ == "__main__":
    case.main()
