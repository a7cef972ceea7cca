"""A raw iSCSI initiator over a blocking socket, for precise and hostile tests.

Connection: PDUs in and out, nothing else.
    c = Connection(("127.0.0.1", 3260)); c.send(pdu); c.receive(); c.send_raw(b"garbage")
    c.is_closed_by_peer(deadline=5)

Session(Connection): a logged-in session.
    s = Session.open(portal, target=IQN, initiator=IQN, isid=1)      LoginFailed(status) if refused
    s = Session(portal, ...); s.login(...)                           the same in two steps
    s.command(cdb, lun=0, data_out=b"", read_length=0) -> Response   submits and waits
    s.read(lba, blocks), s.write(lba, data)                          the same, GOOD asserted
    s.ready(lun)                                                     consumes unit attentions

    task = s.submit(cdb, ..., answer_r2t=False, immediate=b"")       holds data back
    task.r2ts; s.send_data_out(task, r2t, bytes)                     by hand
    s.wait(task, deadline=5) -> Response;  s.poll(seconds)           reads what comes

    s.task_management(TaskFunction.LOGICAL_UNIT_RESET, lun=0) -> response code
    s.logout(); s.drop() (RST); s.close()

Fields to bend: s.cmd_sn, s.exp_stat_sn, s.keys (negotiated), s.header_digest, s.data_digest.
What was not asked for is kept: s.rejects, s.async_messages, s.unexpected. NOP-In pings are answered
unless s.answer_pings is False.
"""

import dataclasses
import enum
import select
import socket
import struct
import time

from . import scsi
from .pdu import NO_TAG, Opcode, Pdu, text_bytes, text_pairs

INITIATOR_NAME = "iqn.2026-11.org.holdfast:test-initiator"
DEADLINE_S = 20.0
SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3


class TaskFunction(enum.IntEnum):
    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LOGICAL_UNIT_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    TASK_REASSIGN = 8


class Closed(Exception):
    """The peer closed or reset the connection."""


class LoginFailed(Exception):
    """The target answered the login with a failure; `status` is class * 256 + detail."""

    def __init__(self, status):
        super().__init__(f"login status {status:04x}")
        self.status = status


@dataclasses.dataclass
class Response:
    status: int
    data: bytes
    sense_data: bytes
    residual: int        # > 0 with underflow or overflow set
    underflow: bool
    overflow: bool
    response: int        # iSCSI service response; 0: completed at the target
    pdu: Pdu = None

    @property
    def sense(self) -> scsi.Sense:
        return scsi.Sense.parse(self.sense_data)

    @property
    def good(self) -> bool:
        return self.response == 0 and self.status == scsi.Status.GOOD

    def __repr__(self):
        text = f"status {self.status:#04x}"
        if self.sense_data:
            sense = self.sense
            text += f" sense {sense.key:x}/{sense.asc:02x}/{sense.ascq:02x}"
        return f"<{text} response {self.response} data {len(self.data)} B residual {self.residual}>"


class Task:
    def __init__(self, itt, cmd_sn, lun, data_out, answer_r2t):
        self.itt, self.cmd_sn, self.lun = itt, cmd_sn, lun
        self.data_out, self.answer_r2t = data_out, answer_r2t
        self.sent = 0         # bytes of data_out sent as immediate or unsolicited data
        self.r2ts = []        # R2T PDUs received
        self.data_in = bytearray()
        self.response = None


