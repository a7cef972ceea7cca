"""holdfast-targetd as a process: start, readiness, signals, bad files, kill -9, restart."""

import os
import signal
import socket
import stat
import time

from holdfast import case, iscsi, paths, scsi
from holdfast.process import run
from holdfast.target import TARGET_NAME, Disk


class Lifecycle(case.TestCase):
    def open(self, target, **options):
        session = iscsi.Session.open(target.portal(), TARGET_NAME, **options)
        self.addCleanup(session.close)
        session.ready()
        return session

    def test_ready_means_that_every_portal_answers(self):
        target = self.target()
        for path in (0, 1):
            session = iscsi.Session.open(target.portal(path), TARGET_NAME, isid=path + 1)
            session.ready()
            self.assertEqual(session.read(0, 8), bytes(4096))
            session.logout()

    def test_not_ready_while_a_portal_is_taken(self):
        target = self.target(start=False)
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(target.portal(1))
            taken.listen()
            target.launch()
            with self.assertRaisesRegex(AssertionError, "ended with status [12]"):
                target.wait_ready(5)
        target.wait_ended(5)
        self.assertIn("127.0.0.2", target.log())
        self.assertRegex(target.log(), "cannot be listened on")

    def test_sigterm_ends_sessions_and_the_process_in_time(self):
        target = self.target()
        session = self.open(target)
        session.write(0, b"\x11" * 4096)
        began = time.monotonic()
        target.stop(deadline=5)
        self.assertLess(time.monotonic() - began, 5)
        self.assertTrue(session.is_closed_by_peer(deadline=2))
        self.assertFalse(target.control_socket.exists(), "the control socket is left behind")

    def test_sigint_is_as_sigterm(self):
        target = self.target()
        target.signal(signal.SIGINT)
        self.assertEqual(target.wait_ended(5), 0)

    def test_sigterm_with_idle_and_half_open_connections(self):
        target = self.target()
        silent = [iscsi.Connection(target.portal()) for _ in range(20)]
        half = iscsi.Session(target.portal(), TARGET_NAME)
        half.login_step(iscsi.SECURITY, iscsi.OPERATIONAL, half.names() | {"AuthMethod": "None"})
        target.stop(deadline=5)
        for connection in [*silent, half]:
            connection.close()

    def test_control_socket_is_private(self):
        target = self.target()
        mode = os.stat(target.control_socket).st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_help_and_usage(self):
        for program in ("holdfast-targetd", "holdfast"):
            self.assertEqual(run([paths.program(program), "--help"]).returncode, 0)
            done = run([paths.program(program), "--no-such-option"], check=False)
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertTrue(done.stderr.strip(), "no word about what is wrong")

    def test_restart_on_the_same_ports_at_once(self):
        target = self.target()
        for _ in range(3):
            session = self.open(target)
            session.write(0, os.urandom(512))
            target.stop()
            target.start()

    def test_a_second_daemon_on_the_same_disk_is_refused(self):
        first = self.target()
        disk = Disk("d0", path=str(first.disk_path("d0")))
        second = self.target(start=False, disks=[disk])
        second.launch()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and second.running():
            time.sleep(0.05)
        # It may wait for the lock or give up; it must not serve the disk.
        try:
            session = iscsi.Session.open(second.portal(), TARGET_NAME, login_deadline=3)
        except (OSError, AssertionError, iscsi.Closed, iscsi.LoginFailed):
            pass
        else:
            response = session.command(scsi.read10(0, 1), read_length=512)
            if response.sense.key == scsi.Key.UNIT_ATTENTION:
                response = session.command(scsi.read10(0, 1), read_length=512)
            self.assertFalse(response.good, "two daemons serve the same file")
            session.close()
        second.kill()


