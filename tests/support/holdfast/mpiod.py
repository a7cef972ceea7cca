"""holdfast-mpiod under test.

    mpiod = Mpiod(directory, target, devices=[Device("csv1")])   # or TestCase.mpiod(target, ...)
    mpiod.start()                    waits for READY=1
    mpiod.nbd("csv1")                the path of its NBD socket
    mpiod.cli("list")                holdfast path list, exit status checked
    mpiod.devices()["csv1"]          a device as `path list --json` shows it
    mpiod.rewrite()                  writes the configuration that the fields say now

Each device is LUN 0 of the target, through its portals 127.0.0.1 and 127.0.0.2, unless it says
otherwise, and is exported unless it says so.
"""

import dataclasses
import json
import pathlib

from . import paths
from .daemon import START_DEADLINE_S, Daemon
from .process import die_with_parent, run
from .target import toml

INITIATOR_NAME = "iqn.2026-11.org.holdfast:test-mpiod"


@dataclasses.dataclass
class Device:
    """A [[device]] section. portals: [(address, source or None)]; None: those of the target."""
    name: str = "csv1"
    lun: int = 0
    portals: list | None = None
    exported: bool = True
    extra: dict = dataclasses.field(default_factory=dict)  # policy, profile, ...


class Mpiod(Daemon):
    noun = "mpiod"

    def __init__(self, directory, target, devices=None, settings=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.target = target
        self.devices_wanted = [Device()] if devices is None else devices
        self.settings = dict(settings or {})
        self.program = paths.program("holdfast-mpiod")
        self.preexec = die_with_parent()
        self.config_file = self.directory / "mpiod.toml"
        self.control_socket = self.directory / "control.sock"
        self.state_dir = self.directory / "state"
        self.rewrite()

    def config_text(self) -> str:
        settings = {"control_socket": self.control_socket, "state_dir": self.state_dir,
                    "initiator_name": INITIATOR_NAME}
        settings.update(self.settings)
        lines = [f"{key} = {toml(value)}" for key, value in settings.items()]
        for device in self.devices_wanted:
            portals = device.portals
            if portals is None:
                portals = [("%s:%d" % self.target.portal(path), None) for path in (0, 1)]
            tables = [{"address": address} | ({"source": source} if source else {})
                      for address, source in portals]
            lines += ["[[device]]", f"name = {toml(device.name)}",
                      f"target = {toml(self.target.targets[0].name)}", f"lun = {device.lun}",
                      f"portals = {toml(tables)}"]
            lines += [f"{key} = {toml(value)}" for key, value in device.extra.items()]
        for device in self.devices_wanted:
            if not device.exported:
                continue
            lines += ["[[export]]", f"device = {toml(device.name)}",
                      f"nbd = {toml(self.nbd(device.name))}"]
        return "\n".join(lines) + "\n"

    def rewrite(self, text=None):
        """Writes the configuration file: what the fields say now, or `text`."""
        self.config_file.write_text(self.config_text() if text is None else text)

    def line_of(self, text) -> int:
        """The number of the first line of the configuration that begins so."""
        lines = self.config_file.read_text().splitlines()
        return next(number for number, line in enumerate(lines, 1) if line.startswith(text))

    def nbd(self, device) -> pathlib.Path:
        return self.directory / f"{device}.nbd"

    def url(self, device) -> str:
        """For nbdinfo and qemu-io."""
        return f"nbd+unix:///{device}?socket={self.nbd(device)}"

    def start(self, deadline=START_DEADLINE_S):
        """Starts the daemon and waits until it says that it is ready."""
        self.launch()
        self.wait_ready(deadline)
        return self

    # --- the command line

    def cli(self, *words, status=0, deadline=10):
        """`holdfast path ...`; asserts its exit status (None: any)."""
        result = run([paths.program("holdfast"), "path", *words, "--socket", self.control_socket],
                     check=False, deadline=deadline)
        if status is not None and result.returncode != status:
            raise AssertionError(f"holdfast path {' '.join(map(str, words))} ended with status "
                                 f"{result.returncode}, not {status}\n"
                                 f"{result.stdout}{result.stderr}")
        return result

    def devices(self) -> dict:
        """{name: device} as `path list --json` shows them."""
        return {device["name"]: device for device in json.loads(self.cli("list", "--json").stdout)}

    def paths(self, device="csv1") -> dict:
        """{name: path} of a device."""
        return {path["name"]: path for path in self.devices()[device]["paths"]}

    def states(self, device="csv1") -> list:
        return [path["state"] for path in self.devices()[device]["paths"]]
