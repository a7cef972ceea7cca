#!/usr/bin/env python3
"""Runs libiscsi's iscsi-test-cu against holdfast-targetd: every suite in a process of its own, on
LUNs of all flavours, with two paths and two initiators.

    run_iscsi_test_cu.py [--flavour NAME ...] [--keep-going] PATTERN ...

PATTERN: a shell pattern of suites, as in FAMILY.SUITE ("SCSI.Prout*"); "!PATTERN" takes away.
Fails on a failure or a skip that wrong_tests.txt or skips.txt does not allow, on an entry there
that allows nothing, and on a test that passed whole on no flavour.
"""

import argparse
import fnmatch
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import allow_list
import cu_output
import flavours as flavour_list
from holdfast import scsi
from holdfast.iscsi import Session
from holdfast.process import run
from holdfast.target import Target

SUITE_DEADLINE_S = 90


def all_tests() -> dict:
    """{FAMILY.SUITE: [SUITE.TEST, ...]} of the two families that hold every test."""
    suites = {}
    for name in run(["iscsi-test-cu", "-l"]).stdout.split():
        parts = name.split(".")
        if len(parts) == 3 and parts[0] in ("SCSI", "iSCSI"):
            suites.setdefault(".".join(parts[:2]), []).append(".".join(parts[1:]))
    return suites


def choose(suites, patterns) -> dict:
    """The suites that the patterns choose."""
    wanted = [p for p in patterns if not p.startswith("!")]
    unwanted = [p[1:] for p in patterns if p.startswith("!")]
    chosen = {suite: tests for suite, tests in suites.items()
              if any(fnmatch.fnmatchcase(suite, p) for p in wanted)
              and not any(fnmatch.fnmatchcase(suite, p) for p in unwanted)}
    if not chosen:
        raise SystemExit(f"no suite of iscsi-test-cu matches {' '.join(patterns)}")
    return chosen


class Report:
    """What was seen, against what is allowed."""

    def __init__(self, skips, wrong_tests):
        self.skips, self.wrong_tests = skips, wrong_tests
        self.problems = []
        self.whole = set()      # tests that ran without a skip on some flavour
        self.passed = self.skipped = 0

    def add(self, flavour, result):
        where = f"{flavour.name}: {result.name}"
        failures = [] if result.passed else result.failures or ["failed without a message"]
        for message in failures:
            if allow_list.find(self.wrong_tests, result.name, flavour.name, message) is None:
                self.problems.append(f"{where}: FAILED: {message}")
        for message in dict.fromkeys(result.skips):
            if allow_list.find(self.skips, result.name, flavour.name, message) is None:
                self.problems.append(f"{where}: SKIPPED and not in skips.txt: {message}")
        self.skipped += bool(result.skips)
        if result.passed and not result.skips:
            self.passed += 1
            self.whole.add(result.name)

    def close(self, suites, everything):
        """Checks that need a run on all flavours: stale entries, tests that never ran. An entry is
        stale only if all tests that it could be for have run."""
        tests = [test for each in suites.values() for test in each]
        known = [test for each in everything.values() for test in each]
        entries = self.skips + self.wrong_tests
        for entry in entries:
            meant = {test for test in known if entry.for_test(test)}
            if meant <= set(tests) and not entry.used:
                self.problems.append(f"{entry.where}: allows nothing: {entry.test}")
        for test in tests:
            never = any(e.flavours == "*" and e.for_test(test) for e in entries)
            if test not in self.whole and not never and not self.problems:
                self.problems.append(f"{test}: passed whole on no flavour")


def run_suite(target, flavour, suite, output_file):
    first = target.url(flavour.disk.name, 0, flavour.target, flavour.user)
    second = target.url(flavour.disk.name, 1, flavour.target, flavour.user)
    # -V prints each command, and with it the skips that the normal mode hides.
    done = run(["iscsi-test-cu", "--dataloss", "--allow-sanitize", "-V",
                "-i", flavour_list.INITIATORS[0], "-I", flavour_list.INITIATORS[1],
                "-t", suite, first, second], check=False, deadline=SUITE_DEADLINE_S)
    output_file.write_text(done.stdout + done.stderr)
    return cu_output.parse(suite.split(".")[1], done.stdout)


def run_all(target, chosen_flavours, suites, report, directory):
    for flavour in chosen_flavours:
        began = time.monotonic()
        for suite in filter(flavour.runs, suites):
            output_file = directory / f"{flavour.name}.{suite}.txt"
            problems_before = len(report.problems)
            try:
                for result in run_suite(target, flavour, suite, output_file):
                    report.add(flavour, result)
            except AssertionError as error:
                report.problems.append(f"{flavour.name}: {suite}: {error}")
            if len(report.problems) > problems_before:
                if output_file.exists():
                    print(f"--- {flavour.name} {suite}\n{tail(output_file)}")
                load_medium(target, flavour)
            if not target.running():
                report.problems.append(f"{flavour.name}: {suite}: the target died")
                return
        count = sum(map(flavour.runs, suites))
        print(f"{flavour.name}: {count} suites, {time.monotonic() - began:.1f} s", flush=True)


def load_medium(target, flavour):
    """A suite that failed may have left the medium ejected: the next ones need it."""
    if flavour.disk.extra.get("removable"):
        lun = int(target.url(flavour.disk.name, 0, flavour.target).rsplit("/", 1)[1])
        session = Session.open(target.portal(), target.targets[flavour.target].name,
                               initiator=flavour_list.INITIATORS[0])
        for _ in range(8):  # unit attentions come first
            if session.command(scsi.start_stop_unit(start=True, loej=True), lun=lun).good:
                break
        session.logout()


def tail(path, lines=60) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("patterns", nargs="+")
    parser.add_argument("--flavour", action="append")
    parser.add_argument("--output", type=pathlib.Path, help="keep the tool's output here")
    options = parser.parse_args()

    everything = flavour_list.flavours()
    chosen = [f for f in everything if not options.flavour or f.name in options.flavour]
    all_suites = all_tests()
    suites = choose(all_suites, options.patterns)
    report = Report(allow_list.load(allow_list.SKIPS), allow_list.load(allow_list.WRONG_TESTS))
    with tempfile.TemporaryDirectory(prefix="holdfast-cu-") as scratch:
        scratch = pathlib.Path(scratch)
        output = options.output or scratch / "output"
        output.mkdir(parents=True, exist_ok=True)
        target = Target(scratch / "target", disks=[f.disk for f in everything],
                        targets=flavour_list.targets(everything)).start()
        try:
            run_all(target, chosen, suites, report, output)
            if len(chosen) == len(everything):
                report.close(suites, all_suites)
        finally:
            try:
                target.stop()
            except AssertionError as error:
                report.problems.append(str(error))
            if report.problems:
                print(f"--- log of the target\n{target.log()[-8000:]}")
    for problem in report.problems:
        print(problem)
    print(f"{report.passed} tests passed whole, {report.skipped} with a skip, "
          f"{len(report.problems)} problems")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
