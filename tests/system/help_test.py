"""The command line's own help, and that docs/operations.md knows every command it shows."""

import re

from holdfast import case, paths
from holdfast.process import run


def verbs(*words):
    """[("path", "list"), ...]: every command below these words, from the help of the program."""
    text = run([paths.program("holdfast"), *words, "--help"]).stdout
    section = re.search(r"^Subcommands:\n((?: +.*\n?)+)", text, re.M)
    if section is None:
        return [words]
    names = re.findall(r"^  (\S+)", section[1], re.M)
    return [found for name in names for found in verbs(*words, name)]


class Help(case.TestCase):
    def test_every_command_is_documented(self):
        page = (paths.ROOT / "docs" / "operations.md").read_text()
        found = verbs()
        self.assertGreater(len(found), 20)
        missing = [words for words in found if f"`holdfast {' '.join(words)}" not in page]
        self.assertEqual(missing, [])

    def test_every_noun_says_its_exit_statuses(self):
        for noun in {words[0] for words in verbs()}:
            self.assertIn("Exit status: 0", run([paths.program("holdfast"), noun, "--help"]).stdout)


if __name__ == "__main__":
    case.main()
