"""What `bench/run mpio` measures: three parts, each with its own jobs and series."""

import dataclasses

from bench.lib import jobs


@dataclasses.dataclass(frozen=True)
class Job(jobs.Job):
    part: str = "side"  # side | equal | far

    @property
    def title(self):
        return {"side": "", "equal": "rate-limited paths: ",
                "far": "a path 5 ms farther away: "}[self.part] + super().title


@dataclasses.dataclass(frozen=True)
class Series:
    name: str
    kind: str  # holdfast | nbd | libiscsi
    title: str
    part: str = "side"
    paths: int = 1
    policy: str = "adaptive"
    reads_only: bool = False

    def runs(self, job):
        return job.part == self.part and not (self.reads_only and job.operation == "write")


JOBS = [
    Job("r4k-q1", "read", 4096, 1),
    Job("w4k-q1", "write", 4096, 1),
    Job("r4k-q32", "read", 4096, 32),
    Job("w4k-q32", "write", 4096, 32),
    Job("r128k-q8", "read", 131072, 8),
    Job("w128k-q8", "write", 131072, 8),
    Job("equal-r64k", "read", 65536, 32, part="equal"),
    Job("equal-w64k", "write", 65536, 32, part="equal"),
    Job("far-r4k", "read", 4096, 32, part="far"),
    Job("far-w4k", "write", 4096, 32, part="far"),
]

SERIES = [
    Series("library", "holdfast", "Holdfast, library"),
    Series("library-2p", "holdfast", "Holdfast, library, 2 paths", paths=2),
    Series("nbd", "nbd", "Holdfast, mpiod over NBD"),
    Series("iscsi-perf", "libiscsi", "libiscsi's iscsi-perf", reads_only=True),
    Series("qemu-img", "libiscsi", "qemu-img bench on libiscsi"),
    Series("one", "holdfast", "one path", "equal"),
    Series("two", "holdfast", "two equal paths", "equal", paths=2),
    Series("good", "holdfast", "the good path alone", "far"),
    Series("both", "holdfast", "both, adaptive", "far", paths=2),
    Series("both-rr", "holdfast", "both, round-robin", "far", paths=2, policy="round-robin"),
]

QUICK_JOBS = ["r4k-q1", "w4k-q1", "r4k-q32", "w4k-q32", "equal-r64k", "far-r4k"]
QUICK_SERIES = ["*"]
