"""Running client programs.

    run(["qemu-img", "info", url])          -> CompletedProcess with text, or an AssertionError
    run([...], check=False, deadline=5)     -> the same, whatever the exit status
"""

import ctypes
import signal
import subprocess

from . import paths

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def die_with_parent(number=signal.SIGKILL):
    """For Popen's preexec_fn: the child gets this signal when a test is killed (its time is over),
    so that nothing is left behind. Counts from the thread that starts the child."""
    return lambda: _libc.prctl(PR_SET_PDEATHSIG, int(number))


def run(command, check=True, deadline=60, env=None, input=None):
    """Runs a program to its end. Its name may be a tool of the system or an absolute path."""
    argv = [str(part) for part in command]
    if "/" not in argv[0]:
        argv[0] = paths.tool(argv[0])
    try:
        result = subprocess.run(argv, capture_output=True, text=True, errors="replace",
                                timeout=deadline, env=env, input=input)
    except subprocess.TimeoutExpired as expired:
        raise AssertionError(
            f"{' '.join(argv)} did not end within {deadline} s\n{expired.stdout}\n{expired.stderr}"
        ) from None
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(argv)} ended with status {result.returncode}\n"
                             f"stdout:\n{result.stdout}\nstderr:\n{result.stderr}")
    return result
