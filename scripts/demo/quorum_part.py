"""holdfast-qdiskd: two hosts and a witness disk; all cables of one are pulled while it writes to
the volume. The hosts, the storage server and the networks between them are network namespaces."""

import time
import types

from holdfast import paths
from holdfast.cluster_writer import BLOCKS, Writer, blocks
from holdfast.networks import Networks
from holdfast.qdiskd import Cluster, San, format_witness
from holdfast.target import Disk, Target

CLUSTER_NETWORK = {"cluster": "10.3.0"}
SUBNETS = {"san1": "10.1.0", "san2": "10.2.0"}
HOSTS = {"hv1": 1, "hv2": 2}
STORE = "store"
START_S = 30
# net_dead, ballot and fence of `lan-fast` take about 3 s; the rest is for a busy machine.
TAKEOVER_S = 20


def steps(show):
    part = QuorumPart(show)
    if part.build() and part.form():
        part.pull_all_cables()
        part.heal()
        part.stop()


class QuorumPart:
    def __init__(self, show):
        self.show = show
        self.directory = show.directory / "quorum"
        self.directory.mkdir()

    # --- what it is made of

    def build(self) -> bool:
        self.show.title("Two hosts, a witness and a volume on a storage server")
        with self.show.check("a cluster network and two SAN subnets") as check:
            self.net = Networks(self.directory, CLUSTER_NETWORK | SUBNETS, HOSTS | {STORE: 10})
            self.show.cleanup(self.net.close)
            check.saw = ", ".join(f"{name} {subnet}.0/24"
                                  for name, subnet in (CLUSTER_NETWORK | SUBNETS).items())
        if not check.passed:
            return False
        with self.show.check("the target serves the witness and the volume") as check:
            self.target = Target(
                self.directory / "target", disks=[Disk("witness"), Disk("volume1")],
                program=self.net.inside(STORE, paths.program("holdfast-targetd")),
                outlives_us=self.show.keep)
            self.target.portal_groups = {1: [self.net.address(STORE, san) for san in SUBNETS]}
            self.target.port = 3260  # the namespace is its own
            self.target.rewrite()
            uuid = format_witness(self.target.directory / "witness.img")
            self.show.cleanup(self.target.kill)
            self.target.start(START_S)
            check.saw = f"cluster {uuid}"
        san = San(self.target, [f"{self.net.address(STORE, san)}:3260" for san in SUBNETS],
                  [[self.net.address(host, san) for san in SUBNETS] for host in HOSTS])
        self.cluster = Cluster(
            self.directory / "cluster", nodes=len(HOSTS), witness="witness", volumes=["volume1"],
            uuid=uuid, san=san,
            addresses=[[f"{self.net.address(host, 'cluster')}:7790"] for host in HOSTS])
        self.hv1, self.hv2 = self.cluster.nodes
        for node in self.cluster.nodes:
            node.program = self.net.inside(node.name, node.program)
            if self.show.keep:
                node.preexec = None
        # What a Writer needs of a test case.
        self.case = types.SimpleNamespace(net=self.net, san=san, addCleanup=self.show.cleanup,
                                          wait_until=self.show.wait_until, assertIn=assert_in)
        return check.passed

    def form(self) -> bool:
        self.show.say(self.hv1.config_file.read_text())
        with self.show.check("`quorum create` on hv1, and hv2 joins") as check:
            self.show.cleanup(self.cluster.kill)
            self.cluster.start()
            self.command("hv1", "create")
            for node in self.cluster.nodes:
                self.show.wait_until(lambda node=node: self.complete(node),
                                     f"both are members on {node.name}", START_S)
            check.saw = "2 nodes and the witness vote, and the disks are reserved"
        self.say("hv1", "status")
        return check.passed

    def complete(self, node) -> bool:
        status = node.status()
        return (status["quorum"] and status["votes"] == 3 and status["fenced"]
                and node.members() == list(HOSTS) and status["witness"]["usable"]
                and status["volumes"][0]["usable"])

    def node(self, name):
        return self.hv1 if name == "hv1" else self.hv2

    def command(self, name, *words) -> str:
        self.show.command([f"{name}:", "holdfast", "quorum", *words])
        return self.node(name).cli(*words).stdout

    def say(self, name, *words):
        self.show.say(self.command(name, *words))

    # --- the failure

    def pull_all_cables(self):
        self.show.title("hv1 writes to the volume, and all its cables are pulled")
        with self.show.check("hv1 writes by the right of its lease"):
            self.before = Writer(self.case, self.hv1, "volume1", "hv1", blindly=True)
            self.before.wait_for("writing")
            self.before.wait_acked(2 * BLOCKS)
        with self.show.check("hv2 goes on, and proves that nothing of hv1 can land") as check:
            began = time.monotonic()
            for network in CLUSTER_NETWORK | SUBNETS:
                self.net.cut("hv1", network)
            self.show.wait_until(lambda: self.hv2.members() == ["hv2"] and self.hv2.quorum(),
                                 "hv1 is evicted", TAKEOVER_S)
            evicted = time.monotonic()
            self.show.wait_until(lambda: self.hv2.status()["fenced"], "hv1 is fenced", TAKEOVER_S)
            fenced = time.monotonic()
            assert not self.hv2.status()["fenced_timed"], "only since a time has gone by"
            check.saw = (f"evicted after {evicted - began:.2f} s, fenced after "
                         f"{fenced - began:.2f} s, as the target has said")
        self.say("hv2", "explain")
        with self.show.check("hv2 writes every block anew") as check:
            after = Writer(self.case, self.hv2, "volume1", "hv2")
            after.wait_for("writing")
            after.wait_acked(2 * BLOCKS)
            after.kill()
            assert self.owners() == {"hv2"}, self.owners()
            check.saw = f"{BLOCKS} blocks"
        with self.show.check("hv1 has no lease any more"):
            self.show.wait_until(lambda: not self.hv1.quorum(), "its lease ends", TAKEOVER_S)
        self.say("hv1", "explain")

    def owners(self) -> set:
        return {name for name, _ in blocks(self.target.directory / "volume1.img")}

    def heal(self):
        self.show.title("The cables are back")
        with self.show.check("what hv1 still had to write is refused") as check:
            for network in CLUSTER_NETWORK | SUBNETS:
                self.net.heal("hv1", network)
            last = self.before.end(60)
            assert last == "fenced", f"its writer ended with: {last}"
            check.saw = "reservation conflict"
        with self.show.check("hv1 comes back as another life of itself") as check:
            self.show.wait_until(lambda: self.complete(self.hv1), "it is admitted", START_S)
            check.saw = f"life {self.hv1.life()}"
        with self.show.check("no old write of hv1 landed on what hv2 wrote") as check:
            assert self.owners() == {"hv2"}, self.owners()
            check.saw = f"{BLOCKS} blocks, all of hv2"
        self.say("hv2", "status")

    # --- the end

    def stop(self):
        if self.show.keep:
            pids = " ".join(str(each.pid) for each in [*self.cluster.nodes, self.target])
            self.show.farewell += [
                "The cluster of two hosts runs; on either:",
                f"  {paths.BIN}/holdfast quorum status --socket {self.hv1.control_socket}",
                f"Stop it:  kill {pids}; "
                f"for each in {' '.join(self.net.names.values())}; do ip netns delete $each; done"]
            return
        self.show.title("A clean stop of the cluster")
        with self.show.check("SIGTERM ends both holdfast-qdiskd and the target within 5 s each"):
            self.cluster.stop()
            self.target.stop(deadline=5)


def assert_in(member, container):
    assert member in container, f"{member} is not in {container[-3:]}"
