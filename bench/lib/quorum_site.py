"""A cluster of three hosts for `bench/run quorum`, with a target that has the witness and a volume;
all in namespaces of the process that makes it. The parts are those of the system tests."""

import contextlib
import json
import signal
import socket

from bench.lib import support
from bench.lib.lease_page import Page, now
from holdfast import paths
from holdfast.cluster_case import NETWORKS, PORT, SAN_NETWORKS, STORE
from holdfast.networks import SWITCH, Networks
from holdfast.process import run
from holdfast.qdiskd import CLUSTER, Cluster, San

NODES = 3
ALL = (1 << NODES) - 1
WITNESS, VOLUME = "witness", "volume1"
DISKS = (WITNESS, VOLUME)
WITNESS_BYTES = 64 << 20


class Asker:
    """Asks a daemon for its status without waiting for the answer."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(5)
        self._socket.connect(str(path))
        self._socket.setblocking(False)
        self._said, self._asked = b"", False

    def ask(self):
        if not self._asked:
            self._socket.send(b'{"command": "status"}\n')
            self._asked = True

    def answer(self):
        """The status that was asked for; None: it has not come yet."""
        if not self._asked:
            return None
        with contextlib.suppress(BlockingIOError):
            part = self._socket.recv(1 << 16)
            if not part:
                raise AssertionError("a daemon has closed its control connection")
            self._said += part
        if not self._said.endswith(b"\n"):
            return None
        said, self._said, self._asked = json.loads(self._said), b"", False
        return said["status"]

    def close(self):
        self._socket.close()


class Site:
    """Use as a context manager."""

    def __init__(self, directory, profile):
        support.remove_stale()
        self._stack = contextlib.ExitStack()
        try:
            self._make(directory, profile)
        except BaseException:
            self._stack.close()
            raise

    def _make(self, directory, profile):
        directory.mkdir()
        names = [f"hv{number + 1}" for number in range(NODES)]
        self.net = Networks(directory, NETWORKS | SAN_NETWORKS,
                            {name: number + 1 for number, name in enumerate(names)} | {STORE: 10})
        self._stack.callback(self.net.close)
        target = support.Target(directory / "target",
                                disks=[support.Disk(WITNESS), support.Disk(VOLUME, size="16MiB")])
        target.portal_groups = {1: [self.net.address(STORE, san) for san in SAN_NETWORKS]}
        target.port = support.PORT
        target.program = self.net.inside(STORE, target.program)
        target.rewrite()
        superblock = self._format(target.directory / f"{WITNESS}.img", profile)
        # In seconds, by the names that docs/qdisk-protocol.md has.
        self.timers = {name.removesuffix("_ms"): value / 1000
                       for name, value in superblock["timers"].items()}
        self._stack.callback(target.kill)
        target.start()
        self.san = San(target, [f"{self.net.address(STORE, san)}:{support.PORT}"
                                for san in SAN_NETWORKS],
                       [[self.net.address(name, san) for san in SAN_NETWORKS] for name in names])
        addresses = [[f"{self.net.address(name, network)}:{PORT}" for network in NETWORKS]
                     for name in names]
        self.cluster = Cluster(directory / "cluster", NODES, witness=WITNESS, volumes=[VOLUME],
                               settings={"profile": profile}, addresses=addresses,
                               uuid=superblock["cluster"], san=self.san)
        self.nodes = self.cluster.nodes
        for node in self.nodes:
            node.program = self.net.inside(node.name, node.program)
        self._stack.callback(self.cluster.kill)
        self.cluster.start()
        self.nodes[0].create()
        self.pages = [Page(node.lease_page) for node in self.nodes]
        for page in self.pages:
            self._stack.callback(page.close)

    @staticmethod
    def _format(path, profile):
        with open(path, "wb") as file:
            file.truncate(WITNESS_BYTES)
        made = run([paths.program("holdfast"), "quorum", "witness", "format", path, "--cluster",
                    CLUSTER, "--profile", profile, "--json"])
        return json.loads(made.stdout)["superblock"]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def views(self):
        return [page.read() for page in self.pages]

    def what_is_missing(self):
        """Of a cluster that is whole; None: it is."""
        views = self.views()
        if None in views or len({view.epoch for view in views}) != 1:
            return f"the nodes do not know the same epoch: {views}"
        for view in views:
            if now() >= view.lease_until or view.members != ALL or view.fenced < view.epoch:
                return f"a node has no lease, misses a member, or waits for a fence: {view}"
        owner = views[0].coordinator
        if owner >= NODES or not views[owner].token:
            return f"the volume's coordinator has no token: {views}"
        for node in self.nodes:
            status = node.status()
            if not (status["witness"]["usable"] and status["volumes"][0]["usable"]):
                return f"{node.name} does not use its disks: {status['why']}"
            for other in status["nodes"]:
                if not other["this_node"] and other["networks"] != [True, True]:
                    return f"{node.name} does not hear {other['node']} over both networks"
        return None

    def registered(self, key):
        """The disks on which the key may still write."""
        return [each["disk"] for each in self.san.target.cli.json("reservation", "list")
                if each["disk"] in DISKS and key in map(self._key, self._registrants(each))]

    @staticmethod
    def _registrants(listed):
        return (listed["reservation"] or {}).get("registrants", [])

    @staticmethod
    def _key(registrant):
        return int(str(registrant["key"]), 0)

    # --- what is done to a host

    def pull(self, node, networks):
        self._cables(node, networks, "down")

    def plug(self, node, networks):
        self._cables(node, networks, "up")

    def _cables(self, node, networks, state):
        """All at once, at the switch: the host loses its carrier."""
        run(["ip", "-n", self.net.names[SWITCH], "-batch", "-"],
            input="".join(f"link set {node.name}-{network} {state}\n" for network in networks))

    @staticmethod
    def stop(node):
        node.signal(signal.SIGSTOP)

    @staticmethod
    def go_on(node):
        node.signal(signal.SIGCONT)
