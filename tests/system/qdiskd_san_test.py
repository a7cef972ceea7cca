"""holdfast-qdiskd on a real SAN: witness and volume on holdfast-targetd, over two subnets."""

import time

from holdfast import case
from holdfast.cluster_case import LEASE_S, NETWORKS, SAN_NETWORKS, STORE, ClusterCase

WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5


class San(ClusterCase):
    def cluster(self, nodes=3, **config):
        cluster = super().cluster(nodes, san=True, **config)
        for node in cluster.nodes:
            self.wait_until(lambda node=node: self.ready(node), f"{node.name} uses its disks", 20)
        return cluster

    def ready(self, node):
        status = node.status()
        return status["witness"]["usable"] and status["volumes"][0]["usable"] and status["fenced"]

    def keys_of(self, cluster, disk):
        """{name of the node: number of its nexuses at the disk}"""
        registered = self.san.registrants(disk)
        names = {}
        for key in registered:
            number = int(str(key), 0) >> 32 & 0xff
            name = cluster.nodes[number].name
            names[name] = names.get(name, 0) + 1
        return names

    def test_each_node_is_registered_over_each_path_and_the_disks_are_reserved(self):
        cluster = self.cluster()
        for disk in ("witness", "volume1"):
            self.wait_until(lambda disk=disk: self.keys_of(cluster, disk) ==
                            {"hv1": 2, "hv2": 2, "hv3": 2}, "all paths are registered")
            self.assertEqual(self.san.reservation(disk)["type"], WRITE_EXCLUSIVE_REGISTRANTS_ONLY)
        self.assertEqual(self.san.registrants("other"), [])

    def test_a_killed_node_is_fenced_and_it_is_said_that_nothing_of_it_can_land(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        hv3.kill()
        self.members(hv1, ["hv1", "hv2"])
        for disk in ("witness", "volume1"):
            self.wait_until(lambda disk=disk: "hv3" not in self.keys_of(cluster, disk),
                            f"the keys of hv3 are gone from {disk}")
        for node in (hv1, hv2):
            status = self.wait_until(lambda node=node: self.fenced(node), "it is fenced")
            self.assertFalse(status["fenced_timed"], "the target has said so")
        hv3.start()
        self.complete(cluster)
        self.wait_until(lambda: self.keys_of(cluster, "volume1").get("hv3") == 2, "it is back")

    def fenced(self, node):
        status = node.status()
        return status if status["fenced"] else None

    def test_a_subnet_that_is_lost_is_nothing_to_the_cluster(self):
        cluster = self.cluster()
        hv1 = cluster.nodes[0]
        epoch = hv1.status()["epoch"]
        self.net.cut(STORE, "san0")
        time.sleep(2 * LEASE_S)
        self.assertEqual(hv1.status()["epoch"], epoch)
        for node in cluster.nodes:
            self.assertTrue(self.ready(node), node.status())
        self.net.heal(STORE, "san0")

    def test_who_loses_its_disks_stays_a_member_and_does_not_coordinate(self):
        cluster = self.cluster()
        hv1, _, hv3 = cluster.nodes
        epoch = hv1.status()["epoch"]
        for network in SAN_NETWORKS:
            self.net.cut("hv3", network)
        self.wait_until(lambda: not hv3.status()["witness"]["usable"], "hv3 misses the witness", 30)
        self.assertTrue(hv3.quorum())
        self.assertEqual(hv3.members(), ["hv1", "hv2", "hv3"])
        self.assertEqual(hv1.status()["epoch"], epoch)
        self.assertIn("The witness is not usable on this node", hv3.why())
        for network in SAN_NETWORKS:
            self.net.heal("hv3", network)
        self.wait_until(lambda: self.ready(hv3), "hv3 has its disks again", 30)

    def test_all_cables_of_a_host_are_pulled(self):
        cluster = self.cluster()
        hv1, _, hv3 = cluster.nodes
        before = hv3.life()
        for network in NETWORKS | SAN_NETWORKS:
            self.net.cut("hv3", network)
        self.members(hv1, ["hv1", "hv2"])
        self.wait_until(lambda: self.fenced(hv1), "it is fenced, at once", 3)
        self.assertNotIn("hv3", self.keys_of(cluster, "volume1"))
        self.wait_until(lambda: not hv3.quorum(), "hv3 stops")
        for network in NETWORKS | SAN_NETWORKS:
            self.net.heal("hv3", network)
        self.complete(cluster, 30)
        self.assertGreater(hv3.life(), before)
        self.wait_until(lambda: self.ready(hv3), "hv3 uses its disks", 30)

    def test_the_target_is_restarted(self):
        cluster = self.cluster()
        hv1 = cluster.nodes[0]
        epoch = hv1.status()["epoch"]
        self.san.target.kill()
        self.san.target.start()
        for node in cluster.nodes:
            self.wait_until(lambda node=node: self.ready(node), f"{node.name} uses its disks", 30)
            self.assertTrue(node.quorum())
        self.assertEqual(hv1.status()["epoch"], epoch)
        self.wait_until(lambda: self.keys_of(cluster, "volume1") ==
                        {"hv1": 2, "hv2": 2, "hv3": 2}, "all paths are registered", 20)

    def test_two_hosts_and_the_witness(self):
        cluster = self.cluster(nodes=2)
        hv1, hv2 = cluster.nodes
        self.wait_until(lambda: hv1.status()["votes"] == 3, "the witness votes")
        for network in NETWORKS | SAN_NETWORKS:
            self.net.cut("hv1", network)
        self.members(hv2, ["hv2"])
        self.wait_until(lambda: self.fenced(hv2), "hv1 is fenced")
        self.assertFalse(hv2.status()["fenced_timed"])
        self.wait_until(lambda: not hv1.quorum(), "hv1 stops")
        for network in NETWORKS | SAN_NETWORKS:
            self.net.heal("hv1", network)
        self.complete(cluster, 30)


if __name__ == "__main__":
    case.main()
