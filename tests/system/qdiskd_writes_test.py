"""What it is all for: nothing of a node that was evicted lands on what its successor has written.
A program on each host writes to the volume by the right of its node, over the host's own paths."""

import signal
import time

from holdfast import case
from holdfast.cluster_case import NETWORKS, SAN_NETWORKS, ClusterCase
from holdfast.cluster_writer import BLOCKS, Writer, blocks


class Writes(ClusterCase):
    def setUp(self):
        super().setUp()
        self.hosts = self.cluster(san=True)
        self.hv1, _, self.hv3 = self.hosts.nodes
        for node in self.hosts.nodes:
            self.wait_until(lambda node=node: self.ready(node), f"{node.name} uses its disks", 20)

    def ready(self, node):
        status = node.status()
        return status["witness"]["usable"] and status["volumes"][0]["usable"] and status["fenced"]

    def on_disk(self):
        return blocks(self.san.target.directory / "volume1.img")

    def take_over(self):
        """hv1 has evicted hv3, fenced it, and written every block anew."""
        self.members(self.hv1, ["hv1", "hv2"])
        self.wait_until(lambda: self.hv1.status()["fenced"], "hv3 is fenced")
        writer = Writer(self, self.hv1, "volume1", "after")
        writer.wait_for("writing")
        writer.wait_acked(2 * BLOCKS)
        writer.kill()
        self.assertEqual({name for name, _ in self.on_disk()}, {"after"})

    def nothing_came_later(self):
        time.sleep(2)
        self.assertEqual({name for name, _ in self.on_disk()}, {"after"})

    def writer(self, blindly):
        writer = Writer(self, self.hv3, "volume1", "before", blindly)
        writer.wait_for("writing")
        writer.wait_acked(BLOCKS)
        return writer

    def stop_the_host(self, writer):
        self.hv3.signal(signal.SIGSTOP)
        writer.signal(signal.SIGSTOP)

    def wake_the_host(self, writer):
        writer.signal(signal.SIGCONT)
        self.hv3.signal(signal.SIGCONT)

    def test_who_was_stopped_and_looks_at_its_lease_writes_nothing_more(self):
        writer = self.writer(blindly=False)
        self.stop_the_host(writer)
        self.take_over()
        self.wake_the_host(writer)
        self.assertIn(writer.end(), ("no lease", "fenced"))
        self.nothing_came_later()

    def test_the_writes_of_one_that_does_not_look_meet_a_conflict(self):
        writer = self.writer(blindly=True)
        self.stop_the_host(writer)
        self.take_over()
        self.wake_the_host(writer)
        self.assertEqual(writer.end(), "fenced")
        self.nothing_came_later()

    def test_what_a_host_without_any_cable_had_under_way_never_lands(self):
        writer = self.writer(blindly=True)
        for network in NETWORKS | SAN_NETWORKS:
            self.net.cut("hv3", network)
        self.take_over()
        for network in NETWORKS | SAN_NETWORKS:
            self.net.heal("hv3", network)
        self.assertEqual(writer.end(60), "fenced")
        self.nothing_came_later()
        self.complete(self.hosts, 30)

    def test_who_has_lost_only_the_cluster_networks_is_fenced_at_once(self):
        writer = self.writer(blindly=True)
        for network in NETWORKS:
            self.net.cut("hv3", network)
        self.take_over()
        self.assertEqual(writer.end(), "fenced")
        self.nothing_came_later()

    def test_the_target_is_restarted_while_a_fenced_host_still_writes(self):
        writer = self.writer(blindly=True)
        for network in NETWORKS:
            self.net.cut("hv3", network)
        self.san.target.kill()
        self.san.target.start()
        self.take_over()
        self.assertEqual(writer.end(), "fenced")
        self.nothing_came_later()

    def test_a_member_goes_on_writing_while_another_is_fenced(self):
        mine = Writer(self, self.hv1, "volume1", "mine")
        mine.wait_for("writing")
        mine.wait_acked(BLOCKS)
        self.hv3.kill()
        self.members(self.hv1, ["hv1", "hv2"])
        self.wait_until(lambda: self.hv1.status()["fenced"], "hv3 is fenced")
        mine.wait_acked(BLOCKS)
        self.assertEqual([line for line in mine.lines() if line.startswith("error")], [])


if __name__ == "__main__":
    case.main()
