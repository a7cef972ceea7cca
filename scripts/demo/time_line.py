"""What happened when: the changes of the paths' states from holdfast-mpiod's log, and marks of the
demo's own.

    line = TimeLine({"10.1.0.10:3260": "SAN1", ...})
    line.mark("SAN1 falls silent")      now; returns the time
    line.read(log)                      the log of the daemon, as text
    line.changes("SAN1", since=...)     [Change], in order
    line.text(zero)                     a line for each, with seconds from `zero`
"""

import dataclasses
import datetime
import re
import time

CHANGE = re.compile(r"^(\S+) \w+ mpio: \S+: path (\S+): (\w+) -> (\w+): (.*)$")
FENCE = re.compile(r"^(\S+) \w+ fence: path ([^,]+), (.*: (?:fenced after|its writes are) .*)$")


@dataclasses.dataclass
class Event:
    at: float
    who: str
    what: str


@dataclasses.dataclass
class Change:
    at: float
    before: str
    after: str


class TimeLine:
    def __init__(self, names):
        self.names = names
        self.events = []
        self._changes = {name: [] for name in names.values()}

    def mark(self, text, at=None) -> float:
        at = time.time() if at is None else at
        self.events.append(Event(at, "", text))
        return at

    def read(self, log):
        for line in log.splitlines():
            if found := CHANGE.match(line):
                at, name = epoch(found[1]), self.names[found[2]]
                self._changes[name].append(Change(at, found[3], found[4]))
                self.events.append(Event(at, name, f"{found[3]} -> {found[4]}: {found[5]}"))
            elif found := FENCE.match(line):
                self.events.append(Event(epoch(found[1]), self.names[found[2]], found[3]))

    def changes(self, name, since) -> list:
        return [change for change in self._changes[name] if change.at >= since]

    def text(self, zero) -> str:
        return "\n".join(f"{event.at - zero:+8.3f} s  {event.who:5} {event.what}"
                         for event in sorted(self.events, key=lambda event: event.at))


def epoch(stamp) -> float:
    """Of the log's time, which is the local one."""
    return datetime.datetime.fromisoformat(stamp).timestamp()
