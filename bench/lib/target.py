"""`bench/run target`: the target, tgt and the bare exchange in one run, side by side."""

import contextlib
import dataclasses
import datetime
import os
import pathlib
import shutil

from bench.lib import (fio, floor, install, jobs, machine, page, peers, plot, process,
                       report)

ROOT = install.ROOT
FILL = jobs.Job("fill", "write", 131072, 8)
RAM_DIRECTORY = "/dev/shm"
DISK_DIRECTORY = ROOT / "build" / "bench" / "work"


@dataclasses.dataclass
class Plan(jobs.Plan):
    spin_us: int


def binaries(directory, plan):
    """The directory of the programs that the series need."""
    kinds = {one.kind for one in plan.series}
    wanted = {"holdfast": "holdfast-targetd", "floor": "holdfast-bench-exchange"}
    return install.programs(directory, [wanted[kind] for kind in sorted(kinds & wanted.keys())])


def check_space(plan):
    """Each LUN is written in full; a full disk would break the run in its middle."""
    tgt = [one for one in plan.series if one.kind == "tgt"]
    ram = sum(one.backing == "ram" for one in tgt)
    disk = sum(one.backing == "disk" for one in plan.series)
    for directory, count in ((RAM_DIRECTORY, ram), (DISK_DIRECTORY.parent, disk)):
        needed = count * plan.size_mib << 20
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise install.InstallError(f"{directory} has {free >> 20} MiB free and the run needs "
                                       f"{needed >> 20} MiB: choose a smaller --size")


class Bench:
    """One run. Use as a context manager: the daemons and directories end with it."""

    def __init__(self, plan, programs):
        self.plan = plan
        self.programs = programs
        self.warnings = []
        self.results = {}
        self._daemons = {}  # series name -> Daemon
        self._failed = {}  # series name -> why its target did not start
        self._generator = None
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._ram = self._stack.enter_context(process.directory(RAM_DIRECTORY))
            self._disk = self._stack.enter_context(process.directory(DISK_DIRECTORY))
            self._choose_generator()
            self._start_daemons()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def _choose_generator(self):
        if all(one.kind == "floor" for one in self.plan.series):
            return
        binary = install.fio()
        if binary is None:
            install.packages({"libiscsi-bin": install.PACKAGES["libiscsi-bin"]})
        self._generator = fio.Fio(binary, self._disk) if binary else fio.IscsiPerf(self._disk)

    def _start_daemons(self):
        groups = {}
        for one in self.plan.series:
            if one.kind != "floor":
                groups.setdefault((one.kind, one.threads, one.spin), []).append(one)
        for number, ((kind, _, _), series) in enumerate(groups.items()):
            # In tmpfs, whose short path leaves room in a socket address (108 bytes).
            directory = self._ram / f"{kind}-{number}"
            try:
                if kind == "holdfast":
                    daemon = peers.Holdfast(self.programs / "holdfast-targetd", directory, series,
                                            self.plan.size_mib, self._disk, self.plan.spin_us)
                else:
                    daemon = peers.Tgt(directory, series, self.plan.size_mib, self._ram,
                                       self._disk)
            except peers.PeerError as error:
                process.say(f"  {error}")
                self._failed.update({one.name: str(error) for one in series})
                continue
            self._stack.callback(daemon.kill)
            self._daemons.update({one.name: daemon for one in series})
            self._fill(daemon, series)

    def _fill(self, daemon, series):
        for one in series:
            process.say(f"  {daemon.title}: filling the LUN of {one.name}")
            try:
                self._generator.fill(FILL, daemon.urls[one.name], daemon.alive)
            except fio.LoadError as error:
                self._failed[one.name] = f"cannot fill the LUN: {error}"
                process.say(f"  {self._failed[one.name]}")

    def measure(self):
        """All repeats of all cells."""
        self.results = {(job.name, one.name): {"job": job.name, "series": one.name, "runs": [],
                                               "error": self._failed.get(one.name)}
                        for job in self.plan.jobs for one in self.plan.series
                        if one.runs(job) and self._supported(job, one)}
        for repeat in range(self.plan.repeats):
            for job, one in self.plan.cells(repeat):
                cell = self.results.get((job.name, one.name))
                if cell is None or one.name in self._failed:
                    continue
                self._measure_into(cell, job, one, repeat)

    def _supported(self, job, one):
        return one.kind == "floor" or self._generator.supports(job)

    def _measure_into(self, cell, job, one, repeat):
        label = f"[{repeat + 1}/{self.plan.repeats}] {job.name:12} {one.name:18}"
        try:
            run = self._measure_beside_machine(job, one)
        except (fio.LoadError, OSError) as error:
            cell["error"] = str(error)
            process.say(f"{label} FAILED: {error}")
            self._drop_if_dead(one)
            return
        cell["runs"].append(run)
        process.say(f"{label} {report.number(run['iops']):>7} IOPS  "
            f"{report.number(run['p50_us']):>7} us p50  "
            f"{report.number(run['target_cpu_us']):>7} us CPU per I/O")

    def _drop_if_dead(self, one):
        """The cells still to come of a target that died say so, and are not tried."""
        daemon = self._daemons.get(one.name)
        if daemon is None or daemon.alive():
            return
        why = daemon.obituary()
        for name in (name for name, other in self._daemons.items() if other is daemon):
            self._failed[name] = why
            for (_, series), cell in self.results.items():
                if series == name and len(cell["runs"]) < self.plan.repeats:
                    cell["error"] = why

    def _measure_beside_machine(self, job, one):
        self._flush()
        activity = machine.Activity()
        run = report.figures_of(self._measure(job, one))
        own = run["ios"] * (run["target_cpu_us"] + run["generator_cpu_us"]) / 1e6
        return run | activity.end(own)

    def _measure(self, job, one):
        if one.kind == "floor":
            return floor.run(self.programs / "holdfast-bench-exchange", job, one,
                             self.plan.seconds)
        daemon = self._daemons[one.name]
        before = daemon.cpu_seconds()
        run = self._generator.run(job, daemon.urls[one.name], self.plan.seconds, daemon.alive)
        run["target_cpu_us"] = (daemon.cpu_seconds() - before) * 1e6 / run["ios"]
        return run

    def _flush(self):
        """Dirty pages of an earlier write run are not the next run's work."""
        for daemon in set(self._daemons.values()):
            for path in daemon.disk_files:
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def stop_daemons(self):
        """A target that dies or hangs at its end is worth a warning."""
        for daemon in dict.fromkeys(self._daemons.values()):
            complaint = daemon.stop()
            if complaint:
                self.warnings.append(complaint)
                process.say(f"  {complaint}")

    def generator_title(self):
        return self._generator.title if self._generator else "no load generator"


