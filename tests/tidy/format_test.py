"""C and C++ are formatted with clang-format-19 and the tree's .clang-format."""

import subprocess
import unittest

import tree


class Format(unittest.TestCase):
    def test_clang_format_changes_nothing(self):
        done = subprocess.run(["clang-format-19", "--dry-run", "--ferror-limit=1", "-Werror",
                               *map(str, tree.code())], cwd=tree.ROOT, capture_output=True,
                              text=True, check=False)
        wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines()
                        if ": error:" in line})
        if done.returncode != 0:
            self.fail("run clang-format-19 -i on:\n" + "\n".join(wrong or [done.stderr]))


if __name__ == "__main__":
    unittest.main()
