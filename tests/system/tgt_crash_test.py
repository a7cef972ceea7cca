"""holdfast-mpiod and Debian's tgt, in which a write hangs: tgt lets a session be reinstated while
its writes are under way, so that only a reset of the unit proves their end. tgt answers one such
reset at a time. What is left of a crash, or of the loss of both paths, is fenced all the same, and
then everything is answered."""

import concurrent.futures

from holdfast import case
from holdfast.crash_case import BLOCK, NEW, OLD, TgtCrashCase

MIB = 1 << 20
ANSWERED_S = 30  # by then, after the write has ended: a step of the fence may be tried again


class OtherLun(TgtCrashCase):
    DISKS = 2

    def test_the_reset_of_another_unit_proves_nothing(self):
        """The device has another LUN for a while, and each change comes with an orderly stop."""
        self.crash_with_a_write_that_hangs()
        self.restart_with(self.device(lun=self.OTHER_LUN))
        other = self.client()
        written = self.in_background(other.write, 0, NEW)  # nothing hangs in that unit
        concurrent.futures.wait([written], 5 * self.HOLD_S)
        other.close()
        self.mpio.stop()
        self.restart_with(self.device())
        self.next_write_waits()


class TwoFences(TgtCrashCase):
    """Both sessions have left something, and each fence would reset the unit."""

    def all_are_answered(self, futures):
        _, open_ones = concurrent.futures.wait(futures, ANSWERED_S)
        self.assertEqual(len(open_ones), 0, f"not answered: {self.explanation()}")
        for future in futures:
            future.result()

    def test_after_a_crash_both_paths_are_there(self):
        self.old_write_hangs()
        self.mpio.kill()
        self.mpio.start()
        write = self.in_background(self.client().write, 0, NEW)
        read = self.in_background(self.client().read, MIB, BLOCK)
        self.waits(write)
        self.assertTrue(self.held())
        self.let_go()
        self.all_are_answered([write, read])
        self.assertEqual(self.on_disk(), NEW)

    def test_after_a_crash_one_path_is_there(self):
        self.crash_with_a_write_that_hangs()
        self.mpio.start()
        write = self.in_background(self.client().write, 0, NEW)
        self.waits(write)
        self.assertTrue(self.held())
        self.let_go()
        self.all_are_answered([write])
        self.assertEqual(self.on_disk(), NEW)

    def in_flight(self) -> list:
        return [path["in_flight"] for path in self.mpio.paths().values()]

    def test_both_paths_are_lost_with_writes_and_return(self):
        self.mpio.cli("policy", "csv1", "round-robin")
        writes = [self.old_write_hangs()]
        for wire in self.wires:
            wire.stall()
        writes += [self.in_background(self.client().write, number * MIB, OLD)
                   for number in range(1, 5)]
        self.wait_until(lambda: min(self.in_flight()) > 0, "writes on each path")
        for wire in self.wires:
            wire.cut()
        for wire in self.wires:
            wire.mend()
        self.fences_have_had_their_time(2)
        self.assertTrue(self.held())
        self.let_go()
        self.all_are_answered(writes)
        self.all_active()
        self.client().write(0, NEW)
        self.assertEqual(self.on_disk(), NEW)


class TwoHosts(TgtCrashCase):
    """Each has something to fence in the unit, and knows nothing of the other one's reset."""

    def test_the_fences_of_both_end(self):
        first = self.mpio
        self.start_daemon(settings={"initiator_name": first.config_text().split('"')[5] + "-2"})
        hosts = [first, self.mpio]
        self.old_write_hangs()
        for host in hosts:
            host.kill()
        for host in hosts:
            host.start()
        writes = []
        for number, host in enumerate(hosts):
            self.mpio = host
            self.wait_until(host.nbd("csv1").exists, "it is exported", 20)
            writes.append(self.in_background(self.client().write, number * MIB, NEW))
            self.wait_until(lambda: "unit-reset" in [fence["step"] for fence in self.fences()],
                            "it resets the unit", 20)
        self.assertTrue(self.held())
        self.let_go()
        _, open_ones = concurrent.futures.wait(writes, ANSWERED_S)
        self.assertEqual(len(open_ones), 0, "not answered")
        self.assertEqual(self.on_disk(), NEW)


if __name__ == "__main__":
    case.main()
