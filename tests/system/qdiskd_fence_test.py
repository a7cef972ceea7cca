"""A fence that somebody asks for; and the other daemons of a host, which have to drop what a fenced
node had asked of them before it is over. Three hosts in namespaces, and a target."""

import json
import threading
import time

from holdfast import case
from holdfast.cluster_case import LEASE_S, ClusterCase
from holdfast.lab_watchdog import LabWatchdog

TAKEOVER_S = 8.1  # of lan-fast
FENCE_HOLD_S = 15


class User(threading.Thread):
    """A daemon of the host that acts by its lease: it attends, and drops what it is told to, unless
    it is `slow`."""

    def __init__(self, node, name, runs=False):
        super().__init__(daemon=True)
        self.node, self.name, self.runs = node, name, runs
        self.slow = self.ended = False
        self.quiesced = self.epoch = self.fenced = 0
        self.lives = []
        self.problems = []
        self.start()

    def run(self):
        while not self.ended:
            try:
                answer = self.node.ask(command="attend", user=self.name, quiesced=self.quiesced,
                                       epoch=self.epoch, fenced=self.fenced, runs=self.runs)
            except (OSError, ValueError):  # it is being restarted
                time.sleep(0.05)
                continue
            if not answer["ok"]:
                self.problems.append(answer)
                return
            self.epoch, self.fenced = answer["epoch"], answer.get("fenced", 0)
            self.lives = answer.get("incarnations", self.lives)
            if not self.slow:
                self.quiesced = self.epoch
            if self.quiesced < self.epoch:
                time.sleep(0.1)  # it is answered at once

    def end(self):
        self.ended = True
        self.join(10)


