"""Debian's tgt under test: a target that is not ours, one unit (LUN 1), two portals.

    tgtd = Tgtd(directory, engine="aio")        # or TestCase.tgtd(...), which starts it
    tgtd.start(); tgtd.kill()                   kill -9; SIGTERM does not end one that has targets
    tgtd.portal(0); tgtd.disk                   as Target's; the file behind the unit
    tgtd.hold(); tgtd.held(); tgtd.let_go()     the next write to the first 4 KiB of the unit hangs
                                                in it (engine rdwr: threads that call pwrite())
    tgtd.add_unit(2, path)                      another unit, of another identity
    tgtd.sessions()                             how many it has

The portals are added when the unit is there: nobody is refused because of the start.
"""

import os
import pathlib
import subprocess
import time

from . import paths
from .daemon import START_DEADLINE_S
from .process import die_with_parent, run
from .target import TargetName, free_port

NAME = "iqn.2026-11.org.example:tgt"
LUN = 1  # 0 is its controller
ADDRESSES = ["127.0.0.1", "127.0.0.2"]
NOBODYS_ADDRESS = "127.0.0.3"  # tgtd cannot start without a portal
CONTROL = 1  # its control socket is in a directory of its own


class Tgtd:
    def __init__(self, directory, engine="rdwr", disk=None, size=8 << 20, chap=None,
                 mutual_chap=None):
        """disk: a path, made if absent. chap, mutual_chap: (user, secret)."""
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.engine = engine
        self.disk = pathlib.Path(disk or self.directory / "disk.img")
        self.chap, self.mutual_chap = chap, mutual_chap
        self.targets = [TargetName(NAME)]
        self.port = free_port(ADDRESSES + [NOBODYS_ADDRESS])
        self.process = None
        self.environment = dict(os.environ, TGT_IPC_SOCKET=str(self.directory / "control"),
                                HOLD_WRITE=str(self.directory / "hold"))
        with open(self.disk, "ab") as file:
            file.truncate(size)

    def portal(self, path=0) -> tuple:
        return ADDRESSES[path], self.port

    def log(self) -> str:
        file = self.directory / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self):
        assert self.process is None
        # Only tgtd itself is to have the shim, not the tools that this starts.
        environment = dict(self.environment, LD_PRELOAD=paths.program("hold_write.so"))
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [paths.tool("tgtd"), "-f", "-C", str(CONTROL), "--iscsi",
                 f"portal={NOBODYS_ADDRESS}:{self.port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True, preexec_fn=die_with_parent())
        try:
            self._configure()
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self, deadline=30):
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(deadline)
        self.process = None

    # --- a write that hangs

    def hold(self):
        (self.directory / "hold.next").touch()

    def held(self) -> bool:
        return (self.directory / "hold.held").exists()

    def let_go(self):
        for name in ("hold.next", "hold.held"):
            (self.directory / name).unlink(missing_ok=True)

    # --- tgtadm

    def admin(self, mode, operation, *words, check=True):
        return run(["tgtadm", "-C", CONTROL, "--lld", "iscsi", "--mode", mode, "--op", operation,
                    *words], check=check, env=self.environment, deadline=10)

    def add_unit(self, lun, disk, size=8 << 20):
        with open(disk, "ab") as file:
            file.truncate(size)
        unit = ("--tid", 1, "--lun", lun)
        self.admin("logicalunit", "new", *unit, "--backing-store", disk, "--bstype", self.engine)
        self.admin("logicalunit", "update", *unit, "--params",
                   f"scsi_id=UNIT{lun},scsi_sn=UNIT{lun}")

    def sessions(self) -> int:
        shown = self.admin("target", "show").stdout
        return sum(line.strip().startswith("Initiator:") for line in shown.splitlines())

    def _configure(self):
        end = time.monotonic() + START_DEADLINE_S
        while self.admin("sys", "show", check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"tgtd does not answer:\n{self.log()}")
            time.sleep(0.02)
        tid = ("--tid", 1)
        self.admin("target", "new", *tid, "--targetname", NAME)
        self.admin("logicalunit", "new", *tid, "--lun", LUN, "--backing-store", self.disk,
                   "--bstype", self.engine)
        for account, more in ((self.chap, []), (self.mutual_chap, ["--outgoing"])):
            if account:
                user, secret = account
                self.admin("account", "new", "--user", user, "--password", secret)
                self.admin("account", "bind", *tid, "--user", user, *more)
        self.admin("target", "bind", *tid, "--initiator-address", "ALL")
        for address in ADDRESSES:
            self.admin("portal", "new", "--param", f"portal={address}:{self.port}")
        self.admin("portal", "delete", "--param", f"portal={NOBODYS_ADDRESS}:{self.port}")