class HungStorage(case.TestCase):
    """A file server that does not answer: the process ends in time all the same."""

    def setUp(self):
        super().setUp()
        self.fs = self.slowfs()

    def hang(self, daemon):
        self.wait_until(daemon.waits_for_files, "a thread waits for the file system")

    def end(self, daemon, *words):
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_ended(5), 0)
        for word in words:
            self.assertIn(word, daemon.log())

    def test_below_the_state_store(self):
        target = self.target(settings={"state_dir": self.fs.mount / "state"})
        session = iscsi.Session.open(target.portal(), TARGET_NAME)
        self.addCleanup(session.close)
        # Saves are carried out in order: after this one nothing of the start is on its way. What
        # the file server has taken already could not even be killed.
        target.cli("alua", "set", "1", "active/optimized")
        session.ready()
        self.fs.pause()
        changer = target.cli.begin("alua", "set", "1", "standby")
        self.hang(target)
        self.assertEqual(session.read(0, 8), bytes(4096))
        self.end(target, f"waits for the state store in {self.fs.mount}/state to close")
        changer.communicate()

    def test_below_the_state_store_while_it_is_opened(self):
        target = self.target(start=False, settings={"state_dir": self.fs.mount / "state"})
        self.fs.pause()
        target.launch()
        self.hang(target)
        self.end(target, f"waits for the state store in {self.fs.mount}/state to open")

    def test_below_the_state_of_a_multipath_daemon(self):
        target = self.target()
        mpiod = self.mpiod(target, start=False, settings={"state_dir": self.fs.mount / "state"})
        self.fs.pause()
        mpiod.launch()
        self.hang(mpiod)
        self.end(mpiod, "exiting all the same: waits for")

    def test_below_a_file_that_is_read(self):
        target = self.target()
        file = self.fs.mount / "target.toml"
        file.write_text(target.config_text())
        self.fs.pause()
        changer = target.cli.begin("apply", str(file))
        self.hang(target)
        began = time.monotonic()
        target.cli("status")
        self.assertLess(time.monotonic() - began, 2, "other requests wait for the file")
        self.end(target)
        changer.communicate()

    def test_below_a_file_that_sighup_reads(self):
        target = self.target()
        file = self.fs.mount / "target.toml"
        file.write_text(target.config_text())
        target.config_file.unlink()
        target.config_file.symlink_to(file)
        self.fs.pause()
        target.signal(signal.SIGHUP)
        self.hang(target)
        target.cli("status")
        self.end(target)


class BadConfiguration(case.TestCase):
    def refused(self, text, *expected):
        """Starts with the file; asserts status 2, file:line of each error, and nothing started."""
        target = self.target(start=False)
        target.rewrite(text(target.config_text()))
        target.launch()
        status = target.wait_ended(5)
        self.assertIn(status, (1, 2))
        for line_text, message in expected:
            lines = target.config_file.read_text().splitlines()
            number = next(n for n, line in enumerate(lines, 1) if line_text in line)
            self.assertRegex(target.log(), f"{target.config_file}:{number}: .*{message}")
        self.assertFalse(target.control_socket.exists())
        self.assertFalse((target.directory / "d0.img").exists(), "a disk was created")
        return target

    def test_syntax_error(self):
        self.refused(lambda text: text + "this is not TOML\n", ("this is not TOML", ""))

    def test_every_error_is_reported_with_its_line(self):
        def damage(text):
            text = text.replace('kind = "file"', 'kind = "floppy"')
            text = text.replace("threads = 2", "threads = -3")
            return text + '\n[[disk]]\nname = "d9"\nkind = "memory"\nsize = "12 parsecs"\n'
        self.refused(damage, ('kind = "floppy"', "floppy"), ("threads = -3", "threads"),
                     ('"12 parsecs"', "parsecs"))

    def test_unknown_key(self):
        self.refused(lambda text: "treads = 2\n" + text, ("treads = 2", "treads"))

    def test_lun_of_an_unknown_disk(self):
        self.refused(lambda text: text.replace('disk = "d0"', 'disk = "d7"'),
                     ('disk = "d7"', "d7"))

    def test_missing_file(self):
        done = run([paths.program("holdfast-targetd"), "--config", self.scratch / "absent.toml"],
                   check=False)
        self.assertIn(done.returncode, (1, 2))
        self.assertIn("absent.toml", done.stderr)

    def test_the_directory_of_a_disk_is_missing(self):
        directory = self.scratch / "none"
        target = self.target(start=False, disks=[Disk("d0", path=str(directory / "d0.img"))])
        target.launch()
        self.assertNotEqual(target.wait_ended(10), 0)
        self.assertIn(f"d0.img: the directory {directory} does not exist: create it", target.log())
        self.assertNotRegex(target.log(), "(?i)no such file")

    def test_a_smaller_size_never_shrinks_the_file(self):
        target = self.target(disks=[Disk("d0", size="64MiB")])
        target.stop()
        target.disks[0].size = "32MiB"
        target.rewrite()
        target.launch()
        try:
            target.wait_ready(5)
        except AssertionError:
            pass
        self.assertEqual(target.disk_path("d0").stat().st_size, 64 << 20)
        self.assertRegex(target.log(), "(?i)shr[iu]nk|larger|smaller")
        target.kill()


