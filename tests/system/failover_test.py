"""A write that hangs in the target's backing when its path dies: no promise to the client is
broken, and no old write lands on newer data.

W1 writes 0x11 and hangs in the delayed file system; its path is cut; W2 writes 0x22 to the same
blocks. In the end the blocks must be 0x22, in both completion modes. Without the fence they are
0x11, with no error anywhere: that is what the first test shows.
"""

import concurrent.futures

from holdfast import case, iscsi, nbd, scsi
from holdfast.exporter import Exporter
from holdfast.mpiod import Device
from holdfast.target import TARGET_NAME, Disk, slowness
from holdfast.wire import Wire

BLOCK = 4096
OTHER = 1 << 20  # a place that nothing hangs at
NOT_YET_S = 1.5


class FailoverCase(case.TestCase):
    def setUp(self):
        super().setUp()
        self.fs = self.slowfs()
        self.daemon = self.target(disks=[
            Disk("slow", path=str(self.fs.mount / "slow.img"), size="8MiB", extra={"thin": False})])
        self.wires = [Wire(self.daemon.portal(path)) for path in (0, 1)]
        for wire in self.wires:
            self.addCleanup(wire.close)
        pool = concurrent.futures.ThreadPoolExecutor(4)
        self.addCleanup(pool.shutdown)
        self.addCleanup(self.fs.clear)
        self.in_background = pool.submit

    def export(self, mode, key=None):
        self.exporter = Exporter(self.scratch, TARGET_NAME, 0, mode,
                                 [wire.address for wire in self.wires], key)
        self.addCleanup(self.exporter.close)
        self.qemu_io = self.exporter.qemu_io

    def write(self, value, offset=0):
        return self.qemu_io(f"write -P {value} {offset} {BLOCK}")

    def is_open(self, future, what):
        with self.assertRaises(concurrent.futures.TimeoutError, msg=what):
            future.result(NOT_YET_S)


class LateWrite(FailoverCase):
    def on_disk(self) -> set:
        with open(self.fs.backing / "slow.img", "rb") as file:
            return set(file.read(BLOCK))

    def late_write(self, mode):
        """W1 hangs in the backing, and its path is gone. The future of W1."""
        self.export(mode)
        self.fs.add("hang", op="write", hang=True, start=0, end=BLOCK, count=1)
        first = self.in_background(self.write, 0x11)
        self.wait_until(lambda: self.fs.held() == 1, "the write is in the backing")
        self.wires[0].cut()
        return first

    def test_without_the_fence_the_old_write_lands_on_the_new_one(self):
        self.late_write("nofence").result(30)
        self.write(0x22)
        self.assertEqual(self.on_disk(), {0x22})
        self.fs.clear()
        self.wait_until(lambda: self.on_disk() == {0x11}, "the old write has landed")

    def test_strict_the_write_is_answered_when_nothing_of_it_can_land(self):
        first = self.late_write("strict")
        self.is_open(first, "answered although its first attempt may still land")
        self.write(0x33, OTHER)  # what it has nothing to do with goes on
        self.fs.clear()
        first.result(30)
        self.write(0x22)
        self.assertEqual(self.on_disk(), {0x22})

    def test_ghost_tracked_the_write_is_answered_and_what_overlaps_it_waits(self):
        self.late_write("ghost-tracked").result(30)
        second = self.in_background(self.write, 0x22)
        self.is_open(second, "it overlaps a ghost, and was answered")
        self.write(0x33, OTHER)
        self.qemu_io(f"read -P 0x11 0 {BLOCK}")
        self.fs.clear()
        second.result(30)
        self.assertEqual(self.on_disk(), {0x22})


