"""Commands that hang in their backing: who waits for them, who does not, that none lands late.

W1 is a write of 0x11 that a rule of the delayed file system holds. What promises that it has ended
(reinstatement, resets, aborts, PREEMPT AND ABORT) must not answer before it has; then 0x22 is
written to the same blocks and has to stay there.
"""

import concurrent.futures
import time

from holdfast import case, iscsi, scsi
from holdfast.iscsi import TaskFunction
from holdfast.target import TARGET_NAME, Disk, slowness

SLOW, FAST = 0, 1
OLD, NEW = b"\x11" * 4096, b"\x22" * 4096
AT_ONCE_S = 0.5    # what does not wait for a backing is answered within this
NOT_YET_S = 0.8    # what waits is observed for so long
AFTER_S = 3.0      # what waited is answered within this of the release
OTHER_NAME = "iqn.2026-11.org.holdfast:other"
ISID = 0x80_0000_000001


class DrainCase(case.TestCase):
    settings = {}

    def setUp(self):
        super().setUp()
        self.fs = self.slowfs()
        self.daemon = self.target(
            disks=[Disk("slow", path=str(self.fs.mount / "slow.img"), extra={"thin": False}),
                   Disk("fast", extra={"thin": False})],
            settings=self.settings)
        pool = concurrent.futures.ThreadPoolExecutor(8)
        self.addCleanup(pool.shutdown)
        self.addCleanup(self.fs.clear)  # first: nothing above ends while a request hangs
        self.in_background = pool.submit

    def open(self, path=0, isid=ISID, initiator=iscsi.INITIATOR_NAME, ready=True, **options):
        session = iscsi.Session.open(self.daemon.portal(path), TARGET_NAME, isid=isid,
                                     initiator=initiator, **options)
        self.addCleanup(session.close)
        if ready:
            session.ready(SLOW)
            session.ready(FAST)
        return session

    def on_disk(self) -> bytes:
        with open(self.fs.backing / "slow.img", "rb") as file:
            return file.read(4096)

    def hang(self, session, data=OLD):
        """W1: a write that hangs in the backing until self.fs.clear()."""
        self.fs.add("hang", op="write", hang=True, start=0, end=4096)
        task = session.submit(scsi.write16(0, 8), lun=SLOW, data_out=data)
        self.wait_until(lambda: self.fs.held() == 1, "the write is in the backing")
        return task

    def within(self, seconds, what, function, *arguments, **options):
        began = time.monotonic()
        result = function(*arguments, **options)
        took = time.monotonic() - began
        self.assertLess(took, seconds * slowness(), f"{what} took {took:.2f} s")
        return result

    def answers_only_after_the_write(self, future, meanwhile=None):
        """`future` is not done while W1 hangs, and when it is done W1 is on the medium."""
        began = time.monotonic()
        if meanwhile:
            meanwhile()
        while time.monotonic() - began < NOT_YET_S:
            self.assertFalse(future.done(), "answered while the write still hangs")
            time.sleep(0.02)
        self.assertEqual(self.on_disk(), bytes(4096))
        self.fs.clear()
        result = future.result(AFTER_S)
        self.assertEqual(self.on_disk(), OLD, "answered, and the write had not ended")
        return result

    def stays(self, session):
        """A new write is the last one."""
        session.write(0, NEW, lun=SLOW)
        for _ in range(10):
            self.assertEqual(session.read(0, 8, lun=SLOW), NEW)
            self.assertEqual(self.on_disk(), NEW)
            time.sleep(0.05)

    def stays_ready(self, session):
        session.ready(SLOW)
        self.stays(session)


