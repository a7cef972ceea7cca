"""holdfast-mpiod: one disk over two SAN subnets, and the silent loss of one under a verified fio
run over NBD. The storage server, the host and the switch between them are network namespaces."""

import pathlib
import shlex
import time

from fio_run import DISK_BYTES, LONGEST_S, FioRun, waits
from holdfast import paths
from holdfast.mpiod import Device, Mpiod
from holdfast.process import run
from holdfast.subnets import SUBNETS, Subnets
from holdfast.target import Disk, Initiator, Target, TargetName
from time_line import TimeLine

STORE = "iqn.2026-11.org.holdfast:san-store"
HOST = "iqn.2026-11.org.holdfast:hv1"
DEVICE = "csv1"
SAN1, SAN2 = "SAN1", "SAN2"
PORTALS = {name: f"{subnet}.10:3260" for name, subnet in zip((SAN1, SAN2), SUBNETS)}
MOUNTED_BY_IP = pathlib.Path("/run/netns")
# Silent loss is found in 0.75 s and the fence of its writes takes milliseconds. The rest is for a
# machine that is busy with other things.
LONGEST_WAIT_MS = 5000
USED = ("ACTIVE", "MARGINAL", "SUSPECT")  # states of a path that has a session in service
START_S = 30
SEEN_WRITES = 200    # so many on a path are more than what was on its way
CUT_WRITES = 2000    # SAN1 stays silent until SAN2 has carried so many: about 1.5 s after


def steps(show):
    part = MultipathPart(show)
    if part.build() and part.start():
        part.during_fio()
        part.results()
        part.stop()


