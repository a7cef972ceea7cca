"""What the administrator does while initiators work: apply, grow, remove, ALUA, sessions."""

import fcntl
import signal
import struct

from holdfast import case, iscsi, paths, scsi
from holdfast.chap import Chap
from holdfast.process import run
from holdfast.target import TARGET_NAME, Disk, Initiator, TargetName

LUNS_CHANGED, CAPACITY_CHANGED, ALUA_CHANGED = (0x3F, 0x0E), (0x2A, 0x09), (0x2A, 0x06)
NO_SUCH_LUN = (5, 0x25, 0x00)
OTHER_NAME = "iqn.2026-11.org.holdfast:other"
STANDBY, UNAVAILABLE = 2, 3  # asymmetric access states, SPC-4 6.37


class AdminCase(case.TestCase):
    def open(self, daemon, path=0, isid=0x80_0000_000001, luns=(0,), **options):
        session = iscsi.Session.open(daemon.portal(path), options.pop("target", TARGET_NAME),
                                     isid=isid, **options)
        self.addCleanup(session.close)
        for lun in luns:
            session.ready(lun)
        return session

    def three_sessions(self, daemon, luns=(0,)):
        """Of one initiator on both portals, and of another initiator."""
        return [self.open(daemon, 0, 0x80_0000_000001, luns),
                self.open(daemon, 1, 0x80_0000_000002, luns),
                self.open(daemon, 1, 0x80_0000_000003, luns, initiator=OTHER_NAME)]

    def apply(self, daemon, status=0):
        daemon.rewrite()
        return daemon.cli("apply", str(daemon.config_file), status=status)

    def sense(self, response):
        return response.sense.key, *response.sense.asc_ascq

    def luns(self, session):
        data = session.good(scsi.report_luns(), read_length=4096)
        return [lun >> 48 for lun, in struct.iter_unpack(">Q", data[8:8 + int.from_bytes(
            data[:4], "big")])]


