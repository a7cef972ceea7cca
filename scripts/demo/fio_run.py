"""fio as clients of an NBD export: each writes its part of the disk, block after block in random
order, and reads all of it back at the end; a checksum in each block is verified.

    fio = FioRun(directory, uri, ["ip", "netns", "exec", ...])   # runs at once
    fio.running(); fio.kill()
    fio.end(deadline)          waits; AssertionError unless every block was written and verified
    fio.clients                after the end: for each, the times at which its writes were answered
"""

import dataclasses
import json
import os
import signal
import subprocess

from holdfast import paths
from holdfast.process import die_with_parent

CLIENTS = 4
BLOCK = 4096
# Paced, so that the run lasts as long as what happens meanwhile: 20 s. One write at a time for each
# client, as fio looks for answers late when it has room for more.
WRITES_PER_SECOND = 300
WRITES = 20 * WRITES_PER_SECOND
DISK_BYTES = CLIENTS * WRITES * BLOCK
LONGEST_S = 120  # on a machine that is busy with other things
WRITE = 1  # the direction in fio's log


@dataclasses.dataclass
class Answer:
    at: float         # seconds since the epoch; fio tells milliseconds
    latency_s: float


class FioRun:
    def __init__(self, directory, uri, prefix=()):
        self.directory = directory
        directory.mkdir()
        size = WRITES * BLOCK
        options = {
            "name": "verified", "ioengine": "nbd", "uri": uri, "thread": 1, "rw": "randwrite",
            "bs": BLOCK, "iodepth": 1, "numjobs": CLIENTS, "size": size, "offset_increment": size,
            "rate_iops": f",{WRITES_PER_SECOND}", "verify": "crc32c", "verify_fatal": 1,
            "verify_state_save": 0, "randrepeat": 0, "runtime": LONGEST_S, "output-format": "json",
            "write_lat_log": directory / "answers", "log_unix_epoch": 1}
        self.words = ["fio", *(f"--{name}={value}" for name, value in options.items())]
        self.clients = []
        self.process = subprocess.Popen(
            [*prefix, paths.tool("fio"), *self.words[1:]], cwd=directory, text=True,
            stdin=subprocess.DEVNULL, stdout=open(directory / "result", "w"),
            stderr=open(directory / "errors", "w"), start_new_session=True,
            preexec_fn=die_with_parent())

    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self):
        if self.running():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def end(self, deadline) -> str:
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"fio has not ended in {deadline} s") from None
        told = (self.directory / "result").read_text()
        errors = (self.directory / "errors").read_text()
        assert status == 0, f"fio ended with status {status}: {errors or told[:500]}"
        jobs = json.loads(told[told.index("{"):])["jobs"]
        assert len(jobs) == CLIENTS, f"{len(jobs)} clients"
        for job in jobs:
            assert job["error"] == 0, f"{job['jobname']}: error {job['error']}"
            for done, what in (("write", "written"), ("read", "verified")):
                count = job[done]["total_ios"]
                assert count == WRITES, f"{count} of {WRITES} blocks {what}"
        self.clients = [self._answers(number) for number in range(1, CLIENTS + 1)]
        for answers in self.clients:
            assert len(answers) == WRITES, f"fio's log has {len(answers)} of {WRITES} writes"
        return f"no error; {CLIENTS * WRITES:,} blocks written and verified with CRC32C"

    def _answers(self, number) -> list:
        """Of the writes of one client: fio's log has a line for each request."""
        answers = []
        for line in (self.directory / f"answers_lat.{number}.log").read_text().splitlines():
            at_ms, latency_ns, direction = map(int, line.split(",")[:3])
            if direction == WRITE:
                answers.append(Answer(at_ms / 1e3, latency_ns / 1e9))
        return answers


@dataclasses.dataclass
class Waits:
    """The longest times without an answer, in milliseconds."""
    client: float = 0      # of a single client
    everybody: float = 0   # when no client had one
    write: float = 0       # the slowest write
    client_from: float = 0  # when the longest of a client began


def waits(clients, begin, end) -> Waits:
    """Those that touch the time between `begin` and `end`, also when they reach beyond it."""
    found = Waits()
    for answers in clients:
        for before, after in pairs([answer.at for answer in answers], begin, end):
            if (after - before) * 1e3 > found.client:
                found.client, found.client_from = (after - before) * 1e3, before
        found.write = max([found.write, *(answer.latency_s * 1e3 for answer in answers
                                          if answer.at - answer.latency_s < end
                                          and answer.at > begin)])
    times = sorted(answer.at for answers in clients for answer in answers)
    found.everybody = max([(after - before) * 1e3 for before, after in pairs(times, begin, end)],
                          default=0)
    return found


def pairs(times, begin, end) -> list:
    return [(before, after) for before, after in zip(times, times[1:])
            if before < end and after > begin]
