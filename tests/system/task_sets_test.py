"""Functions on task sets and resets against commands whose data or whose predecessors have not
come: RFC 7143 4.2.3.3, "clarified multi-task abort semantics". What hangs in a backing is
drain_test.py's.
"""

import contextlib
import time

from holdfast import case, iscsi, scsi
from holdfast.iscsi import TaskFunction
from holdfast.pdu import NO_TAG, Opcode, Pdu
from holdfast.target import TARGET_NAME, Disk

BLOCK = 512
SIZE = 16384
DRAIN_S = 6
NOTHING_COMES_S = 0.4
COMPLETE, REJECTED = 0, 255
ON_THE_UNIT = (TaskFunction.ABORT_TASK_SET, TaskFunction.CLEAR_TASK_SET,
               TaskFunction.LOGICAL_UNIT_RESET)
ON_THE_TARGET = (TaskFunction.TARGET_WARM_RESET, TaskFunction.TARGET_COLD_RESET)


class TaskSetCase(case.TestCase):
    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=[Disk("d0", kind="memory", size="16MiB")],
                                  settings={"drain_deadline": f"{DRAIN_S}s"})
        self.isid = 0x80_0000_000000

    def open(self) -> iscsi.Session:
        self.isid += 1
        session = iscsi.Session.open(self.daemon.portal(self.isid % 2), TARGET_NAME,
                                     isid=self.isid)
        self.addCleanup(session.close)
        session.ready()
        return session

    def write(self, session, **options) -> iscsi.Task:
        """A write that needs its data by an R2T, which is not answered."""
        return session.submit(scsi.write16(64, SIZE // BLOCK), data_out=b"\x55" * SIZE,
                              immediate=b"", unsolicited=False, answer_r2t=False, **options)

    def asked(self, session) -> iscsi.Task:
        task = self.write(session)
        self.wait_until(lambda: session.poll(0.02) or task.r2ts, "the R2T", 5)
        return task

    def ask(self, session, function) -> int:
        """Sends the function and does not wait; the tag it has."""
        pdu = Pdu(Opcode.TASK_MANAGEMENT, flags=0x80 | function, itt=session.next_itt,
                  immediate=True)
        session.next_itt += 1
        session.send(pdu.put32(20, NO_TAG).put32(24, session.cmd_sn))
        return pdu.itt

    def answer(self, session, tag, deadline=5):
        """The response code of the function; None when it has not come within the time."""
        end = time.monotonic() + deadline

        def found():
            return [pdu for pdu in session.unexpected if pdu.itt == tag]

        with contextlib.suppress(iscsi.Closed):  # after the answer to a cold reset
            while not found() and time.monotonic() < end:
                session.poll(0.05)
        answers = found()
        if not answers:
            return None
        self.assertEqual([pdu.opcode for pdu in answers], [Opcode.TASK_MANAGEMENT_RESPONSE])
        session.unexpected.remove(answers[0])
        return answers[0].bhs[2]

    def untouched(self):
        self.assertEqual(self.open().read(64, SIZE // BLOCK), bytes(SIZE))

    def lives(self, session):
        session.ready()
        session.write(0, b"\x22" * SIZE)
        self.assertEqual(session.read(0, SIZE // BLOCK), b"\x22" * SIZE)


class OpenR2ts(TaskSetCase):
    """4.2.3.3 a: what the issuing initiator was asked for is waited for, and dropped."""

    def test_the_answer_follows_the_data(self):
        for function in ON_THE_UNIT + ON_THE_TARGET:
            with self.subTest(function.name):
                session = self.open()
                tasks = [self.asked(session) for _ in range(2)]
                tag = self.ask(session, function)
                self.assertIsNone(self.answer(session, tag, NOTHING_COMES_S), "before any data")
                session.send_data_out(tasks[0], tasks[0].r2ts[0])
                half = SIZE // 2
                session.send_data_out(tasks[1], tasks[1].r2ts[0], data=b"\x55" * half, final=False)
                self.assertIsNone(self.answer(session, tag, NOTHING_COMES_S), "before the rest")
                session.send_data_out(tasks[1], tasks[1].r2ts[0], data=b"\x55" * half, offset=half,
                                      data_sn=1)
                self.assertEqual(self.answer(session, tag), COMPLETE)
                self.assertEqual([task.response for task in tasks], [None, None])
                self.untouched()
                if function != TaskFunction.TARGET_COLD_RESET:
                    self.lives(session)

    def test_data_that_ends_early_is_enough(self):
        session = self.open()
        task = self.asked(session)
        tag = self.ask(session, TaskFunction.ABORT_TASK_SET)
        session.send_data_out(task, task.r2ts[0], data=b"\x55" * BLOCK)  # with the F bit
        self.assertEqual(self.answer(session, tag), COMPLETE)
        self.untouched()
        self.lives(session)

    def test_an_initiator_that_sends_nothing_is_not_waited_for_for_ever(self):
        for function in ON_THE_UNIT:
            with self.subTest(function.name):
                session = self.open()
                task = self.asked(session)
                began = time.monotonic()
                tag = self.ask(session, function)
                self.assertEqual(self.answer(session, tag, DRAIN_S), COMPLETE)
                self.assertGreater(time.monotonic() - began, DRAIN_S / 2 - 0.2)
                session.send_data_out(task, task.r2ts[0])  # late: its tag means nothing any more
                self.lives(session)
                self.untouched()

    def test_other_initiators_are_not_waited_for(self):
        for function in ON_THE_UNIT[1:]:
            with self.subTest(function.name):
                session, other = self.open(), self.open()
                task = self.asked(other)
                self.assertEqual(session.task_management(function, deadline=2), COMPLETE)
                self.assertEqual(other.wait(task).status, scsi.Status.TASK_ABORTED)
                other.send_data_out(task, task.r2ts[0])
                self.lives(other)
                self.untouched()

    def test_logouts_and_new_sessions_do_not_wait_for_it(self):
        session = self.open()
        self.asked(session)
        self.ask(session, TaskFunction.LOGICAL_UNIT_RESET)
        began = time.monotonic()
        again = iscsi.Session.open(self.daemon.portal(self.isid % 2), TARGET_NAME, isid=self.isid)
        self.addCleanup(again.close)
        self.assertLess(time.monotonic() - began, DRAIN_S / 2 - 0.5)
        again.ready()
        self.asked(again)
        tag = self.ask(again, TaskFunction.ABORT_TASK_SET)
        self.assertIsNone(self.answer(again, tag, NOTHING_COMES_S))
        began = time.monotonic()
        self.assertEqual(again.logout(), 0)
        self.assertLess(time.monotonic() - began, DRAIN_S / 2 - 0.5)


class Missing(TaskSetCase):
    """4.2.3.3 b: commands with lower numbers that have not come are affected."""

    def gap(self, session) -> tuple:
        """(the number that is missing, a command parked behind it)."""
        missing = session.cmd_sn
        session.cmd_sn += 1
        return missing, session.submit(scsi.test_unit_ready())

    def fill(self, session, missing) -> iscsi.Task:
        real, session.cmd_sn = session.cmd_sn, missing
        task = self.write(session)
        session.cmd_sn = real
        return task

    def test_functions_on_a_unit_wait_for_them(self):
        for function in ON_THE_UNIT:
            with self.subTest(function.name):
                session = self.open()
                missing, parked = self.gap(session)
                tag = self.ask(session, function)
                self.assertIsNone(self.answer(session, tag, NOTHING_COMES_S))
                late = self.fill(session, missing)
                self.wait_until(lambda: session.poll(0.02) or late.r2ts, "the R2T", 5)
                session.send_data_out(late, late.r2ts[0])
                self.assertEqual(self.answer(session, tag), COMPLETE)
                self.assertIsNone(late.response, "it was affected, and not executed")
                self.assertIsNotNone(parked.response, "it has no data to wait for")
                self.untouched()
                self.lives(session)

    def test_they_do_not_wait_for_ever(self):
        session = self.open()
        missing, parked = self.gap(session)
        tag = self.ask(session, TaskFunction.ABORT_TASK_SET)
        self.assertEqual(self.answer(session, tag, DRAIN_S + 3), REJECTED)
        late = self.fill(session, missing)
        self.wait_until(lambda: session.poll(0.02) or late.r2ts, "the R2T", 5)
        session.send_data_out(late, late.r2ts[0])
        self.assertTrue(session.wait(late).good)  # nobody said that it was aborted
        self.assertTrue(session.wait(parked).good)

    def test_a_command_with_a_higher_number_is_not_affected(self):
        session = self.open()
        tag_number = session.cmd_sn
        session.cmd_sn += 1
        later = session.submit(scsi.test_unit_ready())
        session.cmd_sn = tag_number
        self.assertEqual(session.task_management(TaskFunction.ABORT_TASK_SET), COMPLETE)
        self.assertTrue(session.command(scsi.test_unit_ready()).good)
        self.assertTrue(session.wait(later, 3).good)

    def test_a_reset_of_the_target_counts_them_as_received(self):
        session = self.open()
        missing, parked = self.gap(session)
        tag = self.ask(session, TaskFunction.TARGET_WARM_RESET)
        self.assertEqual(self.answer(session, tag), COMPLETE)
        late = self.fill(session, missing)
        session.poll(NOTHING_COMES_S)
        self.assertEqual((late.r2ts, late.response, parked.response), ([], None, None))
        self.assertEqual(session.ping().exp_cmd_sn, session.cmd_sn)
        self.untouched()
        self.lives(session)


if __name__ == "__main__":
    case.main()
