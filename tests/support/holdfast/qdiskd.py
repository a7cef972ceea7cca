"""Hosts of a cluster, each with its holdfast-qdiskd.

    cluster = Cluster(directory, nodes=3, witness=path)   # hv1, hv2, hv3; on loopback
    cluster.start()                  starts all daemons
    hv1 = cluster.nodes[0]
    hv1.create()                     holdfast quorum create
    hv1.status()                     what `holdfast quorum status --json` shows
    hv1.cli("explain")               holdfast quorum ..., exit status checked
    cluster.stop()

Witness and volumes are files, or with `san` (a San) names of its disks. Cluster networks are
127.0.1.0/24 and 127.0.2.0/24, where every node has a port of its own; or those of `addresses`, a
list for each node, whose `program` then starts it in its namespace.
"""

import json
import pathlib
import socket

from . import paths
from .authority import Authority
from .daemon import Daemon
from .process import die_with_parent, run
from .target import toml

CLUSTER = "lab"


def format_witness(path, size=64 << 20, profile="lan-fast", uuid=None):
    """Makes a file of this size the witness, of a new cluster or the one with this uuid; the
    cluster's uuid."""
    path = pathlib.Path(path)
    if not path.exists():
        with open(path, "wb") as file:
            file.truncate(size)
    made = run([paths.program("holdfast"), "quorum", "witness", "format", path, "--cluster",
                CLUSTER, "--profile", profile, "--json",
                *(["--cluster-uuid", uuid] if uuid else [])])
    return json.loads(made.stdout)["superblock"]["cluster"]


