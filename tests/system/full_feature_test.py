"""The full feature phase on the wire (RFC 7143): numbering, immediate commands, unsolicited data,
task tags, digests, pings, logouts. What hostile_test.py asks of broken peers is not asked again.
"""

from holdfast import case, iscsi, scsi
from holdfast.iscsi import TaskFunction
from holdfast.pdu import NO_TAG, Opcode, Pdu
from holdfast.target import TARGET_NAME, Disk

BLOCK = 512
NOTHING_COMES_S = 0.4  # how long an answer that must not come is awaited
ENDS_WITHIN_S = 3.0
MAX_IMMEDIATE = 16  # target/limits.h
# Reject reasons, RFC 7143 11.17.1.
DATA_DIGEST_ERROR, NOT_SUPPORTED, TOO_MANY_IMMEDIATE = 0x02, 0x05, 0x06
# Sense of RFC 7143 11.4.7.2.
CRC_ERROR, UNEXPECTED_DATA, WRONG_AMOUNT = (0xB, 0x47, 0x05), (0xB, 0x0C, 0x0C), (0xB, 0x0C, 0x0D)


class Session(iscsi.Session):
    """
    Keeps the header that was sent last; `damage` is for the next PDU that has data, `ahs` for the
    next of all.
    """
    header, damaged, damage, ahs = b"", b"", False, b""

    def send(self, pdu, **damage):
        pdu.ahs, self.ahs = self.ahs, b""
        self.header = pdu.encode()[:48]
        if self.damage and pdu.data:
            self.damage, self.damaged, damage = False, self.header, {"bad_data_digest": True}
        super().send(pdu, **damage)


