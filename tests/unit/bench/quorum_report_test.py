"""`bench/run quorum`: what a page says, when a lease has ended, what a watch makes of the pages,
aims and tables."""

import dataclasses
import json
import struct
import types
import unittest
import xml.etree.ElementTree as tree
from unittest import mock

from bench.lib import lease_page, quorum, quorum_report, support

TIMERS = {"hb_net": 0.25, "net_dead": 2.0, "hb_disk": 0.5, "disk_io_to": 2.0, "lease": 4.0,
          "takeover": 8.1}
HEAD = {"started": "2026-01-01T00:00", "commit": "abc", "repeats": 2, "clusters": 1,
        "busy_cores": 0.5, "machine": {"cpu": "X", "cores": 2, "kernel": "6", "memory_gib": 4}}


def figures(**more):
    return {"victim": 0, "detected_s": 2.0, "decided_s": 2.5, "decision_s": 0.5, "fenced_s": 2.6,
            "taken_s": 2.7, "lease_end_s": 3.9, "losing_s": 0.0, "fenced_timed": False,
            "lease_first": False, "violation": False, "lapsed": []} | more


def results(*runs, error=None, busy=0.5):
    cell = {"job": "killed", "series": "lan-fast"}
    lines = [{"timers": TIMERS}, *({"figures": run} for run in runs)]
    lines += [{"error": error}] if error else []
    return quorum_report.collect(HEAD | {"busy_cores": busy},
                                 [json.dumps(cell | line) for line in lines],
                                 [("killed", "lan-fast")])


def view(**more):
    plain = lease_page.View(lease_until=100.0, node=0, key=1, epoch=5, members=0b111, fenced=5,
                            fenced_timed=False, coordinator=0, term=1, token=False)
    return dataclasses.replace(plain, **more)


class Page(unittest.TestCase):
    def test_the_words_are_those_of_lease_page_h(self):
        words = [0x31455341454C4651, 2, 0, 0, 2 << 32 | 7, 0xABC, 9, 0b101, 8, 1, 1_500_000_000,
                 1 << 40 | 2 << 32 | 3]
        self.assertEqual(lease_page.unpack(struct.pack("=12Q", *words)),
                         lease_page.View(lease_until=1.5, node=2, key=0xABC, epoch=9, members=0b101,
                                         fenced=8, fenced_timed=True, coordinator=2, term=3,
                                         token=True))

    def test_a_page_that_is_not_written_yet_says_nothing(self):
        self.assertIsNone(lease_page.unpack(bytes(96)))


class LeaseEnd(unittest.TestCase):
    @staticmethod
    def end(*looks):
        from bench.lib.quorum_watch import LeaseEnd as End
        lease = End()
        for at, until in looks:
            lease.look(at, until)
        return lease.at

    def test_it_ends_by_itself_at_the_moment_that_the_page_names(self):
        self.assertIsNone(self.end((1.0, 4.0), (3.9, 4.0)))
        self.assertEqual(self.end((1.0, 4.0), (2.0, 5.0), (5.3, 5.0)), 5.0)

    def test_it_ends_when_its_node_ends_it(self):
        self.assertEqual(self.end((1.0, 4.0), (2.0, 0.0)), 2.0)

    def test_the_end_of_the_next_life_is_another(self):
        self.assertEqual(self.end((1.0, 4.0), (2.0, 0.0), (3.0, 9.0), (10.0, 9.0)), 2.0)

    def test_that_was_over_before_its_node_says_so(self):
        self.assertEqual(self.end((1.0, 4.0), (4.2, 0.0)), 4.0)


