"""`bench/run mpio`: our multipath initiator and libiscsi on the same target; and what a second path
brings where the first is the bottleneck, or costs where it is far away."""

import contextlib
import datetime

from bench.lib import fio, install, load, machine, mpio_report, page, process, report, support
from bench.lib import mpio_jobs as jobs
from bench.lib import relay as relays
from bench.lib.jobs import Plan as Matrix
from bench.lib.target import RAM_DIRECTORY

FAR_DELAY_US = 2500  # in each direction: an answer comes 5 ms later
LIMIT_BITS = 400_000_000  # of one path: far below what 2 cores can move
RELAY_PORT = support.PORT + 1
PROGRAMS = ["holdfast-targetd", "holdfast-bench-mpio", "holdfast-bench-relay", "holdfast-mpiod"]
PACKAGES = {"iscsi-perf": ["libiscsi-bin"], "qemu-img": ["qemu-utils", "qemu-block-extra"],
            "nbd": ["fio"]}


class Plan(Matrix):
    def has(self, part):
        return any(one.part == part for one in self.series)


class Bench:
    """One run. Use as a context manager: daemons, relays, namespaces and files end with it."""

    def __init__(self, plan, programs):
        self.plan = plan
        self.limiter = "nothing"
        self.results = {}
        self._programs = programs
        self._loads = {}  # series name -> what runs it
        self._target_of = {}  # series name -> its target
        self._failed = {}  # series name -> why it cannot be measured
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._directory = self._stack.enter_context(process.directory(RAM_DIRECTORY))
            if self.plan.has("side") or self.plan.has("far"):
                self._start_loopback()
            if self.plan.has("equal"):
                self._start_limited()
            self._fill()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def _disk(self):
        return support.Disk("d0", kind="memory", size=f"{self.plan.size_mib}MiB")

    def _library(self, name, target, portals, program=None, policy="adaptive"):
        return load.Library(program or self._programs / "holdfast-bench-mpio", support.TARGET_NAME,
                            portals, self._directory / f"{name}.log", policy)

    def _start_loopback(self):
        target = support.Target(self._directory / "target", disks=[self._disk()],
                                settings={"threads": 1})
        self._stack.callback(target.kill)
        target.start()
        portals = [f"{address}:{port}" for address, port in (target.portal(0), target.portal(1))]
        far = None
        if self.plan.has("far"):
            address = f"127.0.0.2:{support.free_port(['127.0.0.2'])}"
            relay = relays.Relay(self._programs / "holdfast-bench-relay", address, portals[1],
                                 delay_us=FAR_DELAY_US)
            self._stack.callback(relay.close)
            far = address
        for one in self.plan.series:
            if one.part == "equal":
                continue
            self._target_of[one.name] = target
            paths = [portals[0], far if one.part == "far" else portals[1]][:one.paths]
            try:
                self._loads[one.name] = self._load_of(one, target, paths)
            except (AssertionError, OSError, install.InstallError) as error:
                self._give_up(one.name, str(error))

    def _load_of(self, one, target, paths):
        if one.name == "iscsi-perf":
            return load.IscsiPerf(target.url("d0"), self._directory)
        if one.name == "qemu-img":
            return load.QemuImg(target.url("d0"), self._directory)
        if one.kind == "nbd":
            mpiod = support.Mpiod(self._directory / "mpiod", target, devices=[
                support.Device(portals=[(path, None) for path in paths])])
            self._stack.callback(mpiod.kill)
            mpiod.start()
            return load.Nbd(mpiod, self._directory)
        return self._library(one.name, target, paths, policy=one.policy)

    def _start_limited(self):
        """Two subnets that are the bottleneck; with relays where the kernel cannot limit one."""
        site = support.SanSite(self._directory / "site", self._disk())
        self._stack.callback(site.close)
        port = support.PORT
        self.limiter = "tbf"
        site.start()
        if not site.limit(LIMIT_BITS):
            self.limiter, port = "a relay", RELAY_PORT
            for number in (0, 1):
                relay = relays.Relay(site.program("server", "holdfast-bench-relay"),
                                     site.server(number, RELAY_PORT), site.server(number),
                                     rate=LIMIT_BITS // 8)
                self._stack.callback(relay.close)
        program = site.program("host", "holdfast-bench-mpio")
        for one in self.plan.series:
            if one.part != "equal":
                continue
            paths = [site.portal(number, port) for number in range(one.paths)]
            self._target_of[one.name] = site.target
            self._loads[one.name] = self._library(one.name, site.target, paths, program)

    def _give_up(self, name, why):
        process.say(f"  {name}: {why}")
        self._failed[name] = why

    def _fill(self):
        """Each LUN is written before it is read: nobody reads what was never there."""
        seconds = max(1, self.plan.size_mib // 256)
        job = jobs.Job("fill", "write", 1 << 20, 8)
        for target in {id(each): each for each in self._target_of.values()}.values():
            name = next(name for name, each in self._target_of.items()
                        if each is target and isinstance(self._loads.get(name), load.Library))
            process.say(f"  filling the LUN of {name}")
            self._loads[name].run(job, seconds, target.running)

    def measure(self):
        self.results = {(job.name, one.name): {"job": job.name, "series": one.name, "runs": [],
                                               "error": self._failed.get(one.name)}
                        for job in self.plan.jobs for one in self.plan.series if one.runs(job)}
        for repeat in range(self.plan.repeats):
            for job, one in self.plan.cells(repeat):
                cell = self.results[job.name, one.name]
                if one.name not in self._failed:
                    self._measure_into(cell, job, one, repeat)

    def _measure_into(self, cell, job, one, repeat):
        label = f"[{repeat + 1}/{self.plan.repeats}] {job.name:12} {one.name:12}"
        try:
            run = self._measure(job, one)
        except (fio.LoadError, OSError) as error:
            cell["error"] = str(error)
            process.say(f"{label} FAILED: {error}")
            return
        cell["runs"].append(run)
        process.say(f"{label} {report.number(run['iops']):>7} IOPS  "
                    f"{report.number(run['mean_us']):>7} us mean  "
                    f"{report.number(run['ios_per_cpu_s']):>7} IOPS per CPU s")

    def _measure(self, job, one):
        target = self._target_of[one.name]
        activity = machine.Activity()
        before = process.cpu_seconds(target.pid)
        run = self._loads[one.name].run(job, self.plan.seconds, target.running)
        target_s = process.cpu_seconds(target.pid) - before
        own = run["initiator_cpu_s"] + run.get("generator_cpu_s", 0) + target_s
        run["target_cpu_us"] = target_s * 1e6 / run["ios"]
        return mpio_report.figures_of(run, job.depth) | activity.end(own)


def run(plan, bin_directory):
    """Measures and returns the results as one JSON-able dictionary."""
    programs = install.programs(bin_directory, PROGRAMS)
    support.use(programs)
    wanted = [name for one in plan.series for name in PACKAGES.get(one.name, [])]
    wanted += ["iproute2"] if plan.has("equal") else []
    install.packages({name: install.PACKAGES[name] for name in wanted})
    described = machine.describe()
    started = datetime.datetime.now().astimezone()
    with Bench(plan, programs) as bench:
        bench.measure()
        return {
            "benchmark": "mpio",
            "started": started.isoformat(timespec="minutes"),
            "commit": machine.commit(install.ROOT),
            "machine": described,
            "peers": peers_title(plan),
            "repeats": plan.repeats,
            "seconds": plan.seconds,
            "size_mib": plan.size_mib,
            "limit_mbit": LIMIT_BITS // 1_000_000,
            "limiter": bench.limiter,
            "warnings": report.disturbed_warnings(bench.results.values()),
            "cells": [cell | {"median": mpio_report.median_of(cell["runs"]),
                              "spread": report.spread_of(cell["runs"])}
                      for cell in bench.results.values()],
        }


def peers_title(plan):
    names = [name for one in plan.series for name in PACKAGES.get(one.name, [])
             if name != "qemu-block-extra"]
    return ", ".join(f"{name} {install.version(name)}" for name in names) or "without peers"


def write(results, plan, directory):
    """Table, JSON and plot into `directory`; returns the report's text."""
    aims = report.aims_as_dicts(mpio_report.aims(results["cells"]))
    return page.write(directory, results | {"aims": aims},
                      mpio_report.markdown(results, plan.jobs, plan.series),
                      mpio_report.svg(results, plan.jobs, plan.series))


def publish(results, plan):
    page.publish("mpio", mpio_report.markdown(results, plan.jobs, plan.series),
                 mpio_report.svg(results, plan.jobs, plan.series))
