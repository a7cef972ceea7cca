"""The multipath device against Debian's tgt, which answers a login that reinstates a session while
writes of the old one are still under way: what tgt was seen to do, that no old write lands on newer
data all the same, CHAP, and plain life.
"""

import concurrent.futures
import json

from holdfast import case, iscsi, nbd, paths, scsi, tgtd
from holdfast.exporter import Exporter
from holdfast.iscsi import TaskFunction
from holdfast.mpiod import Device
from holdfast.process import run
from holdfast.wire import Wire
from holdfast.writer import Writer

BLOCK = 4096
SECTORS = BLOCK // 512
OTHER = 1 << 20  # a place that nothing hangs at
NOT_YET_S = 1.5
ISID, OTHER_ISID = 0x80_0000_0000A1, 0x80_0000_0000B2


class Threads:
    """tgt's own way: threads that call pwrite(). The next write to the first block hangs."""

    def __init__(self, test):
        self.tgtd = test.tgtd(engine="rdwr")
        self.file = self.tgtd.disk
        self.hold, self.let_go = self.tgtd.hold, self.tgtd.let_go

    def held(self) -> int:
        return int(self.tgtd.held())


class SlowFile:
    """tgt's libaio engine, on the delayed file system."""

    def __init__(self, test):
        self.fs = test.slowfs()
        self.tgtd = test.tgtd(engine="aio", disk=self.fs.mount / "slow.img")
        self.file = self.fs.backing / "slow.img"
        self.held, self.let_go = self.fs.held, self.fs.clear

    def hold(self, count=1):
        self.fs.add("hang", op="write", hang=True, start=0, end=BLOCK, count=count)


class TgtCase(case.TestCase):
    backing_class = Threads

    def setUp(self):
        super().setUp()
        self.backing = self.backing_class(self)
        self.tgt = self.backing.tgtd
        self.wires = [Wire(self.tgt.portal(path)) for path in (0, 1)]
        for wire in self.wires:
            self.addCleanup(wire.close)
        pool = concurrent.futures.ThreadPoolExecutor(4)
        self.addCleanup(pool.shutdown)
        self.addCleanup(self.backing.let_go)
        self.in_background = pool.submit

    def is_open(self, future, what):
        with self.assertRaises(concurrent.futures.TimeoutError, msg=what):
            future.result(NOT_YET_S)

    def is_held(self, count=1):
        self.wait_until(lambda: self.backing.held() == count, "the write hangs in tgt")

    def on_disk(self) -> set:
        with open(self.backing.file, "rb") as file:
            return set(file.read(BLOCK))


