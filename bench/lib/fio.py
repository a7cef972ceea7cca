"""The load generators: fio with its libiscsi engine, and iscsi-perf where fio cannot be built.

Each run gives: ios, iops, mb_s (10^6 bytes), p50_us, p99_us, and generator_cpu_s.
"""

import json
import os
import re
import subprocess
import time

from bench.lib import process

GRACE_SECONDS = 30  # login, logout and fio's own start
FILL_SECONDS = 600  # the longest a LUN may take to be written once


class LoadError(Exception):
    """The generator failed or hung; the text is what it said."""


def fio_command(binary, job, url, seconds, output):
    """fio's command line; `seconds` None writes the LUN once from end to end."""
    pattern = ("rand" if job.random else "") + job.operation
    # fio splits file names at ':'.
    command = [binary, "--name=bench", "--ioengine=libiscsi",
               "--filename=" + url.replace(":", r"\:"), f"--rw={pattern}", f"--bs={job.block}",
               f"--iodepth={job.depth}", f"--numjobs={job.sessions}", "--group_reporting",
               "--norandommap", "--randrepeat=0", "--output-format=json", f"--output={output}"]
    if seconds is not None:
        command += ["--time_based", f"--runtime={seconds}"]
    return command


def parse_fio(text, operation):
    """The figures of a run from fio's JSON, which may have log lines before it."""
    begin = text.find("{")
    if begin < 0:
        raise LoadError(f"fio printed no JSON: {text.strip()[-300:]}")
    job = json.loads(text[begin:])["jobs"][0]
    if job["error"]:
        raise LoadError(f"fio reports error {job['error']}: {text[:begin].strip()[-300:]}")
    side = job[operation]
    if not side["total_ios"]:
        raise LoadError("fio did no I/O")
    percentile = side["clat_ns"]["percentile"]
    return {
        "ios": side["total_ios"],
        "iops": side["iops"],
        "mb_s": side["bw_bytes"] / 1e6,
        "p50_us": percentile["50.000000"] / 1e3,
        "p99_us": percentile["99.000000"] / 1e3,
    }


def _wait(child, seconds, alive):
    """Exit status and CPU seconds of a child; kills it when the time is over or its target died
    (libiscsi would try to reach it again and again)."""
    end = time.monotonic() + seconds
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode, usage.ru_utime + usage.ru_stime
        if not alive():
            raise LoadError("the target died under load")
        if time.monotonic() > end:
            raise LoadError(f"{child.args[0]} hung and was killed after {seconds:.0f} s")
        time.sleep(0.02)


def run_command(command, log_path, seconds, alive):
    with log_path.open("wb") as log:
        child = process.start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        return _wait(child, seconds, alive)
    finally:
        if child.returncode is None:
            child.kill()
            child.wait()


class Fio:
    def __init__(self, binary, directory):
        self._binary = binary
        self._output = directory / "fio.json"
        self._log = directory / "fio.log"
        version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
        self.title = f"{version.stdout.strip()} with its libiscsi engine"

    def supports(self, job):
        return bool(job)

    def run(self, job, url, seconds, alive, most=None):
        """One run; `alive` says whether the target still is, `most` bounds the seconds."""
        self._output.unlink(missing_ok=True)
        command = fio_command(self._binary, job, url, seconds, self._output)
        code, cpu = run_command(command, self._log, most or seconds + GRACE_SECONDS, alive)
        said = self._log.read_text(errors="replace").strip()
        if code or not self._output.is_file():
            raise LoadError(f"fio failed with status {code}: {said[-300:]}")
        figures = parse_fio(self._output.read_text(errors="replace"), job.operation)
        return figures | {"generator_cpu_s": cpu}

    def fill(self, job, url, alive):
        """Writes the whole LUN, so that no read meets a hole. `job` is a sequential write."""
        self.run(job, url, None, alive, most=FILL_SECONDS)


def parse_iscsi_perf(text, block):
    """iscsi-perf's last average; it knows no latencies."""
    averages = re.findall(r"iops average (\d+)", text)
    if not averages or int(averages[-1]) == 0:
        raise LoadError(f"iscsi-perf gave no average: {text.strip()[-300:]}")
    iops = float(averages[-1])
    return {"iops": iops, "mb_s": iops * block / 1e6, "p50_us": None, "p99_us": None}


class IscsiPerf:
    """libiscsi's own generator: one session, reads only, no latencies."""

    title = "iscsi-perf (fio's libiscsi engine could not be built: reads only, no latencies)"

    def __init__(self, directory):
        self._log = directory / "iscsi-perf.log"

    def supports(self, job):
        return job.operation == "read" and job.sessions == 1

    def run(self, job, url, seconds, alive):
        command = ["iscsi-perf", "-m", job.depth, "-b", job.block // 512, "-t", seconds]
        if job.random:
            command.append("-r")
        code, cpu = run_command([*command, url], self._log, seconds + GRACE_SECONDS, alive)
        said = self._log.read_text(errors="replace")
        if code:
            raise LoadError(f"iscsi-perf failed with status {code}: {said.strip()[-300:]}")
        figures = parse_iscsi_perf(said, job.block)
        return figures | {"ios": figures["iops"] * seconds, "generator_cpu_s": cpu}

    def fill(self, job, url, alive):
        """iscsi-perf cannot write: the LUNs stay as they were created."""
