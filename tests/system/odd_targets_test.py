"""Targets that are not what they were, or want to be left, behind the multipath daemon."""

import concurrent.futures
import time

from holdfast import case, nbd
from holdfast.mpiod import Device
from holdfast.target import Disk, TargetName, slowness
from holdfast.wire import Wire

BLOCK = 4096
TWO_GROUPS = {1: ["127.0.0.1"], 2: ["127.0.0.2"]}


class OddCase(case.TestCase):
    def serve(self, target, states=("ACTIVE", "ACTIVE"), **options):
        self.mpio = self.mpiod(target, **options)
        self.wait_for(*states)
        self.client = nbd.Client(self.mpio.nbd("csv1"), "csv1")
        self.addCleanup(self.client.close)

    def wait_for(self, *states, deadline=20):
        self.wait_until(lambda: self.mpio.states() == list(states), f"the paths are {states}",
                        deadline * slowness())

    def carriers(self, count=50) -> list:
        """Which paths carry what is written now, and read back."""
        before = [path["writes"] for path in self.mpio.paths().values()]
        for number in range(count):
            self.client.write(number * BLOCK, bytes([number + 1]) * BLOCK)
        for number in range(count):
            self.assertEqual(self.client.read(number * BLOCK, BLOCK), bytes([number + 1]) * BLOCK)
        after = [path["writes"] for path in self.mpio.paths().values()]
        return [now > then for now, then in zip(after, before)]

    def wait_for_carriers(self, first, second):
        """A change of access states is learned from the next answer; a path that comes back is
        given I/O after a while."""
        self.wait_until(lambda: self.carriers() == [first, second],
                        f"first path {first}, second path {second}", 40 * slowness())
        self.assertEqual(self.mpio.devices()["csv1"]["failed"], 0)


class OtherUnit(OddCase):
    def test_another_disk_behind_a_path_that_returns_gets_no_io(self):
        """As when an address was given to another server, or LUNs were numbered anew."""
        target, other = self.target(), self.target()
        wires = [Wire(target.portal(path)) for path in (0, 1)]
        for wire in wires:
            self.addCleanup(wire.close)
        self.serve(target, devices=[Device(portals=[(wire.address, None) for wire in wires])])
        wires[1].cut()
        wires[1].portal = other.portal(1)
        wires[1].mend()
        self.wait_for("ACTIVE", "REJECTED")
        self.assertEqual(self.carriers(), [True, False])
        with open(other.disk_path("d0"), "rb") as file:
            self.assertEqual(file.read(), bytes(other.disk_path("d0").stat().st_size))
        rejected = list(self.mpio.paths().values())[1]
        self.assertEqual(rejected["why"], "another logical unit answers")

        # The right one again, and the administrator says so.
        wires[1].cut()
        wires[1].portal = target.portal(1)
        wires[1].mend()
        self.mpio.cli("disable", "csv1", list(self.mpio.paths())[1])
        self.mpio.cli("enable", "csv1", list(self.mpio.paths())[1])
        self.wait_for("ACTIVE", "ACTIVE", deadline=40)