class Apply(AdminCase):
    def test_a_lun_added_and_removed_under_running_sessions(self):
        daemon = self.target()
        sessions = self.three_sessions(daemon)
        daemon.disks.append(Disk("d1", size="8MiB"))
        done = self.apply(daemon)
        self.assertIn("d1", done.stdout)
        for session in sessions:
            self.assertEqual(session.ready(0), [LUNS_CHANGED])
            self.assertEqual(self.luns(session), [0, 1])
            session.ready(1)
            session.write(0, b"\x31" * 512, lun=1)
            self.assertEqual(session.ready(0), [], "told twice")
        self.assertEqual(self.apply(daemon).returncode, 0)
        self.assertEqual(sessions[0].ready(0), [], "told of a change that is none")
        del daemon.disks[1]
        self.apply(daemon)
        for session in sessions:
            gone = session.command(scsi.test_unit_ready(), lun=1)
            self.assertEqual(self.sense(gone), NO_SUCH_LUN)
            self.assertEqual(session.ready(0), [LUNS_CHANGED])
            self.assertEqual(self.luns(session), [0])
            session.write(0, b"\x32" * 512)

    def test_a_lun_is_removed_when_its_commands_have_ended(self):
        fs = self.slowfs()
        daemon = self.target(disks=[Disk("d0"), Disk("slow", path=str(fs.mount / "slow.img"),
                                                     size="8MiB", extra={"thin": False})])
        self.addCleanup(fs.clear)
        session = self.open(daemon, luns=(0, 1))
        fs.add("late", op="write", delay_ms=1000, start=0, end=4096)
        task = session.submit(scsi.write16(0, 8), lun=1, data_out=b"\x11" * 4096)
        self.wait_until(lambda: fs.held() == 1, "the write is in the backing")
        removed = daemon.disks.pop()
        self.apply(daemon)
        self.assertEqual(fs.held(), 0, "removed before its command had ended")
        with open(fs.backing / "slow.img", "rb") as file:
            self.assertEqual(file.read(4096), b"\x11" * 4096)
        response = session.wait(task)
        self.assertTrue(response.good or response.status == scsi.Status.TASK_ABORTED or
                        self.sense(response) == NO_SUCH_LUN, response)
        fs.clear()
        daemon.disks.append(removed)
        self.apply(daemon)
        session.ready(1)
        self.assertEqual(session.read(0, 8, lun=1), b"\x11" * 4096)

    def test_grow(self):
        daemon = self.target(disks=[Disk("d0", size="64MiB"), Disk("d1", size="64MiB")])
        sessions = self.three_sessions(daemon, (0, 1))
        for size, grow in (("96MiB", lambda: self.apply(daemon)),
                           ("128MiB", lambda: daemon.cli("disk", "resize", "d0", "128MiB"))):
            daemon.disks[0].size = size
            grow()
            blocks = int(size[:-3]) * 2048
            for session in sessions:
                self.assertEqual(session.ready(0), [CAPACITY_CHANGED])
                self.assertEqual(session.ready(1), [], "a disk that did not grow")
                data = session.good(scsi.read_capacity16(), read_length=32)
                self.assertEqual(struct.unpack_from(">QI", data), (blocks - 1, 512))
            sessions[0].write(blocks - 8, b"\x41" * 4096)
            self.assertEqual(sessions[2].read(blocks - 8, 8), b"\x41" * 4096)
        beyond = sessions[0].command(scsi.read16(128 * 2048, 1), read_length=512)
        self.assertEqual(self.sense(beyond), (5, 0x21, 0x00))

    def test_never_shrinks(self):
        daemon = self.target(disks=[Disk("d0", size="64MiB")])
        session = self.open(daemon)
        daemon.disks[0].size = "32MiB"
        self.assertRegex(self.apply(daemon, status=1).stderr, "(?i)shr[iu]nk|smaller")
        daemon.cli("disk", "resize", "d0", "32MiB", status=1)
        self.assertEqual(session.ready(), [])
        self.assertEqual(daemon.disk_path("d0").stat().st_size, 64 << 20)

    def test_a_bad_file_changes_nothing_and_names_its_lines(self):
        daemon = self.target()
        session = self.open(daemon)
        before = daemon.cli.json("disk", "list")
        good = daemon.config_text()
        bad = good + '[[disk]]\nname = "d1"\nkind = "floppy"\nsize = "8MiB"\nblocksize = 512\n'
        daemon.rewrite(bad)
        lines = bad.splitlines()
        for attempt in (lambda: daemon.cli("apply", str(daemon.config_file), status=1),
                        lambda: daemon.cli("check", str(daemon.config_file), status=1)):
            text = attempt().stderr
            for wrong in ('kind = "floppy"', "blocksize = 512"):
                self.assertIn(f"{daemon.config_file}:{lines.index(wrong) + 1}: ", text)
        daemon.signal(signal.SIGHUP)
        self.wait_until(lambda: "floppy" in daemon.log(), "the refusal is logged")
        self.assertEqual([d["uuid"] for d in daemon.cli.json("disk", "list")],
                         [d["uuid"] for d in before])
        self.assertEqual(session.ready(), [])

    def test_sighup_applies_the_file(self):
        daemon = self.target()
        session = self.open(daemon)
        daemon.disks.append(Disk("d1", size="8MiB"))
        daemon.rewrite()
        daemon.signal(signal.SIGHUP)
        self.wait_until(lambda: len(daemon.cli.json("disk", "list")) == 2, "the disk is there")
        self.wait_until(lambda: self.luns(session) == [0, 1] if not session.ready() else False,
                        "the LUN is there")

    def test_the_file_read_last_is_in_force_in_the_end(self):
        daemon = self.target()
        daemon.disks.append(Disk("slow", size="8MiB"))
        with open(daemon.disk_path("slow"), "wb") as held:
            held.truncate(8 << 20)
            fcntl.flock(held, fcntl.LOCK_EX)
            daemon.rewrite()
            slow = daemon.cli.begin("apply", str(daemon.config_file))
            self.wait_until(lambda: "applying the configuration" in daemon.log(), "it is read")
            del daemon.disks[1]
            for name in ("older", "last"):
                daemon.disks[1:] = [Disk(name, size="8MiB")]
                daemon.rewrite()
                said = daemon.log().count("another change is under way")
                daemon.signal(signal.SIGHUP)
                self.wait_until(
                    lambda: daemon.log().count("another change is under way") > said, "it waits")
            self.assertIn("locked", slow.communicate()[1])
            self.assertEqual(slow.returncode, 1)
        names = lambda: [disk["config"]["name"] for disk in daemon.cli.json("disk", "list")]
        self.wait_until(lambda: names() == ["d0", "last"], "the last file is in force")
        self.assertRegex(daemon.log(), "configuration not applied: .*locked")

    def test_a_file_without_a_target_takes_them_away_only_with_force(self):
        daemon = self.target()
        session = self.open(daemon)
        daemon.targets = []
        self.assertIn("--force", self.apply(daemon, status=1).stderr)
        self.assertTrue(session.command(scsi.test_unit_ready()).good)
        daemon.cli("apply", "--force", str(daemon.config_file))
        self.assertTrue(session.is_closed_by_peer(3))

    def test_words_that_are_mistyped(self):
        daemon = self.target()
        self.assertIn("did you mean `list`?", daemon.cli("disk", "lst", status=2).stderr)
        for text in ("abc", "-1", "12x", "1" * 40):
            error = daemon.cli("session", "drop", text, status=2).stderr
            self.assertLess(len(error), 300, error)
        self.assertIn("is not a session number", daemon.cli("session", "drop", "abc",
                                                            status=2).stderr)
        self.assertRegex(run([paths.program("holdfast"), "--version"]).stdout, r"^holdfast \d")

    def test_exit_statuses(self):
        daemon = self.target()
        daemon.cli("status")
        daemon.cli("check", str(daemon.config_file))
        daemon.cli("disk", "resize", "nosuch", "1GiB", status=1)
        daemon.cli("session", "drop", "4711", status=1)
        daemon.cli("apply", str(self.scratch / "absent.toml"), status=1)
        daemon.cli("nonsense", status=2)
        daemon.cli("disk", "resize", "d0", status=2)
        daemon.stop()
        gone = daemon.cli("status", status=2)
        self.assertIn(str(daemon.control_socket), gone.stderr)


