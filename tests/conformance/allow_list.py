"""What iscsi-test-cu may print although it is not a pass, each with its reason: skips.txt are skips
that are right, wrong_tests.txt failures where the test itself is wrong.

A line:   test | flavours | message | reason
test and message are shell patterns; flavours is a comma list of names of flavours.py, or * for all:
then the test need not run to its end on any. An entry that matches nothing is an error too: it
would hide the next skip or failure.
"""

import dataclasses
import fnmatch
import pathlib

SKIPS = pathlib.Path(__file__).with_name("skips.txt")
WRONG_TESTS = pathlib.Path(__file__).with_name("wrong_tests.txt")


@dataclasses.dataclass
class Entry:
    test: str
    flavours: str
    message: str
    reason: str
    where: str
    used: bool = False

    def for_flavour(self, flavour) -> bool:
        return self.flavours == "*" or flavour in self.flavours.split(",")

    def for_test(self, test) -> bool:
        return fnmatch.fnmatchcase(test, self.test)


def load(path) -> list:
    entries = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 4 or not all(fields):
            raise AssertionError(f"{path.name}:{number}: four fields with text are needed")
        entries.append(Entry(*fields, where=f"{path.name}:{number}"))
    return entries


def find(entries, test, flavour, message):
    """The entry that allows this, or None."""
    for entry in entries:
        if entry.for_test(test) and entry.for_flavour(flavour) and \
                fnmatch.fnmatchcase(message, entry.message):
            entry.used = True
            return entry
    return None