class QdiskdFence(ClusterCase):
    def cluster(self, agents=(), watchdogs=False):
        cluster = self.bare_cluster(nodes=3, san=True)
        cluster.fence_agents = dict(agents)
        for node in cluster.nodes:
            if watchdogs:
                node.watchdog = LabWatchdog(self, node)
            node.rewrite()
        cluster.start()
        cluster.nodes[0].create()
        self.complete(cluster)
        self.wait_until(lambda: all(node.status()["fenced"] for node in cluster.nodes),
                        "nothing is under way")
        return cluster

    def user(self, node, name="csvfsd", **options):
        user = User(node, name, **options)
        self.addCleanup(user.end)
        self.wait_until(lambda: user.epoch and user.quiesced == user.epoch, f"{name} attends")
        return user

    # --- on demand ---

    def test_a_healthy_node_is_fenced_on_demand_and_comes_back_as_another_life(self):
        cluster = self.cluster()
        hv1, hv2, _ = cluster.nodes
        before = hv2.life()
        said = hv1.cli("fence", "hv2").stdout
        self.assertIn(f"Nothing of hv2 (life {before}) can land any more: its devices and all "
                      "members have said so.", said)
        self.complete(cluster)
        self.assertGreater(hv2.life(), before)
        numbers = [event["number"] for event in
                   json.loads(hv1.cli("events", "--json").stdout)["events"]]
        told = numbers[numbers.index(1102):]
        self.assertIn(1502, told, "what it had under way has ended")
        self.assertIn(1101, told, "it is back")
        self.assertIn("hv2 is no member any more", hv1.cli("events").stdout)
        # That life is over, whatever becomes of the next one.
        answer = hv1.ask(command="fence", node="hv2", incarnation=before)
        self.assertEqual((answer["state"], answer["incarnation"]), ("drained", before))
        self.assertEqual(hv1.status()["nodes"][1]["incarnation"], hv2.life())

    def test_what_cannot_be_fenced_is_said(self):
        cluster = self.cluster()
        hv1, _, hv3 = cluster.nodes
        self.assertIn("does not fence itself", hv1.cli("fence", "hv1", status=1).stderr)
        self.assertIn("no [[node]] is named `hv9`", hv1.cli("fence", "hv9", status=1).stderr)
        self.assertIn("never been a member", hv1.ask(command="fence", node="hv2",
                                                    incarnation=1 << 31)["problems"][0])
        for node in cluster.nodes[1:]:
            node.kill()
        self.wait_until(lambda: not hv1.quorum(), "hv1 is alone with one of three votes")
        said = hv1.cli("fence", "hv3", "--wait", "1", status=1).stderr
        self.assertIn("not done within 1 s: This node has no lease itself", said)
        hv3.start()
        self.wait_until(lambda: hv1.quorum(), "two of three")

    # --- strict ---

    def test_strict_is_refused_where_nothing_bounds_how_long_the_node_runs(self):
        cluster = self.cluster()
        hv1, hv2, _ = cluster.nodes
        before = hv2.life()
        said = hv1.cli("fence", "hv2", "--strict", status=1).stderr
        self.assertIn("hv2 has neither a watchdog that runs nor a fence agent", said)
        self.assertEqual(hv2.life(), before, "nothing was done to it")
        self.assertIn("hv2 has neither", hv1.status()["nodes"][1]["obstacle_to_strict"])

    def test_strict_waits_until_the_watchdog_has_stopped_what_runs(self):
        cluster = self.cluster(watchdogs=True)
        hv1, _, hv3 = cluster.nodes
        self.wait_until(lambda: hv1.status()["nodes"][2]["watchdog"] == "lab", "hv1 knows of it")
        self.assertIsNone(hv1.status()["nodes"][2]["obstacle_to_strict"])
        hv3.kill()
        self.members(hv1, ["hv1", "hv2"])
        evicted = time.monotonic()
        self.assertIn("can land any more", hv1.cli("fence", "hv3").stdout)
        fenced = time.monotonic() - evicted
        said = hv1.cli("fence", "hv3", "--strict", deadline=30).stdout
        self.assertIn("What it ran has stopped, as far as the lab's test double", said)
        waited = time.monotonic() - evicted
        self.assertLess(fenced, TAKEOVER_S - 2)
        self.assertGreater(waited, TAKEOVER_S - 2)

    def test_the_word_of_a_fence_agent_ends_the_wait(self):
        off = self.scratch / "off"
        agent = self.scratch / "agent"
        agent.write_text(f'#!/bin/sh\nif [ ! -e "{self.scratch}/works" ]; then\n'
                         f'  echo "no route to the BMC"; exit 1\nfi\necho "$@" >>"{off}"\n')
        agent.chmod(0o755)
        cluster = self.cluster(agents={"hv3": [agent, "--plug", "3"]})
        hv1, _, hv3 = cluster.nodes
        self.assertIsNone(hv1.status()["nodes"][2]["obstacle_to_strict"])
        hv3.kill()
        self.members(hv1, ["hv1", "hv2"])
        self.assertFalse(off.exists(), "nobody has asked for strict yet")
        said = hv1.cli("fence", "hv3", "--strict", "--wait", "2", status=1).stderr
        self.assertIn("exit status 1", said)
        self.assertIn("Only its fence agent can prove that hv3 has stopped", said)
        (self.scratch / "works").write_text("")
        began = time.monotonic()
        self.assertIn("What it ran has stopped.",
                      hv1.cli("fence", "hv3", "--strict", deadline=30).stdout)
        self.assertLess(time.monotonic() - began, 15, "it is run again within 10 s")
        self.assertEqual(off.read_text(), "--plug 3\n")

    # --- the other daemons of a host ---

    def test_a_fence_is_not_over_before_a_user_has_dropped_what_the_node_had_asked(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        user = self.user(hv1)
        self.assertIn("csvfsd", hv1.cli("status").stdout)
        user.slow = True
        hv3.kill()
        self.members(hv1, ["hv1", "hv2"])
        self.wait_until(lambda: user.lives and user.lives[2] == 0, "csvfsd hears of it")
        time.sleep(1)  # far longer than the devices need
        for node in (hv1, hv2):
            self.assertFalse(node.status()["fenced"])
        self.assertIn("waits for csvfsd on this host to drop", hv1.why())
        self.assertEqual(hv1.ask(command="fence", node="hv3")["state"], "pending")
        user.slow = False
        user.quiesced = user.epoch
        for node in (hv1, hv2):
            self.wait_until(lambda node=node: node.status()["fenced"], "it is over")
        self.assertEqual(user.problems, [])

    def test_a_host_whose_user_drops_nothing_is_evicted_itself(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        user = self.user(hv1)
        before = hv1.life()
        user.slow = True
        hv3.kill()
        self.members(hv2, ["hv2"], deadline=LEASE_S + 20)
        # hv1 has removed the key of hv3 itself: without its word only time is a proof.
        self.wait_until(lambda: hv2.status()["fenced"], "it is over for hv2", FENCE_HOLD_S + 10)
        self.assertTrue(hv2.status()["fenced_timed"])
        self.assertEqual(hv2.members(), ["hv2"], "hv1 is not admitted as long as it holds it up")
        user.slow = False
        self.wait_until(lambda: hv2.members() == ["hv1", "hv2"], "hv1 is back", 30)
        self.assertGreater(hv1.life(), before)
        self.assertEqual(user.problems, [])

    def test_a_user_that_was_killed_counts_until_it_is_back_or_forgotten(self):
        cluster = self.cluster()
        hv1, hv2, hv3 = cluster.nodes
        user = self.user(hv1)
        user.end()
        hv1.kill()
        hv1.start()  # the same life: its user is remembered
        self.complete(cluster)
        self.assertEqual([each["name"] for each in hv1.status()["users"]], ["csvfsd"])
        hv3.kill()
        self.members(hv1, ["hv1", "hv2"])
        time.sleep(1)
        self.assertFalse(hv2.status()["fenced"])
        hv1.cli("forget", "csvfsd")
        self.wait_until(lambda: hv2.status()["fenced"], "it is over")
        self.assertIn("`csvfsd` is none", hv1.cli("forget", "csvfsd", status=1).stderr)

    def test_what_runs_by_the_lease_ends_before_the_next_life_begins(self):
        cluster = self.cluster(watchdogs=True)
        hv1, hv2, hv3 = cluster.nodes
        user = self.user(hv3, "clusterd", runs=True)
        before = hv3.life()
        self.assertIn("can land any more", hv1.cli("fence", "hv3").stdout)
        self.wait_until(lambda: "has ended" in hv3.log(), "hv3 waits for clusterd")
        time.sleep(0.5)
        self.assertEqual(hv1.members(), ["hv1", "hv2"])
        self.assertEqual(hv1.status()["nodes"][2]["incarnation"], before)
        self.assertTrue(hv3.status()["watchdog"].endswith(", armed"), "it guards what runs")
        user.runs = False
        self.complete(cluster)
        self.assertGreater(hv3.life(), before)
        self.assertEqual(hv2.ask(command="fence", node="hv3", incarnation=before,
                                 strict=True)["state"], "drained", "it has said so itself")


if __name__ == "__main__":
    case.main()
