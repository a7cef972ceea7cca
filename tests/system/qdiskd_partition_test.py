"""holdfast-qdiskd in namespaces: cluster networks that fail, whole, in part, and one way only."""

import time

from holdfast import case
from holdfast.cluster_case import LEASE_S, NETWORKS, ClusterCase


class Partition(ClusterCase):
    def cut(self, name):
        for network in NETWORKS:
            self.net.cut(name, network)

    def heal(self, name):
        for network in NETWORKS:
            self.net.heal(name, network)

    def lost(self, node):
        """It has no lease any more."""
        self.wait_until(lambda: not node.quorum(), f"{node.name} has no quorum", 2 * LEASE_S)

    def test_one_of_two_networks_is_lost(self):
        cluster = self.cluster(nets=True)
        hv1, hv2, _ = cluster.nodes
        epoch = hv1.status()["epoch"]
        for node in cluster.nodes:
            self.net.cut(node.name, "c0")
        self.wait_until(lambda: hv1.status()["nodes"][1]["networks"] == [False, True],
                        "hv1 hears hv2 over the other network only")
        time.sleep(LEASE_S)
        self.assertTrue(all(node.quorum() for node in cluster.nodes))
        self.assertEqual(hv2.status()["epoch"], epoch)
        for node in cluster.nodes:
            self.net.heal(node.name, "c0")
        self.wait_until(lambda: hv1.status()["nodes"][1]["networks"] == [True, True],
                        "it is heard over both again", 15)

    def test_of_three_the_one_that_is_cut_off_stops_and_comes_back(self):
        cluster = self.cluster(nets=True)
        hv1, hv2, hv3 = cluster.nodes
        before = hv3.life()
        self.cut("hv3")
        self.members(hv1, ["hv1", "hv2"])
        self.lost(hv3)
        self.assertIn("This node has no lease", hv3.why())
        self.assertTrue(hv2.quorum())
        self.heal("hv3")
        self.complete(cluster, 30)
        self.assertGreater(hv3.life(), before)

    def test_of_two_with_a_witness_exactly_one_goes_on(self):
        cluster = self.cluster(nodes=2, nets=True, witness=True)
        hv1, hv2 = cluster.nodes
        self.wait_until(lambda: hv1.status()["votes"] == 3, "the witness votes")
        self.cut("hv1")
        self.wait_until(lambda: [node.members() for node in cluster.nodes] in
                        ([["hv1"], ["hv1"]], [["hv2"], ["hv2"]]), "one of them has won", 20)
        winner, loser = (hv1, hv2) if hv1.members() == ["hv1"] else (hv2, hv1)
        self.assertTrue(winner.quorum())
        self.lost(loser)
        self.heal("hv1")
        self.complete(cluster, 30)

    def test_who_is_heard_but_does_not_hear_is_left_out_and_nothing_goes_to_and_fro(self):
        cluster = self.cluster(nets=True)
        hv1, _, hv3 = cluster.nodes
        self.net.deafen("hv3", "hv1")
        self.net.deafen("hv1", "hv3")
        # hv2 hears both: two of the three stay, and hv1 before hv3.
        self.members(hv1, ["hv1", "hv2"], 30)
        epoch = hv1.status()["epoch"]
        time.sleep(2 * LEASE_S)
        self.assertEqual(hv1.status()["epoch"], epoch)
        self.assertFalse(hv3.quorum())
        self.net.listen("hv1")
        self.net.listen("hv3")
        self.complete(cluster, 30)

    def test_one_way_loss_between_two_nodes_leaves_two_that_hear_each_other(self):
        cluster = self.cluster(nets=True)
        hv1 = cluster.nodes[0]
        self.net.deafen("hv3", "hv2")
        # TCP needs both ways, so neither hears the other.
        self.wait_until(lambda: len(hv1.members()) == 2, "one of them is left out", 30)
        stays = cluster.nodes[1] if "hv2" in hv1.members() else cluster.nodes[2]
        self.assertTrue(hv1.quorum() and stays.quorum())
        self.net.listen("hv3")
        self.complete(cluster, 30)


if __name__ == "__main__":
    case.main()
