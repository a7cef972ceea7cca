"""Discovery sessions and text requests on the wire: RFC 7143 4.3, 6.4, 7.4, 11.10, Appendix C; and
who is let in from which address (0202 for all others)."""

from holdfast import case, iscsi, scsi
from holdfast.chap import Chap
from holdfast.pdu import NO_TAG, Opcode, Pdu
from holdfast.target import TARGET_NAME, Disk, Initiator, TargetName

PREFIX = "iqn.2026-11.org.holdfast:"
OTHER_NAME = PREFIX + "other-initiator"
AUTHENTICATION_FAILURE, AUTHORIZATION_FAILURE, NOT_FOUND = 0x0201, 0x0202, 0x0203


def memory_disk():
    return [Disk("d0", kind="memory", size="8MiB")]


class DiscoveryCase(case.TestCase):
    def open(self, daemon, target=None, path=0, **options) -> iscsi.Session:
        session = iscsi.Session.open(daemon.portal(path), target, **options)
        self.addCleanup(session.close)
        return session

    def told(self, daemon, what="All", **options) -> dict:
        session = self.open(daemon, **options)
        found = session.send_targets(what)
        self.assertEqual(session.logout(), 0)
        return found

    def refused(self, daemon, status, target=None, **options):
        with self.assertRaises(iscsi.LoginFailed) as failed:
            self.open(daemon, target, **options)
        self.assertEqual(f"{failed.exception.status:04x}", f"{status:04x}")


class Requests(DiscoveryCase):
    """A discovery session takes SendTargets and a logout, nothing else (4.3)."""

    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=memory_disk())

    def not_accepted(self, pdu):
        """A Reject or the end of the connection, and no other answer."""
        session = self.open(self.daemon)
        session.send(pdu.put32(24, session.cmd_sn))
        try:
            answer = session.receive(5)
        except iscsi.Closed:
            return
        self.assertEqual(answer.opcode, Opcode.REJECT, answer)
        self.assertEqual(answer.data[:1], bytes(pdu.bhs[:1]))

    def test_scsi_commands_are_not_accepted(self):
        for immediate in (False, True):
            command = Pdu(Opcode.SCSI_COMMAND, flags=0xC1, itt=1, immediate=immediate)
            command.put32(20, 255).bhs[32:48] = scsi.inquiry().ljust(16, b"\0")
            self.not_accepted(command)

    def test_task_management_is_not_accepted(self):
        for function in (1, 5, 6, 7):
            with self.subTest(function):
                session = self.open(self.daemon)
                try:
                    code = session.task_management(function, deadline=5)
                except iscsi.Closed:
                    continue
                self.assertEqual(code, 255, "function rejected")

    def test_pings_are_not_accepted(self):
        self.not_accepted(Pdu(Opcode.NOP_OUT, flags=0x80, itt=1, immediate=True)
                          .put32(20, NO_TAG))

    def test_logout(self):
        session = self.open(self.daemon)
        self.assertEqual(session.logout(reason=2), 2, "for recovery: not supported")
        session = self.open(self.daemon)
        self.assertEqual(session.logout(), 0)

    def test_send_targets_needs_a_value(self):
        session = self.open(self.daemon)
        self.assertEqual(session.text({"SendTargets": ""}), [("SendTargets", "Reject")])
        self.assertEqual(list(session.send_targets()), [TARGET_NAME])

    def test_a_second_one_of_the_same_initiator_port_ends_the_first(self):
        """7.4.2.1: InitiatorName, ISID and the address of the portal are unique."""
        first = self.open(self.daemon, isid=0x80_0000_000009)
        elsewhere = self.open(self.daemon, path=1, isid=0x80_0000_000009)
        other = self.open(self.daemon, isid=0x80_0000_00000A)
        second = self.open(self.daemon, isid=0x80_0000_000009)
        for session in (second, elsewhere, other):
            self.assertEqual(list(session.send_targets()), [TARGET_NAME])
        self.assertTrue(first.is_closed_by_peer(3), "two discovery sessions of one initiator port")


