"""`session_keys`: two SAN subnets that are portal groups of their own. A dead session cannot be
reinstated through the other path, and is preempted at once instead of being waited for. tgt, which
refuses PREEMPT AND ABORT, is in tgt_test."""

import re
import time

from holdfast import case, iscsi, scsi
from holdfast.crash_case import BLOCK, NEW, OLD, TWO_GROUPS, CrashCase
from holdfast.exporter import Exporter
from holdfast.subnet_case import SubnetCase
from holdfast.target import TARGET_NAME, slowness
from holdfast.wire import Wire

HOLD_S = 15
SOON_S = 5.0  # far below the hold
NOT_YET_S = 1.5
OTHER = 1 << 20
TYPE = 7  # write exclusive, all registrants


def reservation(store) -> dict:
    """Of the only disk."""
    return store.cli.json("reservation", "list")[0]["reservation"]


def keys(store) -> set:
    return {int(each["key"], 16) for each in reservation(store)["registrants"]}


class Subnets(SubnetCase):
    """A host that writes through two subnets of two portal groups, one of which falls silent."""

    PORTAL_GROUPS = {1: 0, 2: 1}
    DEVICE = {"session_keys": True}

    def fences(self) -> list:
        return re.findall(r"fenced after (\d+) ms: (.*)", self.mpio.log())

    def test_each_subnet_in_turn(self):
        for number in (0, 1):
            self.longest_pause(1.0)
            self.net.silence(number)
            self.assertLess(self.longest_pause(), SOON_S * slowness())
            self.check()
            self.net.mend(number)
            self.both()
        proofs = self.fences()
        self.assertTrue(proofs, "no write was under way: nothing was fenced")
        for took, proof in proofs:
            self.assertEqual(proof, "preempted at a target that drains")
            self.assertLess(int(took), SOON_S * slowness() * 1000)
        device = self.mpio.devices()["csv1"]
        self.assertEqual(device["fences_by_preempt"], len(proofs))
        self.assertEqual(device["failed"], 0)
        self.assertEqual(device["last_fence"]["proof"], "preempted at a target that drains")


class WithoutKeys(Subnets):
    """The control: what it costs without them."""

    DEVICE = {}

    def test_each_subnet_in_turn(self):
        self.net.silence(0)
        self.assertGreater(self.longest_pause(), HOLD_S - 1)
        self.assertEqual([proof for _, proof in self.fences()],
                         ["logical unit reset after the hold time"])