class Sessions(AdminCase):
    def test_list_drop_and_logout(self):
        daemon = self.target()
        first, second, other = self.three_sessions(daemon)
        listed = daemon.cli.json("session", "list")
        self.assertEqual(sorted(each["initiator_name"] for each in listed),
                         sorted([iscsi.INITIATOR_NAME] * 2 + [OTHER_NAME]))
        number = {(each["initiator_name"], int(each["isid"], 16)): str(each["id"])
                  for each in listed}
        daemon.cli("session", "drop", number[iscsi.INITIATOR_NAME, first.isid])
        self.assertTrue(first.is_closed_by_peer(2))
        daemon.cli("session", "logout", number[iscsi.INITIATOR_NAME, second.isid])
        second.poll(0.5)
        self.assertEqual([pdu.bhs[36] for pdu in second.async_messages], [1])
        self.assertTrue(second.command(scsi.test_unit_ready()).good, "it may still work")
        self.assertEqual(second.logout(), 0)
        self.wait_until(lambda: len(daemon.cli.json("session", "list")) == 1, "one is left")
        self.assertTrue(other.command(scsi.test_unit_ready()).good)
        self.open(daemon)

    def test_an_initiator_taken_from_the_file_is_gone(self):
        daemon = self.target(targets=[TargetName(initiators=[
            Initiator(iscsi.INITIATOR_NAME), Initiator(OTHER_NAME)])])
        first, _, other = self.three_sessions(daemon)
        daemon.targets[0].initiators.pop()
        self.apply(daemon)
        self.assertTrue(first.command(scsi.test_unit_ready()).good)
        with self.assertRaises(iscsi.LoginFailed) as refused:
            self.open(daemon, initiator=OTHER_NAME)
        self.assertEqual(refused.exception.status, 0x0202)
        self.assertTrue(other.is_closed_by_peer(3), "it may not use the target any more")


