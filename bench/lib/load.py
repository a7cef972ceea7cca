"""The loads of `bench/run mpio`: our library, our daemon over NBD, and the programs of libiscsi.

Each run gives: ios, iops, mb_s, mean_us, p50_us and p99_us (None where the tool does not tell),
initiator_cpu_s, and generator_cpu_s where another process than the initiator makes the load.
"""

import json
import re
import time

from bench.lib import fio, jobs, process
from bench.lib.fio import GRACE_SECONDS, LoadError


WRITE_PERCENT = {"read": 0, "write": 100, "mixed": 50}


def mixed_job(depth):
    """Reads and writes in turn: what a write waits for (the fence) is part of a failover."""
    return jobs.Job("mixed", "mixed", 4096, depth)


def command(program, target, portals, job, seconds, policy="adaptive"):
    """holdfast-bench-mpio's command line."""
    words = [program, "--target", target, "--depth", job.depth, "--block", job.block,
             "--write-percent", WRITE_PERCENT[job.operation], "--seconds", seconds,
             "--policy", policy]
    for portal in portals:
        words += ["--portal", portal]
    return [str(word) for word in words + ([] if job.random else ["--sequential"])]


def parse(text):
    """The figures that holdfast-bench-mpio printed, which may be among lines of its log."""
    lines = [line for line in text.splitlines() if line.startswith('{"depth"')]
    if not lines:
        raise LoadError(f"the load printed no figures: {text.strip()[-300:]}")
    told = json.loads(lines[-1])
    if told["errors"]:
        raise LoadError(f"{told['errors']} requests failed, the first with {told['first_error']}")
    if not told["all"]["ios"]:
        raise LoadError("the load did no I/O")
    return told


def figures(told):
    return {"ios": told["all"]["ios"], "iops": told["iops"], "mb_s": told["mb_s"],
            "p50_us": told["all"]["p50_us"], "p99_us": told["all"]["p99_us"],
            "max_us": told["all"]["max_us"], "longest_gap_ms": told["longest_gap_ms"],
            "paths": told["paths"]}


class Library:
    """The multipath device of the library, without NBD."""

    def __init__(self, program, target, portals, log, policy="adaptive"):
        self._program = program
        self._target = target
        self._portals = portals
        self._policy = policy
        self._log = log

    def run(self, job, seconds, alive):
        code, cpu = fio.run_command(
            command(self._program, self._target, self._portals, job, seconds, self._policy),
            self._log, seconds + GRACE_SECONDS, alive)
        said = self._log.read_text(errors="replace")
        if code:
            raise LoadError(f"the load failed with status {code}: {said.strip()[-300:]}")
        return figures(parse(said)) | {"initiator_cpu_s": cpu}


class Nbd:
    """holdfast-mpiod as the initiator, fio's nbd engine as its client."""

    def __init__(self, mpiod, directory):
        self._mpiod = mpiod
        self._output = directory / "nbd.json"
        self._log = directory / "nbd.log"

    def run(self, job, seconds, alive):
        pattern = ("rand" if job.random else "") + job.operation
        words = ["fio", "--name=bench", "--ioengine=nbd", f"--uri={self._mpiod.url('csv1')}",
                 f"--rw={pattern}", f"--bs={job.block}", f"--iodepth={job.depth}", "--norandommap",
                 "--randrepeat=0", "--time_based", f"--runtime={seconds}", "--output-format=json",
                 f"--output={self._output}"]
        self._output.unlink(missing_ok=True)
        before = process.cpu_seconds(self._mpiod.pid)
        code, cpu = fio.run_command(words, self._log, seconds + GRACE_SECONDS,
                                    lambda: alive() and self._mpiod.running())
        if code or not self._output.is_file():
            said = self._log.read_text(errors="replace").strip()
            raise LoadError(f"fio failed with status {code}: {said[-300:]}")
        measured = fio.parse_fio(self._output.read_text(errors="replace"), job.operation)
        return measured | {"initiator_cpu_s": process.cpu_seconds(self._mpiod.pid) - before,
                           "generator_cpu_s": cpu}


class IscsiPerf:
    """libiscsi's own generator: one session, reads, no latencies."""

    def __init__(self, url, directory):
        self._url = url
        self._generator = fio.IscsiPerf(directory)

    def run(self, job, seconds, alive):
        measured = self._generator.run(job, self._url, seconds, alive)
        measured["initiator_cpu_s"] = measured.pop("generator_cpu_s")
        return measured


def parse_qemu_img(text):
    """The seconds that `qemu-img bench` took."""
    found = re.search(r"Run completed in ([\d.]+) seconds", text)
    if not found:
        raise LoadError(f"qemu-img gave no time: {text.strip()[-300:]}")
    return float(found[1])


class QemuImg:
    """`qemu-img bench` with QEMU's iscsi driver, which is libiscsi: one session, sequential blocks,
    no latencies. It counts requests, not time, so each job begins with a short run that says how
    many fit; what its start costs is taken off its CPU time."""

    FIRST = 2000

    def __init__(self, url, directory):
        self._url = url
        self._log = directory / "qemu-img.log"
        self._rate = {}  # job name -> requests a second
        self._start_cpu = None

    def _bench(self, job, count, seconds, alive):
        words = ["qemu-img", "bench", "-f", "raw", "-t", "none", "-c", count, "-d", job.depth, "-s",
                 job.block, *(["-w"] if job.operation == "write" else []), self._url]
        began = time.monotonic()
        code, cpu = fio.run_command(words, self._log, seconds, alive)
        said = self._log.read_text(errors="replace")
        if code:
            raise LoadError(f"qemu-img failed with status {code}: {said.strip()[-300:]}")
        # It rounds to milliseconds, so a handful of requests may have taken "0.000".
        return parse_qemu_img(said) or time.monotonic() - began, cpu

    def run(self, job, seconds, alive):
        if self._start_cpu is None:
            self._start_cpu = min(self._bench(job, 1, GRACE_SECONDS, alive)[1] for _ in range(3))
        if job.name not in self._rate:
            took, _ = self._bench(job, self.FIRST, GRACE_SECONDS, alive)
            self._rate[job.name] = self.FIRST / took
        count = max(int(self._rate[job.name] * seconds), self.FIRST)
        took, cpu = self._bench(job, count, seconds * 5 + GRACE_SECONDS, alive)
        self._rate[job.name] = count / took
        return {"ios": count, "iops": count / took, "mb_s": count / took * job.block / 1e6,
                "p50_us": None, "p99_us": None,
                "initiator_cpu_s": max(cpu - self._start_cpu, 1e-3)}
