"""Peers that break the protocol: the daemon ends what it must and goes on serving the others.

Every rule of what a PDU may say has a case here against the real daemon; the parsers themselves are
also fuzzed (tests/fuzz).
"""

import json
import socket

from holdfast import case, iscsi, scsi
from holdfast.pdu import NO_TAG, Opcode, Pdu, text_bytes
from holdfast.target import TARGET_NAME, Disk

ENDS_WITHIN_S = 3.0
BLOCK = 512
PROTOCOL_ERROR, DATA_DIGEST_ERROR, UNSUPPORTED = 0x04, 0x02, 0x05  # Reject, RFC 7143 11.17.1


class HostileCase(case.TestCase):
    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=[Disk("d0", kind="memory", size="16MiB")])
        self.witness = self.open(isid=0x80_0000_00AAAA)
        self.witness.write(0, b"\x44" * 4096)
        self.isid = 0x80_0000_000100

    def open(self, isid=None, **options):
        if isid is None:
            self.isid += 1
            isid = self.isid
        session = iscsi.Session.open(self.daemon.portal(), TARGET_NAME, isid=isid, **options)
        self.addCleanup(session.close)
        session.ready()
        return session

    def connection(self) -> iscsi.Session:
        """Connected, not logged in."""
        session = iscsi.Session(self.daemon.portal(), TARGET_NAME)
        self.addCleanup(session.close)
        return session

    def others_are_served(self):
        self.assertTrue(self.daemon.running(), self.daemon.log()[-2000:])
        self.assertEqual(self.witness.read(0, 8), b"\x44" * 4096)
        self.open().logout()

    def is_ended(self, connection, what):
        self.assertTrue(connection.is_closed_by_peer(ENDS_WITHIN_S), f"{what}: still connected")
        self.others_are_served()

    def is_rejected(self, session, *reasons):
        session.poll(0.5)
        self.assertTrue(session.rejects, "no Reject")
        self.assertIn(session.rejects[0].bhs[2], reasons)
        self.others_are_served()