def tgt_title(plan):
    if not any(one.kind == "tgt" for one in plan.series):
        return "without tgt"
    return f"tgt {install.version('tgt')}"


def run(plan, bin_directory):
    """Measures and returns the results as one JSON-able dictionary."""
    programs = binaries(bin_directory, plan)
    if any(one.kind == "tgt" for one in plan.series):
        install.packages({"tgt": install.PACKAGES["tgt"]})
    check_space(plan)
    described = machine.describe()
    started = datetime.datetime.now().astimezone()
    with Bench(plan, programs) as bench:
        bench.measure()
        bench.stop_daemons()
        bench.warnings += report.disturbed_warnings(bench.results.values())
        return {
            "benchmark": "target",
            "started": started.isoformat(timespec="minutes"),
            "commit": machine.commit(ROOT),
            "machine": described,
            "generator": bench.generator_title(),
            "tgt": tgt_title(plan),
            "repeats": plan.repeats,
            "seconds": plan.seconds,
            "size_mib": plan.size_mib,
            "spin_us": plan.spin_us,
            "warnings": bench.warnings,
            "cells": [cell | {"median": report.median_of(cell["runs"]),
                              "spread": report.spread_of(cell["runs"])}
                      for cell in bench.results.values()],
        }


def write(results, plan, directory):
    """Table, JSON and plot into `directory`; returns the report's text."""
    told = results | {
        "ratios": report.ratios(results["cells"], plan.jobs, plan.series),
        "aims": report.aims_as_dicts(report.aims(results["cells"])),
    }
    return page.write(directory, told, report.markdown(results, plan.jobs, plan.series),
                      plot.svg(results, plan.jobs, plan.series))


def publish(results, plan):
    """The results into docs/."""
    page.publish("target", report.markdown(results, plan.jobs, plan.series),
                 plot.svg(results, plan.jobs, plan.series))
