"""The page of memory in which a quorum daemon says what it knows (qdisk/lease_page.h), as one who
maps it sees it: looking costs the daemon nothing, and it stays when the daemon is gone."""

import dataclasses
import mmap
import struct
import time

_MAGIC = 0x31455341454C4651  # "QFLEASE1"
_WORDS = struct.Struct("=12Q")  # up to the first volume
_SEQUENCE = slice(8, 16)
_TRIES = 100


def now():
    """The page's clock, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclasses.dataclass(frozen=True)
class View:
    lease_until: float  # 0: none
    node: int
    key: int
    epoch: int
    members: int  # a bit for each node
    fenced: int
    fenced_timed: bool
    coordinator: int  # of volume 0
    term: int
    token: bool  # this node may act as that coordinator


def unpack(data):
    """The view of the page's first words; None: it is not written yet."""
    words = _WORDS.unpack_from(data)
    if words[0] != _MAGIC:
        return None
    volume = words[11]
    return View(lease_until=words[10] / 1e9, node=words[4] >> 32, key=words[5], epoch=words[6],
                members=words[7], fenced=words[8], fenced_timed=words[9] != 0,
                coordinator=volume >> 32 & 0xFF, term=volume & 0xFFFFFFFF,
                token=bool(volume >> 40 & 1))


class Page:
    def __init__(self, path):
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def read(self):
        """What the daemon wrote last; None: nothing, or it died while it wrote."""
        for _ in range(_TRIES):
            sequence = self._map[_SEQUENCE]
            data = self._map[:_WORDS.size]
            if sequence[0] % 2 == 0 and self._map[_SEQUENCE] == sequence:
                return unpack(data)
        return None

    def close(self):
        self._map.close()