class Observed(TgtCase):
    """What mpio/target_table.cc says of tgt, of tgt itself."""

    backing_class = SlowFile

    def session(self, path=0, isid=ISID):
        session = iscsi.Session.open(self.tgt.portal(path), tgtd.NAME, isid=isid)
        self.addCleanup(session.close)
        session.ready(tgtd.LUN)
        return session

    def hung_writes(self, session, count=1) -> list:
        self.backing.hold(count)
        tasks = [session.submit(scsi.write16(0, SECTORS), lun=tgtd.LUN, data_out=b"\x11" * BLOCK)
                 for _ in range(count)]
        self.is_held(count)
        return tasks

    def test_reinstatement_ends_the_session_and_leaves_its_writes_running(self):
        old = self.session()
        self.hung_writes(old)
        new = self.session(path=1)
        # Nothing more is read of the old connection, which stays open until its write has ended.
        old.submit(scsi.write16(OTHER // 512, SECTORS), lun=tgtd.LUN, data_out=b"\x33" * BLOCK)
        self.assertFalse(old.has_input(NOT_YET_S))
        self.assertEqual(self.backing.held(), 1)
        self.assertEqual(self.on_disk(), {0})
        self.backing.let_go()
        self.wait_until(lambda: self.on_disk() == {0x11}, "the write has landed")
        self.assertTrue(old.is_closed_by_peer())
        self.assertEqual(new.read(OTHER // 512, SECTORS, lun=tgtd.LUN), bytes(BLOCK))

    def test_a_reset_waits_for_the_writes_of_a_session_that_was_reinstated(self):
        self.hung_writes(self.session(), 2)
        self.session(path=1)
        self.resets_wait(TaskFunction.LOGICAL_UNIT_RESET, 2)

    def test_a_reset_waits_for_the_writes_of_a_session_whose_connection_is_gone(self):
        old = self.session()
        self.hung_writes(old, 2)
        old.drop()
        self.resets_wait(TaskFunction.LOGICAL_UNIT_RESET, 2)

    def resets_wait(self, function, held):
        reset = self.in_background(self.session(1, OTHER_ISID).task_management, function, tgtd.LUN)
        self.is_open(reset, "answered while a write hangs")
        self.assertEqual(self.backing.held(), held)
        self.backing.let_go()
        self.assertEqual(reset.result(20), 0)
        self.assertEqual(self.on_disk(), {0x11})

    def test_abort_task_waits_for_the_write(self):
        session = self.session()
        [task] = self.hung_writes(session)
        abort = self.in_background(session.task_management, TaskFunction.ABORT_TASK, tgtd.LUN, task)
        self.is_open(abort, "answered while the write hangs")
        self.backing.let_go()
        self.assertEqual(abort.result(20), 1)  # the task does not exist: it was answered before
        self.assertTrue(task.response.good)
        self.assertEqual(self.on_disk(), {0x11})

    def test_preempt_and_abort_is_not_there_and_preempt_does_not_drain(self):
        old, other = self.session(), self.session(1, OTHER_ISID)
        keys = {old: 0xA1, other: 0xB2}
        for session, key in keys.items():
            self.assertTrue(session.pr_out(scsi.PrOut.REGISTER, tgtd.LUN, new_key=key).good)
        kind = scsi.PrType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
        preempt = {"key": 0xB2, "new_key": 0xA1, "type": kind}
        self.assertTrue(other.pr_out(scsi.PrOut.RESERVE, tgtd.LUN, key=0xB2, type=kind).good)
        self.hung_writes(old)
        refused = other.pr_out(scsi.PrOut.PREEMPT_AND_ABORT, tgtd.LUN, **preempt)
        self.assertEqual(refused.sense.key, scsi.Key.ILLEGAL_REQUEST)
        self.assertTrue(other.pr_out(scsi.PrOut.PREEMPT, tgtd.LUN, **preempt).good)
        self.assertEqual(self.backing.held(), 1)


class LateWrite(TgtCase):
    """W1 writes 0x11 and hangs in tgt; its path is cut; W2 writes 0x22 to the same blocks. In the
    end the blocks must be 0x22. Without the fence they are 0x11, with no error anywhere.
    """

    PROOF = "logical unit reset after the session had ended"

    def export(self, mode, wires=2):
        self.exporter = Exporter(self.scratch, tgtd.NAME, tgtd.LUN, mode,
                                 [wire.address for wire in self.wires[:wires]])
        self.addCleanup(self.exporter.close)

    def write(self, value, offset=0):
        return self.exporter.qemu_io(f"write -P {value} {offset} {BLOCK}")

    def late_write(self):
        """W1 hangs, and its path is gone. The future of W1."""
        self.backing.hold()
        first = self.in_background(self.write, 0x11)
        self.is_held()
        self.wires[0].cut()
        return first

    def fenced(self):
        """What the exporter says of its fences: the one that there was, and what it proved."""
        lines = [line for line in self.exporter.log().splitlines() if "fenced after" in line]
        self.assertEqual(len(lines), 1, self.exporter.log())
        return lines[0]

    def only_the_new_data(self):
        """The old write has ended, and the new data is what there is."""
        self.assertEqual(self.backing.held(), 0)
        self.assertEqual(self.on_disk(), {0x22})
        self.assertIn(self.PROOF, self.fenced())

    def test_without_the_fence_the_old_write_lands_on_the_new_one(self):
        self.export("nofence")
        self.late_write().result(30)
        self.write(0x22)
        self.assertEqual(self.on_disk(), {0x22})
        self.backing.let_go()
        self.wait_until(lambda: self.on_disk() == {0x11}, "the old write has landed")

    def test_strict_the_write_is_answered_when_nothing_of_it_can_land(self):
        self.export("strict")
        first = self.late_write()
        self.is_open(first, "answered although its first attempt may still land")
        self.write(0x33, OTHER)  # what it has nothing to do with goes on
        self.backing.let_go()
        first.result(30)
        self.write(0x22)
        self.only_the_new_data()

    def test_ghost_tracked_the_write_is_answered_and_what_overlaps_it_waits(self):
        self.export("ghost-tracked")
        self.late_write().result(30)
        second = self.in_background(self.write, 0x22)
        self.is_open(second, "it overlaps a ghost, and was answered")
        self.write(0x33, OTHER)
        self.exporter.qemu_io(f"read -P 0x11 0 {BLOCK}")
        self.backing.let_go()
        second.result(30)
        self.only_the_new_data()

    def test_the_only_path_comes_back_and_fences_what_it_left(self):
        self.export("ghost-tracked", wires=1)
        first = self.late_write()
        self.wires[0].mend()
        first.result(30)
        second = self.in_background(self.write, 0x22)
        self.is_open(second, "it overlaps a ghost, and was answered")
        self.backing.let_go()
        second.result(30)
        self.only_the_new_data()


class LateWriteToASlowFile(LateWrite):
    """The same with tgt's other engine."""

    backing_class = SlowFile


class Life(TgtCase):
    """holdfast-mpiod and tgt."""

    def daemon(self, **extra):
        mpiod = self.mpiod(self.tgt, devices=[Device(
            lun=tgtd.LUN, portals=[(wire.address, None) for wire in self.wires], extra=extra)])
        self.wait_until(lambda: mpiod.states() == ["ACTIVE", "ACTIVE"], "both paths are active", 20)
        return mpiod

    def is_right(self, mpiod, writer):
        """No request failed, and what was written last is on tgt's disk."""
        writer.stop()
        self.assertEqual(mpiod.devices()["csv1"]["failed"], 0)
        data = self.tgt.disk.read_bytes()
        for offset, block in writer.written.items():
            self.assertEqual(data[offset:offset + BLOCK], block, f"byte {offset}")

    def test_two_portals_and_what_is_known_of_the_unit(self):
        mpiod = self.daemon(policy="round-robin")
        device = mpiod.devices()["csv1"]
        self.assertEqual((device["vendor"], device["product"]), ("IET", "VIRTUAL-DISK"))
        self.assertRegex(device["wwid"], "IET|^naa")
        self.assertEqual(self.tgt.sessions(), 2)
        explained = mpiod.cli("explain", "csv1").stdout
        self.assertIn("LOGICAL UNIT RESET waits for them: yes", explained)
        self.assertIn("reinstates a session waits for its writes: no", explained)
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        writer.goes_on(30)
        for path in mpiod.paths().values():
            self.assertGreater(path["reads"] + path["writes"], 0, path["name"])
        self.is_right(mpiod, writer)

    def test_verified_by_fio_while_each_path_goes_and_returns(self):
        mpiod = self.daemon()
        fio = self.in_background(
            run, ["fio", "--name=v", "--ioengine=nbd", f"--uri={mpiod.url('csv1')}", "--rw=randrw",
                  "--bs=4k", "--iodepth=16", "--size=8M", "--verify=crc32c", "--verify_backlog=64",
                  "--verify_state_save=0",
                  "--time_based", "--runtime=8", "--output-format=json"], deadline=90)
        for wire in self.wires:
            wire.cut()
            self.wait_until(lambda: mpiod.states().count("ACTIVE") == 1, "one path is left")
            wire.mend()
            self.wait_until(lambda: mpiod.states() == ["ACTIVE", "ACTIVE"], "it is back", 30)
        said = fio.result(90).stdout  # exit status 0: verified; notes come before the JSON
        self.assertEqual(json.loads(said[said.index("{"):])["jobs"][0]["error"], 0)
        self.assertEqual(mpiod.devices()["csv1"]["failed"], 0)

    def test_io_goes_on_when_tgt_is_killed_and_comes_back(self):
        mpiod = self.daemon()
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        writer.goes_on(30)
        wwid = mpiod.devices()["csv1"]["wwid"]
        self.tgt.kill()
        self.wait_until(lambda: "without_path_ms" in mpiod.devices()["csv1"], "no path is left")
        self.tgt.start()
        writer.goes_on(45)
        self.assertEqual(mpiod.devices()["csv1"]["wwid"], wwid)
        self.is_right(mpiod, writer)


class FenceRedirected(TgtCase):
    """A write hangs, its path is lost, and the target sends the fence's login to another one: what
    that one says of the session proves nothing."""

    backing_class = SlowFile
    HOLD_S = 2

    def test_the_unit_is_reset_after_the_hold(self):
        mpiod = self.mpiod(self.tgt, devices=[Device(
            lun=tgtd.LUN, portals=[(wire.address, None) for wire in self.wires],
            extra={"policy": "failover", "ghost_hold": f"{self.HOLD_S}s"})])
        self.wait_until(lambda: mpiod.states() == ["ACTIVE", "ACTIVE"], "both paths are active", 20)
        client, other = (nbd.Client(mpiod.nbd("csv1"), "csv1", deadline=60) for _ in range(2))
        for each in (client, other):
            self.addCleanup(each.close)
        redirect(self.tgt, self.tgtd())
        self.backing.hold()
        write = self.in_background(client.write, 0, b"\x11" * BLOCK)
        self.is_held()
        self.wires[0].cut()
        with self.assertRaises(concurrent.futures.TimeoutError, msg="answered after the hold"):
            write.result(3 * self.HOLD_S)
        self.assertNotIn("fenced after", mpiod.log())
        self.backing.let_go()
        write.result(30)
        other.write(0, b"\x22" * BLOCK)
        self.assertEqual(self.on_disk(), {0x22})
        self.assertIn("logical unit reset after the hold time", mpiod.log())


class SessionKeys(TgtCase):
    """tgt registers keys, and refuses PREEMPT AND ABORT: the other steps fence."""

    backing_class = SlowFile

    def hangs(self, **extra):
        """A write of 0x11 that hangs, and whose path is lost."""
        mpiod = self.mpiod(self.tgt, devices=[Device(
            lun=tgtd.LUN, portals=[(wire.address, None) for wire in self.wires],
            extra={"policy": "failover", "session_keys": True} | extra)])
        self.wait_until(lambda: mpiod.states() == ["ACTIVE", "ACTIVE"], "both paths are active", 20)
        client, self.other = (nbd.Client(mpiod.nbd("csv1"), "csv1", deadline=60) for _ in range(2))
        for each in (client, self.other):
            self.addCleanup(each.close)
        self.backing.hold()
        write = self.in_background(client.write, 0, b"\x11" * BLOCK)
        self.is_held()
        self.wires[0].cut()
        return mpiod, write

    def holds_the_new_data(self):
        self.other.write(0, b"\x22" * BLOCK)
        self.assertEqual(self.on_disk(), {0x22})

    def test_the_login_and_the_reset_fence(self):
        mpiod, write = self.hangs()
        self.is_open(write, "answered although it may still land")
        self.assertIn("fences by PREEMPT AND ABORT: no, this target is known not to drain then",
                      mpiod.cli("explain", "csv1").stdout)
        self.backing.let_go()
        write.result(30)
        self.holds_the_new_data()
        self.assertIn("logical unit reset after the session had ended", mpiod.log())

    def test_what_it_refuses_is_no_proof(self):
        """The administrator is wrong about it, and has taken away the other steps."""
        mpiod, write = self.hangs(ghost_hold="3s", unit_reset_waits=False, preempt_drains=True)
        refused = "the target refuses PREEMPT AND ABORT"
        self.wait_until(lambda: refused in mpiod.log(), "it was asked to")
        self.assertIn(refused, mpiod.cli("explain", "csv1").stdout)
        self.backing.let_go()
        write.result(30)
        self.holds_the_new_data()
        self.assertRegex(mpiod.log(), "fenced after [0-9]+ ms: hold time")


def redirect(front, to):
    """Logins to `front` are sent to another tgt."""
    address, port = to.portal(1)
    for name, value in (("RedirectAddress", address), ("RedirectPort", port),
                        ("RedirectReason", "Temporary")):
        front.admin("target", "update", "--tid", 1, "--name", name, "--value", value)


class Redirected(case.TestCase):
    """A portal that sends us to another one, as arrays do that spread their sessions."""

    def test_the_path_follows_and_asks_the_first_portal_again_after_a_loss(self):
        front, store = self.tgtd(), self.tgtd()
        redirect(front, store)
        mpiod = self.mpiod(store, devices=[Device(
            lun=tgtd.LUN, portals=[("%s:%d" % front.portal(0), None)])])
        self.wait_until(lambda: mpiod.states() == ["ACTIVE"], "the path is active", 20)
        client = nbd.Client(mpiod.nbd("csv1"), "csv1", deadline=60)
        self.addCleanup(client.close)
        client.write(0, b"\x5a" * BLOCK)
        self.assertEqual(store.disk.read_bytes()[:BLOCK], b"\x5a" * BLOCK)
        self.assertEqual((front.sessions(), store.sessions()), (0, 1))
        store.kill()
        store.start()
        client.write(0, b"\xa5" * BLOCK)
        self.assertEqual(store.disk.read_bytes()[:BLOCK], b"\xa5" * BLOCK)
        self.assertEqual(front.disk.read_bytes()[:BLOCK], bytes(BLOCK))


class Chap(case.TestCase):
    """tgt proves itself, and checks us, with MD5; it takes algorithm 7, SHA-256, for SHA1."""

    OURS, ITS = ("hv1", "secret-of-hv1x"), ("store", "secret-of-store")

    def account(self, user, secret) -> dict:
        file = self.scratch / f"{user}.{len(secret)}.secret"
        file.write_text(secret + "\n")
        file.chmod(0o600)
        return {"user": user, "secret_file": file}

    def daemon(self, tgt, ours=OURS, its=ITS):
        extra = {"chap": self.account(*ours)} | ({"mutual_chap": self.account(*its)} if its else {})
        return self.mpiod(tgt, devices=[Device(lun=tgtd.LUN, extra=extra)])

    def works(self, mpiod):
        self.wait_until(lambda: mpiod.states() == ["ACTIVE", "ACTIVE"], "both paths are active", 20)
        client = nbd.Client(mpiod.nbd("csv1"), "csv1")
        self.addCleanup(client.close)
        client.write(0, b"\x77" * BLOCK)
        self.assertEqual(client.read(0, BLOCK), b"\x77" * BLOCK)

    def refused(self, mpiod, why):
        """Both paths say why, in `holdfast path list`, and no I/O is offered."""
        self.wait_until(lambda: all(why in path["why"] for path in mpiod.paths().values()), why, 20)
        self.wait_until(lambda: set(mpiod.states()) == {"BACKOFF"}, "they wait")
        self.assertIn(why, mpiod.cli("list").stdout)
        self.assertFalse(mpiod.nbd("csv1").exists())

    def test_one_way(self):
        self.works(self.daemon(self.tgtd(chap=self.OURS), its=None))

    def test_both_ways_and_after_a_restart_of_tgt(self):
        tgt = self.tgtd(chap=self.OURS, mutual_chap=self.ITS)
        mpiod = self.daemon(tgt)
        self.works(mpiod)
        tgt.kill()
        tgt.start()
        self.works(mpiod)

    def test_wrong_secret_of_ours(self):
        tgt = self.tgtd(chap=self.OURS, mutual_chap=self.ITS)
        self.refused(self.daemon(tgt, ours=("hv1", "not-the-right-one")),
                     "the target refused our CHAP user or secret")

    def test_wrong_secret_of_the_target(self):
        tgt = self.tgtd(chap=self.OURS, mutual_chap=self.ITS)
        self.refused(self.daemon(tgt, its=("store", "not-the-right-one")),
                     "the target did not prove itself")

    def test_login_test_of_the_command_line(self):
        tgt = self.tgtd(chap=self.OURS)
        account = self.account(*self.OURS)
        shown = run([paths.program("holdfast"), "initiator", "login-test", tgtd.NAME, "--portal",
                     "%s:%d" % tgt.portal(), "--lun", tgtd.LUN, "--chap-user", account["user"],
                     "--chap-secret-file", account["secret_file"]]).stdout
        self.assertIn("takes CHAP algorithm 7 for SHA1", shown)
        self.assertIn("CHAP: done", shown)


if __name__ == "__main__":
    case.main()