class Connection:
    def __init__(self, portal, source=None, deadline=DEADLINE_S, receive_buffer=None):
        family = socket.AF_INET6 if ":" in portal[0] else socket.AF_INET
        self.socket = socket.socket(family)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.deadline = deadline
        self.socket.settimeout(deadline)
        try:
            self.socket.connect(portal)
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.header_digest = self.data_digest = False

    def send(self, pdu, **damage):
        self.send_raw(pdu.encode(self.header_digest, self.data_digest, **damage))

    def send_raw(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed(str(error)) from None

    def receive(self, deadline=None) -> Pdu:
        """The next PDU; Closed at the end of the stream, AssertionError when none comes in time."""
        end = time.monotonic() + (self.deadline if deadline is None else deadline)
        return Pdu.read(lambda count: self._receive_exactly(count, end), self.header_digest,
                        self.data_digest)

    def has_input(self, seconds) -> bool:
        """Whether something (data or the end of the stream) is there within the time."""
        return bool(select.select([self.socket], [], [], max(0, seconds))[0])

    def is_closed_by_peer(self, deadline=DEADLINE_S) -> bool:
        """Reads and drops what comes until the peer closes or the time is over."""
        end = time.monotonic() + deadline
        while self.has_input(end - time.monotonic()):
            try:
                if not self.socket.recv(65536):
                    return True
            except OSError:
                return True
        return False

    def close(self):
        self.socket.close()

    def drop(self):
        """Ends the connection with RST, as a crashed host's stack does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _receive_exactly(self, count, end) -> bytes:
        out = bytearray()
        while len(out) < count:
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                chunk = self.socket.recv(count - len(out))
            except TimeoutError:
                raise AssertionError("the target sent nothing in time") from None
            except ConnectionResetError as error:
                raise Closed(str(error)) from None
            finally:
                self.socket.settimeout(self.deadline)
            if not chunk:
                raise Closed("end of the stream")
            out += chunk
        return bytes(out)


DEFAULT_KEYS = {
    "HeaderDigest": "None", "DataDigest": "None", "InitialR2T": "No", "ImmediateData": "Yes",
    "MaxRecvDataSegmentLength": "262144", "MaxBurstLength": "262144", "FirstBurstLength": "65536",
    "MaxOutstandingR2T": "4", "MaxConnections": "1", "ErrorRecoveryLevel": "0",
    "DefaultTime2Wait": "2", "DefaultTime2Retain": "0", "DataPDUInOrder": "Yes",
    "DataSequenceInOrder": "Yes",
}


class Session(Connection):
    def __init__(self, portal, target=None, initiator=INITIATOR_NAME, isid=0x80_0000_000001,
                 tsih=0, **connection):
        """target=None is a discovery session. isid: 48 bits; type bits are the caller's duty."""
        super().__init__(portal, **connection)
        self.target, self.initiator, self.isid, self.tsih = target, initiator, isid, tsih
        self.cmd_sn, self.exp_stat_sn = 1, 0
        self.exp_cmd_sn = self.max_cmd_sn = 1
        self.next_itt = 1
        self.keys = {}
        self.tasks = {}
        self.rejects, self.async_messages, self.unexpected = [], [], []
        self.answer_pings = True

    @classmethod
    def open(cls, portal, target=None, keys=None, chap=None, login_deadline=None, **options):
        session = cls(portal, target, **options)
        try:
            session.login(keys=keys, chap=chap, deadline=login_deadline)
        except BaseException:
            session.close()
            raise
        return session

    # --- login

    def login_pdu(self, csg, nsg=None, keys=(), continues=False) -> Pdu:
        """A login request. nsg=None: no transit."""
        flags = (csg << 2) | (0x40 if continues else 0)
        if nsg is not None:
            flags |= 0x80 | nsg
        data = keys if isinstance(keys, bytes) else text_bytes(keys)
        pdu = Pdu(Opcode.LOGIN, flags=flags, itt=0x10, data=data, immediate=True)
        pdu.bhs[8:14] = self.isid.to_bytes(6, "big")
        struct.pack_into(">H", pdu.bhs, 14, self.tsih)
        return pdu.put32(24, self.cmd_sn).put32(28, self.exp_stat_sn)

    def login_step(self, csg, nsg=None, keys=(), deadline=None) -> tuple:
        """One request and its answer: (response PDU, keys). LoginFailed on a failure status."""
        self.send(self.login_pdu(csg, nsg, keys))
        answer = self.receive(deadline)
        if answer.opcode != Opcode.LOGIN_RESPONSE:
            raise AssertionError(f"no login response but {answer}")
        status = struct.unpack_from(">H", answer.bhs, 36)[0]
        if status:
            raise LoginFailed(status)
        self.exp_stat_sn = (answer.stat_sn + 1) & 0xFFFFFFFF
        return answer, dict(text_pairs(answer.data))

    def names(self) -> dict:
        names = {"InitiatorName": self.initiator,
                 "SessionType": "Normal" if self.target else "Discovery"}
        return names | ({"TargetName": self.target} if self.target else {})

    def login(self, keys=None, chap=None, deadline=None):
        """Security stage (None, or CHAP with a chap.Chap), operational stage, full feature."""
        if chap:
            self.login_step(SECURITY, None, self.names() | {"AuthMethod": "CHAP"}, deadline)
            _, offer = self.login_step(SECURITY, None, chap.offer(), deadline)
            _, proof = self.login_step(SECURITY, OPERATIONAL, chap.answer(offer), deadline)
            if chap.mutual:
                chap.check(proof)
        else:
            self.login_step(SECURITY, OPERATIONAL, self.names() | {"AuthMethod": "None"}, deadline)
        wanted = dict(DEFAULT_KEYS) | (keys or {})
        if not self.target:
            wanted = {key: wanted[key] for key in
                      ("HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength",
                       "ErrorRecoveryLevel", "DefaultTime2Wait", "DefaultTime2Retain")}
        answer, agreed = self.login_step(OPERATIONAL, FULL_FEATURE, wanted, deadline)
        if not answer.final or answer.flags & 3 != FULL_FEATURE:
            raise AssertionError(f"the target does not go to full feature phase: {answer} {agreed}")
        declared = {"MaxRecvDataSegmentLength": "8192"} | agreed
        self.enter_full_feature(answer, wanted | declared)

    def enter_full_feature(self, answer, keys):
        """keys: what was agreed; MaxRecvDataSegmentLength is the target's own declaration."""
        self.keys = keys
        self.tsih = struct.unpack_from(">H", answer.bhs, 14)[0]
        self.exp_cmd_sn, self.max_cmd_sn = answer.exp_cmd_sn, answer.max_cmd_sn
        self.header_digest = keys["HeaderDigest"] == "CRC32C"
        self.data_digest = keys["DataDigest"] == "CRC32C"

    # --- commands

    def submit(self, cdb, lun=0, data_out=b"", read_length=0, immediate=None, unsolicited=True,
               answer_r2t=True, expected_length=None, attribute=1, is_immediate=False) -> Task:
        """
        Sends a SCSI command. immediate: bytes to send as immediate data (None: as many as were
        agreed). unsolicited: whether to send the unsolicited Data-Outs that InitialR2T=No allows.
        answer_r2t=False: R2Ts are only recorded in task.r2ts. expected_length: a lie.
        """
        task = Task(self.next_itt, self.cmd_sn, lun, data_out, answer_r2t)
        self.next_itt += 1
        self.tasks[task.itt] = task
        if immediate is None:
            immediate = data_out[:self._immediate_limit()]
        more = unsolicited and self.keys.get("InitialR2T") == "No" and \
            len(immediate) < min(len(data_out), self._first_burst())
        flags = attribute | (0 if more else 0x80)
        flags |= (0x20 if data_out else 0) | (0x40 if read_length and not data_out else 0)
        pdu = Pdu(Opcode.SCSI_COMMAND, flags=flags, itt=task.itt, lun=lun, data=immediate,
                  immediate=is_immediate)
        length = len(data_out) or read_length
        pdu.put32(20, length if expected_length is None else expected_length)
        pdu.put32(24, self.cmd_sn).put32(28, self.exp_stat_sn)
        pdu.bhs[32:48] = cdb[:16].ljust(16, b"\0")
        self.send(pdu)
        if not is_immediate:
            self.cmd_sn = (self.cmd_sn + 1) & 0xFFFFFFFF
        task.sent = len(immediate)
        if more:
            self._send_unsolicited(task)
        return task

    def send_data_out(self, task, r2t=None, data=None, offset=None, final=True, data_sn=0,
                      ttt=None):
        """Data-Out PDUs for an R2T (what it asks for, unless data and offset say otherwise)."""
        if r2t is not None:
            ttt = r2t.ttt if ttt is None else ttt
            offset = r2t.get32(40) if offset is None else offset
            data = task.data_out[offset:offset + r2t.get32(44)] if data is None else data
        limit = self.segment_limit()
        pieces = [data[at:at + limit] for at in range(0, len(data), limit)] or [b""]
        for number, piece in enumerate(pieces):
            last = final and number == len(pieces) - 1
            pdu = Pdu(Opcode.DATA_OUT, flags=0x80 if last else 0, itt=task.itt, lun=task.lun,
                      data=piece)
            pdu.put32(20, NO_TAG if ttt is None else ttt).put32(28, self.exp_stat_sn)
            pdu.put32(36, data_sn + number).put32(40, offset + limit * number)
            self.send(pdu)

    def wait(self, task, deadline=None) -> Response:
        """Reads PDUs until the task has its response."""
        end = time.monotonic() + (self.deadline if deadline is None else deadline)
        while task.response is None:
            self._handle(self.receive(max(0.001, end - time.monotonic())))
        self.tasks.pop(task.itt, None)
        return task.response

    def poll(self, seconds):
        """Handles what arrives within the time."""
        end = time.monotonic() + seconds
        while self.has_input(end - time.monotonic()):
            self._handle(self.receive())

    def command(self, cdb, deadline=None, **options) -> Response:
        return self.wait(self.submit(cdb, **options), deadline)

    def good(self, cdb, **options) -> bytes:
        """A command that must succeed; its data."""
        response = self.command(cdb, **options)
        if not response.good:
            raise AssertionError(f"command {cdb.hex()} failed: {response}")
        return response.data

    def read(self, lba, blocks, lun=0, block_size=512) -> bytes:
        return self.good(scsi.read16(lba, blocks), lun=lun, read_length=blocks * block_size)

    def write(self, lba, data, lun=0, block_size=512, fua=False):
        self.good(scsi.write16(lba, len(data) // block_size, 8 if fua else 0), lun=lun,
                  data_out=data)

    def ready(self, lun=0, limit=8) -> list:
        """TEST UNIT READY until GOOD; returns the unit attentions that were consumed."""
        seen = []
        for _ in range(limit):
            response = self.command(scsi.test_unit_ready(), lun=lun)
            if response.good:
                return seen
            if response.status != scsi.Status.CHECK_CONDITION or \
                    response.sense.key != scsi.Key.UNIT_ATTENTION:
                raise AssertionError(f"TEST UNIT READY: {response}")
            seen.append(response.sense.asc_ascq)
        raise AssertionError(f"unit attentions without end: {seen}")

    def pr_out(self, action, lun=0, **fields) -> Response:
        cdb, parameters = scsi.pr_out(action, **fields)
        return self.command(cdb, lun=lun, data_out=parameters)

    # --- the rest of the protocol

    def request(self, pdu, deadline=None, itt=None) -> Pdu:
        """Sends a PDU with a tag of its own (or itt) and returns the PDU that answers this tag."""
        pdu.itt = self.next_itt if itt is None else itt
        self.next_itt += 1
        self.send(pdu)
        end = time.monotonic() + (self.deadline if deadline is None else deadline)
        while True:
            answer = self.receive(max(0.001, end - time.monotonic()))
            if answer.itt == pdu.itt:
                self._track(answer)
                return answer
            self._handle(answer)

    def task_management(self, function, lun=0, task=None, deadline=None, ref_itt=NO_TAG,
                        ref_cmd_sn=0) -> int:
        """An immediate task management request; its response code (0: function complete)."""
        pdu = Pdu(Opcode.TASK_MANAGEMENT, flags=0x80 | function, lun=lun, immediate=True)
        pdu.put32(20, task.itt if task else ref_itt).put32(24, self.cmd_sn)
        pdu.put32(28, self.exp_stat_sn).put32(32, task.cmd_sn if task else ref_cmd_sn)
        return self.request(pdu, deadline).bhs[2]

    def ping(self, data=b"ping", deadline=None) -> Pdu:
        pdu = Pdu(Opcode.NOP_OUT, flags=0x80, data=data, immediate=True)
        pdu.put32(20, NO_TAG).put32(24, self.cmd_sn).put32(28, self.exp_stat_sn)
        return self.request(pdu, deadline)

    def text(self, keys, deadline=None) -> list:
        """A text request; the (key, value) pairs of all its answers."""
        pairs, ttt, itt, data = b"", NO_TAG, None, text_bytes(keys)
        for _ in range(100):
            pdu = Pdu(Opcode.TEXT, flags=0x80, data=data, immediate=True)
            pdu.put32(20, ttt).put32(24, self.cmd_sn).put32(28, self.exp_stat_sn)
            answer = self.request(pdu, deadline, itt)
            pairs += answer.data
            if answer.final:
                return text_pairs(pairs)
            ttt, itt, data = answer.ttt, answer.itt, b""  # one tag for all of it (11.10.3)
        raise AssertionError("a text answer without end")

    def send_targets(self, what="All") -> dict:
        """{target name: [address, ...]}."""
        found, current = {}, None
        for key, value in self.text({"SendTargets": what}):
            if key == "TargetName":
                current = found.setdefault(value, [])
            elif key == "TargetAddress":
                current.append(value)
        return found

    def logout(self, reason=0, deadline=None) -> int:
        """Closes the session; the response code (0: closed)."""
        pdu = Pdu(Opcode.LOGOUT, flags=0x80 | reason, immediate=True)
        pdu.put32(24, self.cmd_sn).put32(28, self.exp_stat_sn)
        code = self.request(pdu, deadline).bhs[2]
        self.close()
        return code

    # --- inside

    def segment_limit(self) -> int:
        """MaxRecvDataSegmentLength the target declared."""
        return int(self.keys.get("MaxRecvDataSegmentLength", 8192))

    def _first_burst(self) -> int:
        return int(self.keys["FirstBurstLength"])

    def _immediate_limit(self) -> int:
        if self.keys.get("ImmediateData") != "Yes":
            return 0
        return min(self._first_burst(), self.segment_limit())

    def _send_unsolicited(self, task):
        end = min(len(task.data_out), self._first_burst())
        self.send_data_out(task, data=task.data_out[task.sent:end], offset=task.sent)
        task.sent = end

    def _track(self, pdu):
        if pdu.opcode == Opcode.R2T or (pdu.opcode == Opcode.NOP_IN and pdu.itt == NO_TAG):
            pass  # carries the next StatSN without using it
        elif pdu.opcode != Opcode.DATA_IN or pdu.flags & 0x01:
            self.exp_stat_sn = (pdu.stat_sn + 1) & 0xFFFFFFFF
        self.exp_cmd_sn, self.max_cmd_sn = pdu.exp_cmd_sn, pdu.max_cmd_sn

    def _handle(self, pdu):
        self._track(pdu)
        task = self.tasks.get(pdu.itt)
        if pdu.opcode == Opcode.NOP_IN and pdu.itt == NO_TAG:
            self._answer_ping(pdu)
        elif pdu.opcode == Opcode.REJECT:
            self.rejects.append(pdu)
        elif pdu.opcode == Opcode.ASYNC_MESSAGE:
            self.async_messages.append(pdu)
        elif task is None:
            self.unexpected.append(pdu)
        elif pdu.opcode == Opcode.DATA_IN:
            self._take_data(task, pdu)
        elif pdu.opcode == Opcode.R2T:
            task.r2ts.append(pdu)
            if task.answer_r2t:
                self.send_data_out(task, pdu)
        elif pdu.opcode == Opcode.SCSI_RESPONSE:
            length = int.from_bytes(pdu.data[:2], "big")
            task.response = self._response(task, pdu, pdu.bhs[2], pdu.data[2:2 + length])
        else:
            self.unexpected.append(pdu)

    def _answer_ping(self, pdu):
        if pdu.ttt == NO_TAG or not self.answer_pings:
            return
        pong = Pdu(Opcode.NOP_OUT, flags=0x80, itt=NO_TAG, immediate=True)
        pong.bhs[8:16] = pdu.bhs[8:16]
        self.send(pong.put32(20, pdu.ttt).put32(24, self.cmd_sn).put32(28, self.exp_stat_sn))

    def _take_data(self, task, pdu):
        offset = pdu.get32(40)
        if offset != len(task.data_in):
            raise AssertionError(f"Data-In at {offset}, {len(task.data_in)} expected")
        task.data_in += pdu.data
        if pdu.flags & 0x01:  # phase collapse: the status is in here
            task.response = self._response(task, pdu, 0, b"")

    @staticmethod
    def _response(task, pdu, service_response, sense):
        underflow, overflow = bool(pdu.flags & 0x02), bool(pdu.flags & 0x04)
        return Response(status=pdu.bhs[3], data=bytes(task.data_in), sense_data=sense,
                        residual=pdu.get32(44) if underflow or overflow else 0,
                        underflow=underflow, overflow=overflow, response=service_response, pdu=pdu)
