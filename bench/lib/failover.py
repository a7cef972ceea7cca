"""`bench/run failover`: a path is taken away under load, again and again; how long I/O pauses."""

import contextlib
import dataclasses
import datetime
import random
import signal
import subprocess
import time

from bench.lib import failover_report, install, load, machine, page, process, report, support
from bench.lib import relay as relays
from bench.lib.fio import GRACE_SECONDS, LoadError
from bench.lib.target import RAM_DIRECTORY

PROGRAMS = ["holdfast-targetd", "holdfast-bench-mpio", "holdfast-bench-relay"]
POLICIES = ["failover", "adaptive"]
ALL_POLICIES = [*POLICIES, "round-robin", "least-queue-depth"]
RELAY_PORT = support.PORT + 1
DEPTH = 8
GAP_MS = 1  # pauses from this length on are told; shorter ones are no pause
DISK_SIZE = "64MiB"
STALL_S = 2.0  # of the stalled target: less than what a path may be silent for
SETTLE_S = (0.3, 0.5)  # load before the loss: another moment of the detector's timers each time


class Site(support.SanSite):
    """The subnets, with a relay in front of the first portal where a scenario wants one."""

    def __init__(self, directory):
        # A file, as a restarted target must have its data; in memory, as no disk is measured.
        super().__init__(directory, support.Disk("d0", size=DISK_SIZE, extra={"thin": False}))
        self.relay = None

    def portals(self, relayed):
        return [self.portal(0, RELAY_PORT if relayed else support.PORT), self.portal(1)]

    def start_relay(self):
        self.relay = relays.Relay(self.program("server", "holdfast-bench-relay"),
                                  self.server(0, RELAY_PORT), self.server(0))

    def stop_relay(self):
        if self.relay is not None:
            self.relay.close()
            self.relay = None

    def restart_target(self):
        self.target.kill()
        self.target.start()

    def stall_target(self):
        self.target.signal(signal.SIGSTOP)
        try:
            time.sleep(STALL_S)
        finally:
            self.target.signal(signal.SIGCONT)

    def close(self):
        self.stop_relay()
        super().close()


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    lose: object  # what is done to the site
    mend: object = None
    seconds: float = 2.0  # of load: time for the loss to be found, with room
    relayed: bool = False


SCENARIOS = [
    Scenario("carrier", "carrier loss: the host's cable is out", lambda site: site.net.pull(0),
             lambda site: site.net.plug(0), 1.6),
    Scenario("reset", "RST: the portal's connections are reset, new ones refused",
             lambda site: site.relay.reset(), seconds=1.3, relayed=True),
    Scenario("closed", "portal closed: FIN, new connections refused",
             lambda site: site.relay.end(), seconds=1.3, relayed=True),
    Scenario("silent", "silent loss: a port of the switch is down",
             lambda site: site.net.silence(0), lambda site: site.net.mend(0), 2.6),
    Scenario("restart", "the target is killed and started again",
             lambda site: site.restart_target(), seconds=4.0),
    Scenario("stall", f"the target stops for {STALL_S:g} s and goes on",
             lambda site: site.stall_target(), seconds=3.6),
]


@dataclasses.dataclass
class Plan:
    scenarios: list
    policies: list
    repeats: int

    def cells(self, repeat):
        """Within each repeat all scenarios; the policies begin with another each time."""
        shift = repeat % len(self.policies)
        for scenario in self.scenarios:
            for policy in self.policies[shift:] + self.policies[:shift]:
                yield scenario, policy


def check_policies(names):
    for name in names:
        if name not in ALL_POLICIES:
            raise ValueError(f"no policy '{name}'; there are: {', '.join(ALL_POLICIES)}")
    return names