def free_ports(address, count):
    """Ports of the address that nobody uses."""
    probes = []
    try:
        for _ in range(count):
            probes.append(socket.socket())
            probes[-1].bind((address, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class San:
    """Disks of a target, as each host reaches them: `portals` and the host's `sources`."""

    def __init__(self, target, portals, sources):
        self.target, self.portals, self.sources = target, portals, sources

    def device_tables(self, host, names) -> list:
        portals = [{"address": portal, "source": source}
                   for portal, source in zip(self.portals, self.sources[host])]
        lines = []
        for lun, disk in enumerate(self.target.disks):
            if disk.name not in names:
                continue
            lines += ["[[device]]", f"name = {toml(disk.name)}",
                      f"target = {toml(self.target.targets[0].name)}", f"lun = {lun}",
                      f"portals = {toml(portals)}"]
        return lines

    def registrants(self, disk) -> list:
        """The keys registered at the disk, one for each nexus."""
        reservation = self.reservation(disk)
        return sorted(each["key"] for each in reservation["registrants"])

    def reservation(self, disk) -> dict:
        listed = self.target.cli.json("reservation", "list")
        return next(each["reservation"] for each in listed if each["disk"] == disk)


class Qdiskd(Daemon):
    def __init__(self, cluster, number):
        self.cluster, self.number = cluster, number
        self.name = f"hv{number + 1}"
        self.noun = f"qdiskd of {self.name}"
        self.directory = cluster.directory / self.name
        self.directory.mkdir()
        self.program = paths.program("holdfast-qdiskd")
        self.preexec = die_with_parent()
        self.config_file = self.directory / "qdiskd.toml"
        self.control_socket = self.directory / "control.sock"
        self.state_dir = self.directory / "state"
        self.lease_page = self.directory / "lease"
        self.initiator_name = f"iqn.2026-11.org.holdfast:{self.name}-qdiskd"
        self.certificate, self.key = cluster.authority.issue(
            self.name, f"holdfast://{CLUSTER}/{self.name}")
        self.witness, self.volumes = cluster.witness, list(cluster.volumes)
        self.extra = ""
        self.rewrite()

    def config_text(self) -> str:
        lines = [f"node_name = {toml(self.name)}",
                 f"control_socket = {toml(self.control_socket)}",
                 f"state_dir = {toml(self.state_dir)}",
                 f"lease_page = {toml(self.lease_page)}",
                 f"initiator_name = {toml(self.initiator_name)}",
                 "[cluster]", f"name = {toml(CLUSTER)}", f"uuid = {toml(self.cluster.uuid)}"]
        lines += [f"{key} = {toml(value)}" for key, value in self.cluster.settings.items()]
        lines += ["[tls]", f"ca = {toml(self.cluster.authority.certificate)}",
                  f"certificate = {toml(self.certificate)}", f"key = {toml(self.key)}"]
        for number, addresses in enumerate(self.cluster.addresses):
            lines += ["[[node]]", f"name = {toml(f'hv{number + 1}')}", f"id = {number}",
                      f"addresses = {toml(addresses)}"]
            if agent := self.cluster.fence_agents.get(f"hv{number + 1}"):
                lines += [f"fence_agent = {toml([str(word) for word in agent])}"]
        kind = "path" if self.cluster.san is None else "device"
        if self.witness is not None:
            lines += ["[witness]", f"{kind} = {toml(self.witness)}"]
        for number, volume in enumerate(self.volumes):
            lines += ["[[volume]]", f"name = {toml(f'Volume{number + 1}')}", f"number = {number}",
                      f"{kind} = {toml(volume)}"]
        if self.cluster.san is not None:
            lines += self.cluster.san.device_tables(self.number, [self.witness, *self.volumes])
        return "\n".join(lines) + "\n" + self.extra

    def rewrite(self):
        """Writes the configuration file as the fields say now."""
        self.config_file.write_text(self.config_text())

    def start(self):
        self.launch()
        self.wait_ready()
        return self

    def cli(self, *words, status=0, deadline=10):
        """`holdfast quorum ...`; asserts its exit status (None: any)."""
        result = run([paths.program("holdfast"), "quorum", *words, "--socket",
                      self.control_socket], check=False, deadline=deadline)
        if status is not None and result.returncode != status:
            raise AssertionError(f"holdfast quorum {' '.join(map(str, words))} ended with status "
                                 f"{result.returncode}, not {status}\n"
                                 f"{result.stdout}{result.stderr}\n{self.log()}")
        return result

    def ask(self, **request) -> dict:
        """One request over the control socket, as another daemon of the host sends it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.control_socket))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile() as answers:
                return json.loads(answers.readline())

    def create(self):
        return self.cli("create")

    def status(self) -> dict:
        return json.loads(self.cli("status", "--json").stdout)

    def why(self) -> str:
        return " ".join(self.status()["why"])

    def quorum(self) -> bool:
        return self.status()["quorum"]

    def members(self) -> list:
        """The names of the members, as this node knows them."""
        return [node["node"] for node in self.status()["nodes"] if node["member"]]

    def life(self) -> int:
        """The incarnation of this node."""
        status = self.status()
        return next(node["incarnation"] for node in status["nodes"] if node["this_node"])


class Cluster:
    def __init__(self, directory, nodes=3, witness=None, volumes=(), settings=None,
                 addresses=None, uuid=None, san=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.san = san
        self.witness, self.volumes = witness, list(volumes)
        self.uuid = uuid or "6f1c0a52-9e7b-4c39-8f1e-0d2a4b6c8e10"
        if witness is not None and uuid is None:
            self.uuid = format_witness(witness)
        self.settings = {"profile": "lan-fast"}
        if witness is None:
            self.settings["quorum"] = "node-majority"
        self.settings.update(settings or {})
        if addresses is None:
            networks = [[f"{network}.1:{port}" for port in free_ports(f"{network}.1", nodes)]
                        for network in ("127.0.1", "127.0.2")]
            addresses = list(map(list, zip(*networks)))
        self.addresses = addresses
        self.fence_agents = {}  # by the name of the node: a command
        self.authority = Authority(self.directory, "ca")
        self.nodes = [Qdiskd(self, number) for number in range(nodes)]

    def start(self):
        for node in self.nodes:
            node.start()
        return self

    def stop(self):
        for node in self.nodes:
            if node.running():
                node.signal(18)  # SIGCONT: a test may have stopped it
        for node in self.nodes:
            node.stop()

    def kill(self):
        for node in self.nodes:
            node.kill()