class LoginUnderWay(AdminCase):
    """A reload between the first and the last request of a login."""

    def begin(self, daemon):
        session = iscsi.Session(daemon.portal(1), TARGET_NAME)
        self.addCleanup(session.close)
        session.login_step(iscsi.SECURITY, iscsi.OPERATIONAL,
                           session.names() | {"AuthMethod": "None"})
        return session

    def go_on(self, session):
        session.login_step(iscsi.OPERATIONAL, iscsi.FULL_FEATURE, dict(iscsi.DEFAULT_KEYS))

    def refused(self, daemon, session, status, reason):
        with self.assertRaises(iscsi.LoginFailed) as refused:
            self.go_on(session)
        self.assertEqual(refused.exception.status, status)
        self.assertIn(reason, daemon.log())

    def test_a_change_that_does_not_concern_it(self):
        daemon = self.target()
        session = self.begin(daemon)
        daemon.disks.append(Disk("d1", size="8MiB"))
        self.apply(daemon)
        self.go_on(session)

    def test_its_portal_is_removed(self):
        daemon = self.target()
        session = self.begin(daemon)
        daemon.portal_groups[1].pop()
        self.apply(daemon)
        self.refused(daemon, session, 0x0203, "the portal is not in the configuration any more")

    def test_its_address_is_no_longer_allowed(self):
        daemon = self.target()
        session = self.begin(daemon)
        daemon.targets[0].initiators[0].addresses = ["10.9.8.0/24"]
        self.apply(daemon)
        self.refused(daemon, session, 0x0202, "the initiator's address is not allowed")

    def test_its_name_is_no_longer_allowed(self):
        daemon = self.target()
        session = self.begin(daemon)
        daemon.targets[0].initiators[0].name = OTHER_NAME
        self.apply(daemon)
        self.refused(daemon, session, 0x0202, "the initiator's name is not allowed")

    def test_it_would_have_to_prove_itself_now(self):
        daemon = self.target()
        session = self.begin(daemon)
        daemon.targets[0].initiators[0].chap = ("hv1", "a secret of 20 bytes")
        self.apply(daemon)
        self.refused(daemon, session, 0x0301, "the authentication it needs was changed")


class Alua(AdminCase):
    def groups(self, session):
        """{tag: asymmetric access state}"""
        data = session.good(scsi.report_target_port_groups(), read_length=4096)
        end, at, found = 4 + int.from_bytes(data[:4], "big"), 4, {}
        while at < end:
            found[int.from_bytes(data[at + 2:at + 4], "big")] = data[at] & 0xF
            at += 8 + 4 * data[at + 7]
        return found

    def test_states_are_told_equal_on_all_paths_and_kept(self):
        daemon = self.target(portal_groups={1: ["127.0.0.1"], 2: ["127.0.0.2"]},
                             targets=[TargetName(portal_groups=[1, 2])])
        near, far = self.open(daemon, 0), self.open(daemon, 1)
        near.write(0, b"\x51" * 512)
        self.assertEqual(self.groups(near), {1: 0, 2: 0})
        daemon.cli("alua", "set", "2", "standby")
        for session in (near, far):
            session.good(scsi.inquiry(), read_length=255)  # leaves the unit attention
            told = session.command(scsi.test_unit_ready())
            self.assertEqual(self.sense(told), (6, *ALUA_CHANGED))
            self.assertEqual(self.groups(session), {1: 0, 2: STANDBY})
        self.assertEqual(self.sense(far.command(scsi.write16(0, 1), data_out=bytes(512))),
                         (2, 0x04, 0x0B))
        self.assertEqual(near.read(0, 1), b"\x51" * 512)
        daemon.kill()
        daemon.start()
        near = self.open(daemon, 0)
        self.assertEqual(self.groups(near), {1: 0, 2: STANDBY}, "forgotten over a restart")
        daemon.cli("alua", "set", "2", "unavailable")
        far = self.open(daemon, 1, luns=())
        for _ in range(3):
            refused = far.command(scsi.read16(0, 1), read_length=512)
            if refused.sense.key != scsi.Key.UNIT_ATTENTION:
                break
        self.assertEqual(self.sense(refused), (2, 0x04, 0x0C))
        daemon.cli("alua", "set", "2", "active/optimized")
        far.ready()
        self.assertEqual(far.read(0, 1), b"\x51" * 512)
        daemon.cli("alua", "set", "9", "standby", status=1)
        self.assertIn(daemon.cli("alua", "set", "2", "sleepy", status=None).returncode, (1, 2))


