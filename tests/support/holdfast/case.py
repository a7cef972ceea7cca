"""TestCase: the base of all system tests.

    class Example(TestCase):
        def test_something(self):
            target = self.target(disks=[...])       # started, stopped at the end; see target.py
            self.wait_until(lambda: ..., "what is awaited", deadline=5)

self.scratch is a directory of this test, removed at its end. What a test starts through self.target
or self.slowfs is stopped in reverse order, also when the test fails; a target that does not end
cleanly fails the test, and the logs of a failed test's daemons are printed.
"""

import pathlib
import shutil
import sys
import tempfile
import time
import unittest

from .mpiod import Mpiod
from .slowfs import SlowFs
from .target import Target
from .tgtd import Tgtd


class TestCase(unittest.TestCase):
    def setUp(self):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-test-"))
        self.addCleanup(shutil.rmtree, self.scratch, ignore_errors=True)
        self._targets = []
        self._mpiods = []
        self._tgtds = 0

    def target(self, start=True, **config) -> Target:
        """A target daemon configured as target.config_text says. Started unless start=False."""
        target = Target(self.scratch / f"target{len(self._targets)}", **config)
        self._targets.append(target)
        self.addCleanup(self._end_target, target)
        if start:
            target.start()
        return target

    def mpiod(self, target, start=True, **config) -> Mpiod:
        """A multipath daemon for a target. Started unless start=False."""
        mpiod = Mpiod(self.scratch / f"mpiod{len(self._mpiods)}", target, **config)
        self._mpiods.append(mpiod)
        self.addCleanup(self._end_target, mpiod)
        if start:
            mpiod.start()
        return mpiod

    def tgtd(self, **config) -> Tgtd:
        """Debian's tgt, started."""
        tgtd = Tgtd(self.scratch / f"tgtd{self._tgtds}", **config)
        self._tgtds += 1
        self.addCleanup(self._end_tgtd, tgtd)
        return tgtd.start()

    def slowfs(self, name="slow") -> SlowFs:
        """A mounted file system with faults on demand; each with a name of its own."""
        mount = SlowFs(self.scratch / name)
        self.addCleanup(mount.stop)
        mount.start()
        return mount

    def wait_until(self, condition, what, deadline=10.0, interval=0.02):
        """Waits until condition() is true and returns its value; fails after `deadline` seconds."""
        end = time.monotonic() + deadline
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                self.fail(f"waited {deadline} s in vain for: {what}")
            time.sleep(interval)

    def _end_target(self, target):
        problem = None
        try:
            target.stop()
        except AssertionError as error:
            problem = error
        if problem or not self._outcome.success:
            print(f"--- log of {target.directory.name} of {self.id()}\n{target.log()}---",
                  file=sys.stderr)
        if problem:
            raise problem

    def _end_tgtd(self, tgtd):
        tgtd.let_go()
        tgtd.kill()
        if not self._outcome.success:
            print(f"--- log of tgtd of {self.id()}\n{tgtd.log()}---", file=sys.stderr)


def main():
    """Runs the tests of the calling module; verbose, so that ctest's log names each."""
    unittest.main(verbosity=2)
