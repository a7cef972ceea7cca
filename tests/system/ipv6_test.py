"""Portals with IPv6 addresses: sessions, discovery, access by address, foreign clients."""

from holdfast import case, iscsi, scsi
from holdfast.process import run
from holdfast.target import TARGET_NAME, Disk, Initiator, TargetName

FOURTH, SIXTH = 0, 1  # paths
BLOCK = 512


class IPv6(case.TestCase):
    def daemon(self, **options):
        return self.target(disks=[Disk("d0", kind="memory", size="16MiB")],
                           portal_groups={1: ["127.0.0.1"], 2: ["::1"]}, **options)

    def both(self, *initiators):
        return self.daemon(targets=[TargetName(portal_groups=[1, 2],
                                               initiators=list(initiators) or [Initiator()])])

    def open(self, daemon, path=SIXTH, **options) -> iscsi.Session:
        session = iscsi.Session.open(daemon.portal(path), TARGET_NAME, isid=path + 1, **options)
        self.addCleanup(session.close)
        return session

    def test_a_session(self):
        daemon = self.both()
        session = self.open(daemon)
        session.ready()
        data = bytes(range(256)) * 1024  # unsolicited data and R2Ts
        session.write(64, data)
        other = self.open(daemon, FOURTH)
        other.ready()
        self.assertEqual(other.read(64, len(data) // BLOCK), data)
        listed = {each["portal"]: each for each in daemon.cli.json("session", "list")}
        self.assertEqual(set(listed), {f"127.0.0.1:{daemon.port}", f"[::1]:{daemon.port}"})
        self.assertRegex(listed[f"[::1]:{daemon.port}"]["peer"], r"^\[::1\]:\d+$")
        self.assertIn(f"[::1]:{daemon.port}", daemon.cli("session", "list").stdout)

    def test_each_family_is_told_its_own_portals(self):
        daemon = self.both()
        for path, address in ((FOURTH, f"127.0.0.1:{daemon.port},1"),
                              (SIXTH, f"[::1]:{daemon.port},2")):
            with iscsi.Session.open(daemon.portal(path)) as session:
                self.assertEqual(session.send_targets(), {TARGET_NAME: [address]})

    def test_access_by_address(self):
        for addresses, fourth, sixth in ((["::1"], False, True), (["::/120"], False, True),
                                         (["fd00::/8"], False, False),
                                         (["127.0.0.0/8"], True, False),
                                         (["127.0.0.1", "::1"], True, True)):
            with self.subTest(addresses=addresses):
                daemon = self.both(Initiator(addresses=addresses))
                for path, allowed in ((FOURTH, fourth), (SIXTH, sixth)):
                    if allowed:
                        self.open(daemon, path).ready()
                        continue
                    with self.assertRaises(iscsi.LoginFailed) as failed:
                        self.open(daemon, path)
                    self.assertEqual(failed.exception.status, 0x0202)
                daemon.stop()

    def test_a_portal_is_added_and_taken_away(self):
        daemon = self.daemon(targets=[TargetName(portal_groups=[1])])
        first = self.open(daemon, FOURTH)
        first.ready()
        daemon.targets[0].portal_groups = [1, 2]
        self.apply(daemon)
        session = self.open(daemon)
        session.ready()
        daemon.targets[0].portal_groups = [1]
        del daemon.portal_groups[2]
        self.apply(daemon)
        self.assertTrue(session.is_closed_by_peer(5), "its portal is no more")
        with self.assertRaises(OSError):
            iscsi.Connection(("::1", daemon.port)).close()
        self.assertTrue(first.command(scsi.test_unit_ready()).good)

    def apply(self, daemon):
        daemon.rewrite()
        daemon.cli("apply", str(daemon.config_file))

    def test_libiscsi(self):
        daemon = self.both()
        url = daemon.url("d0", path=SIXTH)
        self.assertIn("HOLDFAST", run(["iscsi-inq", url]).stdout.upper())
        found = run(["iscsi-ls", f"iscsi://[::1]:{daemon.port}"]).stdout
        self.assertIn(TARGET_NAME, found)
        self.assertIn(f"[::1]:{daemon.port}", found)


if __name__ == "__main__":
    case.main()
