"""iSCSI PDUs as bytes (RFC 7143 section 11).

    pdu = Pdu(Opcode.SCSI_COMMAND, flags=0xC0, itt=7, lun=0)
    pdu.put32(20, 512)          any field by its byte offset in the basic header segment
    pdu.data = b"..."
    pdu.encode(header_digest=True)

Nothing is checked on the way out: a test may lie in every field (`length` overrides the true
DataSegmentLength, digests can be damaged).
"""

import enum
import struct

HEADER_BYTES = 48
NO_TAG = 0xFFFFFFFF


class Opcode(enum.IntEnum):
    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_MANAGEMENT = 0x02
    LOGIN = 0x03
    TEXT = 0x04
    DATA_OUT = 0x05
    LOGOUT = 0x06
    SNACK = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_MANAGEMENT_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    R2T = 0x31
    ASYNC_MESSAGE = 0x32
    REJECT = 0x3F


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def crc32c(*parts: bytes) -> int:
    crc = 0xFFFFFFFF
    for part in parts:
        for byte in part:
            crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


class Pdu:
    def __init__(self, opcode=0, flags=0, itt=NO_TAG, lun=0, data=b"", immediate=False, ahs=b""):
        self.bhs = bytearray(HEADER_BYTES)
        self.bhs[0] = opcode | (0x40 if immediate else 0)
        self.bhs[1] = flags
        self.ahs = ahs
        self.data = data
        self.length = None  # a DataSegmentLength other than the true one
        self.itt = itt
        if lun:
            self.lun = lun

    # --- fields

    def get32(self, offset) -> int:
        return struct.unpack_from(">I", self.bhs, offset)[0]

    def put32(self, offset, value):
        struct.pack_into(">I", self.bhs, offset, value & 0xFFFFFFFF)
        return self

    @property
    def opcode(self) -> int:
        return self.bhs[0] & 0x3F

    @property
    def flags(self) -> int:
        return self.bhs[1]

    @property
    def final(self) -> bool:
        return bool(self.bhs[1] & 0x80)

    @property
    def itt(self) -> int:
        return self.get32(16)

    @itt.setter
    def itt(self, value):
        self.put32(16, value)

    @property
    def ttt(self) -> int:
        return self.get32(20)

    @property
    def lun(self) -> int:
        """Peripheral or flat addressing, first level."""
        return struct.unpack_from(">H", self.bhs, 8)[0] & 0x3FFF

    @lun.setter
    def lun(self, value):
        struct.pack_into(">H", self.bhs, 8, value if value < 256 else 0x4000 | value)

    @property
    def stat_sn(self) -> int:
        return self.get32(24)

    @property
    def exp_cmd_sn(self) -> int:
        return self.get32(28)

    @property
    def max_cmd_sn(self) -> int:
        return self.get32(32)

    # --- bytes

    def encode(self, header_digest=False, data_digest=False, bad_header_digest=False,
               bad_data_digest=False) -> bytes:
        length = len(self.data) if self.length is None else self.length
        ahs = padded(self.ahs)
        head = bytearray(self.bhs)
        head[4] = len(ahs) // 4
        head[5:8] = length.to_bytes(3, "big")
        out = bytes(head) + ahs
        if header_digest:
            out += struct.pack("<I", crc32c(out) ^ (1 if bad_header_digest else 0))
        body = padded(self.data)
        if body and data_digest:
            body += struct.pack("<I", crc32c(body) ^ (1 if bad_data_digest else 0))
        return out + body

    @staticmethod
    def read(receive_exactly, header_digest=False, data_digest=False):
        """Reads one PDU with receive_exactly(count) -> bytes and checks its digests."""
        pdu = Pdu()
        pdu.bhs = bytearray(receive_exactly(HEADER_BYTES))
        pdu.ahs = receive_exactly(pdu.bhs[4] * 4)
        if header_digest:
            _check(receive_exactly(4), crc32c(pdu.bhs, pdu.ahs), "header")
        length = int.from_bytes(pdu.bhs[5:8], "big")
        body = receive_exactly(length + -length % 4)
        if body and data_digest:
            _check(receive_exactly(4), crc32c(body), "data")
        if any(body[length:]):
            raise AssertionError("the padding of a PDU is not zero: memory leaks to the wire")
        pdu.data = body[:length]
        return pdu

    def __repr__(self):
        try:
            name = Opcode(self.opcode).name
        except ValueError:
            name = f"opcode {self.opcode:#x}"
        return f"<{name} flags={self.flags:#04x} itt={self.itt:#x} data={len(self.data)} B " \
               f"bhs={self.bhs.hex()}>"


def _check(stored, expected, which):
    if struct.unpack("<I", stored)[0] != expected:
        raise AssertionError(f"wrong {which} digest from the target")


def text_bytes(keys) -> bytes:
    """Keys as a text segment. keys: dict or list of pairs."""
    pairs = keys.items() if isinstance(keys, dict) else keys
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)


def text_pairs(data: bytes) -> list:
    """A text segment as a list of (key, value)."""
    parts = [part for part in data.split(b"\0") if part]
    return [tuple(part.decode().split("=", 1)) for part in parts]