class Loaded:
    """holdfast-bench-mpio on the host. Its load has begun when this has been made."""

    def __init__(self, site, directory, policy, seconds, relayed):
        self._log_path = directory / "load.log"
        job = load.mixed_job(DEPTH)
        words = load.command(site.program("host", "holdfast-bench-mpio"), support.TARGET_NAME,
                             site.portals(relayed), job, seconds, policy)
        with self._log_path.open("wb") as log:
            self._process = process.start([*words, "--gap-ms", GAP_MS], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.PIPE, stderr=log, text=True)
        if "started" not in self._process.stdout.readline():
            self.close()
            raise LoadError(f"the load did not begin: {self._last_words()}")

    def _last_words(self):
        return self._log_path.read_text(errors="replace").strip()[-500:]

    def result(self, seconds):
        try:
            said, _ = self._process.communicate(timeout=seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"the load hung: {self._last_words()}") from error
        if self._process.returncode:
            raise LoadError(f"the load failed with status {self._process.returncode}: "
                            f"{self._last_words()}")
        return load.parse(said)

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Bench:
    """One run. Use as a context manager: daemons, namespaces and files end with it."""

    def __init__(self, plan):
        self.plan = plan
        self.results = {(one.name, policy): {"job": one.name, "series": policy, "runs": [],
                                             "error": None}
                        for one in plan.scenarios for policy in plan.policies}
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._directory = self._stack.enter_context(process.directory(RAM_DIRECTORY))
            self._site = Site(self._directory / "site")
            self._stack.callback(self._site.close)
            self._site.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def measure(self):
        for repeat in range(self.plan.repeats):
            for scenario, policy in self.plan.cells(repeat):
                cell = self.results[scenario.name, policy]
                label = f"[{repeat + 1}/{self.plan.repeats}] {scenario.name:9} {policy:18}"
                try:
                    run = self._measure(scenario, policy)
                except (AssertionError, LoadError, OSError) as error:
                    cell["error"] = str(error)
                    process.say(f"{label} FAILED: {error}")
                    self._revive()
                    continue
                cell["runs"].append(run)
                process.say(f"{label} pause {run['gap_ms']:7.1f} ms, longest request "
                            f"{run['request_ms']:7.1f} ms")

    def _measure(self, scenario, policy):
        site = self._site
        with contextlib.ExitStack() as undo:
            if scenario.relayed:
                undo.callback(site.stop_relay)
                site.start_relay()
            loaded = Loaded(site, self._directory, policy, scenario.seconds, scenario.relayed)
            undo.callback(loaded.close)
            time.sleep(random.uniform(*SETTLE_S))
            if scenario.mend:
                undo.callback(scenario.mend, site)
            began = time.monotonic()
            scenario.lose(site)
            took = time.monotonic() - began
            told = loaded.result(scenario.seconds)
        return failover_report.figures_of(told, began, took)

    def _revive(self):
        """A target that died is no reason to lose the other cells too."""
        target = self._site.target
        if not target.running():
            target.kill()
            target.start()


def run(plan, bin_directory):
    """Measures and returns the results as one JSON-able dictionary."""
    programs = install.programs(bin_directory, PROGRAMS)
    support.use(programs)
    install.packages({"iproute2": install.PACKAGES["iproute2"]})
    described = machine.describe()
    started = datetime.datetime.now().astimezone()
    activity = machine.Activity()
    with Bench(plan) as bench:
        bench.measure()
        busy = activity.end(0)["busy_cores"]
        warnings = []
        if busy > failover_report.MOST_BUSY * described["cores"]:
            warnings.append(f"{busy:.1f} of {described['cores']} cores were busy: the pauses hold "
                            "the time that programs waited for one")
        return {
            "benchmark": "failover",
            "started": started.isoformat(timespec="minutes"),
            "commit": machine.commit(install.ROOT),
            "machine": described,
            "repeats": plan.repeats,
            "depth": DEPTH,
            "stall_ms": STALL_S * 1000,
            "busy_cores": busy,
            "warnings": warnings,
            "cells": [cell | {"distribution": failover_report.distributions(cell["runs"])}
                      for cell in bench.results.values()],
        }


def write(results, plan, directory):
    """Table, JSON and plot into `directory`; returns the report's text."""
    aims = report.aims_as_dicts(failover_report.aims(results["cells"]))
    return page.write(directory, results | {"aims": aims},
                      failover_report.markdown(results, plan.scenarios),
                      failover_report.svg(results, plan.scenarios))


def publish(results, plan):
    page.publish("failover", failover_report.markdown(results, plan.scenarios),
                 failover_report.svg(results, plan.scenarios))