class Reinstatement(DrainCase):
    def others_are_not_held_up(self):
        for path, isid, name in ((0, ISID + 1, iscsi.INITIATOR_NAME),
                                 (1, ISID + 2, iscsi.INITIATOR_NAME), (1, ISID, OTHER_NAME)):
            session = self.within(AT_ONCE_S, "another login", self.open, path, isid, name,
                                  ready=False)
            self.within(AT_ONCE_S, "another disk", session.ready, FAST)
            session.write(64, b"\x33" * 512, lun=FAST)
            self.within(AT_ONCE_S, "a logout", session.logout)
        discovery = self.within(AT_ONCE_S, "discovery", iscsi.Session.open, self.daemon.portal())
        self.within(AT_ONCE_S, "SendTargets", discovery.send_targets)
        discovery.close()

    def test_the_login_answers_when_the_old_sessions_write_has_ended(self):
        victim = self.open()
        self.hang(victim)
        login = self.in_background(self.open, 1, ready=False)
        self.wait_until(lambda: victim.is_closed_by_peer(0.1), "the old session is dead", 2)
        again = self.answers_only_after_the_write(login, self.others_are_not_held_up)
        self.stays_ready(again)
        self.assertEqual(len(self.daemon.cli.json("session", "list")), 1)

    def test_the_old_session_is_dead_from_the_first_login_pdu_on(self):
        victim = self.open()
        self.hang(victim)
        login = iscsi.Session(self.daemon.portal(1), TARGET_NAME)
        self.addCleanup(login.close)
        login.send(login.login_pdu(iscsi.SECURITY, iscsi.OPERATIONAL,
                                   login.names() | {"AuthMethod": "None"}))
        self.assertTrue(victim.is_closed_by_peer(2))

    def test_without_commands_it_answers_at_once(self):
        self.open()
        self.within(AT_ONCE_S, "reinstatement", self.open, 1)

    def draining(self):
        return [each["state"] for each in self.daemon.cli.json("session", "list")] == ["draining"]

    def test_a_lost_connections_write_is_waited_for_too(self):
        victim = self.open()
        self.hang(victim)
        victim.drop()
        self.wait_until(self.draining, "the session drains")
        login = self.in_background(self.open, 1, ready=False)
        again = self.answers_only_after_the_write(login, self.others_are_not_held_up)
        self.stays_ready(again)

    def test_a_session_that_the_administrator_dropped_is_waited_for_too(self):
        self.hang(self.open())
        number = self.daemon.cli.json("session", "list")[0]["id"]
        self.in_background(self.daemon.cli, "session", "drop", str(number), status=None)
        self.wait_until(self.draining, "the session drains")
        login = self.in_background(self.open, 1, ready=False)
        self.stays_ready(self.answers_only_after_the_write(login))

    def test_reinstated_twice_while_it_waits(self):
        victim = self.open()
        self.hang(victim)
        first = self.in_background(self.open, 1, ready=False)
        time.sleep(0.2)
        second = self.in_background(self.open, 0, ready=False)
        session = self.answers_only_after_the_write(second)
        try:
            first.result(AFTER_S).close()
        except (iscsi.Closed, iscsi.LoginFailed):
            pass  # replaced by the second
        self.stays_ready(session)


class ShortDeadline(DrainCase):
    settings = {"drain_deadline": "2s"}

    def test_a_login_that_waited_too_long_gets_0302_and_a_later_one_works(self):
        self.hang(self.open())
        began = time.monotonic()
        with self.assertRaises(iscsi.LoginFailed) as failed:
            self.open(1, ready=False)
        took = time.monotonic() - began
        self.assertEqual(failed.exception.status, 0x0302)
        self.assertGreater(took, 1.5)
        self.assertLess(took, 4)
        self.within(AT_ONCE_S, "another login", self.open, 1, ISID + 9, ready=False)
        again = self.in_background(self.open, 1, ready=False)
        session = self.answers_only_after_the_write(again)
        self.stays_ready(session)

    def test_a_reset_is_never_complete_while_the_write_hangs(self):
        victim, other = self.open(), self.open(1, ISID + 1)
        self.hang(victim)
        began = time.monotonic()
        code = other.task_management(TaskFunction.LOGICAL_UNIT_RESET, lun=SLOW, deadline=8)
        self.assertLess(time.monotonic() - began, 5)
        self.assertNotEqual(code, 0, "said to be complete, and the write is still in the backing")
        self.fs.clear()
        self.wait_until(lambda: self.on_disk() == OLD, "the write has landed")
        other.ready(SLOW)
        self.stays(other)

    def test_sigterm_ends_in_time_while_a_backing_hangs(self):
        self.hang(self.open())
        # The kernel keeps a process until its requests have ended: only then can it be gone.
        self.in_background(lambda: (time.sleep(2), self.fs.clear()))
        self.daemon.stop(deadline=5)


