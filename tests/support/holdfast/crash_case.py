"""CrashCase: a write of an old client or process hangs in the target, and what comes next must not
be overwritten by it.

    class Example(CrashCase):
        def test_something(self):
            self.crash_with_a_write_that_hangs()    # OLD; the daemon is killed, its path is cut
            self.mpio.start()
            self.next_write_waits()                 # NEW, until OLD has ended; the disk holds NEW

setUp starts a target, whose first unit is on a delayed file system, and a daemon with one device,
csv1, through self.wires. What differs is said by the fields of the class, and by device().
TgtCrashCase is the same with Debian's tgt, whose second unit, if DISKS is 2, never hangs.
"""

import concurrent.futures
import time

from . import case, nbd, tgtd
from .mpiod import Device
from .target import Disk, TargetName, slowness
from .wire import Wire

BLOCK = 4096
OLD, NEW = b"\x11" * BLOCK, b"\x22" * BLOCK
TWO_GROUPS = {"portal_groups": {1: ["127.0.0.1"], 2: ["127.0.0.2"]},
              "targets": [TargetName(portal_groups=[1, 2])]}


class CrashCase(case.TestCase):
    HOLD_S = 1  # the target drains: that time has gone by proves nothing
    PATHS = 2
    DISKS = 1
    SIZE = "8MiB"
    LUN = 0
    TARGET = {}  # more of the target's configuration
    DEVICE = {}  # more of each device's
    STARTED = True  # the daemon is, by setUp

    def setUp(self):
        super().setUp()
        self.make_target()
        self.wires = [self.wire(path) for path in range(self.PATHS)]
        for wire in self.wires:
            self.addCleanup(wire.close)
        pool = concurrent.futures.ThreadPoolExecutor(8)
        self.addCleanup(pool.shutdown)
        self.addCleanup(self.let_go)
        self.in_background = pool.submit
        if self.STARTED:
            self.start_daemon()

    def make_target(self):
        self.fs = self.slowfs()
        disks = [Disk("slow", path=str(self.fs.mount / "slow.img"), size=self.SIZE,
                      extra={"thin": False})]
        disks += [Disk(f"other{number}", size="8MiB") for number in range(1, self.DISKS)]
        self.store = self.target(disks=disks, **self.TARGET)

    def wire(self, path):
        return Wire(self.store.portal(path))

    def device(self, name="csv1", lun=None, **extra):
        return Device(name=name, lun=self.LUN if lun is None else lun,
                      portals=[(wire.address, None) for wire in self.wires],
                      extra={"policy": "failover", "ghost_hold": f"{self.HOLD_S}s"} |
                      self.DEVICE | extra)

    def start_daemon(self, *devices, **options):
        """With csv1 only, unless it is said."""
        self.mpio = self.mpiod(self.store, devices=list(devices) or [self.device()], **options)
        self.addCleanup(self.let_go)  # before the daemon is stopped, which waits for it
        for device in self.mpio.devices_wanted:
            self.all_active(device.name)

    def restart_with(self, *devices):
        """After its end: another configuration."""
        self.mpio.devices_wanted = list(devices)
        self.mpio.rewrite()
        self.mpio.start()

    # --- what is awaited

    def wait_for(self, *states, device="csv1"):
        self.wait_until(lambda: self.mpio.states(device) == list(states), f"the paths are {states}",
                        20 * slowness())

    def all_active(self, device="csv1"):
        self.wait_for(*["ACTIVE"] * len(self.wires), device=device)

    def comes(self, condition, deadline) -> bool:
        """Does it come true in that time? Where both may be right."""
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def fences(self, device="csv1") -> list:
        return self.mpio.devices()[device]["fences"]

    def fences_have_had_their_time(self, count=1, device="csv1"):
        """So many are open for longer than the hold."""
        def are_old():
            ages = [fence["since_ms"] for fence in self.fences(device)]
            return sum(age > (self.HOLD_S + 0.5) * 1000 for age in ages) >= count
        self.wait_until(are_old, "the hold of the fences is over", self.HOLD_S + 15)

    def explanation(self) -> str:
        return self.mpio.cli("explain", "csv1").stdout

    # --- the old write, and the new one

    def client(self, device="csv1"):
        client = nbd.Client(self.mpio.nbd(device), device, deadline=60)
        self.addCleanup(client.close)
        return client

    def hold(self, blocks=1):
        """The next write to the beginning of the disk will hang."""
        self.fs.add("hang", op="write", hang=True, start=0, end=blocks * BLOCK, count=1)

    def held(self) -> bool:
        return self.fs.held() == 1

    def let_go(self):
        self.fs.clear()

    def on_disk(self, block=0) -> bytes:
        data = (self.fs.backing / "slow.img").read_bytes()
        return data[block * BLOCK:(block + 1) * BLOCK]

    def old_write_hangs(self):
        """Its future."""
        self.hold()
        write = self.in_background(self.client().write, 0, OLD)
        self.wait_until(self.held, "the write is in the target")
        return write

    def crash_with_a_write_that_hangs(self):
        self.old_write_hangs()
        self.mpio.kill()
        self.wires[0].cut()

    def waits(self, what):
        with self.assertRaises(concurrent.futures.TimeoutError,
                               msg="an old write may still land, and it was served"):
            what.result(3 * self.HOLD_S)

    def next_write_waits(self, device="csv1"):
        self.wait_until(self.mpio.nbd(device).exists, "it is exported", 20)
        self.is_answered_after_the_old_one(self.in_background(self.client(device).write, 0, NEW))

    def is_answered_after_the_old_one(self, write):
        self.assertTrue(self.held(), "the old write has ended already")
        self.waits(write)
        self.let_go()
        write.result(30)
        self.assertEqual(self.on_disk(), NEW)


class TgtCrashCase(CrashCase):
    HOLD_S = 2
    LUN, OTHER_LUN = tgtd.LUN, tgtd.LUN + 1

    def make_target(self):
        self.store = self.tgtd()
        if self.DISKS == 2:
            self.store.add_unit(self.OTHER_LUN, self.store.directory / "other.img")

    def hold(self):
        self.store.hold()

    def held(self) -> bool:
        return self.store.held()

    def let_go(self):
        self.store.let_go()

    def on_disk(self, block=0) -> bytes:
        with open(self.store.disk, "rb") as file:
            file.seek(block * BLOCK)
            return file.read(BLOCK)