class NoProof(OddCase):
    """A write hangs, its path is lost, and logs in again to somewhere else: that does not prove the
    end of the write."""

    def lost(self, leads_to, target_options, hold="15s", paths=2):
        """Path 0 leads to another portal now. The future of the write."""
        self.fs = self.slowfs()
        target = self.target(disks=[Disk("slow", path=str(self.fs.mount / "slow.img"), size="8MiB",
                                         extra={"thin": False})], **target_options)
        wires = [Wire(target.portal(path)) for path in range(paths)]
        for wire in wires:
            self.addCleanup(wire.close)
        self.addCleanup(self.fs.clear)
        self.serve(target, ["ACTIVE"] * paths, devices=[Device(
            portals=[(wire.address, None) for wire in wires],
            extra={"policy": "failover", "ghost_mode": "strict", "ghost_hold": hold})])
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        self.addCleanup(self.fs.clear)
        self.fs.add("hang", op="write", hang=True, start=0, end=BLOCK, count=1)
        write = pool.submit(self.client.write, 0, b"\x11" * BLOCK)
        self.wait_until(lambda: self.fs.held() == 1, "the write is in the backing")
        wires[0].cut()
        wires[0].portal = leads_to(target)
        wires[0].mend()
        return write

    def is_answered_only_after_its_end(self, write, open_s=2):
        with self.assertRaises(concurrent.futures.TimeoutError, msg="its old attempt may land"):
            write.result(open_s)
        self.fs.clear()
        write.result(30)

    def test_the_login_to_another_disk_does_not_prove_the_end_of_a_write(self):
        other = self.target()
        write = self.lost(lambda _: other.portal(0), {})
        self.wait_for("REJECTED", "ACTIVE")
        self.is_answered_only_after_its_end(write)

    def test_the_login_to_another_portal_group_does_not_either(self):
        """Nor the time: the other group's path resets the unit then, which waits for the write."""
        write = self.lost(lambda target: target.portal(1), {
            "portal_groups": TWO_GROUPS, "targets": [TargetName(portal_groups=[1, 2])]}, "4s")
        self.wait_for("ACTIVE", "ACTIVE")
        self.is_answered_only_after_its_end(write, open_s=6)

    def test_the_only_path_comes_back_to_another_portal_group(self):
        """After the hold it resets the unit itself, as nobody else can."""
        write = self.lost(lambda target: target.portal(1), {
            "portal_groups": TWO_GROUPS, "targets": [TargetName(portal_groups=[1, 2])]}, "1s",
            paths=1)
        self.wait_for("ACTIVE")
        self.is_answered_only_after_its_end(write)


class AccessStates(OddCase):
    def setUp(self):
        super().setUp()
        self.store = self.target(portal_groups=TWO_GROUPS,
                                 targets=[TargetName(portal_groups=[1, 2])])

    def test_each_state_while_io_runs(self):
        self.serve(self.store)
        self.wait_for_carriers(True, True)
        for state in ("active/non-optimized", "standby", "unavailable"):
            with self.subTest(state=state):
                self.store.cli("alua", "set", "2", state)
                self.wait_for_carriers(True, False)
        self.store.cli("alua", "set", "2", "active/optimized")
        self.wait_for_carriers(True, True)

    def test_both_groups_change_places(self):
        """What an array does when one of its controllers is taken out of service."""
        self.store.cli("alua", "set", "2", "standby")
        self.serve(self.store)
        self.wait_for_carriers(True, False)
        self.store.cli("alua", "set", "2", "active/optimized")
        self.store.cli("alua", "set", "1", "standby")
        self.wait_for_carriers(False, True)


class Logout(OddCase):
    def test_a_portal_taken_out_of_service_is_left_without_an_error(self):
        target = self.target(portal_groups=TWO_GROUPS,
                             targets=[TargetName(portal_groups=[1, 2])])
        self.serve(target)
        target.targets = [TargetName(portal_groups=[1])]
        target.rewrite()
        target.cli("apply", str(target.config_file))
        self.wait_until(lambda: self.mpio.states()[1] not in ("ACTIVE", "SUSPECT"),
                        "the path was left", 20)
        self.wait_for_carriers(True, False)
        target.targets = [TargetName(portal_groups=[1, 2])]
        target.rewrite()
        target.cli("apply", str(target.config_file))
        self.wait_for("ACTIVE", "ACTIVE", deadline=60)
        self.wait_for_carriers(True, True)

    def test_sessions_dropped_by_the_targets_administrator_come_back(self):
        target = self.target()
        self.serve(target)
        sessions = target.cli.json("session", "list")
        for session in sessions:
            target.cli("session", "drop", str(session["id"]))
        began = time.monotonic()
        self.client.write(0, b"\x55" * BLOCK)
        self.assertLess(time.monotonic() - began, 5 * slowness())
        self.wait_for("ACTIVE", "ACTIVE", deadline=40)
        ids = {session["id"] for session in target.cli.json("session", "list")}
        self.assertFalse(ids & {session["id"] for session in sessions})


if __name__ == "__main__":
    case.main()