class Lists(DiscoveryCase):
    def test_targets_are_told_by_name_and_by_address(self):
        names = [PREFIX + name for name in ("all", "by-name", "by-address", "by-both", "nobody")]
        mine, here = iscsi.INITIATOR_NAME, ["127.0.0.8/30"]
        entries = [Initiator()], [Initiator(mine)], [Initiator(addresses=here)], \
            [Initiator(mine, addresses=here)], []
        daemon = self.target(disks=memory_disk(), targets=[
            TargetName(name, luns={}, initiators=each) for name, each in zip(names, entries)])

        def visible(source, initiator):
            found = self.told(daemon, source=source, initiator=initiator)
            for name in names:  # one by one it is no different, and no login gets further
                alone = {name: found[name]} if name in found else {}
                self.assertEqual(self.told(daemon, name, source=source, initiator=initiator), alone)
                if not alone:
                    self.refused(daemon, AUTHORIZATION_FAILURE, name, source=source,
                                 initiator=initiator)
            return [name.removeprefix(PREFIX) for name in found]

        self.assertEqual(visible("127.0.0.8", mine), ["all", "by-name", "by-address", "by-both"])
        self.assertEqual(visible("127.0.0.11", OTHER_NAME), ["all", "by-address"])
        self.assertEqual(visible("127.0.0.12", mine), ["all", "by-name"])
        self.assertEqual(visible("127.0.0.7", OTHER_NAME), ["all"])

    def test_only_portals_of_the_targets_groups_and_of_this_family(self):
        one, two, both = (PREFIX + name for name in ("one", "two", "both"))
        daemon = self.target(
            disks=memory_disk(),
            portal_groups={1: ["127.0.0.1", "127.0.0.2"], 2: ["127.0.0.3", "::1"]},
            targets=[TargetName(one, luns={}, portal_groups=[1]),
                     TargetName(two, luns={}, portal_groups=[2]),
                     TargetName(both, luns={}, portal_groups=[1, 2])])
        first = [f"127.0.0.{number}:{daemon.port},1" for number in (1, 2)]
        second = [f"127.0.0.3:{daemon.port},2"]
        for path in (0, 2):
            self.assertEqual(self.told(daemon, path=path),
                             {one: first, two: second, both: first + second})
        sixth = [f"[::1]:{daemon.port},2"]
        found = self.told(daemon, path=3)
        self.assertEqual({name: found[name] for name in (two, both)}, {two: sixth, both: sixth})
        self.assertNotIn(one, found, "without an address it would be looked for at this one")
        self.refused(daemon, NOT_FOUND, two, path=0)
        self.refused(daemon, NOT_FOUND, one, path=2)

    def test_a_long_list_comes_in_parts(self):
        names = [f"{PREFIX}{'x' * 150}{number}" for number in range(40)]
        daemon = self.target(disks=memory_disk(),
                             targets=[TargetName(name, luns={}) for name in names])
        for limit in ("512", "8192"):
            session = self.open(daemon, keys={"MaxRecvDataSegmentLength": limit})
            sizes, receive = [], session.receive
            session.receive = lambda *some: sizes.append(receive(*some)) or sizes[-1]
            self.assertEqual(list(session.send_targets()), names)
            lengths = [len(pdu.data) for pdu in sizes]
            self.assertEqual(set(lengths[:-1]), {int(limit)}, "parts that are not full")
            self.assertLessEqual(lengths[-1], int(limit))
            for pdu in sizes[:-1]:  # 11.11.1 and 11.11.4: C, and a tag to ask for more with
                self.assertEqual(pdu.flags, 0x40)
                self.assertNotEqual(pdu.ttt, NO_TAG)
            self.assertEqual((sizes[-1].flags, sizes[-1].ttt), (0x80, NO_TAG))


class Credentials(DiscoveryCase):
    OWN, TARGETS, STORE = "the way to the list", "the way to the disk", "the store itself"

    def test_discovery_has_its_own(self):
        daemon = self.target(
            disks=memory_disk(),
            discovery={"chap": ("finder", self.OWN), "mutual_chap": ("store", self.STORE)},
            targets=[TargetName(initiators=[Initiator(chap=("hv1", self.TARGETS))])])
        right = Chap("finder", self.OWN)
        self.assertEqual(list(self.told(daemon, chap=right)), [TARGET_NAME])
        self.told(daemon, chap=Chap("finder", self.OWN, mutual=("store", self.STORE)))
        with self.assertRaisesRegex(AssertionError, "did not prove"):
            self.open(daemon, chap=Chap("finder", self.OWN, mutual=("store", "another secret")))
        for wrong in (None, Chap("hv1", self.TARGETS), Chap("finder", self.TARGETS),
                      Chap("hv1", self.OWN)):
            self.refused(daemon, AUTHENTICATION_FAILURE, chap=wrong)
        self.refused(daemon, AUTHENTICATION_FAILURE, TARGET_NAME, chap=Chap("finder", self.OWN))
        self.open(daemon, TARGET_NAME, chap=Chap("hv1", self.TARGETS)).ready()