class TaskManagement(DrainCase):
    def test_logical_unit_reset_by_another_nexus(self):
        victim, other = self.open(), self.open(1, ISID + 1)
        third = self.open(1, ISID, OTHER_NAME)
        task = self.hang(victim)
        reset = self.in_background(other.task_management, TaskFunction.LOGICAL_UNIT_RESET, lun=SLOW)
        code = self.answers_only_after_the_write(
            reset, lambda: self.within(AT_ONCE_S, "another LUN", third.read, 0, 8, lun=FAST))
        self.assertEqual(code, 0)
        self.assertEqual(victim.wait(task).status, scsi.Status.TASK_ABORTED)
        for session in (victim, other, third):
            self.assertEqual(session.ready(SLOW), [(0x29, 0x03)])
            self.assertEqual(session.ready(FAST), [], "a LUN that was not reset")
        self.stays(victim)

    def test_abort_task(self):
        session = self.open()
        task = self.hang(session)
        abort = self.in_background(session.task_management, TaskFunction.ABORT_TASK, lun=SLOW,
                                   task=task)
        self.assertEqual(self.answers_only_after_the_write(abort), 0)
        session.poll(0.2)
        self.assertIsNone(task.response, "the aborted command was answered, too")
        self.stays(session)

    def test_abort_task_of_a_command_that_is_no_more(self):
        session = self.open()
        task = session.submit(scsi.test_unit_ready(), lun=SLOW)
        self.assertTrue(session.wait(task).good)
        self.assertIn(session.task_management(TaskFunction.ABORT_TASK, lun=SLOW, task=task), (0, 1))

    def test_abort_task_of_a_command_that_was_lost(self):
        session = self.open()
        lost = session.cmd_sn
        session.cmd_sn += 1
        self.assertEqual(session.task_management(TaskFunction.ABORT_TASK, lun=SLOW,
                                                 ref_itt=0x7777, ref_cmd_sn=lost), 0)
        self.assertTrue(session.command(scsi.test_unit_ready(), lun=SLOW).good,
                        "the lost command holds up those behind it")

    def test_abort_task_of_a_number_that_is_still_to_come(self):
        session = self.open()
        function = TaskFunction.ABORT_TASK
        for ref_cmd_sn in (session.cmd_sn, session.cmd_sn + 1):
            self.assertEqual(session.task_management(function, lun=SLOW, ref_itt=0x7777,
                                                     ref_cmd_sn=ref_cmd_sn), 1)
        for _ in range(2):
            self.assertTrue(session.command(scsi.test_unit_ready(), lun=SLOW).good,
                            "a command was taken for the one to abort")

    def test_abort_task_set_spares_the_other_nexus(self):
        session, other = self.open(), self.open(1, ISID + 1)
        task = self.hang(session)
        self.fs.add("other", op="write", hang=True, start=1 << 20)
        spared = other.submit(scsi.write16(4096, 8), lun=SLOW, data_out=NEW)
        self.wait_until(lambda: self.fs.held() == 2, "both writes are in the backing")
        abort = self.in_background(session.task_management, TaskFunction.ABORT_TASK_SET, lun=SLOW)
        time.sleep(NOT_YET_S)
        self.assertFalse(abort.done())
        self.fs.remove("hang")
        self.assertEqual(abort.result(AFTER_S), 0, "waits for a command of another nexus")
        session.poll(0.1)
        self.assertIsNone(task.response)
        self.fs.clear()
        self.assertTrue(other.wait(spared).good)
        self.assertEqual(other.ready(SLOW), [])

    def test_clear_task_set_aborts_the_other_nexus(self):
        victim, other = self.open(), self.open(1, ISID + 1)
        task = self.hang(victim)
        clear = self.in_background(other.task_management, TaskFunction.CLEAR_TASK_SET, lun=SLOW)
        self.assertEqual(self.answers_only_after_the_write(clear), 0)
        self.assertEqual(victim.wait(task).status, scsi.Status.TASK_ABORTED)
        self.stays(other)

    def test_target_warm_reset(self):
        victim, other = self.open(), self.open(1, ISID + 1)
        self.hang(victim)
        reset = self.in_background(other.task_management, TaskFunction.TARGET_WARM_RESET)
        self.assertEqual(self.answers_only_after_the_write(reset), 0)
        for lun in (SLOW, FAST):
            self.assertEqual([asc for asc, _ in other.ready(lun)], [0x29])
        self.stays(other)


