"""Runs `holdfast target ...` against one daemon.

    cli = Cli(target.control_socket)
    cli("status")                       -> CompletedProcess (exit status checked)
    cli("disk", "resize", "d0", "2GiB", status=1).stderr
    cli.json("session", "list")         -> the parsed output of --json
    cli.begin("apply", file)            -> Popen, while it runs
"""

import json
import subprocess

from . import paths
from .process import die_with_parent, run


class Cli:
    def __init__(self, control_socket):
        self.control_socket = str(control_socket)

    def __call__(self, *words, status=0, deadline=30):
        """Runs the command and asserts its exit status (None: any)."""
        result = run([paths.program("holdfast"), "target", *words, "--socket", self.control_socket],
                     check=False, deadline=deadline)
        if status is not None and result.returncode != status:
            raise AssertionError(
                f"holdfast target {' '.join(map(str, words))} ended with status "
                f"{result.returncode}, not {status}\n{result.stdout}{result.stderr}")
        return result

    def begin(self, *words):
        """Starts the command without waiting: the process, with its standard error."""
        return subprocess.Popen(
            [paths.program("holdfast"), "target", *words, "--socket", self.control_socket],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent())

    def json(self, *words):
        return json.loads(self(*words, "--json").stdout)
