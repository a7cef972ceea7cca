"""A cluster of hosts with their quorum daemons, on loopback or in namespaces:

    class Example(ClusterCase):
        def test_something(self):
            cluster = self.cluster(nodes=3)          # created, and all are members
            cluster = self.cluster(nets=True)        # the same, each in its namespace: self.net
        cluster = self.cluster(san=True)         # the same, with a target that has the witness and
                                                 # a volume, over two subnets: self.san
"""

from . import case
from .networks import Networks
from .qdiskd import Cluster, San, format_witness
from .target import Disk

NETWORKS = {"c0": "10.3.0", "c1": "10.4.0"}
SAN_NETWORKS = {"san0": "10.1.0", "san1": "10.2.0"}
PORT = 7790
STORE = "store"

# Of lan-fast, in seconds: silence that counts, the lease, the watchdog.
NET_DEAD_S, LEASE_S, WATCHDOG_S = 2, 4, 2


class ClusterCase(case.TestCase):
    def cluster(self, nodes=3, **config):
        """Started, created on hv1, and complete."""
        cluster = self.bare_cluster(nodes, **config).start()
        cluster.nodes[0].create()
        self.complete(cluster)
        return cluster

    def bare_cluster(self, nodes=3, witness=False, volumes=0, nets=False, san=False, **config):
        disks = []
        for number in range(volumes):
            disks.append(self.scratch / f"volume{number}")
            disks[-1].write_bytes(bytes(1 << 20))
        nets |= san
        if nets:
            names = [f"hv{number + 1}" for number in range(nodes)]
            hosts = {name: number + 1 for number, name in enumerate(names)}
            self.net = Networks(self.scratch, NETWORKS | (SAN_NETWORKS if san else {}),
                                hosts | ({STORE: 10} if san else {}))
            self.addCleanup(self.net.close)
            config["addresses"] = [[f"{self.net.address(name, network)}:{PORT}"
                                    for network in NETWORKS] for name in names]
        if san:
            cluster = self.san_cluster(names, **config)
        else:
            cluster = Cluster(self.scratch / "cluster", nodes,
                              witness=self.scratch / "witness" if witness else None,
                              volumes=disks, **config)
        if nets:
            for node in cluster.nodes:
                node.program = self.net.inside(node.name, node.program)
        self.addCleanup(self.end, cluster)
        return cluster

    def san_cluster(self, names, **config):
        target = self.target(start=False, disks=[
            Disk("witness"), Disk("volume1"), Disk("other"), Disk("witness2")])
        target.portal_groups = {1: [self.net.address(STORE, san) for san in SAN_NETWORKS]}
        target.port = 3260
        target.program = self.net.inside(STORE, target.program)
        target.rewrite()
        uuid = format_witness(target.directory / "witness.img")
        format_witness(target.directory / "witness2.img", uuid=uuid)  # to take its place
        target.start()
        self.san = San(target, [f"{self.net.address(STORE, san)}:3260" for san in SAN_NETWORKS],
                       [[self.net.address(name, san) for san in SAN_NETWORKS] for name in names])
        return Cluster(self.scratch / "cluster", len(names), witness="witness",
                       volumes=["volume1"], uuid=uuid, san=self.san, **config)

    def end(self, cluster):
        try:
            cluster.stop()
        finally:
            cluster.kill()
            if self._outcome is not None and not self._outcome.success:
                for node in cluster.nodes:
                    print(f"--- {node.noun}\n{node.log()}")

    def complete(self, cluster, deadline=20):
        names = [node.name for node in cluster.nodes]
        for node in cluster.nodes:
            self.wait_until(lambda node=node: node.members() == names and node.quorum(),
                            f"{node.name} and all others are members", deadline)

    def members(self, node, names, deadline=20):
        self.wait_until(lambda: node.members() == names and node.quorum(),
                        f"{node.name} goes on with {names}", deadline)