class BeforeLogin(HostileCase):
    def test_bytes_that_are_no_iscsi(self):
        for name, data in (("HTTP", b"GET / HTTP/1.1\r\nHost: store\r\n\r\n" + b"A" * 100),
                           ("TLS", bytes.fromhex("16030100") + bytes(200)),
                           ("ones", b"\xff" * 65536), ("zeros", bytes(65536))):
            with self.subTest(name):
                connection = self.connection()
                try:
                    connection.send_raw(data)
                except iscsi.Closed:
                    pass
                self.is_ended(connection, name)

    def test_every_other_pdu_before_the_login(self):
        for opcode in (Opcode.NOP_OUT, Opcode.SCSI_COMMAND, Opcode.TASK_MANAGEMENT, Opcode.TEXT,
                       Opcode.DATA_OUT, Opcode.LOGOUT, Opcode.SNACK, Opcode.LOGIN_RESPONSE, 0x1F):
            with self.subTest(opcode):
                connection = self.connection()
                connection.send(Pdu(opcode, flags=0x80, itt=1))
                self.is_ended(connection, opcode)

    def login_pdu(self, session, **more):
        return session.login_pdu(iscsi.SECURITY, iscsi.OPERATIONAL,
                                 session.names() | {"AuthMethod": "None"} | more)

    def test_sizes_that_lie(self):
        for name, length, ahs in (("data", 0xFFFFFF, b""), ("AHS", None, bytes(1020)),
                                  ("both", 0xFFFFFF, b"\xff" * 1020), ("a little", 8193, b"")):
            with self.subTest(name):
                session = self.connection()
                pdu = self.login_pdu(session)
                pdu.length, pdu.ahs = length, ahs
                session.send(pdu)
                self.is_ended(session, name)

    def failed(self, pdus, *statuses):
        """One of the login PDUs, sent in one go, is answered with a failure and the close."""
        session = self.connection()
        try:
            session.send_raw(b"".join(pdu.encode() for pdu in pdus(session)))
            status = 0
            while status == 0:
                answer = session.receive(ENDS_WITHIN_S)
                self.assertEqual(answer.opcode, Opcode.LOGIN_RESPONSE)
                status = int.from_bytes(answer.bhs[36:38], "big")
            self.assertIn(status, statuses, f"status {status:#06x}")
        except iscsi.Closed:
            self.assertIn(None, statuses, "closed without an answer")
        self.is_ended(session, "a failed login")

    def test_logins_that_must_fail(self):
        first, second = iscsi.SECURITY, iscsi.OPERATIONAL
        many = b"".join(b"k%d=v\0" % number for number in range(600))

        def version(session):
            pdu = self.login_pdu(session)
            pdu.bhs[2] = pdu.bhs[3] = 9
            return [pdu]

        cases = {
            "no InitiatorName": (lambda s: [s.login_pdu(first, second, {"AuthMethod": "None"})],
                                 0x0207),
            "an unknown target": (lambda s: [self.login_pdu(s, TargetName="iqn.2026-11.x:no")],
                                  0x0203, 0x0200, 0x0202),
            "version": (version, 0x0205),
            "keys without values": (lambda s: [s.login_pdu(first, second, b"\0=\0InitiatorName\0")],
                                    0x0200),
            "stage 3": (lambda s: [s.login_pdu(3, 3, s.names())], 0x0200),
            "stage 2": (lambda s: [s.login_pdu(2, 3, s.names())], 0x0200),
            "600 unknown keys": (
                lambda s: [s.login_pdu(first, second, text_bytes(s.names()) + many)],
                0x0200, 0x0302),
            "a long key": (lambda s: [self.login_pdu(s, **{"K" * 4000: "1"})], 0x0200),
            "a long value": (lambda s: [self.login_pdu(s, MaxConnections="1" * 6000)], 0x0200),
            "continued for ever": (
                lambda s: [s.login_pdu(first, None, b"A" * 8000, True) for _ in range(40)], 0x0200),
            "continued with nothing": (
                lambda s: [s.login_pdu(first, None, b"", True) for _ in range(100)],
                0x0200, 0x0302),
            "the first stage again": (
                lambda s: [self.login_pdu(s), s.login_pdu(first, second, {})], 0x0200),
            "a command amid it": (
                lambda s: [self.login_pdu(s), Pdu(Opcode.SCSI_COMMAND, flags=0x80)], 0x020B),
        }
        for name, (pdus, *statuses) in cases.items():
            with self.subTest(name):
                self.failed(pdus, *statuses)

    def test_pdus_after_a_refused_login_are_ignored(self):
        self.failed(lambda s: [s.login_pdu(3, 3, s.names())] * 200, 0x0200)
        self.failed(lambda s: [s.login_pdu(3, 3, s.names()), self.login_pdu(s),
                               s.login_pdu(iscsi.OPERATIONAL, iscsi.FULL_FEATURE),
                               Pdu(Opcode.SCSI_COMMAND, flags=0x80)], 0x0200)

    def test_a_command_right_behind_the_last_login_pdu(self):
        session = self.connection()
        command = Pdu(Opcode.SCSI_COMMAND, flags=0x80, itt=1).put32(24, 1)
        pdus = [session.login_pdu(iscsi.SECURITY, iscsi.FULL_FEATURE,
                                  session.names() | {"AuthMethod": "None"}), command]
        session.send_raw(b"".join(pdu.encode() for pdu in pdus))
        session.is_closed_by_peer(0.5)  # refused or served: it must only survive
        self.others_are_served()


