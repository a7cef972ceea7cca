"""holdfast-qdiskd: three hosts, or two and a witness, as an administrator meets them."""

import signal

from holdfast import case
from holdfast.cluster_case import LEASE_S, NET_DEAD_S, WATCHDOG_S, ClusterCase
from holdfast.lab_watchdog import LabWatchdog


class Qdiskd(ClusterCase):
    def test_nothing_is_there_before_it_is_created(self):
        cluster = self.bare_cluster().start()
        for node in cluster.nodes:
            self.assertFalse(node.quorum())
            self.assertIn("holdfast quorum create", node.why())
        self.assertIn("no cluster is known", cluster.nodes[0].cli("force", status=1).stderr)

    def test_a_node_with_another_uuid_or_other_times_is_not_taken_for_one(self):
        cluster = self.bare_cluster(nodes=4)
        hv1, hv2, hv3, hv4 = cluster.nodes
        for node, key, other in ((hv3, cluster.uuid, cluster.uuid[:-2] + "ff"),
                                 (hv4, 'profile = "lan-fast"', 'profile = "default"')):
            node.config_file.write_text(node.config_text().replace(key, other))
        cluster.start()
        self.assertIn("hv3 is not heard", hv1.cli("create", status=1).stderr)
        hv1.cli("create", "--although-silent")
        self.members(hv1, ["hv1", "hv2"])
        self.members(hv2, ["hv1", "hv2"])
        for node in (hv3, hv4):
            self.wait_until(lambda node=node: "`cluster.uuid` or times" in node.why(),
                            f"{node.name} says why it is alone", NET_DEAD_S)
            self.assertNotIn(node.name, hv1.members())

    def test_one_creates_it_and_the_others_join(self):
        cluster = self.cluster(volumes=1)
        hv1, hv2, _ = cluster.nodes
        status = hv1.status()
        self.assertEqual((status["votes"], status["needed"]), (3, 2))
        self.assertEqual([node["networks"] for node in status["nodes"]], [[True, True]] * 3)
        self.wait_until(lambda: hv2.status()["volumes"][0]["coordinator"], "it has a coordinator")
        self.assertIn("belongs to a cluster already", hv1.cli("create", status=1).stderr)
        self.assertIn("There is quorum: 3 of 3 votes (hv1, hv2 and hv3)", hv1.cli("explain").stdout)
        self.assertIn("If hv2 fails now, the cluster goes on", hv1.cli("explain").stdout)
        self.assertIn("3 votes, 2 needed", hv1.cli("votes").stdout)
        self.assertIn("Cluster lab, node hv1: quorum", hv1.cli("status").stdout)
        self.assertIn("there is quorum", hv1.cli("force", status=1).stderr)

    def test_a_killed_node_is_evicted_and_comes_back_as_another_life(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        before = hv2.life()
        hv2.kill()
        for node in (hv1, hv3):
            self.wait_until(lambda node=node: node.members() == ["hv1", "hv3"], "hv2 is evicted")
            self.assertTrue(node.quorum())
        self.assertIn("hv2 is missing", hv1.why() + " The vote of hv2 is missing")
        hv2.start()
        self.complete(cluster)
        self.assertGreater(hv2.life(), before)

    def test_a_daemon_that_is_restarted_at_once_is_the_same_life(self):
        cluster = self.cluster()
        hv2 = cluster.nodes[1]
        before, epoch = hv2.life(), hv2.status()["epoch"]
        hv2.kill()
        hv2.start()
        self.complete(cluster)
        self.assertEqual(hv2.life(), before)
        self.assertEqual(hv2.status()["epoch"], epoch)

    def test_who_is_stopped_for_longer_than_its_lease_learns_that_it_was_evicted(self):
        cluster = self.cluster()
        hv1, _, hv3 = cluster.nodes
        before = hv3.life()
        hv3.signal(signal.SIGSTOP)
        self.wait_until(lambda: hv1.members() == ["hv1", "hv2"], "hv3 is evicted")
        hv3.signal(signal.SIGCONT)
        self.complete(cluster)
        self.assertGreater(hv3.life(), before)
        self.assertIn("this life was evicted", hv3.log())

    def test_who_leaves_is_not_waited_for(self):
        cluster = self.cluster()
        hv1, _, hv3 = cluster.nodes
        hv3.stop()
        self.wait_until(lambda: hv1.members() == ["hv1", "hv2"], "hv3 has left", NET_DEAD_S)
        self.assertTrue(hv1.quorum())

    def test_without_a_majority_nothing_goes_on_until_an_operator_forces_it(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        hv2.kill()
        hv3.kill()
        self.wait_until(lambda: not hv1.quorum(), "hv1 has no quorum", 2 * LEASE_S)
        self.assertIn("is missing: it is not heard", hv1.why())
        self.wait_until(lambda: hv1.cli("force", status=None).returncode == 0, "it is forced")
        self.wait_until(hv1.quorum, "hv1 goes on")
        self.assertTrue(hv1.status()["forced"])
        hv2.start()
        hv3.start()
        self.complete(cluster)

    def test_a_lost_state_does_not_lead_to_a_second_cluster(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        for node in cluster.nodes:
            node.kill()
        (hv1.state_dir / "node").unlink()
        hv1.start()
        self.assertIn("hv2 is not heard", hv1.cli("create", status=1).stderr)
        hv2.start()
        hv3.start()
        self.complete(cluster)

    def test_after_a_power_cut_those_who_remember_begin_again(self):
        cluster = self.cluster()
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes[1:]:
            node.start()
        for node in cluster.nodes[1:]:
            self.wait_until(lambda node=node: node.members() == ["hv2", "hv3"] and node.quorum(),
                            "two of three begin", 20)
        cluster.nodes[0].start()
        self.complete(cluster)

    def test_of_two_nodes_either_goes_on_with_the_witness(self):
        cluster = self.cluster(nodes=2, witness=True)
        hv1, hv2 = cluster.nodes
        self.wait_until(lambda: hv1.status()["votes"] == 3, "the witness votes")
        hv1.kill()
        self.wait_until(lambda: hv2.members() == ["hv2"] and hv2.quorum(), "hv2 goes on", 20)
        self.assertIn("If the witness fails now, THE CLUSTER STOPS", hv2.cli("explain").stdout)
        hv1.start()
        self.complete(cluster)

    def test_a_lost_state_waits_to_be_admitted(self):
        cluster = self.cluster()
        hv1, _, hv3 = cluster.nodes
        for _ in range(3):  # a number that is drawn may be less than the lost one, or more
            before = hv3.life()
            hv3.kill()
            (hv3.state_dir / "node").unlink()
            hv3.start()
            self.wait_until(lambda before=before: hv3.life() > before and hv3.quorum(),
                            "a later life of hv3 is a member", 20)
            self.complete(cluster)
        hv3.kill()
        (hv3.state_dir / "node").unlink()
        self.members(hv1, ["hv1", "hv2"])
        hv3.start()  # nobody tells it the number of a life that is no member any more
        self.complete(cluster)

    def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_one_that_ends_is_not(self):
        cluster = self.bare_cluster()
        hv3 = cluster.nodes[2]
        watchdog = LabWatchdog(self, hv3)
        hv3.rewrite()
        cluster.start()
        cluster.nodes[0].create()
        self.complete(cluster)
        self.wait_until(lambda: hv3.status()["watchdog"].endswith(", armed"), "it is armed")
        self.assertIn("test double", hv3.status()["watchdog"])
        watchdog.guard(hv3.pid)
        hv3.stop()  # disarmed: else it would be killed, and its exit status tell
        hv3.start()
        watchdog.guard(hv3.pid)
        self.complete(cluster)
        self.wait_until(lambda: hv3.status()["watchdog"].endswith(", armed"), "it is armed again")
        hv3.signal(signal.SIGSTOP)
        self.assertEqual(hv3.wait_ended(WATCHDOG_S + 1), -signal.SIGKILL)
        hv3.start()
        self.complete(cluster)

    def test_what_cannot_be_used_ends_the_daemon_with_a_reason(self):
        cluster = self.bare_cluster(nodes=2)
        hv1, hv2 = cluster.nodes
        for change, reason in (
                (lambda: setattr(hv1, "witness", self.scratch / "absent"),
                 "absent: cannot be used"),
                (lambda: setattr(hv1, "certificate", hv2.certificate), hv2.certificate.name),
                (lambda: setattr(hv1, "extra", "[watchdog]\ncolour = 1\n"), "colour")):
            kept = dict(vars(hv1))
            change()
            hv1.rewrite()
            hv1.launch()
            self.assertEqual(hv1.wait_ended(10), 1)
            self.assertIn(reason, hv1.log())
            vars(hv1).update(kept, process=None)


if __name__ == "__main__":
    case.main()