class Kill(case.TestCase):
    def test_acknowledged_writes_survive_kill(self):
        target = self.target()
        session = iscsi.Session.open(target.portal(), TARGET_NAME)
        session.ready()
        written = {}
        for round_number in range(3):
            for lba in range(0, 512, 8):
                data = bytes([round_number * 64 + lba // 8 & 0xFF]) * 4096
                session.write(lba, data)
                written[lba] = data
            target.kill()
            session.close()
            target.start()
            session = iscsi.Session.open(target.portal(1), TARGET_NAME)
            session.ready()
            for lba, data in written.items():
                self.assertEqual(session.read(lba, 8), data)
        session.logout()

    def test_identity_is_the_same_after_restart_and_on_all_portals(self):
        target = self.target(disks=[Disk("d0"), Disk("d1"), Disk("m0", kind="memory")])

        def identity():
            seen = set()
            for path in (0, 1):
                session = iscsi.Session.open(target.portal(path), TARGET_NAME)
                for lun in range(3):
                    session.ready(lun)
                serials = tuple(session.good(scsi.inquiry(0x80), lun=lun, read_length=255)[4:]
                                for lun in range(3))
                seen.add(serials)
                session.logout()
            self.assertEqual(len(seen), 1, "the portals disagree")
            return seen.pop()

        before = identity()
        self.assertEqual(len(set(before)), 3, "two disks have the same identity")
        target.kill()
        target.start()
        self.assertEqual(identity(), before)

    def test_reservations_are_durable_before_good_status(self):
        target = self.target()
        session = iscsi.Session.open(target.portal(), TARGET_NAME, isid=0x800000000007)
        session.ready()
        self.assertTrue(session.pr_out(scsi.PrOut.REGISTER, new_key=0xA1, aptpl=True).good)
        self.assertTrue(session.pr_out(scsi.PrOut.RESERVE, key=0xA1, type=5).good)
        target.kill()
        session.close()
        target.start()
        again = iscsi.Session.open(target.portal(1), TARGET_NAME, isid=0x800000000007)
        other = iscsi.Session.open(target.portal(), TARGET_NAME, isid=0x800000000008)
        for each in (again, other):
            each.ready()
        keys = scsi.parse_keys(other.good(scsi.pr_in(0), read_length=4096))[1]
        self.assertEqual(keys, [0xA1])
        self.assertEqual(scsi.parse_reservation(other.good(scsi.pr_in(1), read_length=4096))[1:],
                         (0xA1, 5))
        refused = other.command(scsi.write10(0, 1), data_out=bytes(512))
        self.assertEqual(refused.status, scsi.Status.RESERVATION_CONFLICT)
        for each in (again, other):
            each.logout()


if __name__ == "__main__":
    case.main()
