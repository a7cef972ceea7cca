"""What counts as a proof: the reader of the verifier's output; the table and the models agree."""

import os
import re
import unittest
from unittest import mock

import models_test
import spin

DONE = """
(Spin Version 6.5.2 -- 6 December 2019)
	+ Compression

Full statespace search for:
	assertion violations	+

State-vector 56 byte, depth reached 42, errors: 0
  1169524 states, stored
"""
BROKEN = """pan:1: assertion violated  !(runs) (at depth 36)
pan: wrote lease_takeover.pml.trail
Warning: Search not completed

State-vector 52 byte, depth reached 111, errors: 1
     2672 states, stored
"""


class Output(unittest.TestCase):
    def test_a_whole_search(self):
        outcome = spin.parse(DONE)
        self.assertTrue(outcome.holds)
        self.assertEqual((outcome.states, outcome.depth), (1169524, 42))

    def test_states_beyond_what_it_prints_as_a_whole_number(self):
        self.assertEqual(spin.parse(DONE.replace("1169524", "1.0275892e+08")).states, 102758920)

    def test_a_violated_assertion(self):
        outcome = spin.parse(BROKEN)
        self.assertEqual((outcome.assertion, outcome.problem), ("!(runs)", ""))
        self.assertFalse(outcome.holds)

    def test_an_error_of_another_kind_breaks_no_assertion(self):
        outcome = spin.parse(BROKEN.replace("assertion violated  !(runs)", "invalid end state"))
        self.assertIn("another kind", outcome.problem)

    def test_a_search_cut_short_is_no_proof(self):
        for line in ("error: max search depth too small", "pan: out of memory",
                     "Warning: Search not completed", "Interrupted", "Bit statespace search for:",
                     "pan: reached -DMEMLIM bound", "Hash-Compact 4 search for:"):
            with self.subTest(line):
                self.assertFalse(spin.parse(f"{line}\n{DONE}").holds)
        self.assertFalse(spin.parse("").holds)

    def test_a_depth_that_does_not_do(self):
        outcome = spin.search("lease_takeover", depth=100)
        self.assertIn("max search depth too small", outcome.problem)

    def test_a_tool_that_is_not_there(self):
        with mock.patch.dict(os.environ, {"PATH": "/nowhere"}):
            self.assertIn("spin is not installed", spin.search("ballots").problem)


class Table(unittest.TestCase):
    def test_every_mutant_is_tried_and_described(self):
        page = (spin.FOLDER.parents[1] / "docs" / "qdisk-models.md").read_text()
        for file in sorted(spin.FOLDER.glob("*.pml")):
            text = file.read_text()
            head, _, code = text.partition("*/")
            mutants = set(re.findall(r"\bMUTANT_\w+", code))
            tried = {each for case in models_test.CASES if case.model == file.stem
                     for each in case.defines if each.startswith("MUTANT_")}
            self.assertEqual(mutants, tried)
            self.assertEqual(mutants, set(re.findall(r"^ \* +(MUTANT_\w+)", head, re.M)))
            for mutant in mutants:
                self.assertIn(f"`{mutant.removeprefix('MUTANT_')}`", page, file.name)

    def test_names_are_unique(self):
        names = [str(case) for case in models_test.CASES]
        self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    unittest.main()
