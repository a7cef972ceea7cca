"""Pages and code agree: keys, file names, the skips of the conformance suite."""

import re
import sys
import unittest

import tree

sys.path.insert(0, str(tree.ROOT / "tests" / "conformance"))

import allow_list

TOPS = "common|target|initiator|mpio|qdisk|cluster|bench|tests|docs|scripts|cmake|systemd"
REFERENCE = re.compile(rf"(?<![\w/.-])((?:{TOPS})/[\w./-]*[\w/])")
PAGES = ["README.md", "docs/architecture.md", "docs/config.md", "docs/hacking.md", "docs/iscsi.md",
         "docs/mpio.md", "docs/scsi.md", "docs/style.md", "docs/testing.md"]


def pages():
    return [path for path in tree.files() if path.suffix == ".md"]


class Docs(unittest.TestCase):
    def test_the_pages_that_others_point_to_exist(self):
        tree.fail_with(self, [f"{page} is missing" for page in PAGES
                              if not (tree.ROOT / page).exists()])

    def test_files_named_in_pages_exist(self):
        problems = []
        for page in pages():
            source = re.sub(r"https?://\S+", "", tree.text(page))
            for match in REFERENCE.finditer(source):
                after = source[match.end():match.end() + 1]
                if (after and after in "*<{") or "NAME" in match[1]:
                    continue  # a pattern, not a name
                if not self.exists(match[1]):
                    line = source.count("\n", 0, match.start()) + 1
                    problems.append(f"{page}:{line}: {match[1]} is not there")
        tree.fail_with(self, problems)

    def test_pages_named_in_code_exist(self):
        problems = []
        for path in tree.code() + [p for p in tree.files() if p.suffix == ".py"]:
            for match in re.finditer(r"\bdocs/[\w/-]+\.md", tree.text(path)):
                if not (tree.ROOT / match[0]).exists():
                    problems.append(f"{path}: {match[0]} is not there")
        tree.fail_with(self, problems)

    @staticmethod
    def exists(name):
        path = tree.ROOT / name.rstrip("/.")
        # A module or a pair of files may be named without its suffix.
        return path.exists() or any(path.with_name(path.name + suffix).exists()
                                    for suffix in (".h", ".cc", ".py"))

    def test_every_event_is_documented(self):
        numbers = re.findall(r"= (\d{4}),", tree.text(tree.ROOT / "qdisk/quorum_events.h"))
        self.assertGreater(len(numbers), 10)
        operations = tree.text(tree.ROOT / "docs/operations.md")
        tree.fail_with(self, [f"docs/operations.md, Events, does not describe {number}"
                              for number in numbers if number not in operations])

    def test_every_configuration_key_is_documented(self):
        page = tree.text("docs/config.md")
        parts = {title: text for title, text in
                 re.findall(r"^# (.*?)\n(.*?)(?=^# |\Z)", page, re.M | re.S)}
        for title, table in (("The target", "target/config_keys.h"),
                             ("holdfast-mpiod", "mpio/config_keys.h"),
                             ("holdfast-qdiskd", "qdisk/config_keys.h")):
            part = parts[title]
            keys = re.findall(r'^\s+"([\w.]+)",', tree.text(table), re.M)
            self.assertGreater(len(keys), 20)
            tree.fail_with(self, [f"docs/config.md, {title}, does not describe `{key}`"
                                  for key in keys if f"`{key}`" not in part])
            described = re.findall(r"^\| `([\w.]+)` \|", part, re.M)
            tree.fail_with(self, [f"docs/config.md, {title}, describes `{key}`, which the reader "
                                  "does not know" for key in described if key not in keys])


class ConformanceTable(unittest.TestCase):
    def test_page_and_allow_list_agree(self):
        page = tree.text("docs/scsi.md")
        section = re.search(r"^## Conformance: iscsi-test-cu\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        self.assertTrue(section, "docs/scsi.md has no section 'Conformance: iscsi-test-cu'")
        rows = set()
        for line in section[1].splitlines():
            cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
            if line.startswith("| `") and len(cells) == 3:
                rows.add(tuple(cells))
        entries = [entry for path in (allow_list.SKIPS, allow_list.WRONG_TESTS)
                   for entry in allow_list.load(path)]
        wanted = {(entry.test, entry.flavours, entry.reason) for entry in entries}
        tree.fail_with(self, [f"only in skips.txt or wrong_tests.txt: {row}"
                              for row in sorted(wanted - rows)] +
                       [f"only in docs/scsi.md: {row}" for row in sorted(rows - wanted)])


if __name__ == "__main__":
    unittest.main()
