"""The document that a cluster has in common, and its witness: replaced, lost, and put back."""

from holdfast import case
from holdfast.cluster_case import ClusterCase

TEXT = "# roles of the cluster\nvm1 = \"hv2\"\n"


class QdiskdConfig(ClusterCase):
    def set(self, node, text, *options, status=0):
        path = self.scratch / "document"
        path.write_text(text)
        return node.cli("config", "set", path, *options, status=status, deadline=30)

    def shown(self, node) -> str:
        return node.cli("config", "show").stdout

    def all_show(self, nodes, text):
        for node in nodes:
            self.wait_until(lambda node=node: node.cli("config", "show", status=None).stdout ==
                            text, f"{node.name} has the document", 20)

    # --- the document ---

    def test_what_one_node_sets_all_have_and_a_newer_one_is_not_written_over(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        self.assertEqual(self.shown(hv1), "")
        self.assertIn("Version 1 counts", self.set(hv2, TEXT).stdout)
        self.all_show(cluster.nodes, TEXT)
        self.assertIn("Version 2 counts", self.set(hv3, "two\n", "--follows", "1").stdout)
        self.assertIn("at version 2", self.set(hv1, "late\n", "--follows", "1", status=1).stderr)
        self.all_show(cluster.nodes, "two\n")
        self.assertIn("absent", hv1.cli("config", "set", self.scratch / "absent",
                                        status=1).stderr)

    def test_who_was_away_gets_the_newest_and_a_long_document_is_carried_whole(self):
        cluster = self.cluster()
        hv1, _, hv3 = cluster.nodes
        hv3.kill()
        self.members(hv1, ["hv1", "hv2"])
        long = "".join(f"line {number} of a long document\n" for number in range(15_000))
        self.set(hv1, long)
        hv3.start()
        self.complete(cluster)
        self.all_show(cluster.nodes, long)

    def test_of_two_hosts_the_one_that_was_away_cannot_go_back_in_time(self):
        cluster = self.cluster(nodes=2, san=True)
        hv1, hv2 = cluster.nodes
        self.wait_until(lambda: hv1.status()["votes"] == 3, "the witness votes")
        self.set(hv1, "old\n")
        self.all_show(cluster.nodes, "old\n")
        hv2.kill()
        self.members(hv1, ["hv1"])
        self.set(hv1, "new\n")
        hv1.kill()
        hv2.start()  # alone with the witness, which has the newest
        self.wait_until(lambda: hv2.quorum(), "hv2 goes on", 30)
        self.all_show([hv2], "new\n")
        hv1.start()
        self.complete(cluster)

    def test_a_document_that_only_the_missing_node_has_is_said_to_be_missing(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        self.set(hv1, TEXT)
        self.all_show(cluster.nodes, TEXT)
        hv3.kill()
        for copy in hv3.state_dir.glob("configuration.*"):
            copy.unlink()
        hv1.kill()
        hv2.kill()
        hidden = {}
        for node in (hv1, hv2):
            for copy in node.state_dir.glob("configuration.*"):
                hidden[copy] = copy.read_bytes()
                copy.unlink()
        for node in cluster.nodes:
            node.start()
        self.complete(cluster)
        self.assertIn("configuration", hv3.cli("config", "show", status=1).stderr)
        self.assertIn("version 1", hv3.why())
        self.set(hv3, "anew\n", "--follows", "1", status=1)
        hv2.kill()
        for copy, content in hidden.items():
            if hv2.state_dir in copy.parents:
                copy.write_bytes(content)
        hv2.start()
        self.all_show(cluster.nodes, TEXT)

    # --- the witness ---

    def test_the_witness_is_replaced_while_the_cluster_runs(self):
        cluster = self.cluster(nodes=2, san=True)
        hv1, hv2 = cluster.nodes
        self.wait_until(lambda: hv1.status()["votes"] == 3, "the witness votes")
        self.set(hv1, TEXT)
        lives = [node.life() for node in cluster.nodes]
        before = hv1.status()["witness"]["uuid"]
        self.assertIn("is the cluster's witness already", hv1.cli("witness", "use",
                                                                  status=1).stderr)
        for node in cluster.nodes:
            node.witness = "witness2"
            node.rewrite()
            node.kill()
            node.start()  # the same life: nothing that runs on the host notices
            self.complete(cluster)
        self.assertEqual([node.life() for node in cluster.nodes], lives)
        self.wait_until(lambda: hv2.status()["witness"]["usable"] or
                        hv2.cli("witness", "use", status=None).returncode == 0, "it is usable")
        self.wait_until(lambda: hv1.status()["witness"]["uuid"] not in (before, None),
                        "hv1 has learnt it")
        self.wait_until(lambda: hv1.status()["votes"] == 3 and
                        hv1.status()["witness"]["vouches"], "the new one votes")
        hv1.kill()
        self.wait_until(lambda: hv2.members() == ["hv2"] and hv2.quorum(),
                        "hv2 goes on with the new witness", 20)
        self.wait_until(lambda: hv2.status()["fenced"], "it is fenced")
        hv1.start()
        self.complete(cluster)
        self.all_show(cluster.nodes, TEXT)

    def test_a_witness_that_is_gone_is_missed_and_comes_back(self):
        cluster = self.cluster(nodes=2, san=True)
        hv1, hv2 = cluster.nodes
        self.wait_until(lambda: hv1.status()["votes"] == 3, "the witness votes")
        self.san.target.stop()
        for node in cluster.nodes:
            self.wait_until(lambda node=node: not node.status()["witness"]["vouches"],
                            "its vote is missing", 20)
            self.assertTrue(node.quorum(), "two of three votes")
            self.assertIn("The vote of the witness is missing", node.why())
            self.assertIn("If hv1 fails now, THE CLUSTER STOPS", node.cli("explain").stdout)
        self.set(hv2, TEXT)
        self.san.target.start()
        self.wait_until(lambda: hv1.status()["witness"]["vouches"], "it votes again", 30)
        self.all_show(cluster.nodes, TEXT)


if __name__ == "__main__":
    case.main()
