"""`bench/run quorum`: the node that coordinates a volume is lost, again and again; how long until
another has taken over, and when the lost one's lease has ended."""

import contextlib
import dataclasses
import datetime
import json
import multiprocessing
import random
import shutil
import signal
import time

from bench.lib import install, machine, page, process, quorum_report, report, support
from bench.lib.target import RAM_DIRECTORY

PROGRAMS = ["holdfast", "holdfast-qdiskd", "holdfast-targetd"]
PROFILES = ["lan-fast", "default"]  # in this order: the short ones are soon done
MAX_FAILURES = 3  # of a cell; each costs a new cluster
STEADY_S = 30.0  # for a cluster to become whole, beside its takeover time


def _networks(which):
    from holdfast import cluster_case  # it comes with support's path
    return list(cluster_case.NETWORKS) + (list(cluster_case.SAN_NETWORKS) if which == "all" else [])


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    title: str
    lose: object  # what is done to (site, node)
    mend: object


FAULTS = [
    Fault("killed", "its daemon is killed (SIGKILL)", lambda site, node: node.kill(),
          lambda site, node: node.start()),
    Fault("stopped", "its daemon is stopped (SIGSTOP)", lambda site, node: site.stop(node),
          lambda site, node: site.go_on(node)),
    Fault("cables", "all its cables are pulled", lambda site, node: site.pull(node,
                                                                              _networks("all")),
          lambda site, node: site.plug(node, _networks("all"))),
    Fault("networks", "its cluster networks are cut, the SAN stays",
          lambda site, node: site.pull(node, _networks("cluster")),
          lambda site, node: site.plug(node, _networks("cluster"))),
]


@dataclasses.dataclass
class Plan:
    faults: list
    profiles: list
    repeats: int
    minutes: float | None = None

    def cells(self):
        return [(fault, profile) for profile in self.profiles for fault in self.faults]


def check_profiles(names):
    for name in names:
        if name not in PROFILES:
            raise ValueError(f"no profile '{name}'; there are: {', '.join(PROFILES)}")
    return names


class Cell:
    """One fault and one profile, with a cluster of its own, in a process of its own."""

    def __init__(self, fault, profile, plan, out):
        self._fault, self._profile, self._plan, self._out = fault, profile, plan, out
        self._end = time.monotonic() + plan.minutes * 60 if plan.minutes else float("inf")

    def measure(self):
        failures = repeat = 0
        while repeat < self._plan.repeats and failures < MAX_FAILURES:
            try:
                with contextlib.ExitStack() as stack:
                    repeat = self._measure_in_one_cluster(stack, repeat)
                return
            except (AssertionError, OSError) as error:
                failures += 1
                repeat += 1
                self._tell(f"FAILED: {error}", repeat)
                self._record({"error": f"repeat {repeat}: {error}"})

    def _measure_in_one_cluster(self, stack, repeat):
        from bench.lib.quorum_site import Site
        directory = stack.enter_context(process.directory(RAM_DIRECTORY))
        # Above it: the logs are saved before the files go, when the daemons have ended.
        stack.push(lambda kind, *_: self._save_logs(directory, repeat) if kind else None)
        site = stack.enter_context(Site(directory / "site", self._profile))
        self._record({"timers": site.timers})
        for number in range(repeat, self._plan.repeats):
            if time.monotonic() > self._end:
                return self._plan.repeats
            self._number = number
            figures = self._repeat(site)
            self._record({"figures": figures})
            if figures["violation"]:
                self._save_logs(directory, number)
            self._tell(f"detected {figures['detected_s']:6.2f} s, decided "
                       f"{figures['decided_s']:6.2f} s, taken over {figures['taken_s']:6.2f} s; "
                       f"lease ended {figures['lease_end_s']:6.2f} s", number + 1)
        return self._plan.repeats

    def _repeat(self, site):
        from bench.lib.quorum_watch import Watch
        self._settle(site)
        view = site.pages[0].read()
        victim = view.coordinator
        lost = False

        def lose(where, node):
            nonlocal lost
            lost = True
            self._fault.lose(where, node)

        try:
            return Watch(site, victim, view.epoch).follow(lose)
        finally:
            if lost:
                self._fault.mend(site, site.nodes[victim])

    def _settle(self, site):
        """The cluster is whole, and every node has listened for as long as it must before it may
        judge another's silence; then another moment of the timers each time."""
        end = time.monotonic() + STEADY_S + site.timers["takeover"]
        whole_since = None
        while whole_since is None or time.monotonic() < whole_since + site.timers["net_dead"]:
            missing = site.what_is_missing()
            if missing and time.monotonic() > end:
                raise AssertionError(f"the cluster did not become whole: {missing}")
            whole_since = None if missing else whole_since or time.monotonic()
            time.sleep(0.25)
        time.sleep(random.uniform(0, site.timers["hb_disk"]))

    def _save_logs(self, directory, repeat):
        kept = self._out / f"{self._profile}-{self._fault.name}-{repeat + 1}-logs"
        for log in directory.glob("site/**/log"):
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, kept / f"{log.parent.name}.log")

    def _record(self, what):
        """At once: what was measured outlives a run that is killed."""
        line = json.dumps({"job": self._fault.name, "series": self._profile} | what)
        with open(self._out / quorum_report.RUNS, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _tell(self, text, number):
        process.say(f"[{number}/{self._plan.repeats}] {self._profile:8} {self._fault.name:8} "
                    f"{text}")


def _stop(_number, _frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing ends the clean-up
    raise SystemExit(1)


def _child(cell):
    """Ends through its clean-up when the run ends it, or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the run, and that ends this
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    process.end_with_parent(signal.SIGTERM)
    cell.measure()


def _measure(plan, out):
    context = multiprocessing.get_context("fork")  # as each owns the namespaces of its number
    children = [context.Process(target=_child, args=(Cell(fault, profile, plan, out),))
                for fault, profile in plan.cells()]
    try:
        for child in children:
            child.start()
        for child in children:
            child.join()
    finally:
        for child in children:
            if child.is_alive():
                child.terminate()
        for child in children:
            if child.pid is not None:
                child.join(60)


def run(plan, bin_directory, out):
    """Measures and returns the results as one JSON-able dictionary."""
    support.use(install.programs(bin_directory, PROGRAMS).resolve())
    install.packages({"iproute2": install.PACKAGES["iproute2"]})
    out.mkdir(parents=True, exist_ok=True)
    head = {"benchmark": "quorum",
            "started": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
            "commit": machine.commit(install.ROOT), "machine": machine.describe(),
            "repeats": plan.repeats, "clusters": len(plan.cells())}
    (out / quorum_report.RUNS).write_text("")
    activity = machine.Activity()
    _measure(plan, out)
    head["busy_cores"] = activity.end(0)["busy_cores"]
    return quorum_report.collect(head, (out / quorum_report.RUNS).read_text().splitlines(),
                                 [(fault.name, profile) for fault, profile in plan.cells()])


def write(results, plan, directory):
    """Table, JSON and plot into `directory`; returns the report's text."""
    aims = report.aims_as_dicts(quorum_report.aims(results))
    return page.write(directory, results | {"aims": aims},
                      quorum_report.markdown(results, plan.faults),
                      quorum_report.svg(results, plan.faults))


def publish(results, plan):
    page.publish("quorum", quorum_report.markdown(results, plan.faults),
                 quorum_report.svg(results, plan.faults))
