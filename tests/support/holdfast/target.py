"""holdfast-targetd under test.

    target = Target(directory, disks=[Disk("d0", size="64MiB")], ...)   # or TestCase.target(...)
    target.start()                  waits for READY=1 on a notify socket, at most 10 s
    target.url("d0")                iscsi:// URL of a disk through a portal
    target.kill()                   SIGKILL, and waits for the end of the process
    target.stop()                   SIGTERM; AssertionError unless it exits 0 within 5 s
    target.log()                    what it wrote to stderr, over all starts
    target.rewrite(...)             writes a changed configuration file (for apply and SIGHUP)

Defaults: two portals, 127.0.0.1 and 127.0.0.2 on one free port, in portal group 1; one target IQN
(TARGET_NAME) that maps the disks in order as LUN 0, 1, ...; any initiator; all files in
`directory`. The same ports are used after a restart.
"""

import dataclasses
import pathlib
import shutil
import socket

from . import paths
from .cli import Cli
from .daemon import START_DEADLINE_S, Daemon, slowness  # noqa: F401: tests use slowness
from .process import die_with_parent

TARGET_NAME = "iqn.2026-11.org.holdfast:test"


@dataclasses.dataclass
class Disk:
    """A [[disk]] section. path: relative to the target's directory; absent: NAME.img."""
    name: str
    size: str = "64MiB"
    kind: str = "file"
    path: str | None = None
    extra: dict = dataclasses.field(default_factory=dict)  # thin, block_size, read_only, ...


@dataclasses.dataclass
class Initiator:
    """A [[target.initiator]] section. chap, mutual_chap: (user, secret)."""
    name: str = "*"
    addresses: list | None = None
    chap: tuple | None = None
    mutual_chap: tuple | None = None


@dataclasses.dataclass
class TargetName:
    """A [[target]] section. luns: {lun: disk name}; None: all disks in order."""
    name: str = TARGET_NAME
    luns: dict | None = None
    initiators: list = dataclasses.field(default_factory=lambda: [Initiator()])
    portal_groups: list = dataclasses.field(default_factory=lambda: [1])


