"""holdfast-mpiod is killed while a write hangs in the target, and the path of that write does not
come back: what the next process writes must not be overwritten by it."""

import signal
import time

from holdfast import case
from holdfast.crash_case import BLOCK, NEW, OLD, CrashCase


class Killed(CrashCase):
    def test_its_write_is_fenced_before_anything_is_served(self):
        self.crash_with_a_write_that_hangs()
        self.mpio.start()
        first = self.in_background(self.client().write, 0, NEW)
        other = self.in_background(self.client().read, 1 << 20, BLOCK)  # who knows where it writes
        self.waits(first)
        self.waits(other)
        self.assertRegex(self.explanation(), "a fence of path .* [(]of an earlier process[)] is "
                                             "open for .*: reinstate")
        self.fs.clear()
        first.result(30)
        other.result(30)
        self.assertEqual(self.on_disk(), NEW)
        time.sleep(0.5)
        self.assertEqual(self.on_disk(), NEW, "the old write has landed on the new one")

    def test_also_when_its_path_is_not_in_the_configuration_any_more(self):
        self.crash_with_a_write_that_hangs()
        del self.mpio.devices_wanted[0].portals[0]
        self.mpio.rewrite()
        self.mpio.start()
        self.next_write_waits()

    def test_also_when_the_device_has_another_name_now(self):
        self.crash_with_a_write_that_hangs()
        self.mpio.devices_wanted[0].name = "csv2"
        self.mpio.rewrite()
        self.mpio.start()
        self.next_write_waits("csv2")

    def test_also_when_the_next_process_is_killed_too(self):
        self.crash_with_a_write_that_hangs()
        self.mpio.start()
        self.mpio.kill()
        self.mpio.start()
        self.next_write_waits()

    def test_also_when_the_next_process_ends_in_order_before_it_is_fenced(self):
        self.crash_with_a_write_that_hangs()
        self.mpio.start()
        self.mpio.stop()
        self.mpio.start()
        self.next_write_waits()

    def test_with_all_its_paths_it_serves_at_once(self):
        self.client().write(0, OLD)
        self.mpio.kill()
        self.mpio.start()
        self.client().write(0, NEW)
        self.assertEqual(self.mpio.devices()["csv1"]["fences"], [])
        self.assertEqual(self.on_disk(), NEW)


class Removed(CrashCase):
    """The daemon goes on, but the device was away meanwhile."""

    def reload(self):
        before = self.mpio.log().count("reload: done")
        self.mpio.rewrite()
        self.mpio.signal(signal.SIGHUP)
        self.wait_until(lambda: self.mpio.log().count("reload: done") > before, "the reload", 20)

    def remove_with_a_write_that_hangs(self):
        self.old_write_hangs()
        self.wires[0].cut()
        self.device = self.mpio.devices_wanted.pop()
        self.reload()

    def test_its_write_is_fenced_before_it_serves_again(self):
        self.remove_with_a_write_that_hangs()
        self.mpio.devices_wanted.append(self.device)
        self.reload()
        self.next_write_waits()

    def test_also_when_it_comes_under_another_name(self):
        self.old_write_hangs()
        self.wires[0].cut()
        self.mpio.devices_wanted[0].name = "csv2"
        self.reload()
        self.next_write_waits("csv2")

    def test_also_when_the_daemon_ends_in_order_before_it_comes(self):
        self.remove_with_a_write_that_hangs()
        self.mpio.stop()
        self.mpio.devices_wanted.append(self.device)
        self.mpio.rewrite()
        self.mpio.start()
        self.next_write_waits()


class Stopped(CrashCase):
    HOLD_S = 60

    def test_after_an_orderly_end_nothing_is_fenced(self):
        self.client().write(0, OLD)
        self.mpio.stop()
        self.wires[0].cut()
        self.mpio.start()
        self.client().write(0, NEW)
        self.assertEqual(self.mpio.devices()["csv1"]["fences"], [])
        self.assertNotIn("earlier process", self.mpio.log())
        self.assertEqual(self.on_disk(), NEW)


if __name__ == "__main__":
    case.main()
