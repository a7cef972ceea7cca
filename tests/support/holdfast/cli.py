"""Runs `holdfast target ...` against one daemon.

    cli = Cli(target.control_socket)
    cli("status")                       -> CompletedProcess (exit status checked)
    cli("disk", "resize", "d0", "2GiB", status=1).stderr
    cli.json("session", "list")         -> the parsed output of --json
"""

import json

from . import paths
from .process import run


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

    def json(self, *words):
        return json.loads(self(*words, "--json").stdout)