class SlowDisk(CrashCase):
    """A write hangs in the target's storage."""

    HOLD_S = HOLD_S
    TARGET = TWO_GROUPS
    DEVICE = {"session_keys": True}

    def is_fenced(self, proof):
        self.wait_until(lambda: "fenced after" in self.mpio.log(), "the fence", 20)
        self.assertIn(f": {proof}\n", self.mpio.log())

    def test_it_is_preempted_when_it_has_ended_and_long_before_the_hold(self):
        old = self.old_write_hangs()
        self.wires[0].stall()
        self.wait_until(lambda: [each["step"] for each in self.fences()] == ["preempt"],
                        "the session is preempted", 10)
        self.assertFalse(old.done(), "the target has not drained")
        self.assertIn("is open for", self.explanation())
        self.fs.clear()
        old.result(SOON_S * slowness())
        self.client().write(0, NEW)
        self.is_fenced("preempted at a target that drains")
        self.assertLess(self.mpio.devices()["csv1"]["last_fence"]["took_ms"], (HOLD_S - 2) * 1000)
        self.assertIn("was cleared after", self.explanation())
        self.wires[0].mend()  # what lay in the cable comes out: it is refused
        self.all_active()
        self.assertEqual(self.on_disk(), NEW)

    def test_keys_come_with_sessions_and_go_with_them(self):
        before = keys(self.store)
        self.assertEqual(len(before), 2)
        self.assertEqual(reservation(self.store)["type"], TYPE)
        self.assertTrue(all(key >> 48 == 0x4866 for key in before))
        effective = {each["key"]: each for each in self.mpio.devices()["csv1"]["effective"]}
        self.assertEqual(effective["session_keys"]["value"], "true")
        self.assertIn("mpiod.toml:", effective["session_keys"]["origin"])
        self.assertIn("fences by PREEMPT AND ABORT: yes", self.explanation())
        self.client().write(0, OLD)
        self.mpio.kill()
        self.assertEqual(keys(self.store), before)
        self.mpio.start()
        self.all_active()
        self.wait_until(lambda: len(keys(self.store)) == 2, "the old keys are gone")
        self.assertFalse(keys(self.store) & before)
        self.mpio.stop()
        self.assertEqual(keys(self.store), set())
        self.assertFalse(reservation(self.store).get("type"))

    def test_who_has_no_key_cannot_write_and_a_foreign_reservation_is_named(self):
        other = iscsi.Session.open(self.store.portal(0), TARGET_NAME, isid=0x80_0000_0000F0)
        self.addCleanup(other.close)
        other.ready(0)
        refused = other.command(scsi.write16(0, BLOCK // 512), lun=0, data_out=NEW)
        self.assertEqual(refused.status, scsi.Status.RESERVATION_CONFLICT)
        self.mpio.stop()
        self.assertTrue(other.pr_out(scsi.PrOut.REGISTER, new_key=0xB2).good)
        self.assertTrue(other.pr_out(scsi.PrOut.RESERVE, key=0xB2, type=5).good)
        self.mpio.start()
        why = "reserved in another way"
        self.wait_until(lambda: all(why in path["why"] for path in self.mpio.paths().values()),
                        why, 20)
        self.assertEqual(keys(self.store), {0xB2})
        self.assertTrue(other.pr_out(scsi.PrOut.REGISTER, key=0xB2, new_key=0).good)
        self.all_active()


class LateInTheCable(case.TestCase):
    """A write that the target has not read yet when its session is preempted."""

    def setUp(self):
        super().setUp()
        self.store = self.target(**TWO_GROUPS)
        self.wires = [Wire(self.store.portal(path)) for path in (0, 1)]
        for wire in self.wires:
            self.addCleanup(wire.close)

    def write(self, value):
        return self.exporter.qemu_io(f"write -P {value} 0 {BLOCK}")

    def on_disk(self, path) -> set:
        session = iscsi.Session.open(self.store.portal(path), TARGET_NAME, isid=0x80_0000_0000F0)
        try:
            session.ready(0)
            return set(session.read(0, BLOCK // 512))
        finally:
            session.close()

    def late_write(self, mode):
        """0x11 lies in the cable of its dead session when 0x22 is done, then comes out. Before it
        another write, which the target answers with the unit attention of the preemption."""
        self.exporter = Exporter(self.scratch, TARGET_NAME, 0, mode,
                                 [wire.address for wire in self.wires])
        self.addCleanup(self.exporter.close)
        self.write(0x33)
        self.wires[0].stall(final=True)
        self.exporter.qemu_io(f"aio_write -P 0x44 {OTHER} {BLOCK}",
                              f"aio_write -P 0x11 0 {BLOCK}", "aio_flush")
        self.assertIn("preempted at a target that drains", self.exporter.log())
        self.write(0x22)
        self.assertEqual(self.on_disk(1), {0x22})
        self.exporter.kill()  # or its next session would end the old one
        self.wires[0].mend()

    def test_it_is_kept_out(self):
        self.late_write("session-keys")
        time.sleep(NOT_YET_S)
        self.assertEqual(self.on_disk(1), {0x22})

    def test_without_the_reservation_it_lands(self):
        self.late_write("unreserved")
        self.wait_until(lambda: self.on_disk(1) == {0x11}, "the old write has landed")


if __name__ == "__main__":
    case.main()