class FullFeatureCase(case.TestCase):
    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=[Disk("d0", kind="memory", size="16MiB")])
        self.isid = 0x80_0000_000100
        self.witness = self.open(isid=0x80_0000_00AAAA)

    def open(self, isid=None, **options) -> Session:
        if isid is None:
            self.isid += 1
            isid = self.isid
        session = Session.open(self.daemon.portal(), TARGET_NAME, isid=isid, **options)
        self.addCleanup(session.close)
        session.ready()
        return session

    def held_write(self, session, data=b"\x55" * 4096, lba=64, **options):
        """A write that waits for the data of its R2T."""
        task = session.submit(scsi.write16(lba, len(data) // BLOCK), data_out=data, immediate=b"",
                              unsolicited=False, answer_r2t=False, **options)
        self.wait_until(lambda: session.poll(0.02) or task.r2ts, "the R2T", 3)
        return task

    def lives(self, session):
        """The session's own numbering and data still work."""
        session.write(0, b"\x22" * BLOCK)
        self.assertEqual(session.read(0, 1), b"\x22" * BLOCK)

    def is_ended(self, session, lba=64, blocks=8):
        """The connection ends, none of the data is on the disk, others are served."""
        self.assertTrue(session.is_closed_by_peer(ENDS_WITHIN_S), "still connected")
        self.untouched(lba, blocks)

    def untouched(self, lba=64, blocks=8):
        self.assertEqual(self.witness.read(lba, blocks), bytes(blocks * BLOCK))

    def no_answer(self, session, *tasks):
        session.poll(NOTHING_COMES_S)
        self.assertEqual([task.response for task in tasks], [None] * len(tasks))
        self.assertEqual(session.unexpected, [])

    def is_rejected(self, session, reason, header, stat_sn):
        """One Reject as RFC 7143 11.17 has it; it uses up its StatSN."""
        self.wait_until(lambda: session.poll(0.02) or session.rejects, "a Reject", 3)
        reject = session.rejects.pop()
        self.assertEqual(session.rejects, [])
        self.assertEqual((reject.flags, reject.bhs[2], reject.itt), (0x80, reason, NO_TAG))
        self.assertEqual(reject.data, header)
        self.assertEqual(reject.stat_sn, stat_sn)

    def fails_with(self, response, sense):
        self.assertEqual((response.status, response.response), (scsi.Status.CHECK_CONDITION, 0))
        self.assertEqual((response.sense.key, *response.sense.asc_ascq), sense)


class Order(FullFeatureCase):
    """Command numbers, RFC 7143 4.2.2.1."""

    def submit(self, session, number, cdb=scsi.test_unit_ready(), **options):
        session.cmd_sn = number
        return session.submit(cdb, **options)

    def test_commands_run_in_the_order_of_their_numbers(self):
        session = self.open()
        first = session.cmd_sn
        last = self.submit(session, first + 3)
        write = self.submit(session, first + 2, scsi.write16(64, 8), data_out=b"\x55" * 4096)
        second = self.submit(session, first + 1)
        self.no_answer(session, last, write, second)
        self.untouched()
        self.assertEqual(session.ping().exp_cmd_sn, first)
        tasks = [self.submit(session, first), second, write, last]
        session.cmd_sn = first + 4
        for task in tasks:
            self.assertTrue(session.wait(task).good)
        at_once = [task.response.pdu.stat_sn for task in (tasks[0], second, last)]
        self.assertEqual(at_once, sorted(at_once))
        self.assertEqual(self.witness.read(64, 8), b"\x55" * 4096)
        self.assertEqual(session.ping().exp_cmd_sn, first + 4)

    def test_a_number_in_the_window_counts_once(self):
        session = self.open()
        first = session.cmd_sn
        early, later = (self.submit(session, first + ahead) for ahead in (1, 2))
        again = self.submit(session, first + 1, scsi.write16(64, 8), data_out=b"\x66" * 4096)
        self.no_answer(session, early, again, later)
        due = self.submit(session, first)
        session.cmd_sn = first + 3
        for task in (due, early, later):
            self.assertTrue(session.wait(task, 3).good)
        self.no_answer(session, again)
        self.untouched()
        self.lives(session)

    def test_a_numbered_ping_is_answered_once_whatever_came_before_it(self):
        session = self.open()
        first = session.cmd_sn
        ping = Pdu(Opcode.NOP_OUT, flags=0x80, itt=0x77, data=b"early")
        ping.put32(20, NO_TAG).put32(24, first + 1)
        session.send(ping)
        session.poll(NOTHING_COMES_S)
        self.assertEqual(session.unexpected, [], "answered before its turn")
        self.assertTrue(session.wait(self.submit(session, first)).good)
        session.poll(0.1)
        session.send(ping)  # the target need not have kept it; if it did, this is a duplicate
        session.poll(NOTHING_COMES_S)
        self.assertEqual([pdu.data for pdu in session.unexpected], [b"early"])
        session.cmd_sn = first + 2
        self.lives(session)


    def test_task_attributes(self):
        """Untagged, SIMPLE, ORDERED, HEAD OF QUEUE: all are executed as SIMPLE."""
        session = self.open()
        for attribute in range(4):
            data = bytes([attribute + 1]) * 4096
            written = session.command(scsi.write16(64, 8), data_out=data, attribute=attribute)
            self.assertTrue(written.good)
            read = session.command(scsi.read16(64, 8), read_length=4096, attribute=attribute)
            self.assertEqual(read.data, data)


class Rejects(FullFeatureCase):
    def test_more_than_sixteen_immediate_commands(self):
        session = self.open()
        first = session.cmd_sn
        held = [self.held_write(session, lba=64 + 8 * number, is_immediate=True)
                for number in range(MAX_IMMEDIATE)]
        for _ in range(2):
            stat_sn = session.exp_stat_sn
            refused = session.submit(scsi.test_unit_ready(), is_immediate=True)
            self.is_rejected(session, TOO_MANY_IMMEDIATE, session.header, stat_sn)
            self.assertEqual(session.ping().stat_sn, stat_sn + 1)
        self.assertIsNone(refused.response)
        self.assertEqual(session.cmd_sn, first, "immediate commands use no number")
        self.lives(session)
        self.assertEqual(session.task_management(TaskFunction.ABORT_TASK, task=held[0]), 0)
        self.assertTrue(session.command(scsi.test_unit_ready(), is_immediate=True).good)
        for task in held[1:]:
            session.send_data_out(task, task.r2ts[0])
            self.assertTrue(session.wait(task).good)
        self.untouched(64, 8)
        self.assertEqual(self.witness.read(72, 120), b"\x55" * 120 * BLOCK)

    def test_snack_is_not_supported(self):
        session = self.open()
        for kind in range(4):
            stat_sn = session.exp_stat_sn
            session.send(Pdu(Opcode.SNACK, flags=0x80 | kind, itt=0x1234).put32(44, 3))
            self.is_rejected(session, NOT_SUPPORTED, session.header, stat_sn)
            self.assertEqual(session.ping().stat_sn, stat_sn + 1)
        self.lives(session)


class Unsolicited(FullFeatureCase):
    """Data that was not asked for: RFC 7143 4.2.5.2, 13.10, 13.11, 13.14."""

    def test_immediate_data_that_is_not_allowed_ends_its_command(self):
        for keys, size, expected in (({"ImmediateData": "No"}, 4096, None),
                                     ({"FirstBurstLength": "512"}, 4096, None),
                                     ({}, 8192, 4096)):
            with self.subTest(keys=keys, expected=expected):
                session = self.open(keys=keys)
                data = b"\x55" * size
                response = session.command(scsi.write16(64, size // BLOCK), data_out=data,
                                           immediate=data, expected_length=expected)
                self.fails_with(response, UNEXPECTED_DATA)
                self.untouched()
                self.lives(session)

    def test_more_than_the_first_burst(self):
        for immediate in (0, 512):
            with self.subTest(immediate):
                session = self.open(keys={"FirstBurstLength": "2048"})
                session.keys["FirstBurstLength"] = "4096"
                session.submit(scsi.write16(64, 16), data_out=b"\x55" * 8192,
                               immediate=b"\x55" * immediate)
                self.is_ended(session, blocks=16)

    def test_more_than_the_command_expects(self):
        session = self.open(keys={"ImmediateData": "No"})
        session.submit(scsi.write16(64, 8), data_out=b"\x55" * 8192, expected_length=4096)
        self.is_ended(session)

    def test_announced_although_initial_r2t_was_agreed(self):
        session = self.open(keys={"InitialR2T": "Yes"})
        session.keys["InitialR2T"] = "No"
        session.submit(scsi.write16(64, 8), data_out=b"\x55" * 4096, immediate=b"")
        self.is_ended(session)

    def test_not_announced_is_dropped(self):
        session = self.open(keys={"InitialR2T": "Yes"})
        task = self.held_write(session)
        session.send_data_out(task, data=b"\x66" * 4096, offset=0)
        self.no_answer(session, task)
        self.untouched()
        session.send_data_out(task, task.r2ts[0])
        self.assertTrue(session.wait(task).good)
        self.assertEqual(session.read(64, 8), b"\x55" * 4096)

    def test_less_than_announced(self):
        # 11.4.7.2 has a sense for it; to ask for the rest with R2Ts loses nothing either.
        session = self.open(keys={"ImmediateData": "No", "FirstBurstLength": "4096"})
        session.keys["FirstBurstLength"] = "1024"
        task = session.submit(scsi.write16(64, 16), data_out=b"\x55" * 8192)
        response = session.wait(task)
        if response.good:
            self.assertEqual(session.read(64, 16), b"\x55" * 8192)
        else:
            self.fails_with(response, WRONG_AMOUNT)
            self.untouched(blocks=16)
        self.lives(session)


class Tags(FullFeatureCase):
    def test_a_tag_used_twice(self):
        """RFC 7143 11.2.1.8: unique for all tasks of the session while they are there."""
        for name, gap, immediate in (("active", 0, False), ("parked", 1, False),
                                     ("immediate", 0, True)):
            with self.subTest(name):
                session = self.open()
                session.cmd_sn += gap
                data = b"\x55" * 4096
                task = session.submit(scsi.write16(64, 8), data_out=data, immediate=b"",
                                      unsolicited=False, answer_r2t=False)
                session.next_itt = task.itt
                session.submit(scsi.write16(64, 8), data_out=data, is_immediate=immediate)
                self.is_ended(session)


class TaskManagement(FullFeatureCase):
    """ABORT TASK of what has not arrived: RFC 7143 11.6.1 (b) and (c)."""

    def abort(self, session, number):
        return session.task_management(TaskFunction.ABORT_TASK, ref_itt=0x5555, ref_cmd_sn=number)

    def test_the_number_due_next_counts_as_received(self):
        session = self.open()
        missing = session.cmd_sn
        session.cmd_sn += 1
        parked = session.submit(scsi.test_unit_ready())
        self.no_answer(session, parked)
        self.assertEqual(self.abort(session, missing), 0)
        self.assertTrue(session.wait(parked).good)
        real, session.cmd_sn = session.cmd_sn, missing
        late = session.submit(scsi.write16(64, 8), data_out=b"\x55" * 4096)
        session.cmd_sn = real
        self.no_answer(session, late)
        self.untouched()
        self.lives(session)

    def test_a_later_number_counts_as_received(self):
        session = self.open()
        first = session.cmd_sn
        session.cmd_sn = first + 2
        parked = session.submit(scsi.test_unit_ready())
        self.assertEqual(self.abort(session, first + 1), 0)
        self.no_answer(session, parked)
        session.cmd_sn = first
        self.assertTrue(session.command(scsi.test_unit_ready()).good)
        self.assertTrue(session.wait(parked, 3).good)
        session.cmd_sn = first + 3
        self.lives(session)

    def test_numbers_that_no_command_can_have_had(self):
        session = self.open()
        for number in (session.cmd_sn - 1, session.max_cmd_sn + 1, session.cmd_sn + 100_000):
            self.assertEqual(self.abort(session, number), 1, "task does not exist")
        # In the window, but not below the request's own: the command is yet to be sent. If its
        # number counted as received it would never be answered.
        self.assertEqual(self.abort(session, session.cmd_sn + 3), 1)
        for _ in range(5):
            self.assertTrue(session.command(scsi.test_unit_ready(), deadline=3).good)


class AdditionalHeaders(FullFeatureCase):
    """RFC 7143 11.2.2: CDBs of more than 16 bytes, the read length of bidirectional commands."""
    EXTENDED_CDB = bytes.fromhex("0005010000000000")  # 20 bytes in all
    VARIABLE_CDB = bytes.fromhex("00110100") + bytes(16)  # 32 bytes in all
    READ_AND_WRITE = 0x41  # simple, with the R bit
    INVALID_OPCODE, INVALID_FIELD = (5, 0x20, 0x00), (5, 0x24, 0x00)

    @staticmethod
    def read_length(count) -> bytes:
        return bytes.fromhex("00050200") + count.to_bytes(4, "big")

    def command(self, session, ahs, cdb, **options):
        session.ahs = ahs
        return session.command(cdb, deadline=5, **options)

    def test_extended_cdbs_are_answered(self):
        session = self.open()
        variable = bytes([0x7F]) + bytes(6) + bytes([24]) + bytes(8)
        self.fails_with(self.command(session, self.VARIABLE_CDB, variable), self.INVALID_OPCODE)
        response = self.command(session, self.EXTENDED_CDB, scsi.read16(0, 8), read_length=4096)
        self.fails_with(response, self.INVALID_FIELD)
        self.assertEqual((response.data, response.underflow, response.residual), (b"", True, 4096))
        for options in ({}, {"immediate": b""}, {"immediate": b"", "unsolicited": False}):
            response = self.command(session, self.EXTENDED_CDB, scsi.write16(64, 8),
                                    data_out=b"\x55" * 4096, **options)
            self.fails_with(response, self.INVALID_FIELD)
            self.untouched()
        self.lives(session)

    def test_a_read_length_means_nothing_in_a_command_that_goes_one_way(self):
        session = self.open()
        answers = [self.command(session, ahs, scsi.read16(0, 8), read_length=4096,
                                expected_length=expected)
                   for expected in (4096, 8192, 512) for ahs in (b"", self.read_length(77777))]
        for plain, with_length in zip(answers[::2], answers[1::2]):
            self.assertTrue(with_length.good)
            self.assertEqual((with_length.data, with_length.pdu.flags, with_length.residual),
                             (plain.data, plain.pdu.flags, plain.residual))
        self.assertEqual([each.residual for each in answers[::2]], [0, 4096, 3584])
        written = self.command(session, self.read_length(512), scsi.write16(64, 8),
                               data_out=b"\x55" * 4096)
        self.assertTrue(written.good)
        self.assertEqual((written.pdu.flags, written.pdu.get32(40)), (0x80, 0))
        self.assertEqual(session.read(64, 8), b"\x55" * 4096)

    def test_no_command_here_goes_both_ways(self):
        session = self.open()
        response = self.command(session, self.read_length(512), scsi.write16(64, 8),
                                data_out=b"\x55" * 4096, attribute=self.READ_AND_WRITE)
        self.fails_with(response, self.INVALID_FIELD)
        self.untouched()
        # Both underflow bits, and both counts (11.4.1, 11.4.5).
        self.assertEqual(response.pdu.flags, 0x80 | 0x08 | 0x02)
        self.assertEqual((response.pdu.get32(40), response.pdu.get32(44)), (512, 4096))
        for ahs in (b"", self.read_length(0)):  # allowed where one of the lengths is 0 (11.3.1)
            response = self.command(session, ahs, scsi.write16(64, 8), data_out=b"\x55" * 4096,
                                    attribute=self.READ_AND_WRITE)
            self.assertTrue(response.good)
            self.assertEqual(response.pdu.flags, 0x80)

    def test_segments_without_a_meaning_end_the_session(self):
        for ahs in (bytes.fromhex("0009010000000000"), bytes.fromhex("0005030000000000"),
                    bytes.fromhex("0001010000000000"), self.EXTENDED_CDB * 2, bytes(4)):
            with self.subTest(ahs.hex()):
                session = self.open()
                session.ahs = ahs
                session.submit(scsi.write16(64, 8), data_out=b"\x55" * 4096)
                self.is_ended(session)
        session = self.open()
        session.ahs = self.EXTENDED_CDB
        session.send(Pdu(Opcode.NOP_OUT, flags=0x80, itt=9, immediate=True).put32(20, NO_TAG))
        self.is_ended(session)


class Digests(FullFeatureCase):
    """A wrong data digest: Reject, and the command ends when its data is there (RFC 7143 7.8)."""

    def setUp(self):
        super().setUp()
        self.session = self.open(keys={"DataDigest": "CRC32C", "FirstBurstLength": "8192"})

    def rejected_then_fails(self, task, stat_sn, rest=lambda: None):
        self.is_rejected(self.session, DATA_DIGEST_ERROR, self.session.damaged, stat_sn)
        rest()
        self.fails_with(self.session.wait(task, 3), CRC_ERROR)
        self.untouched(64, 32)
        self.lives(self.session)
        self.session.write(64, b"\x55" * 16384)
        self.assertEqual(self.session.read(64, 32), b"\x55" * 16384)

    def wrong(self, task, data, **options) -> int:
        """Sends it damaged; the StatSN that is due."""
        self.session.damage = True
        self.session.send_data_out(task, data=data, **options)
        return self.session.exp_stat_sn

    def test_solicited(self):
        task = self.held_write(self.session, b"\x55" * 16384)
        r2t = task.r2ts[0]
        self.assertEqual(r2t.get32(44), 16384)
        stat_sn = self.wrong(task, b"\x66" * 4096, r2t=r2t, offset=0, final=False)

        def rest():
            self.no_answer(self.session, task)  # more data is on its way
            self.session.send_data_out(task, r2t, data=b"\x55" * 12288, offset=4096, data_sn=1)

        self.rejected_then_fails(task, stat_sn, rest)

    def test_solicited_and_last(self):
        task = self.held_write(self.session, b"\x55" * 16384)
        self.rejected_then_fails(task, self.wrong(task, b"\x66" * 16384, r2t=task.r2ts[0]))

    def test_unsolicited(self):
        self.session.keys["MaxRecvDataSegmentLength"] = "4096"  # two PDUs
        self.session.damage = True
        stat_sn = self.session.exp_stat_sn
        task = self.session.submit(scsi.write16(64, 16), data_out=b"\x66" * 8192, immediate=b"")
        self.rejected_then_fails(task, stat_sn)

    def test_immediate(self):
        self.session.damage = True
        data = b"\x66" * 4096
        task = self.session.submit(scsi.write16(64, 8), data_out=data, immediate=data)
        self.rejected_then_fails(task, self.session.exp_stat_sn)


class Ping(FullFeatureCase):
    def test_its_data_comes_back(self):
        session = self.open()
        for size in (0, 1, 3, 4, 511, 4096, 65536, session.segment_limit()):
            stat_sn, data = session.exp_stat_sn, bytes(n * 7 % 251 for n in range(size))
            answer = session.ping(data)
            self.assertEqual((answer.opcode, answer.flags, answer.ttt, answer.stat_sn),
                             (Opcode.NOP_IN, 0x80, NO_TAG, stat_sn))
            self.assertTrue(answer.data == data, f"other data, {size} bytes")

    def test_no_more_of_it_than_the_initiator_takes(self):
        session = self.open(keys={"MaxRecvDataSegmentLength": "512"})
        data = bytes(range(256)) * 16
        self.assertEqual(session.ping(data).data, data[:512])
        self.lives(session)

    def test_a_numbered_one_and_one_that_wants_no_answer(self):
        session = self.open()
        number = session.cmd_sn
        numbered = Pdu(Opcode.NOP_OUT, flags=0x80, data=b"x").put32(20, NO_TAG).put32(24, number)
        self.assertEqual(session.request(numbered).exp_cmd_sn, number + 1)
        session.cmd_sn += 1
        session.send(Pdu(Opcode.NOP_OUT, flags=0x80, immediate=True, itt=NO_TAG)
                     .put32(20, NO_TAG).put32(24, session.cmd_sn))
        self.no_answer(session)
        self.lives(session)


class Logout(FullFeatureCase):
    """RFC 7143 11.14, 11.15."""

    def code(self, session, reason, cid=0):
        pdu = Pdu(Opcode.LOGOUT, flags=0x80 | reason, immediate=True)
        pdu.bhs[20:22] = cid.to_bytes(2, "big")
        answer = session.request(pdu.put32(24, session.cmd_sn))
        self.assertEqual((answer.opcode, answer.flags), (Opcode.LOGOUT_RESPONSE, 0x80))
        return answer.bhs[2]

    def test_the_connection_or_the_session(self):
        for reason in (0, 1):
            session = self.open()
            self.assertEqual(self.code(session, reason), 0)
            self.assertTrue(session.is_closed_by_peer(ENDS_WITHIN_S))

    def test_for_recovery_and_of_another_connection(self):
        for reason, cid, expected in ((2, 0, 2), (1, 7, 1)):  # not supported, CID not found
            with self.subTest(reason=reason, cid=cid):
                session = self.open()
                self.assertEqual(self.code(session, reason, cid), expected)
                self.lives(session)


if __name__ == "__main__":
    case.main()
