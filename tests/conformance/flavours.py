"""The logical units that the conformance suites run against: one target daemon, one LUN of each."""

import dataclasses
import fnmatch

from holdfast.target import Disk, Initiator, TargetName

OPEN_TARGET = "iqn.2026-11.org.holdfast:open"
CHAP_TARGET = "iqn.2026-11.org.holdfast:chap"
INITIATORS = ("iqn.2026-11.org.holdfast:first", "iqn.2026-11.org.holdfast:second")
ACCOUNT = ("conformance", "a secret of 19 char")

# READ (6) has 21 bits for the address: its tests of the end need no more blocks than that.
MAX_BLOCKS = 1 << 21


# The suites that write take a write-protected unit for broken: all but these.
READ_ONLY_SUITES = ("SCSI.ReadOnly", "SCSI.Read6", "SCSI.Read1?", "SCSI.ReadCapacity*",
                    "SCSI.Inquiry", "SCSI.ModeSense6", "SCSI.Mandatory", "SCSI.TestUnitReady",
                    "SCSI.Prefetch*", "SCSI.Verify*", "SCSI.ReportSupportedOpcodes", "SCSI.Prin*",
                    "SCSI.ProutRegister", "SCSI.ProutClear", "SCSI.ProutPreempt")


@dataclasses.dataclass
class Flavour:
    name: str
    disk: Disk
    target: int = 0       # index in targets()
    user: tuple = None
    suites: tuple = ("*",)  # patterns of the suites that mean something on it

    def runs(self, suite) -> bool:
        return any(fnmatch.fnmatchcase(suite, pattern) for pattern in self.suites)


def flavours() -> list:
    def make(name, target=0, user=None, kind="file", size="128MiB", suites=("*",), **extra):
        return Flavour(name, Disk(name, size=size, kind=kind, extra=extra), target, user, suites)

    return [
        # More blocks than MAXIMUM WRITE SAME LENGTH, so that this limit can be tested.
        make("thin", size="320MiB", thin=True),
        make("thick", thin=False),
        make("memory", kind="memory"),
        make("thin4k", thin=True, block_size=4096),
        make("removable", thin=True, removable=True),
        make("readonly", thin=True, read_only=True, suites=READ_ONLY_SUITES),
        make("chap", target=1, user=ACCOUNT, thin=True),
    ]


def targets(all_flavours) -> list:
    """The [[target]] sections: one that anybody of INITIATORS may use, one that asks for CHAP."""
    sections = []
    for index, (name, chap) in enumerate([(OPEN_TARGET, None), (CHAP_TARGET, ACCOUNT)]):
        luns = dict(enumerate(f.disk.name for f in all_flavours if f.target == index))
        initiators = [Initiator(name=initiator, chap=chap) for initiator in INITIATORS]
        sections.append(TargetName(name, luns, initiators))
    return sections
