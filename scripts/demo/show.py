"""What the demo's steps are made of: titles, observations, checks with timings, and clean-up.

    with Show() as show:
        show.title("a step")
        with show.check("data is identical through both portals") as check:
            ...                       # an AssertionError makes the check fail; the demo goes on
            check.saw = "1,024 blocks"
        show.cleanup(function)        # called at the end, in reverse order, unless --keep
"""

import contextlib
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback


class Check:
    def __init__(self, name):
        self.name = name
        self.saw = ""
        self.passed = False
        self.seconds = 0.0


class Show:
    def __init__(self, keep=False):
        self.keep = keep
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
        self.checks = []
        self.farewell = []   # lines for --keep: what runs and how to stop it
        self._cleanups = [lambda: shutil.rmtree(self.directory, ignore_errors=True)]
        self._crashed = False
        self._left = False

    def __enter__(self):
        # A signal ends the demo as Ctrl-C does, so that everything is cleaned up.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        return self

    def __exit__(self, kind, error, trace):
        self._crashed = kind is not None
        if kind is not None and issubclass(kind, Exception):
            traceback.print_exception(kind, error, trace)
        self._left = self.keep and not self._crashed
        if not self._left:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave half of it
            while self._cleanups:
                try:
                    self._cleanups.pop()()
                except Exception as problem:  # the rest must be cleaned up all the same
                    print(f"clean-up: {problem}", file=sys.stderr)
        return kind is not None and issubclass(kind, Exception)

    def cleanup(self, function):
        self._cleanups.append(function)

    def title(self, text):
        print(f"\n== {text}", flush=True)

    def say(self, text, indent="   "):
        for line in str(text).rstrip().splitlines():
            print(indent + line, flush=True)

    def command(self, words):
        self.say("$ " + " ".join(str(word) for word in words))

    def wait_until(self, condition, what, deadline):
        """Waits until condition() holds; an AssertionError after `deadline` seconds."""
        end = time.monotonic() + deadline
        while not condition():
            assert time.monotonic() < end, f"waited {deadline} s in vain: {what}"
            time.sleep(0.02)

    @contextlib.contextmanager
    def check(self, name):
        check = Check(name)
        self.checks.append(check)
        began = time.monotonic()
        try:
            yield check
            check.passed = True
        except AssertionError as error:
            check.saw = (str(error).strip().splitlines() or ["failed"])[0]
            self.say(error)
        except BaseException as error:
            check.saw = f"interrupted: {type(error).__name__}"
            raise
        finally:
            check.seconds = time.monotonic() - began
            mark = "ok" if check.passed else "FAILED"
            self.say(f"[{mark}] {name}: {check.saw or 'yes'} ({check.seconds:.2f} s)", "  ")

    def finish(self) -> int:
        """The table, and the exit status."""
        failed = [check for check in self.checks if not check.passed]
        print("\n== What was checked")
        width = max((len(check.name) for check in self.checks), default=0)
        for check in self.checks:
            mark = "ok    " if check.passed else "FAILED"
            print(f"  {mark}  {check.name:<{width}}  {check.seconds:7.2f} s  {check.saw}")
        print(f"\n{len(self.checks) - len(failed)} of {len(self.checks)} checks passed"
              + (", and the demo did not come to its end" if self._crashed else ""))
        if self._left:
            print("\n".join(["", *self.farewell, f"All files:  {self.directory}"]))
        return 1 if failed or self._crashed or not self.checks else 0