class MultipathPart:
    def __init__(self, show):
        self.show = show
        self.directory = show.directory / "multipath"
        self.directory.mkdir()
        self.line = TimeLine({portal: name for name, portal in PORTALS.items()})
        self.fio = self.cut_at = self.mended_at = None

    # --- what it is made of

    def build(self) -> bool:
        self.show.title("Two SAN subnets: a storage server, a switch, a host")
        with self.show.check("network namespaces, a bridge for each subnet") as check:
            if not MOUNTED_BY_IP.exists():
                self.show.cleanup(forget_mount)
            self.net = Subnets(self.directory)
            self.show.cleanup(self.net.close)
            check.saw = ", ".join(f"{name} {subnet}.0/24"
                                  for name, subnet in zip((SAN1, SAN2), SUBNETS))
        return check.passed

    def start(self) -> bool:
        self.target = Target(
            self.directory / "target", disks=[Disk(DEVICE, size=f"{DISK_BYTES}B")],
            targets=[TargetName(STORE, initiators=[Initiator(HOST)])],
            program=self.net.inside("server", paths.program("holdfast-targetd")),
            outlives_us=self.show.keep)
        self.target.portal_groups = {1: [f"{subnet}.10" for subnet in SUBNETS]}
        self.target.port = 3260  # the namespace is its own
        self.target.rewrite()
        self.mpiod = Mpiod(
            self.directory / "mpiod", self.target, settings={"initiator_name": HOST},
            devices=[Device(DEVICE, portals=[(portal, f"{subnet}.1") for portal, subnet
                                             in zip(PORTALS.values(), SUBNETS)])])
        self.mpiod.program = self.net.inside("host", self.mpiod.program)
        if self.show.keep:
            self.mpiod.preexec = None
        self.show.say(self.mpiod.config_file.read_text())
        with self.show.check("the host reaches the disk by both subnets") as check:
            self.show.cleanup(self.target.kill)
            self.target.start(START_S)
            self.show.cleanup(self.mpiod.kill)
            self.mpiod.start(START_S)
            self.show.wait_until(lambda: self.mpiod.states(DEVICE) == ["ACTIVE", "ACTIVE"],
                                 "both paths are active", START_S)
            size = self.mpiod.devices()[DEVICE]["size_bytes"]
            assert size == DISK_BYTES, f"{size} bytes, not {DISK_BYTES}"
            check.saw = "both paths are active"
        if check.passed:
            self.show_paths("before")
        return check.passed

    # --- looking

    def path(self, name) -> dict:
        return self.mpiod.paths(DEVICE)[PORTALS[name]]

    def show_paths(self, when):
        """`holdfast path list` without its settings, and what `path explain` says of each path."""
        self.show.say(f"--- {when}")
        self.show.command(["holdfast", "path", "list"])
        settings = False
        for line in self.mpiod.cli("list").stdout.splitlines():
            settings = settings or line.startswith("  SETTING")
            if not settings or line.startswith("  warning"):
                self.show.say(line)
        self.show.command(["holdfast", "path", "explain", DEVICE])
        for line in self.mpiod.cli("explain", DEVICE).stdout.splitlines():
            if line.startswith(("path ", "no write", "a fence")) or "unknown fate" in line:
                self.show.say(line)

    def wait_beside_fio(self, condition, what, deadline):
        def holds():
            assert self.fio.running(), f"fio ended before: {what}"
            return condition()
        self.show.wait_until(holds, what, deadline)

    def wait_for_writes(self, name, count, deadline=10):
        """Until a path has carried so many more."""
        before = self.path(name)["writes"]
        self.wait_beside_fio(lambda: self.path(name)["writes"] >= before + count,
                             f"{count} more writes by {name}", deadline)

    # --- the cut

    def during_fio(self):
        self.show.title("fio writes over NBD and verifies; SAN1 falls silent and comes back")
        inside = ["ip", "netns", "exec", self.net.names["host"]]
        self.fio = FioRun(self.directory / "fio", self.mpiod.url(DEVICE), inside)
        self.show.cleanup(self.fio.kill)
        self.show.command(shlex.quote(word) for word in self.fio.words)
        self.line.mark("fio begins")
        with self.show.check("both subnets carry writes") as check:
            for name in PORTALS:
                self.wait_for_writes(name, SEEN_WRITES)
            check.saw = self.shares()
        self.cut()
        self.mend()

    def shares(self) -> str:
        return ", ".join(f"{name} {self.path(name)['writes']:,} writes" for name in PORTALS)

    def cut(self):
        with self.show.check("SAN1 falls silent: its path is given up") as check:
            self.cut_at = self.line.mark("the switch forwards nothing on SAN1 any more")
            self.net.silence(0)
            self.wait_beside_fio(lambda: self.path(SAN1)["state"] not in USED,
                                 "the path is given up", 10)
            check.saw = f"it is in {self.path(SAN1)['state']}"
        with self.show.check("nothing but silence tells: both ends keep their carrier"):
            for role in ("server", "host"):
                link = run(["ip", "-n", self.net.names[role], "link", "show", "san0"]).stdout
                assert "LOWER_UP" in link, link
        with self.show.check("SAN2 carries all meanwhile") as check:
            before = self.path(SAN1)["writes"]
            self.wait_for_writes(SAN2, CUT_WRITES)
            late = self.path(SAN1)["writes"] - before
            assert late == 0, f"{late} writes by SAN1, which is cut"
            assert not self.path(SAN1)["carries_io"], "SAN1 is in service, though it is cut"
            check.saw = f"{CUT_WRITES:,} writes more, none by SAN1"
        self.show_paths("while SAN1 is silent")

    def mend(self):
        with self.show.check("SAN1 is back: its path returns by itself") as check:
            self.mended_at = self.line.mark("the switch forwards on SAN1 again")
            self.net.mend(0)
            self.wait_beside_fio(lambda: self.path(SAN1)["state"] == "ACTIVE",
                                 "the path is active", 15)
            check.saw = f"active after {time.time() - self.mended_at:.1f} s"
        with self.show.check("after its 10 s of probation SAN1 carries writes again") as check:
            self.wait_for_writes(SAN1, SEEN_WRITES, 20)
            self.line.mark("SAN1 carries writes again")
            check.saw = self.shares()
        self.show_paths("after")

    # --- what came of it

    def results(self):
        self.show.title("What fio and the log say")
        with self.show.check("fio ends without an error, every block is verified") as check:
            check.saw = self.fio.end(LONGEST_S)
            self.line.mark("fio has written everything",
                           max(answers[-1].at for answers in self.fio.clients))
            self.line.mark("fio has verified everything and ends")
        if not check.passed or self.mended_at is None:
            return
        with self.show.check("the gap") as check:
            check.saw = self.gap()
        with self.show.check("time line of the paths") as check:
            check.saw = self.time_line()
        with self.show.check("nothing failed in holdfast-mpiod, nothing is open") as check:
            device = self.mpiod.devices()[DEVICE]
            told = {name: device[name] for name in ("failed", "ghosts", "executing", "waiting")}
            assert not any(told.values()) and not device["fences"], f"{told} {device['fences']}"
            check.saw = ", ".join(f"{name} {value}" for name, value in told.items())

    def gap(self) -> str:
        first = min(answers[0].at for answers in self.fio.clients)
        last = max(answers[-1].at for answers in self.fio.clients)
        kinds = {"before": waits(self.fio.clients, first, self.cut_at),
                 "cut": waits(self.fio.clients, self.cut_at, self.mended_at),
                 "after": waits(self.fio.clients, self.mended_at, last)}
        self.show.say(
            "In milliseconds, from fio's log of each write. Longest time without an answer for\n"
            "one client (it has one write at a time) and for all four together; slowest write:")
        self.show.say(f"{'':24} {'a client':>10} {'everybody':>10} {'a write':>10}")
        for kind, text in (("before", "before"), ("cut", "while SAN1 was silent"),
                           ("after", "after its return")):
            seen = kinds[kind]
            self.show.say(f"{text:24} {seen.client:10.0f} {seen.everybody:10.0f} "
                          f"{seen.write:10.1f}")
        cut = kinds["cut"]
        for seen in kinds.values():
            assert seen.client > 0, "fio's log has no writes of that time"
            assert seen.client <= LONGEST_WAIT_MS, f"{seen.client:.0f} ms without an answer"
        self.line.mark(f"longest wait of a client begins: {cut.client:.0f} ms", cut.client_from)
        return (f"{cut.client:.0f} ms for one client, {cut.everybody:.0f} ms without any answer; "
                f"before the cut {kinds['before'].client:.0f} ms")

    def time_line(self) -> str:
        self.line.read(self.mpiod.log())
        self.show.say(f"Seconds from the cut. {SAN1} is {PORTALS[SAN1]}, {SAN2} {PORTALS[SAN2]}.")
        self.show.say(self.line.text(self.cut_at))
        changes = self.line.changes(SAN1, self.cut_at)
        out = next((change for change in changes if change.before == "ACTIVE"), None)
        dead = next((change for change in changes if change.after == "FAILED"), None)
        back = next((change for change in changes if change.after == "ACTIVE"), None)
        assert out and dead and back, f"SAN1 did not fail and come back: {changes}"
        assert self.cut_at < out.at <= dead.at < self.mended_at < back.at, \
            "SAN1 did not fail after the cut and come back after the mend"
        assert back == changes[-1], f"SAN1 did not stay: {changes[-1]}"
        other = self.line.changes(SAN2, self.cut_at)
        assert not other, f"SAN2, which nobody touched, changed as well: {other}"
        return (f"SAN1 suspect {ms(out.at - self.cut_at)} and given up {ms(dead.at - self.cut_at)} "
                f"after the cut, active {ms(back.at - self.mended_at)} after the mend; SAN2 active "
                "all the time")

    # --- the end

    def stop(self):
        if self.show.keep:
            switch, programs = self.net.names["switch"], paths.BIN
            self.show.farewell += [
                f"The host's multipath runs: process {self.mpiod.pid}, {self.mpiod.url(DEVICE)}",
                f"  {programs}/holdfast path list --socket {self.mpiod.control_socket}",
                f"  ip -n {switch} link set s0 nomaster        # SAN1 falls silent; s1 is SAN2",
                f"  ip -n {switch} link set s0 master br0      # and is back",
                f"Stop it:  kill {self.mpiod.pid} {self.target.pid}; "
                f"for each in {' '.join(self.net.names.values())}; do ip netns delete $each; done"]
            return
        self.show.title("A clean stop of both")
        with self.show.check("SIGTERM ends holdfast-mpiod and its target within 5 s each"):
            self.mpiod.stop(deadline=5)
            self.target.stop(deadline=5)


def ms(seconds) -> str:
    return f"{seconds * 1e3:.0f} ms"


def forget_mount():
    """`ip netns` leaves its directory mounted on itself."""
    run(["umount", MOUNTED_BY_IP], check=False)
    if MOUNTED_BY_IP.exists() and not any(MOUNTED_BY_IP.iterdir()):
        MOUNTED_BY_IP.rmdir()
