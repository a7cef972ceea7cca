"""One host writes numbered blocks all the time, while everything else of the cluster fails in turn:
it is never stopped, and no acknowledged write is lost or undone."""

import signal
import time

from holdfast import case
from holdfast.cluster_case import LEASE_S, NETWORKS, SAN_NETWORKS, ClusterCase
from holdfast.cluster_writer import BLOCKS, Writer, blocks


class Recorder(ClusterCase):
    def setUp(self):
        super().setUp()
        self.hosts = self.cluster(san=True)
        self.hv1, self.hv2, self.hv3 = self.hosts.nodes
        for node in self.hosts.nodes:
            self.wait_until(lambda node=node: node.status()["volumes"][0]["usable"] and
                            node.status()["fenced"], f"{node.name} uses its disks", 20)
        self.recorder = Writer(self, self.hv1, "volume1", "recorder")
        self.recorder.wait_for("writing")
        self.recorder.wait_acked(BLOCKS)

    def goes_on(self, deadline=20):
        try:
            self.recorder.wait_acked(BLOCKS, deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}\n... {self.recorder.lines()[-20:]}") from None

    def hv3_leaves_and_comes_back(self, break_it, mend_it):
        break_it()
        self.members(self.hv1, ["hv1", "hv2"])
        self.wait_until(lambda: self.hv1.status()["fenced"], "hv3 is fenced", 30)
        self.goes_on()
        mend_it()
        self.complete(self.hosts, 40)
        self.goes_on()

    def each(self, act, networks):
        return lambda: [act("hv3", network) for network in networks]

    def test_no_acknowledged_write_is_lost_whatever_else_fails(self):
        cut, heal = self.net.cut, self.net.heal
        self.hv3_leaves_and_comes_back(self.hv3.kill, self.hv3.start)
        self.hv3_leaves_and_comes_back(lambda: self.hv3.signal(signal.SIGSTOP),
                                       lambda: (time.sleep(LEASE_S),
                                                self.hv3.signal(signal.SIGCONT)))
        self.hv3_leaves_and_comes_back(self.each(cut, NETWORKS), self.each(heal, NETWORKS))
        everything = NETWORKS | SAN_NETWORKS
        self.hv3_leaves_and_comes_back(self.each(cut, everything), self.each(heal, everything))
        for network in SAN_NETWORKS:  # of the host that writes
            cut("hv1", network)
            self.goes_on()
            heal("hv1", network)
            self.goes_on()
            self.wait_until(lambda: self.hv1.status()["volumes"][0]["usable"], "it is back", 30)
            time.sleep(2)  # until the path carries data again
        self.san.target.kill()
        self.san.target.start()
        self.goes_on(30)
        for node in self.hosts.nodes:  # another witness
            node.witness = "witness2"
            node.rewrite()
            node.kill()
            node.start()
            self.complete(self.hosts)
        self.wait_until(lambda: self.hv1.cli("witness", "use", status=None).returncode == 0,
                        "the other witness is used")
        self.goes_on()
        self.hv3_leaves_and_comes_back(self.hv3.kill, self.hv3.start)
        self.nothing_is_lost()

    def nothing_is_lost(self):
        self.assertIsNone(self.recorder.process.poll(), "it writes to the end")
        self.recorder.kill()
        lines = self.recorder.lines()
        self.assertEqual([line for line in lines
                          if line.startswith(("error", "no lease", "fenced"))], [])
        newest = {}
        for number in map(int, filter(str.isdigit, lines)):
            newest[number % BLOCKS] = max(number, newest.get(number % BLOCKS, 0))
        self.assertEqual(len(newest), BLOCKS)
        for block, (name, number) in enumerate(
                blocks(self.san.target.directory / "volume1.img")):
            self.assertEqual(name, "recorder")
            self.assertEqual(number % BLOCKS, block)
            self.assertGreaterEqual(number, newest[block], f"block {block}")


if __name__ == "__main__":
    case.main()