class LongHang(FailoverCase):
    """A disk may hang for longer than the time after which a write of a dead session is taken to be
    gone. A target that answers when it has drained counts more than that time."""

    HOLD_S = 1

    def hangs(self, mode):
        """A write of 0x11 that hangs, and whose path is cut; a client for another."""
        mpiod = self.mpiod(self.daemon, devices=[Device(
            portals=[(wire.address, None) for wire in self.wires],
            extra={"policy": "failover", "ghost_mode": mode, "ghost_hold": f"{self.HOLD_S}s"})])
        self.wait_until(lambda: mpiod.states() == ["ACTIVE", "ACTIVE"], "both paths are active", 20)
        client, other = (nbd.Client(mpiod.nbd("csv1"), "csv1", deadline=60) for _ in range(2))
        for each in (client, other):
            self.addCleanup(each.close)
        self.fs.add("hang", op="write", hang=True, start=0, end=BLOCK, count=1)
        first = self.in_background(client.write, 0, b"\x11" * BLOCK)
        self.wait_until(lambda: self.fs.held() == 1, "the write is in the backing")
        self.wires[0].cut()
        return first, other

    def waits_for_the_drain(self, future):
        with self.assertRaises(concurrent.futures.TimeoutError, msg="answered after the hold"):
            future.result(5 * self.HOLD_S)
        self.fs.clear()
        future.result(30)

    def holds_the_new_data(self):
        with open(self.fs.backing / "slow.img", "rb") as file:
            self.assertEqual(set(file.read(BLOCK)), {0x22})

    def test_strict(self):
        first, other = self.hangs("strict")
        self.waits_for_the_drain(first)
        other.write(0, b"\x22" * BLOCK)
        self.holds_the_new_data()

    def test_ghost_tracked(self):
        first, other = self.hangs("ghost-tracked")
        first.result(30)
        self.waits_for_the_drain(self.in_background(other.write, 0, b"\x22" * BLOCK))
        self.holds_the_new_data()


class Verified(FailoverCase):
    """The paths go and come while blocks are written and read back."""

    def test_each_path_in_turn(self):
        self.export("strict")
        for turn in range(6):
            wire = self.wires[turn % 2]
            writer = self.in_background(
                self.qemu_io, *(f"write -P {turn + 1} {k * 65536} 65536" for k in range(64)),
                *(f"read -P {turn + 1} {k * 65536} 65536" for k in range(64)))
            wire.cut()
            self.assertNotIn("error", writer.result(60).stdout)
            wire.mend()
            # Back in service, or the next turn would leave none.
            self.wait_until(lambda: self.sessions() == 2, "both paths are back", 20)

    def sessions(self):
        return len(self.daemon.cli.json("session", "list"))


class Key(FailoverCase):
    """A node whose key was preempted is fenced: it writes nothing, and never registers again."""

    KEY, OTHER_KEY = 0xA1, 0xB2

    def keys(self) -> list:
        return sorted(int(each["key"], 16) for disk in self.daemon.cli.json("reservation", "list")
                      for each in disk["reservation"]["registrants"])

    def test_every_path_is_registered_and_a_path_that_returns_too(self):
        self.export("strict", self.KEY)
        self.wait_until(lambda: self.keys() == [self.KEY] * 2, "both paths are registered")
        self.wires[0].cut()
        self.write(0x11)
        self.wires[0].mend()
        self.wait_until(lambda: len(self.daemon.cli.json("session", "list")) == 2, "it is back", 20)
        self.write(0x22)
        self.assertEqual(self.keys(), [self.KEY] * 2)

    def test_without_its_key_it_writes_nothing_and_does_not_come_back(self):
        self.export("strict", self.KEY)
        self.wait_until(lambda: self.keys() == [self.KEY] * 2, "both paths are registered")
        self.write(0x11)
        other = iscsi.Session.open(self.daemon.portal(0), TARGET_NAME, isid=0x80_0000_0000F0)
        self.addCleanup(other.close)
        other.ready(0)
        self.assertTrue(other.pr_out(scsi.PrOut.REGISTER, new_key=self.OTHER_KEY).good)
        self.assertTrue(other.pr_out(scsi.PrOut.RESERVE, key=self.OTHER_KEY, type=5).good)
        self.assertTrue(other.pr_out(scsi.PrOut.PREEMPT_AND_ABORT, key=self.OTHER_KEY,
                                     new_key=self.KEY, type=5).good)
        failed = "Input/output error"
        with self.assertRaisesRegex(AssertionError, failed):  # at once, not when a path is back
            self.in_background(self.write, 0x22).result(5 * slowness())
        self.wires[0].cut()  # nor does a path that logs in anew bring the key back
        self.wires[0].mend()
        self.wait_until(lambda: len(self.daemon.cli.json("session", "list")) == 3, "it is back", 20)
        with self.assertRaisesRegex(AssertionError, failed):
            self.write(0x33)
        self.assertEqual(self.keys(), [self.OTHER_KEY])
        with open(self.fs.backing / "slow.img", "rb") as file:
            self.assertEqual(set(file.read(BLOCK)), {0x11})


if __name__ == "__main__":
    case.main()
