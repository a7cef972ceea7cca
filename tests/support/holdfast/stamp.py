"""Blocks that say what they are: each sector has its place, the number of its write, who wrote it,
and a checksum.

    data = stamp.block(offset, number, "w1")      4 KiB
    stamp.check(data, offset, number, "w1")       AssertionError says what is there instead
"""

import struct
import zlib

BLOCK = 4096
SECTOR = 512
MAGIC = b"HOLDFAST"
FIELDS = struct.Struct(">8sQQ16s")  # magic, offset, number, writer
FILL = SECTOR - FIELDS.size - 4


def _sector(offset, number, writer) -> bytes:
    head = FIELDS.pack(MAGIC, offset, number, writer.encode())
    body = head + head[-1:] * FILL
    return body + struct.pack(">I", zlib.crc32(body))


def block(offset, number, writer) -> bytes:
    return b"".join(_sector(offset + at, number, writer) for at in range(0, BLOCK, SECTOR))


def describe(sector) -> str:
    magic, offset, number, writer = FIELDS.unpack_from(sector)
    if magic != MAGIC:
        return "zeroes" if not any(sector) else "what nobody stamped"
    whole = struct.unpack(">I", sector[-4:])[0] == zlib.crc32(sector[:-4])
    name = writer.rstrip(b"\0").decode(errors="replace")
    return f"write {number} of {name} to byte {offset}" + ("" if whole else ", torn")


def check(data, offset, number, writer):
    if data == block(offset, number, writer):
        return
    for at in range(0, BLOCK, SECTOR):
        found = data[at:at + SECTOR]
        if found != _sector(offset + at, number, writer):
            raise AssertionError(f"byte {offset + at} holds {describe(found)}, not write {number} "
                                 f"of {writer}")