class Reservation(DrainCase):
    def registered(self):
        victim, other = self.open(), self.open(1, ISID + 1)
        self.assertTrue(victim.pr_out(scsi.PrOut.REGISTER, lun=SLOW, new_key=0xA).good)
        self.assertTrue(other.pr_out(scsi.PrOut.REGISTER, lun=SLOW, new_key=0xB).good)
        self.assertTrue(victim.pr_out(
            scsi.PrOut.RESERVE, lun=SLOW, key=0xA,
            type=scsi.PrType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY).good)
        return victim, other

    def preempt(self, session, action=scsi.PrOut.PREEMPT_AND_ABORT):
        return session.pr_out(action, lun=SLOW, key=0xB, new_key=0xA,
                              type=scsi.PrType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY)

    def test_preempt_and_abort_answers_after_the_victims_write(self):
        victim, other = self.registered()
        task = self.hang(victim)
        preempt = self.in_background(self.preempt, other)
        self.assertTrue(self.answers_only_after_the_write(preempt).good)
        self.assertEqual(victim.wait(task).status, scsi.Status.TASK_ABORTED)
        self.assertEqual(victim.ready(SLOW), [(0x2A, 0x05)])
        refused = victim.command(scsi.write16(0, 8), lun=SLOW, data_out=OLD)
        self.assertEqual(refused.status, scsi.Status.RESERVATION_CONFLICT)
        self.stays(other)

    def test_writes_that_wait_for_data_or_their_turn_never_land(self):
        victim, other = self.registered()
        self.fs.add("hang", op="write", hang=True)
        tasks = [victim.submit(scsi.write16(0, 8), lun=SLOW, data_out=OLD) for _ in range(20)]
        half = victim.submit(scsi.write16(0, 8), lun=SLOW, data_out=OLD, immediate=OLD[:512],
                             unsolicited=False)
        self.wait_until(lambda: self.fs.held() > 0, "a write is in the backing")
        preempt = self.in_background(self.preempt, other)
        time.sleep(NOT_YET_S)
        self.assertFalse(preempt.done())
        self.fs.clear()
        self.assertTrue(preempt.result(AFTER_S).good)
        other.write(0, NEW, lun=SLOW)
        try:  # the rest of the data of a command that is no more
            victim.send_data_out(half, data=OLD[512:], offset=512)
            victim.poll(0.5)
        except iscsi.Closed:
            pass
        answered = [task.response.status for task in tasks if task.response]
        self.assertEqual(set(answered), {scsi.Status.TASK_ABORTED})
        self.stays(other)

    def test_preempt_without_abort_does_not_wait(self):
        victim, other = self.registered()
        self.hang(victim)
        self.assertTrue(self.within(AT_ONCE_S, "PREEMPT", self.preempt, other,
                                    scsi.PrOut.PREEMPT).good)

    def test_reservation_commands_work_while_the_backing_hangs(self):
        victim, other = self.registered()
        self.hang(victim)
        keys = self.within(AT_ONCE_S, "READ KEYS", other.good, scsi.pr_in(0), lun=SLOW,
                           read_length=4096)
        self.assertEqual(scsi.parse_keys(keys)[1], [0xA, 0xB])
        self.assertTrue(self.within(AT_ONCE_S, "TEST UNIT READY", other.command,
                                    scsi.test_unit_ready(), lun=SLOW).good)