class Follow(unittest.TestCase):
    """A watch over pages that are scripted: a step is a tenth of a second."""

    def follow(self, steps, registered, lost_sight=3):
        from bench.lib import quorum_watch
        clock = [10.0]

        def step():
            return min(round((clock[0] - 10) * 10), len(steps) - 1)

        page = types.SimpleNamespace(read=lambda: view())
        answers = mock.Mock()
        answers.return_value.answer = lambda: {
            "nodes": [{"networks": [step() < lost_sight] * 2}]}
        site = types.SimpleNamespace(
            timers=TIMERS, nodes=[mock.Mock()] * 3, pages=[page] * 3,
            views=lambda: steps[step()],
            registered=mock.Mock(side_effect=[list(quorum_watch.DISKS), registered]))
        with mock.patch.object(quorum_watch, "now", lambda: clock[0]), \
                mock.patch.object(quorum_watch, "Asker", answers), \
                mock.patch.object(quorum_watch.time, "sleep",
                                  lambda _: clock.__setitem__(0, clock[0] + 0.1)):
            return quorum_watch.Watch(site, 0, 5).follow(lambda *_: None)

    @staticmethod
    def steps(lease_until):
        lost = view(lease_until=lease_until)
        out = view(epoch=6, members=0b110, coordinator=1)
        taken = dataclasses.replace(out, fenced=6, token=True)
        return [[lost, view(), view()]] * 4 + [[lost, view(), out]] + [[lost, out, out]] + \
            [[lost, taken, out]] * 10

    def test_each_moment_is_that_of_the_first_who_knows(self):
        found = self.follow(self.steps(11.0), [])
        for key, wanted in (("detected_s", 0.3), ("decided_s", 0.4), ("decision_s", 0.1),
                            ("fenced_s", 0.6), ("taken_s", 0.6), ("lease_end_s", 1.0)):
            self.assertAlmostEqual(found[key], wanted, msg=key)
        self.assertFalse(found["lease_first"] or found["violation"])

    def test_a_takeover_from_one_with_a_lease_and_a_key_is_a_violation(self):
        self.assertTrue(self.follow(self.steps(11.0), ["volume1"])["violation"])
        self.assertFalse(self.follow(self.steps(10.5), ["volume1"])["violation"])
        self.assertFalse(self.follow(self.steps(11.0), ["witness"])["violation"])

    def test_an_answer_that_came_after_the_decision_counts_as_the_decision(self):
        found = self.follow(self.steps(10.5), [], lost_sight=8)
        self.assertAlmostEqual(found["detected_s"], 0.4)
        self.assertEqual(found["decision_s"], 0)

    def test_a_survivor_without_a_lease_is_told(self):
        steps = self.steps(10.5)
        steps[2] = [steps[2][0], steps[2][1], view(lease_until=0.0)]
        self.assertEqual(self.follow(steps, [])["lapsed"], [2])

    def test_nothing_happens_is_an_error_with_a_deadline(self):
        with self.assertRaisesRegex(AssertionError, "decided None"):
            self.follow([[view()] * 3], [])


class Aims(unittest.TestCase):
    @staticmethod
    def verdicts(*runs):
        return {aim.text: aim.verdict for aim in quorum_report.aims(results(*runs))}

    def test_the_worst_counts_against_what_the_timers_say(self):
        self.assertEqual(set(self.verdicts(figures()).values()), {"met"})
        for key, value, text in (("detected_s", 3.26, "detected"),
                                 ("decision_s", 3.51, "decided after it was detected"),
                                 ("lease_end_s", 4.26, "lease of the lost node ended")):
            found = self.verdicts(figures(), figures(**{key: value}))
            self.assertEqual(found.pop(f"lan-fast: {text}, worst of 2"), "not met")
            self.assertEqual(set(found.values()), {"met"})

    def test_one_violation_and_one_lapsed_survivor_are_too_many(self):
        found = self.verdicts(figures(violation=True), figures(lapsed=[2]))
        self.assertEqual(sorted(found.values()), ["met"] * 3 + ["not met"] * 2)

    def test_nothing_measured(self):
        self.assertEqual(set(self.verdicts().values()), {"not measured"})


class Tables(unittest.TestCase):
    def text(self, *runs, **more):
        return quorum_report.markdown(results(*runs, **more), quorum.FAULTS)

    def test_distributions_and_the_order_of_events(self):
        text = self.text(figures(), figures(lease_first=True, taken_s=5.0))
        self.assertRegex(text, r"taken over \| 2 \| +2\.70 \| +2\.70 \| +5\.00 \| +5\.00 \|")
        self.assertRegex(text, r"killed, lan-fast +\| 2 \| +1 \| +1 \| +0 \| +0 \|")
        self.assertNotIn("Failures", text)

    def test_failures_and_a_busy_machine_are_told(self):
        text = self.text(figures(), error="repeat 2: it hung", busy=1.9)
        self.assertIn("- killed lan-fast: repeat 2: it hung", text)
        self.assertIn("- Warning: 1.9 of 2 cores were busy", text)
        self.assertIn("nothing was measured", self.text())

    def test_plot(self):
        picture = quorum_report.svg(results(figures(), figures()), quorum.FAULTS)
        tree.fromstring(picture)
        self.assertEqual(picture.count("<circle"), 6)


class Run(unittest.TestCase):
    def test_an_unknown_profile_is_refused(self):
        with self.assertRaisesRegex(ValueError, "no profile 'wan'"):
            quorum.check_profiles(["wan"])

    def test_namespaces_of_its_hosts_are_known_as_ours(self):
        names = ["holdfast-10-hv1", "holdfast-10-lan", "holdfast-10-store", "holdfast-10-x"]
        self.assertEqual(support.stale(names, lambda pid: False), names[:3])


if __name__ == "__main__":
    unittest.main()