class FullFeature(HostileCase):
    def test_pdus_that_end_the_session(self):
        def login(session):
            return session.login_pdu(iscsi.SECURITY, iscsi.OPERATIONAL, session.names())

        def long_data(session):
            pdu = Pdu(Opcode.NOP_OUT, flags=0x80, itt=5, immediate=True).put32(20, NO_TAG)
            pdu.length = 0xFFFFFF
            return pdu

        for name, pdu in (("login", login), ("data beyond what we take", long_data),
                          ("AHS beyond what we take",
                           lambda s: Pdu(Opcode.SCSI_COMMAND, itt=5, ahs=b"\1" * 1020)),
                          ("a target's opcode", lambda s: Pdu(Opcode.DATA_IN, immediate=True)),
                          ("an unknown opcode", lambda s: Pdu(0x1C, immediate=True))):
            with self.subTest(name):
                session = self.open()
                session.send(pdu(session))
                self.is_ended(session, name)

    def test_snack_is_rejected(self):
        session = self.open()
        session.send(Pdu(Opcode.SNACK, flags=0x80, itt=5))
        self.is_rejected(session, UNSUPPORTED, 0x03, PROTOCOL_ERROR)

    def test_digests(self):
        session = self.open(keys={"HeaderDigest": "CRC32C"})
        session.send(Pdu(Opcode.NOP_OUT, flags=0x80, immediate=True, itt=3), bad_header_digest=True)
        self.is_ended(session, "a bad header digest")
        session = self.open(keys={"DataDigest": "CRC32C"})
        session.send(Pdu(Opcode.NOP_OUT, flags=0x80, immediate=True, itt=3, data=b"abcd"),
                     bad_data_digest=True)
        self.is_rejected(session, DATA_DIGEST_ERROR)

    def test_command_numbers_outside_the_window_are_ignored(self):
        session = self.open()
        real = session.cmd_sn
        for number in (real + 100_000, real - 1, real - 1000):
            session.cmd_sn = number & 0xFFFFFFFF
            task = session.submit(scsi.write16(0, 8), data_out=b"\x66" * 4096)
            session.poll(0.2)
            self.assertIsNone(task.response)
        session.cmd_sn = real
        self.assertTrue(session.command(scsi.test_unit_ready()).good)
        self.others_are_served()

    def test_task_management_that_does_not_exist(self):
        session = self.open()
        for function in (0, 3, 9, 99, 127):
            self.assertEqual(session.task_management(function), 5)
        self.assertEqual(session.task_management(iscsi.TaskFunction.TASK_REASSIGN), 4)
        self.assertEqual(session.task_management(iscsi.TaskFunction.LOGICAL_UNIT_RESET, lun=77), 2)

    def test_residuals_of_commands_in_the_wrong_direction(self):
        session = self.open()
        wrong = session.command(scsi.write16(0, 8), read_length=4096)
        self.assertTrue(not wrong.good or (wrong.overflow and wrong.residual == 4096), wrong)
        wrong = session.command(scsi.read16(0, 8), data_out=b"\x66" * 4096)
        self.assertTrue(not wrong.good or (wrong.overflow and wrong.residual == 4096), wrong)
        self.others_are_served()

    def test_text_without_end(self):
        session = self.open()
        pdu = Pdu(Opcode.TEXT, flags=0x40, immediate=True, itt=3, data=b"A" * 8000)
        pdu.put32(20, NO_TAG).put32(24, session.cmd_sn)
        before = self.daemon.memory_bytes()
        session.socket.settimeout(1)
        try:
            for _ in range(4000):
                session.send(pdu)
        except (TimeoutError, iscsi.Closed):
            pass  # nobody reads our answers, so it stops reading us
        self.assertLess(self.daemon.memory_bytes() - before, 8 << 20)
        self.others_are_served()