class NormalSession(DiscoveryCase):
    """Text requests in a session that has disks."""

    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=memory_disk(), targets=[
            TargetName(), TargetName(PREFIX + "second", luns={})])
        self.session = self.open(self.daemon, TARGET_NAME)
        self.session.ready()

    def test_it_sees_its_own_target_only(self):
        own = [f"127.0.0.{number}:{self.daemon.port},1" for number in (1, 2)]
        self.assertEqual(self.session.send_targets(""), {TARGET_NAME: own})
        self.assertEqual(self.session.send_targets(TARGET_NAME), {TARGET_NAME: own})
        self.assertEqual(self.session.text({"SendTargets": "All"}), [("SendTargets", "Reject")])
        self.session.ready()

    def test_the_data_segment_length_can_be_changed(self):
        self.session.write(0, bytes(range(256)) * 16)
        self.session.text({"MaxRecvDataSegmentLength": "1024"})
        pieces, take = [], self.session._take_data
        self.session._take_data = lambda task, pdu: pieces.append(len(pdu.data)) or take(task, pdu)
        self.assertEqual(self.session.read(0, 8), bytes(range(256)) * 16)
        self.assertEqual(pieces, [1024] * 4)

    def test_what_was_agreed_in_the_login_stays(self):
        for key, value in (("HeaderDigest", "CRC32C"), ("InitialR2T", "Yes"),
                           ("ImmediateData", "No"), ("MaxBurstLength", "512")):
            with self.subTest(key):
                session = self.open(self.daemon, TARGET_NAME, isid=0x80_0000_000002)
                self.assertEqual(session.text({key: value}), [(key, "Reject")])
                session.ready()
                session.logout()

    def test_keys_that_nobody_knows(self):
        self.assertEqual(self.session.text({"X-org.holdfast.colour": "blue", "Speed": "9"}),
                         [("X-org.holdfast.colour", "NotUnderstood"), ("Speed", "NotUnderstood")])
        self.session.ready()


class Addresses(DiscoveryCase):
    def daemon_for(self, *initiators):
        return self.target(disks=memory_disk(),
                           targets=[TargetName(initiators=list(initiators))])

    def let_in(self, daemon, source, **options):
        session = self.open(daemon, TARGET_NAME, source=source, **options)
        session.ready()
        session.logout()

    def test_addresses_and_networks(self):
        daemon = self.daemon_for(Initiator(addresses=["127.0.0.5", "127.0.0.16/30",
                                                      "127.1.0.0/16"]))
        for source in ("127.0.0.5", "127.0.0.16", "127.0.0.19", "127.1.0.1", "127.1.255.254"):
            for path in (0, 1):
                self.let_in(daemon, source, path=path)
        for source in ("127.0.0.1", "127.0.0.4", "127.0.0.6", "127.0.0.15", "127.0.0.20",
                       "127.0.255.255", "127.2.0.0"):
            with self.subTest(source):
                self.refused(daemon, AUTHORIZATION_FAILURE, TARGET_NAME, source=source)

    def test_name_and_address_belong_together(self):
        daemon = self.daemon_for(Initiator(iscsi.INITIATOR_NAME, addresses=["127.0.0.5"]),
                                 Initiator(OTHER_NAME, addresses=["127.0.0.6"]))
        self.let_in(daemon, "127.0.0.5")
        self.let_in(daemon, "127.0.0.6", initiator=OTHER_NAME)
        self.refused(daemon, AUTHORIZATION_FAILURE, TARGET_NAME, source="127.0.0.6")
        self.refused(daemon, AUTHORIZATION_FAILURE, TARGET_NAME, source="127.0.0.5",
                     initiator=OTHER_NAME)

    def test_chap_does_not_help_from_elsewhere(self):
        secret = "knows the secret"
        daemon = self.daemon_for(Initiator(addresses=["127.0.0.5"], chap=("hv1", secret)))
        self.let_in(daemon, "127.0.0.5", chap=Chap("hv1", secret))
        self.refused(daemon, AUTHENTICATION_FAILURE, TARGET_NAME, source="127.0.0.5")
        self.refused(daemon, AUTHORIZATION_FAILURE, TARGET_NAME, source="127.0.0.6",
                     chap=Chap("hv1", secret))

    def test_an_address_taken_from_the_list_ends_its_sessions(self):
        daemon = self.daemon_for(Initiator(addresses=["127.0.0.5", "127.0.0.6"]))
        stays, goes = (self.open(daemon, TARGET_NAME, source=f"127.0.0.{number}", isid=number)
                       for number in (5, 6))
        stays.ready()
        goes.ready()
        daemon.targets[0].initiators[0].addresses.pop()
        daemon.rewrite()
        daemon.cli("apply", str(daemon.config_file))
        self.assertTrue(goes.is_closed_by_peer(3), "it may not use the target any more")
        self.refused(daemon, AUTHORIZATION_FAILURE, TARGET_NAME, source="127.0.0.6")
        stays.ready()


if __name__ == "__main__":
    case.main()
