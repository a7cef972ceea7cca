"""The reader of iscsi-test-cu's output and the rules for its skips, on samples."""

import types
import unittest

import allow_list
import cu_output
import run_iscsi_test_cu

HEAD = "\nSuite: Read6\n  Test: Simple ..."
SUMMARY = """

Run Summary:    Type  Total    Ran Passed Failed Inactive
              suites      1      1    n/a      {suites}        0
               tests      {total}      {ran}      1      {failed}        0
             asserts    160    160    156      4      n/a
"""


def output(body, total=1, ran=1, failed=0, suites=0):
    return HEAD + body + SUMMARY.format(total=total, ran=ran, failed=failed, suites=suites)


class Output(unittest.TestCase):
    def test_passed(self):
        result, = cu_output.parse("Read6", output("\n    Send READ6\npassed"))
        self.assertEqual((result.name, result.passed, result.skips, result.failures),
                         ("Read6.Simple", True, [], []))

    def test_skip_inside_a_passed_test(self):
        result, = cu_output.parse("Read6", output("\n    [SKIPPED] not removable\npassed  Send"))
        self.assertEqual((result.passed, result.skips), (True, ["not removable"]))

    def test_a_probe_that_a_passed_test_did_not_mind(self):
        result, = cu_output.parse("Read6", output("\n    [FAILED] READ6 command\npassed"))
        report = run_iscsi_test_cu.Report([], [])
        report.add(types.SimpleNamespace(name="thin"), result)
        self.assertEqual((report.problems, report.passed), ([], 1))

    def test_failure_with_its_assertions(self):
        body = "\n    [FAILED] bad sense\nFAILED\n    1. test_read6.c:12  - CU_FAIL()"
        result, = cu_output.parse("Read6", output(body, failed=1))
        self.assertFalse(result.passed)
        self.assertEqual(result.failures, ["bad sense", "1. test_read6.c:12  - CU_FAIL()"])

    def test_output_that_is_not_complete(self):
        for text in (HEAD + "\npassed", output("\npassed", ran=2, total=2), output("", failed=0),
                     output("\npassed", failed=1), output("\npassed", suites=1)):
            with self.subTest(text=text), self.assertRaises(AssertionError):
                cu_output.parse("Read6", text)


class Rules(unittest.TestCase):
    THIN, THICK = (types.SimpleNamespace(name=name) for name in ("thin", "thick"))

    def run_through(self, skips, *seen):
        """Problems after results (flavour, skips) of one test, for flavours thin and thick."""
        report = run_iscsi_test_cu.Report(skips, [])
        for flavour, skips in seen:
            report.add(flavour, cu_output.TestResult("Unmap.Simple", True, list(skips)))
        suites = {"SCSI.Unmap": ["Unmap.Simple"]}
        report.close(suites, suites | {"SCSI.Read6": ["Read6.Simple"]})
        return report.problems

    def entry(self, flavours="thick", message="*LBPU*", test="Unmap.*"):
        return allow_list.Entry(test, flavours, message, "a reason", "list:1")

    def test_a_skip_needs_an_entry(self):
        seen = (self.THIN, []), (self.THICK, ["no LBPU."])
        self.assertEqual(len(self.run_through([], *seen)), 1)
        self.assertEqual(self.run_through([self.entry()], *seen), [])

    def test_an_entry_is_for_its_flavour_test_and_message_only(self):
        seen = (self.THIN, []), (self.THICK, ["no LBPU."])
        for wrong in (self.entry("thin"), self.entry(message="other"), self.entry(test="Read6.*")):
            self.assertTrue(self.run_through([wrong], *seen))

    def test_an_entry_that_allows_nothing_is_a_problem(self):
        self.assertIn("allows nothing", self.run_through([self.entry()], (self.THIN, []))[0])
        self.assertIn("allows nothing", self.run_through([self.entry(test="Wrong.*")],
                                                         (self.THIN, []))[0])

    def test_an_entry_for_tests_of_another_run_is_left_alone(self):
        self.assertEqual(self.run_through([self.entry(test="*.Simple")], (self.THIN, [])), [])

    def test_a_test_must_run_somewhere(self):
        seen = (self.THIN, ["no LBPU."]), (self.THICK, ["no LBPU."])
        self.assertIn("no flavour", self.run_through([self.entry("thin,thick")], *seen)[0])
        self.assertEqual(self.run_through([self.entry("*")], *seen), [])

    def test_a_failure_is_a_problem_unless_the_test_is_wrong(self):
        for wrong_tests, problems in (([], 1), ([self.entry("thin", "1. test_unmap.c*")], 0)):
            report = run_iscsi_test_cu.Report([], wrong_tests)
            report.add(self.THIN, cu_output.TestResult("Unmap.Simple", False, [],
                                                       ["1. test_unmap.c:3  - CU_FAIL"]))
            self.assertEqual(len(report.problems), problems)


if __name__ == "__main__":
    unittest.main()