class Data(HostileCase):
    """Data-Outs that are not what was asked for. The blocks keep what they had."""

    def asked(self, **options):
        session = self.open(**options)
        task = session.submit(scsi.write16(64, 128), data_out=b"\x55" * 65536, immediate=b"",
                              unsolicited=False, answer_r2t=False)
        self.wait_until(lambda: session.poll(0.05) or task.r2ts, "R2T", 3)
        return session, task, task.r2ts[0]

    def nothing_was_written(self, first=64, blocks=128):
        self.assertEqual(self.witness.read(first, blocks), bytes(blocks * BLOCK))
        self.others_are_served()

    def test_too_much_or_too_little_ends_the_session(self):
        for size in (65536 + 512, 512, 0):
            with self.subTest(size):
                session, task, r2t = self.asked()
                session.send_data_out(task, r2t, data=b"\x55" * size)
                self.is_ended(session, f"{size} bytes for an R2T of 65536")
                self.nothing_was_written()

    def test_wrong_number_or_offset_fails_the_command(self):
        for wrong in ({"data_sn": 3}, {"offset": 512, "data": b"\x55" * 65024},
                      {"offset": 0xFFFFFE00, "data": b"\x55" * 512}):
            with self.subTest(wrong.keys()):
                session, task, r2t = self.asked()
                session.send_data_out(task, r2t, **wrong)
                response = session.wait(task)
                self.assertEqual((response.sense.key, *response.sense.asc_ascq), (0xB, 0x47, 0x05))
                self.assertEqual([pdu.bhs[2] for pdu in session.rejects], [DATA_DIGEST_ERROR])
                self.nothing_was_written()

    def test_data_for_unknown_tags_is_ignored(self):
        session, task, r2t = self.asked()
        for ttt in (r2t.ttt ^ 1, r2t.ttt + 77, 0, 0xFFFFFFFE):
            session.send_data_out(task, data=b"\x66" * 65536, offset=0, ttt=ttt)
        stranger = iscsi.Task(0x7777, 1, 0, b"\x66" * 512, False)
        session.send_data_out(stranger, data=b"\x66" * 512, offset=0, ttt=r2t.ttt)
        self.nothing_was_written()
        session.send_data_out(task, r2t)
        self.assertTrue(session.wait(task).good)
        self.assertEqual(self.witness.read(64, 128), b"\x55" * 65536)
        session.send_data_out(task, r2t, data=b"\x66" * 65536)  # late
        session.poll(0.2)
        self.assertEqual(self.witness.read(64, 128), b"\x55" * 65536)
        self.others_are_served()

    def test_data_of_an_aborted_write_is_ignored(self):
        session, task, r2t = self.asked()
        self.assertEqual(session.task_management(iscsi.TaskFunction.ABORT_TASK, task=task), 0)
        session.send_data_out(task, r2t)
        self.nothing_was_written()
        self.assertTrue(session.command(scsi.test_unit_ready()).good)

    def test_data_out_for_a_read(self):
        session = self.open()
        task = session.submit(scsi.read16(0, 8192), read_length=4 << 20)
        for tag in (None, 0, 1):
            session.send_data_out(task, data=b"\x66" * 4096, offset=0, ttt=tag)
        try:
            self.assertEqual(session.wait(task).data[:4096], b"\x44" * 4096)
        except iscsi.Closed:
            pass
        self.others_are_served()

    def test_immediate_data_that_was_not_agreed(self):
        for keys, size, expected in (({"ImmediateData": "No"}, 4096, 4096),
                                     ({"FirstBurstLength": "512"}, 4096, 4096),
                                     ({}, 8192, 4096)):
            with self.subTest(keys=keys):
                session = self.open(keys=keys)
                data = b"\x55" * size
                task = session.submit(scsi.write16(64, 8), data_out=data, immediate=data,
                                      expected_length=expected)
                try:
                    response = session.wait(task)
                    self.assertEqual((response.sense.key, response.sense.asc), (0xB, 0x0C))
                except iscsi.Closed:
                    pass
                self.nothing_was_written(64, 8)

    def test_an_expected_length_without_bounds_costs_no_memory(self):
        session = self.open()
        before = self.daemon.memory_bytes()
        for number in range(100):
            session.submit(scsi.write16(64 + 8 * number, 8), data_out=b"\x55" * 4096,
                           expected_length=0xFFFFFE00)
        for task in list(session.tasks.values()):
            response = session.wait(task)
            self.assertTrue(response.good and response.underflow, response)
            self.assertEqual(response.residual, 0xFFFFFE00 - 4096)
        self.assertLess(self.daemon.memory_bytes() - before, 8 << 20)
        self.others_are_served()


class ControlSocket(HostileCase):
    def ask(self, data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(8)
            client.connect(str(self.daemon.control_socket))
            try:
                client.sendall(data)
                return client.makefile("rb").readline()
            except ConnectionError:
                return b""

    def test_requests_that_make_no_sense(self):
        deep = b"[" * 100_000
        for data in (b"\n", b"{}\n", b"[]\n", b"nonsense\n", b"\x00\xff\xfe\n", b'{"command": 7}\n',
                     b'{"command": "format"}\n', b'{"command": "session_drop"}\n',
                     b'{"command": "session_drop", "id": -1}\n', deep + b"\n",
                     b'{"command": "apply", "file": "relative"}\n', b"A" * (3 << 20) + b"\n"):
            with self.subTest(data[:40]):
                answer = self.ask(data)
                if answer:
                    answer = json.loads(answer)
                    self.assertFalse(answer["ok"])
                    self.assertTrue(answer["problems"])
        self.others_are_served()

    def test_unknown_members_are_passed_over(self):
        answer = json.loads(self.ask(b'{"command": "status", "colour": "blue", "n": [1, {}]}\n'))
        self.assertTrue(answer["ok"])

    def test_silent_clients_do_not_hold_up_others(self):
        silent = []
        for _ in range(15):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.connect(str(self.daemon.control_socket))
            silent.append(client)
        self.assertTrue(json.loads(self.ask(b'{"command": "status"}\n'))["ok"])


if __name__ == "__main__":
    case.main()