def family(address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def free_port(addresses) -> int:
    """A TCP port that is free on all addresses right now."""
    for _ in range(100):
        with socket.socket(family(addresses[0])) as first:
            first.bind((addresses[0], 0))
            port = first.getsockname()[1]
        try:
            for address in addresses:
                with socket.socket(family(address)) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
            return port
        except OSError:
            continue
    raise AssertionError("no port is free on " + ", ".join(addresses))


def size_bytes(text) -> int:
    """"64MiB" and the like."""
    units = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * units[unit or "B"]


def toml(value) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Target(Daemon):
    noun = "the target"

    def __init__(self, directory, disks=None, targets=None, portal_groups=None, settings=None,
                 metrics=False, discovery=None, program=None, outlives_us=False):
        """
        disks: list of Disk; targets: list of TargetName; portal_groups: {tag: [address, ...]};
        settings: more top-level keys; metrics: serve /metrics on target.metrics_port;
        discovery: {"chap": (user, secret), ...}; outlives_us: goes on when this program ends.
        """
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.disks = [Disk("d0")] if disks is None else disks
        self.targets = [TargetName()] if targets is None else targets
        self.portal_groups = portal_groups or {1: ["127.0.0.1", "127.0.0.2"]}
        self.settings = dict(settings or {})
        self.discovery = discovery or {}
        addresses = sorted({a for group in self.portal_groups.values() for a in group})
        self.port = free_port(addresses)
        self.metrics_port = free_port(["127.0.0.1"]) if metrics else None
        self.program = program or paths.program("holdfast-targetd")
        self.preexec = None if outlives_us else die_with_parent()
        self.config_file = self.directory / "target.toml"
        self.control_socket = self.directory / "control.sock"
        self.cli = Cli(self.control_socket)
        self.rewrite()

    # --- configuration

    def config_text(self) -> str:
        settings = {"state_dir": self.directory / "state", "control_socket": self.control_socket,
                    "threads": 2}
        if self.metrics_port:
            settings["metrics"] = f"127.0.0.1:{self.metrics_port}"
        settings.update(self.settings)
        lines = [f"{key} = {toml(value)}" for key, value in settings.items()]
        for kind, account in self.discovery.items():
            lines += ["[discovery]"] if "[discovery]" not in lines else []
            lines.append(f"{kind} = {toml(self._account(account))}")
        for tag, addresses in self.portal_groups.items():
            portals = [f"[{a}]:{self.port}" if ":" in a else f"{a}:{self.port}" for a in addresses]
            lines += ["[[portal_group]]", f"tag = {tag}", f"portals = {toml(portals)}"]
        for disk in self.disks:
            lines += self._disk_lines(disk)
        for target in self.targets:
            lines += self._target_lines(target)
        return "\n".join(lines) + "\n"

    def rewrite(self, text=None):
        """Writes the configuration file: what the fields say now, or `text`."""
        self.config_file.write_text(self.config_text() if text is None else text)

    def disk_path(self, name) -> pathlib.Path:
        disk = next(disk for disk in self.disks if disk.name == name)
        return self.directory / (disk.path or f"{disk.name}.img")

    def _disk_lines(self, disk):
        lines = ["[[disk]]", f"name = {toml(disk.name)}", f"kind = {toml(disk.kind)}"]
        if disk.kind != "memory":
            lines.append(f"path = {toml(self.disk_path(disk.name))}")
        if disk.kind != "block":
            lines.append(f"size = {toml(disk.size)}")
        return lines + [f"{key} = {toml(value)}" for key, value in disk.extra.items()]

    def _target_lines(self, target):
        luns = target.luns
        if luns is None:
            luns = {number: disk.name for number, disk in enumerate(self.disks)}
        mappings = [{"lun": number, "disk": name} for number, name in luns.items()]
        lines = ["[[target]]", f"name = {toml(target.name)}",
                 f"portal_groups = {toml(target.portal_groups)}", f"luns = {toml(mappings)}"]
        for initiator in target.initiators:
            lines += ["[[target.initiator]]", f"name = {toml(initiator.name)}"]
            if initiator.addresses is not None:
                lines.append(f"addresses = {toml(initiator.addresses)}")
            for kind in ("chap", "mutual_chap"):
                account = getattr(initiator, kind)
                if account:
                    lines.append(f"{kind} = {toml(self._account(account))}")
        return lines

    def _account(self, account):
        user, secret = account
        name = f"{user}.{sum(secret.encode())}.secret"
        file = self.directory / name
        file.write_text(secret + "\n")
        file.chmod(0o600)
        return {"user": user, "secret_file": file}

    # --- addresses

    def portal(self, path=0) -> tuple:
        """(address, port) of the path-th portal of all groups."""
        addresses = [a for group in self.portal_groups.values() for a in group]
        return addresses[path], self.port

    def url(self, disk, path=0, target=0, user=None) -> str:
        """iscsi:// URL for libiscsi and QEMU. user: (name, secret)."""
        chosen = self.targets[target]
        luns = chosen.luns
        if luns is None:
            luns = {number: each.name for number, each in enumerate(self.disks)}
        lun = next(number for number, name in luns.items() if name == disk)
        address, port = self.portal(path)
        host = f"[{address}]" if ":" in address else address
        login = f"{user[0]}%{user[1]}@" if user else ""
        return f"iscsi://{login}{host}:{port}/{chosen.name}/{lun}"

    # --- life

    def start(self, deadline=START_DEADLINE_S):
        """Starts the daemon and waits until it says that it is ready."""
        self.launch()
        self.wait_ready(deadline)
        return self

    def launch(self):
        """Starts the daemon without waiting. The files of read-only disks are made if absent."""
        for disk in self.disks:
            if disk.kind == "file" and disk.extra.get("read_only"):
                with open(self.disk_path(disk.name), "ab") as file:
                    file.truncate(size_bytes(disk.size))
        super().launch()

    def remove_state(self):
        shutil.rmtree(self.directory / "state", ignore_errors=True)