class Isolation(DrainCase):
    def test_a_stalled_lun_holds_up_nothing_else(self):
        session, other = self.open(), self.open(1, ISID + 1)
        self.fs.add("hang", hang=True)
        stuck = [session.submit(scsi.write16(8 * n, 8), lun=SLOW, data_out=OLD) for n in range(150)]
        stuck += [session.submit(scsi.read16(8 * n, 8), lun=SLOW, read_length=4096)
                  for n in range(30)]
        self.wait_until(lambda: self.fs.held() > 8, "requests are in the backing")
        for number in range(5):
            for each in (session, other):
                each_data = bytes([number]) * 4096
                self.within(0.3, "a write of another LUN", each.write, 8, each_data, lun=FAST)
                self.assertEqual(
                    self.within(0.3, "a read of another LUN", each.read, 8, 8, lun=FAST), each_data)
                self.within(0.3, "a flush of another LUN", each.good, scsi.synchronize_cache10(),
                            lun=FAST)
            extra = self.within(AT_ONCE_S, "a login", self.open, number % 2, ISID + 5, OTHER_NAME,
                                ready=False)
            self.within(0.3, "another LUN of a new session", extra.ready, FAST)
            self.within(AT_ONCE_S, "a logout", extra.logout)
            self.within(AT_ONCE_S, "the command line", self.daemon.cli, "status", status=None)
        self.within(0.3, "a ping", session.ping)
        self.fs.clear()
        for task in stuck:
            response = session.wait(task)
            self.assertIn(response.status, (scsi.Status.GOOD, scsi.Status.TASK_SET_FULL))

    def test_a_logout_with_a_hanging_command_holds_up_nobody(self):
        session, other = self.open(), self.open(1, ISID + 1)
        self.hang(session)
        logout = self.in_background(session.logout)
        self.within(0.3, "another session", other.read, 0, 8, lun=FAST)
        self.within(AT_ONCE_S, "a login", self.open, 1, ISID + 2, ready=False)
        self.fs.clear()
        self.assertEqual(logout.result(AFTER_S), 0)


class Kill(DrainCase):
    def test_no_write_of_a_killed_daemon_lands_under_its_successor(self):
        session = self.open()
        session.write(0, b"\x77" * 4096, lun=FAST)
        self.hang(session)
        killed = self.daemon.abandon()
        self.addCleanup(killed.wait, 30)
        self.addCleanup(self.fs.clear)
        self.daemon.launch()
        again = self.wait_until(self.try_login, "the successor takes logins", 8)
        response = again.command(scsi.test_unit_ready(), lun=SLOW)
        for _ in range(4):
            if response.sense.key != scsi.Key.UNIT_ATTENTION:
                break
            response = again.command(scsi.test_unit_ready(), lun=SLOW)
        self.assertEqual((response.sense.key, *response.sense.asc_ascq), (2, 0x04, 0x01))
        refused = again.command(scsi.write16(0, 8), lun=SLOW, data_out=NEW)
        self.assertEqual((refused.sense.key, *refused.sense.asc_ascq), (2, 0x04, 0x01))
        self.assertEqual(self.on_disk(), bytes(4096))
        self.fs.clear()
        killed.wait(10)
        self.wait_until(lambda: again.command(scsi.test_unit_ready(), lun=SLOW).good,
                        "the LUN is ready", 10)
        self.assertEqual(self.on_disk(), OLD, "served before the old write had ended")
        self.stays(again)

    def try_login(self):
        try:
            return self.open(1, ready=False, login_deadline=2)
        except (OSError, AssertionError, iscsi.Closed, iscsi.LoginFailed):
            return None


if __name__ == "__main__":
    case.main()
