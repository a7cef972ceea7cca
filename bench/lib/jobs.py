"""What is measured: the jobs, the series (who is measured), and which pairs of them make a cell."""

import dataclasses
import fnmatch

HEADER_BYTES = 48  # an iSCSI basic header segment


@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    operation: str  # read | write
    block: int  # bytes
    depth: int  # per session
    sessions: int = 1

    @property
    def random(self):
        return self.block == 4096

    @property
    def title(self):
        kind = ("random " if self.random else "sequential ") + self.operation
        many = f", {self.sessions} sessions" if self.sessions > 1 else ""
        return f"{self.block // 1024} KiB {kind}, depth {self.depth}{many}"


@dataclasses.dataclass(frozen=True)
class Series:
    name: str
    kind: str  # holdfast | tgt | floor
    title: str
    backing: str = ""  # ram | disk
    threads: int = 1  # holdfast: threads; floor: server processes
    spin: bool = False
    engine: str = ""  # tgt: its bstype

    def runs(self, job):
        """Spinning is about depth 1; a second thread is about several sessions."""
        if self.spin and job.depth != 1:
            return False
        return self.threads == 1 or job.sessions > 1


@dataclasses.dataclass
class Plan:
    """The matrix of one run; series that run none of the jobs are left out."""

    jobs: list
    series: list
    repeats: int
    seconds: float
    size_mib: int

    def __post_init__(self):
        self.series = [one for one in self.series if any(map(one.runs, self.jobs))]

    def cells(self, repeat):
        """The order of one repeat: within each job all series, beginning with another each time,
        so that a noise or a slow drift of the machine hits all alike."""
        for job in self.jobs:
            running = [one for one in self.series if one.runs(job)]
            shift = repeat % len(running) if running else 0
            for one in running[shift:] + running[:shift]:
                yield job, one


JOBS = [
    Job("r4k-q1", "read", 4096, 1),
    Job("w4k-q1", "write", 4096, 1),
    Job("r4k-q32", "read", 4096, 32),
    Job("w4k-q32", "write", 4096, 32),
    Job("r128k-q8", "read", 131072, 8),
    Job("w128k-q8", "write", 131072, 8),
    Job("r4k-q32-s4", "read", 4096, 32, 4),
    Job("w4k-q32-s4", "write", 4096, 32, 4),
    Job("r128k-q8-s4", "read", 131072, 8, 4),
    Job("w128k-q8-s4", "write", 131072, 8, 4),
]

SERIES = [
    Series("floor", "floor", "bare TCP exchange"),
    Series("floor-spin", "floor", "bare TCP exchange, server spins", spin=True),
    Series("floor-2t", "floor", "bare TCP exchange, 2 servers", threads=2),
    Series("holdfast-ram", "holdfast", "Holdfast, memory", "ram"),
    Series("holdfast-ram-spin", "holdfast", "Holdfast, memory, adaptive spin", "ram", spin=True),
    Series("holdfast-ram-2t", "holdfast", "Holdfast, memory, 2 threads", "ram", threads=2),
    Series("tgt-ram", "tgt", "tgt, file on tmpfs (rdwr)", "ram", engine="rdwr"),
    Series("tgt-ram-aio", "tgt", "tgt, file on tmpfs (aio)", "ram", engine="aio"),
    Series("holdfast-disk", "holdfast", "Holdfast, file (O_DIRECT)", "disk"),
    Series("holdfast-disk-2t", "holdfast", "Holdfast, file (O_DIRECT), 2 threads", "disk",
           threads=2),
    Series("tgt-disk", "tgt", "tgt, file (rdwr, page cache)", "disk", engine="rdwr"),
    Series("tgt-disk-aio", "tgt", "tgt, file (aio, O_DIRECT)", "disk", engine="aio"),
]

QUICK_JOBS = ["r4k-q1", "r4k-q32", "w4k-q32", "r128k-q8", "w128k-q8", "r4k-q32-s4"]
QUICK_SERIES = ["floor*", "holdfast-ram*", "tgt-ram", "holdfast-disk", "tgt-disk"]


def select(items, patterns, what):
    """The items whose name or kind matches a pattern; a pattern without any is an error."""
    chosen = set()
    for pattern in patterns:
        hits = {item.name for item in items
                if fnmatch.fnmatchcase(item.name, pattern)
                or getattr(item, "kind", None) == pattern}
        if not hits:
            names = ", ".join(item.name for item in items)
            raise ValueError(f"no {what} matches '{pattern}'; there are: {names}")
        chosen |= hits
    return [item for item in items if item.name in chosen]


def exchange_sizes(job):
    """Request and response bytes of the bare exchange that a job's I/O amounts to."""
    if job.operation == "read":
        return HEADER_BYTES, HEADER_BYTES + job.block
    return HEADER_BYTES + job.block, HEADER_BYTES
