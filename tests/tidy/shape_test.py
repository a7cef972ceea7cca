"""Sizes, headers and words: the habits of docs/style.md that a program can see."""

import re
import unittest

import tree

MAX_LINES, HARD_MAX_LINES, MAX_COLUMNS = 500, 800, 100
MAX_FUNCTION_LINES = 70
# Longer than MAX_LINES (never than HARD_MAX_LINES), with the reason.
LONG_FILES = {}
TEXT = tree.CODE | {".py", ".txt", ".md", ".sh", ".cmake", ".json", ".toml", ""}
UNFINISHED = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])


def text_files():
    return [path for path in tree.files() if path.suffix in TEXT and (tree.ROOT / path).is_file()]


class Shape(unittest.TestCase):
    def test_length_of_files(self):
        problems = []
        for path in tree.files():
            if path.suffix not in tree.CODE | {".py"}:
                continue
            lines = tree.text(path).count("\n")
            if lines > HARD_MAX_LINES or (lines > MAX_LINES and str(path) not in LONG_FILES):
                problems.append(f"{path}: {lines} lines, at most {MAX_LINES}: split it")
        tree.fail_with(self, problems)

    def test_length_of_lines(self):
        problems = []
        for path in tree.files():
            if path.suffix not in tree.CODE | {".py", ".sh"} and path.parts[0] != "scripts":
                continue
            table = False  # a table that clang-format must not break is read in columns
            for number, line in enumerate(tree.text(path).splitlines(), 1):
                if "clang-format o" in line:
                    table = line.rstrip().endswith("off")
                if len(line) > MAX_COLUMNS and not table:
                    problems.append(f"{path}:{number}: {len(line)} columns")
        tree.fail_with(self, problems)

    def test_length_of_functions(self):
        # clang-format puts the end of a function's body at the indentation of its first line.
        problems = []
        for path in tree.code(*tree.PRODUCT):
            lines = tree.text(path).splitlines()
            start = None
            for number, line in enumerate(lines, 1):
                if re.match(r"^\S.*\)[^;]*\{$", line) and not line.startswith(("namespace", "#")):
                    start = number
                elif line == "}" and start:
                    if number - start - 1 > MAX_FUNCTION_LINES:
                        problems.append(f"{path}:{start}: a function of {number - start - 1} lines")
                    start = None
        tree.fail_with(self, problems)

    def test_headers_are_guarded_once(self):
        problems = []
        for path in tree.code():
            if path.suffix == ".h" and tree.text(path).count("#pragma once") != 1:
                problems.append(f"{path}: one #pragma once is needed")
        tree.fail_with(self, problems)

    def test_no_using_namespace_in_headers(self):
        tree.fail_with(self, [f"{path}: using namespace" for path in tree.code()
                              if path.suffix == ".h" and
                              re.search(r"using namespace (?!std::\w*literals)",
                                        tree.without_comments(tree.text(path)))])


class Words(unittest.TestCase):
    def test_nothing_is_left_unfinished(self):
        problems = []
        for path in text_files():
            for line in tree.find(rf"\b(?:{UNFINISHED})\b(?!\(#\d+\))", tree.text(path)):
                problems.append(f"{path}:{line}: finish it, or give the number of its issue")
        tree.fail_with(self, problems)

    def test_no_path_of_one_machine(self):
        pattern = r"(?<![\w.])/(?:wor" + r"k|home|root)/\w"
        problems = []
        for path in text_files():
            problems += [f"{path}:{line}: a path of one machine"
                         for line in tree.find(pattern, tree.text(path))]
        tree.fail_with(self, problems)

    def test_lines_end_clean(self):
        problems = []
        for path in text_files():
            source = tree.text(path)
            problems += [f"{path}:{line}: space at the end"
                         for line in tree.find(r"[ \t]+\n", source)]
            if source and not source.endswith("\n"):
                problems.append(f"{path}: no newline at the end")
        tree.fail_with(self, problems)

    def test_no_test_is_disabled(self):
        pattern = r"GTEST_" r"SKIP|\bDIS" r"ABLED_\w|SKIP_RETURN" r"_CODE|unittest\.sk" r"ip"
        problems = []
        for path in tree.files("tests"):
            if path.suffix in tree.CODE | {".py", ".txt"}:
                problems += [f"{path}:{line}: a test that is not run"
                             for line in tree.find(pattern, tree.text(path))]
        tree.fail_with(self, problems)


if __name__ == "__main__":
    unittest.main()
