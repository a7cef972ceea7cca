"""One repeat of `bench/run quorum`: what the pages and the survivors' status show after a fault."""

import time

from bench.lib.lease_page import now
from bench.lib.quorum_site import DISKS, VOLUME, Asker

LOOK_S = 0.005  # at the pages
ASK_S = 0.025  # a survivor's status, until it has lost sight of the victim
LOAD_S = 10.0  # of a loaded machine, on top of what the times say


def first(known, at, happened):
    return at if known is None and happened else known


class LeaseEnd:
    """When the lease in a page has ended."""

    def __init__(self):
        self.at = None
        self._until = 0.0

    def look(self, at, until):
        if self.at is not None:
            return
        if at < until:
            self._until = until
            return
        # Either its time was over, or the node has ended it since the last look.
        self.at = self._until if until in (0.0, self._until) and self._until <= at else at


class Watch:
    """`victim` is the number of the node that coordinates the volume in `epoch`."""

    def __init__(self, site, victim, epoch):
        self._site, self._victim, self._epoch = site, victim, epoch
        self._survivors = [number for number in range(len(site.nodes)) if number != victim]
        self.detected = self.decided = self.fenced = self.taken = self.evicted_in = None
        self.lease = LeaseEnd()
        self.timed = False
        self.registered = None  # the disks that had the victim's key when another had taken over
        self.lapsed = set()  # survivors that were without a lease at some moment
        self.last = []

    def follow(self, lose):
        """Loses the victim and watches until another has its volume; the figures, in seconds."""
        site = self._site
        askers = [Asker(site.nodes[number].control_socket) for number in self._survivors]
        try:
            key = site.pages[self._victim].read().key
            if len(site.registered(key)) != len(DISKS):
                raise AssertionError(f"key {key:#x} is not on all disks: the check is void")
            self._look(now())
            began = now()
            lose(site, site.nodes[self._victim])
            took = now() - began
            self._wait(began + self._patience(), askers, key)
        finally:
            for asker in askers:
                asker.close()
        return self._figures(began, took)

    def _patience(self):
        times = self._site.timers
        return sum(times[name] for name in ("net_dead", "lease", "takeover", "disk_io_to")) + LOAD_S

    def _wait(self, end, askers, key):
        ask_at = 0.0
        while None in (self.detected, self.taken, self.lease.at):
            at = now()
            if at > end:
                raise AssertionError(
                    f"after {self._patience():.0f} s: detected {self.detected}, decided "
                    f"{self.decided}, fenced {self.fenced}, taken over {self.taken}, lease ended "
                    f"{self.lease.at}; pages: {self.last}")
            self._look(at)
            if self.taken is not None and self.registered is None:
                self.registered = self._site.registered(key)  # now, and not when the lease ends
            if self.detected is None:
                self._hear(askers)
                if at >= ask_at:
                    ask_at = at + ASK_S
                    for asker in askers:
                        asker.ask()
            time.sleep(LOOK_S)

    def _look(self, at):
        self.last = self._site.views()
        if (victim := self.last[self._victim]) is not None:
            self.lease.look(at, victim.lease_until)
        for number in self._survivors:
            view = self.last[number]
            if view is None:
                continue  # it is being written
            if at >= view.lease_until:
                self.lapsed.add(number)
            if self.taken is not None or view.epoch <= self._epoch:
                continue
            if self.evicted_in is None and not view.members >> self._victim & 1:
                self.evicted_in, self.decided = view.epoch, at
            if self.evicted_in is None:
                continue
            self.fenced = first(self.fenced, at, view.fenced >= self.evicted_in)
            self.taken = first(self.taken, at, view.token and view.coordinator == number)
            self.timed |= view.fenced_timed

    def _hear(self, askers):
        for asker in askers:
            status = asker.answer()
            if status is not None and not any(status["nodes"][self._victim]["networks"]):
                self.detected = first(self.detected, now(), True)

    def _figures(self, began, took):
        # An answer may come after the decision that it has led to.
        detected = min(self.detected, self.decided)
        return {
            "victim": self._victim,
            "detected_s": detected - began,
            "decided_s": self.decided - began,
            "decision_s": self.decided - detected,
            "fenced_s": self.fenced - began,
            "taken_s": self.taken - began,
            "lease_end_s": self.lease.at - began,
            "losing_s": took,
            "fenced_timed": self.timed,
            "lease_first": self.lease.at <= self.taken,
            # Neither had its lease ended, nor had the volume removed its key. On the witness a
            # node that was fenced registers again: the vote of the majority may depend on it.
            "violation": self.lease.at > self.taken and VOLUME in self.registered,
            "registered": self.registered,
            "lapsed": sorted(self.lapsed),
        }
