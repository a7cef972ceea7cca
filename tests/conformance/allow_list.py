"""tests/conformance/skips.txt: the skips of iscsi-test-cu that are right, each with its reason.

A line:   test | flavours | message | reason
test and message are shell patterns; flavours is a comma list of names of flavours.py, or * when the
test can run on none of them. An entry that matches nothing is an error too: it hides the next skip.
"""

import dataclasses
import fnmatch
import pathlib

FILE = pathlib.Path(__file__).with_name("skips.txt")


@dataclasses.dataclass
class Entry:
    test: str
    flavours: str
    message: str
    reason: str
    line: int
    used: bool = False

    def for_flavour(self, flavour) -> bool:
        return self.flavours == "*" or flavour in self.flavours.split(",")

    def for_test(self, test) -> bool:
        return fnmatch.fnmatchcase(test, self.test)


def load(path=FILE) -> list:
    entries = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 4 or not all(fields):
            raise AssertionError(f"{path.name}:{number}: four fields with text are needed")
        entries.append(Entry(*fields, line=number))
    return entries


def find(entries, test, flavour, message):
    """The entry that allows this skip, or None."""
    for entry in entries:
        if entry.for_test(test) and entry.for_flavour(flavour) and \
                fnmatch.fnmatchcase(message, entry.message):
            entry.used = True
            return entry
    return None