class Reservations(AdminCase):
    def test_the_list_shows_what_survived_kill(self):
        daemon = self.target()
        first, second, _ = self.three_sessions(daemon)
        self.assertTrue(first.pr_out(scsi.PrOut.REGISTER, new_key=0xA1, aptpl=True).good)
        self.assertTrue(second.pr_out(scsi.PrOut.REGISTER, new_key=0xA2, aptpl=True).good)
        self.assertTrue(first.pr_out(scsi.PrOut.RESERVE, key=0xA1, type=5).good)
        before = daemon.cli("reservation", "list").stdout
        daemon.kill()
        daemon.start()
        listed = daemon.cli("reservation", "list").stdout
        for text in ("d0", iscsi.INITIATOR_NAME, "0x00000000000000a1", "0x00000000000000a2",
                     "write exclusive, registrants only"):
            self.assertIn(text, before)
            self.assertIn(text, listed)


class Identity(AdminCase):
    def designators(self, session, lun):
        """VPD page 83 without what belongs to the port (association 1), and page 80."""
        page = session.good(scsi.inquiry(0x83, 4096), lun=lun, read_length=4096)
        at, end, found = 4, 4 + int.from_bytes(page[2:4], "big"), set()
        while at < end:
            if page[at + 1] >> 4 & 3 == 0:
                found.add(page[at:at + 4 + page[at + 3]])
            at += 4 + page[at + 3]
        self.assertTrue(found)
        return frozenset(found), session.good(scsi.inquiry(0x80), lun=lun, read_length=255)

    def test_equal_on_all_paths_and_different_between_disks(self):
        daemon = self.target(disks=[Disk("d0"), Disk("d1"), Disk("m0", kind="memory")])

        def of_all():
            seen = {tuple(self.designators(session, lun) for lun in range(3))
                    for session in self.three_sessions(daemon, (0, 1, 2))}
            self.assertEqual(len(seen), 1, "the paths disagree")
            return seen.pop()

        before = of_all()
        self.assertEqual(len(set(before)), 3, "two disks look like one")
        daemon.disks.reverse()
        daemon.targets[0].luns = {0: "d0", 1: "d1", 2: "m0"}
        self.apply(daemon)
        self.assertEqual(of_all(), before, "it depends on the order in the file")
        daemon.kill()
        daemon.start()
        self.assertEqual(of_all(), before)


