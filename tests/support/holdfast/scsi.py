"""SCSI as bytes: CDBs, sense data and parameter lists (SPC-4, SBC-3), for iscsi.Session.

    session.command(scsi.read16(lba, blocks), read_length=blocks * 512)
    scsi.Sense.parse(response.sense).asc_ascq == (0x2A, 0x05)
    scsi.pr_out(scsi.PrOut.REGISTER, key=0, new_key=1)  -> (cdb, parameter list)
"""

import dataclasses
import enum
import struct


class Status(enum.IntEnum):
    GOOD = 0x00
    CHECK_CONDITION = 0x02
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class Key(enum.IntEnum):
    NO_SENSE = 0x0
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    ABORTED_COMMAND = 0xB
    MISCOMPARE = 0xE


@dataclasses.dataclass
class Sense:
    key: int
    asc: int
    ascq: int
    information: int | None = None

    @property
    def asc_ascq(self):
        return self.asc, self.ascq

    @staticmethod
    def parse(data: bytes) -> "Sense":
        code = data[0] & 0x7F
        if code in (0x70, 0x71):  # fixed
            information = struct.unpack_from(">I", data, 3)[0] if data[0] & 0x80 else None
            return Sense(data[2] & 0xF, data[12], data[13], information)
        if code in (0x72, 0x73):  # descriptors
            information, at, end = None, 8, 8 + data[7]
            while at + 2 <= end:
                if data[at] == 0x00 and data[at + 2] & 0x80:
                    information = struct.unpack_from(">Q", data, at + 4)[0]
                at += 2 + data[at + 1]
            return Sense(data[1] & 0xF, data[2], data[3], information)
        raise AssertionError(f"not sense data: {data.hex()}")


# --- commands

def test_unit_ready() -> bytes:
    return bytes(6)


def inquiry(page=None, length=255) -> bytes:
    return struct.pack(">BBBHB", 0x12, page is not None, page or 0, length, 0)


def report_luns(length=4096) -> bytes:
    return struct.pack(">B5xIxx", 0xA0, length)


def request_sense(descriptor=False, length=252) -> bytes:
    return bytes([0x03, int(descriptor), 0, 0, length, 0])


def read_capacity10() -> bytes:
    return bytes([0x25]) + bytes(9)


def read_capacity16(length=32) -> bytes:
    return struct.pack(">BBQIBB", 0x9E, 0x10, 0, length, 0, 0)


def get_lba_status(lba, length=4096) -> bytes:
    return struct.pack(">BBQIBB", 0x9E, 0x12, lba, length, 0, 0)


def read10(lba, blocks, flags=0) -> bytes:
    return struct.pack(">BBIBHB", 0x28, flags, lba, 0, blocks, 0)


def write10(lba, blocks, flags=0) -> bytes:
    """flags: 0x08 is FUA."""
    return struct.pack(">BBIBHB", 0x2A, flags, lba, 0, blocks, 0)


def read16(lba, blocks, flags=0) -> bytes:
    return struct.pack(">BBQIBB", 0x88, flags, lba, blocks, 0, 0)


def write16(lba, blocks, flags=0) -> bytes:
    return struct.pack(">BBQIBB", 0x8A, flags, lba, blocks, 0, 0)


def verify16(lba, blocks, bytchk=0) -> bytes:
    return struct.pack(">BBQIBB", 0x8F, bytchk << 1, lba, blocks, 0, 0)


def synchronize_cache10(lba=0, blocks=0, immed=False) -> bytes:
    return struct.pack(">BBIBHB", 0x35, 2 if immed else 0, lba, 0, blocks, 0)


def compare_and_write(lba, blocks) -> bytes:
    """Data-Out: the blocks to compare with, then the blocks to write."""
    return struct.pack(">BBQ3xBBB", 0x89, 0, lba, blocks, 0, 0)


def write_same16(lba, blocks, unmap=False, no_data=False) -> bytes:
    flags = (8 if unmap else 0) | (1 if no_data else 0)
    return struct.pack(">BBQIBB", 0x93, flags, lba, blocks, 0, 0)


def unmap(ranges) -> tuple:
    """ranges: [(lba, blocks), ...]. Returns (cdb, parameter list)."""
    descriptors = b"".join(struct.pack(">QI4x", lba, blocks) for lba, blocks in ranges)
    parameters = struct.pack(">HH4x", len(descriptors) + 6, len(descriptors)) + descriptors
    return struct.pack(">B6xHB", 0x42, len(parameters), 0), parameters


def start_stop_unit(start=True, loej=False) -> bytes:
    return bytes([0x1B, 0, 0, 0, (2 if loej else 0) | int(start), 0])


def prevent_allow(prevent) -> bytes:
    return struct.pack(">B3xBB", 0x1E, 1 if prevent else 0, 0)


def mode_sense10(page, subpage=0, length=4096) -> bytes:
    return struct.pack(">BBBB3xHB", 0x5A, 0, page, subpage, length, 0)


def mode_select10(length) -> bytes:
    return struct.pack(">BB5xHB", 0x55, 0x10, length, 0)


def report_target_port_groups(length=4096) -> bytes:
    return struct.pack(">BB4xIBB", 0xA3, 0x0A, length, 0, 0)


def report_supported_opcodes(length=65536) -> bytes:
    return struct.pack(">BBBBHIBB", 0xA3, 0x0C, 0, 0, 0, length, 0, 0)


# --- persistent reservations

class PrOut(enum.IntEnum):
    REGISTER = 0x00
    RESERVE = 0x01
    RELEASE = 0x02
    CLEAR = 0x03
    PREEMPT = 0x04
    PREEMPT_AND_ABORT = 0x05
    REGISTER_AND_IGNORE = 0x06
    REGISTER_AND_MOVE = 0x07


class PrType(enum.IntEnum):
    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8


def pr_out(action, key=0, new_key=0, type=0, aptpl=False, all_tg_pt=False) -> tuple:
    """Returns (cdb, parameter list). `new_key` is the service action reservation key."""
    flags = (1 if aptpl else 0) | (4 if all_tg_pt else 0)
    parameters = struct.pack(">QQ4xB3x", key, new_key, flags)
    return struct.pack(">BBB2xIB", 0x5F, action, type, len(parameters), 0), parameters


def pr_in(action, length=4096) -> bytes:
    """action 0: keys, 1: reservation, 2: capabilities, 3: full status."""
    return struct.pack(">BB5xHB", 0x5E, action, length, 0)


def parse_keys(data: bytes) -> tuple:
    """READ KEYS: (generation, [key, ...])."""
    generation, length = struct.unpack_from(">II", data)
    return generation, [key for key, in struct.iter_unpack(">Q", data[8:8 + length])]


def parse_reservation(data: bytes):
    """READ RESERVATION: (generation, key, type) or (generation, None, None)."""
    generation, length = struct.unpack_from(">II", data)
    if length == 0:
        return generation, None, None
    return generation, struct.unpack_from(">Q", data, 8)[0], data[21] & 0xF
