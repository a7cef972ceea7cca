"""What iscsi-test-cu prints in its verbose mode, parsed."""

import dataclasses
import re

TEST_LINE = re.compile(r"^  Test: (\S+) \.\.\.(.*)")
END_LINE = re.compile(r"^(passed|FAILED)\b")
ASSERTION_LINE = re.compile(r"^\s+\d+\. \S+\.c:\d+")
MAX_FAILURES = 8  # a loop in a test can fail thousands of assertions
SUMMARY = re.compile(r"^\s+(suites|tests|asserts)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\d+)\s+(\S+)", re.M)


@dataclasses.dataclass
class TestResult:
    name: str                 # SUITE.TEST
    passed: bool = False
    skips: list = dataclasses.field(default_factory=list)     # the reasons it prints
    failures: list = dataclasses.field(default_factory=list)  # messages and failed assertions;
    # also of probes that a test made and did not mind, so look at them only if it did not pass


def parse(suite: str, output: str) -> list:
    """The results of one run of one suite. AssertionError when the output is not complete."""
    results, current, ended = [], None, False
    for line in output.splitlines():
        start = TEST_LINE.match(line)
        if start:
            current, ended = TestResult(f"{suite}.{start[1]}"), False
            results.append(current)
            line = start[2]
        if current is None:
            continue
        if ended and not ASSERTION_LINE.match(line):
            continue  # the tool's own tidying up between tests
        if "[SKIPPED]" in line:
            current.skips.append(line.split("[SKIPPED]", 1)[1].strip())
        elif "[FAILED]" in line:
            current.failures.append(line.split("[FAILED]", 1)[1].strip())
        elif ASSERTION_LINE.match(line) and len(current.failures) < MAX_FAILURES:
            current.failures.append(line.strip())
        end = END_LINE.match(line)
        if end:
            current.passed = end[1] == "passed"
            ended = True
    _check_summary(output, results)
    return results


def _check_summary(output, results):
    rows = {match[1]: match for match in SUMMARY.finditer(output)}
    if "tests" not in rows:
        raise AssertionError("no summary: the tool did not come to its end")
    total, ran, failed = (int(rows["tests"][column]) for column in (2, 3, 5))
    if total != ran or ran != len(results):
        raise AssertionError(f"{total} tests, {ran} ran, {len(results)} results were printed")
    if failed != sum(not result.passed for result in results):
        raise AssertionError(f"{failed} tests failed by the summary, but not by the results")
    if int(rows["suites"][5]) != 0:
        raise AssertionError("the suite could not be set up")
