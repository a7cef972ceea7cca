"""The limit: a bare TCP exchange of a job's sizes, by holdfast-bench-exchange."""

import json
import subprocess

from bench.lib import jobs
from bench.lib.fio import GRACE_SECONDS, LoadError


def command(binary, job, series, seconds):
    request, response = jobs.exchange_sizes(job)
    words = [binary, "--request", request, "--response", response, "--depth", job.depth,
             "--connections", job.sessions, "--servers", series.threads, "--seconds", seconds]
    return [str(word) for word in words + (["--spin"] if series.spin else [])]


def figures(measured, block):
    """The exchange's JSON in the terms of a load generator's run."""
    return {
        "ios": measured["exchanges"],
        "iops": measured["rate"],
        "mb_s": measured["rate"] * block / 1e6,
        "p50_us": measured["p50_us"],
        "p99_us": measured["p99_us"],
        "target_cpu_us": measured["server_cpu_us"],
        "generator_cpu_s": measured["client_cpu_us"] * measured["exchanges"] / 1e6,
    }


def run(binary, job, series, seconds):
    try:
        done = subprocess.run(command(binary, job, series, seconds), capture_output=True,
                              text=True, check=False, timeout=seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise LoadError("the bare exchange hung") from error
    if done.returncode:
        raise LoadError(f"the bare exchange failed: {done.stderr.strip()}")
    return figures(json.loads(done.stdout), job.block)