class Access(AdminCase):
    SECRET, OTHER_SECRET = "correct horse battery", "staple of the target"

    def chap_target(self, mutual=None):
        return self.target(targets=[TargetName(initiators=[
            Initiator("*", chap=("hv1", self.SECRET), mutual_chap=mutual)])])

    def refused(self, daemon, status, **options):
        with self.assertRaises(iscsi.LoginFailed) as failed:
            self.open(daemon, **options)
        self.assertEqual(failed.exception.status, status)

    def test_chap(self):
        daemon = self.chap_target()
        for algorithm in (5, 6, 7, 8):
            self.open(daemon, chap=Chap("hv1", self.SECRET, [algorithm])).logout()
        self.assertEqual(daemon.cli.json("session", "list"), [])
        session = self.open(daemon, chap=Chap("hv1", self.SECRET, base64_values=True))
        self.assertEqual(daemon.cli.json("session", "list")[0]["user"], "hv1")
        self.refused(daemon, 0x0201, chap=Chap("hv1", "wrong horse battery"))
        self.refused(daemon, 0x0201, chap=Chap("hv2", self.SECRET))
        self.refused(daemon, 0x0201)
        self.assertTrue(session.command(scsi.test_unit_ready()).good)
        for secret in (self.SECRET, self.OTHER_SECRET):
            self.assertNotIn(secret, daemon.log())
            self.assertNotIn(secret, daemon.cli("status", "--json").stdout)

    def test_mutual_chap(self):
        daemon = self.chap_target(mutual=("store", self.OTHER_SECRET))
        right = Chap("hv1", self.SECRET, mutual=("store", self.OTHER_SECRET))
        self.open(daemon, chap=right).logout()
        with self.assertRaisesRegex(AssertionError, "did not prove"):
            self.open(daemon, chap=Chap("hv1", self.SECRET, mutual=("store", "what I expected")))

    def test_send_targets_tells_what_this_initiator_may_use(self):
        mine, any_one = "iqn.2026-11.org.holdfast:mine", "iqn.2026-11.org.holdfast:any"
        elsewhere = "iqn.2026-11.org.holdfast:elsewhere"
        daemon = self.target(
            portal_groups={1: ["127.0.0.1"], 2: ["127.0.0.2"]},
            targets=[TargetName(mine, initiators=[Initiator(iscsi.INITIATOR_NAME)]),
                     TargetName(any_one, luns={}, portal_groups=[1, 2]),
                     TargetName(elsewhere, luns={},
                                initiators=[Initiator("*", addresses=["10.9.9.0/24"])]),
                     TargetName("iqn.2026-11.org.holdfast:nobody", luns={}, initiators=[])])

        def told(**options):
            session = self.open(daemon, target=None, luns=(), **options)
            found = session.send_targets()
            session.logout()
            return found

        first, second = (f"127.0.0.{n}:{daemon.port},{n}" for n in (1, 2))
        self.assertEqual(told(), {mine: [first], any_one: [first, second]})
        self.assertEqual(told(initiator=OTHER_NAME), {any_one: [first, second]})
        self.assertIn(any_one, told(path=1))
        for name in (elsewhere, "iqn.2026-11.org.holdfast:nobody"):
            with self.assertRaises(iscsi.LoginFailed):
                self.open(daemon, target=name, luns=())


class Errors(AdminCase):
    def test_errors_of_the_backing_are_told_and_no_session_ends(self):
        fs = self.slowfs()
        daemon = self.target(disks=[Disk("d0", path=str(fs.mount / "d0.img"))])
        session = self.open(daemon)
        session.write(0, b"\x61" * 65536)
        for op, error, expected in (("write", "ENOSPC", (7, 0x27, 0x07)),
                                    ("write", "EIO", (3, 0x0C, None)),
                                    ("read", "EIO", (3, 0x11, None))):
            with self.subTest(op=op, error=error):
                fs.add("bad", op=op, error=error, start=4096, end=8192)
                if op == "write":
                    failed = session.command(scsi.write16(0, 64), data_out=b"\x62" * 32768)
                else:
                    failed = session.command(scsi.read16(0, 64), read_length=32768)
                fs.clear()
                self.assertEqual(failed.status, scsi.Status.CHECK_CONDITION)
                key, asc, ascq = self.sense(failed)
                self.assertEqual((key, asc), expected[:2])
                if expected[2] is not None:
                    self.assertEqual(ascq, expected[2])
                self.assertTrue(session.command(scsi.test_unit_ready()).good)
                session.write(0, b"\x61" * 65536)
                self.assertEqual(session.read(0, 128), b"\x61" * 65536)

    def test_a_failed_flush_is_not_good(self):
        fs = self.slowfs()
        daemon = self.target(disks=[Disk("d0", path=str(fs.mount / "d0.img"))])
        session = self.open(daemon)
        session.write(0, b"\x61" * 4096)
        fs.add("bad", op="fsync", error="EIO")
        failed = session.command(scsi.synchronize_cache10())
        self.assertEqual(failed.status, scsi.Status.CHECK_CONDITION)
        fs.clear()
        self.assertTrue(session.command(scsi.test_unit_ready()).good)


if __name__ == "__main__":
    case.main()
