"""Files behind disks: two names of one file, files that are gone or smaller, growing on a full or
failing file system, what a file system can and cannot do."""

import os

from holdfast import case, iscsi, paths, scsi
from holdfast.process import run
from holdfast.target import TARGET_NAME, Disk

MIB = 1 << 20


class BackingCase(case.TestCase):
    def apply(self, target, status=0):
        """What the fields of the target say now."""
        target.rewrite()
        done = target.cli("apply", str(target.config_file), status=status)
        return done.stdout + done.stderr

    def session(self, target) -> iscsi.Session:
        session = iscsi.Session.open(target.portal(), TARGET_NAME)
        self.addCleanup(session.close)
        session.ready(0)
        return session

    def sizes(self, target) -> list:
        return [disk["size_bytes"] for disk in target.cli.json("disk", "list")]

    def loop(self, file, *options) -> str:
        losetup = paths.tool("losetup")
        device = run([losetup, "--find", "--show", *options, str(file)]).stdout.strip()
        self.addCleanup(run, [losetup, "--detach", device])
        return device

    def mounted(self, device, *options):
        place = self.scratch / "mounted"
        place.mkdir()
        run([paths.tool("mount"), *options, device, str(place)])
        self.addCleanup(run, [paths.tool("umount"), "--lazy", str(place)])
        return place


class OneFileTwice(BackingCase):
    """A link makes two disks of one file: each would write over what the other has stored."""

    def aliases(self):
        file = self.scratch / "real.img"
        file.write_bytes(b"\x5a" * (8 * MIB))
        hard, soft = self.scratch / "hard.img", self.scratch / "soft.img"
        os.link(file, hard)
        soft.symlink_to(file)
        return file, (hard, soft)

    def test_start_is_refused_and_both_paths_are_named(self):
        file, others = self.aliases()
        for other in others:
            with self.subTest(other=other.name):
                disks = [Disk("d0", path=str(file), size="8MiB"),
                         Disk("d1", path=str(other), size="8MiB")]
                target = self.target(start=False, disks=disks)
                target.launch()
                self.assertEqual(target.wait_ended(10), 1)
                self.assertRegex(target.log(),
                                 "disk `d[01]`: .*: this server has the same file or device")
                self.assertRegex(target.log(),
                                 f"({file} and {other}|{other} and {file}) are the same")
                self.assertEqual(file.read_bytes(), b"\x5a" * (8 * MIB))

    def test_apply_and_create_are_refused_at_once(self):
        file, (hard, soft) = self.aliases()
        target = self.target(disks=[Disk("d0", path=str(file), size="8MiB")])
        target.disks.append(Disk("d1", path=str(hard), size="8MiB"))
        self.assertIn("has the same file or device open", self.apply(target, status=1))
        self.create_is_refused(target, soft)
        self.assertEqual([disk["config"]["name"] for disk in target.cli.json("disk", "list")],
                         ["d0"])

    def create_is_refused(self, target, path):
        refused = target.cli("disk", "create", "d2", "--path", str(path), "--size", "8MiB",
                             status=1)
        self.assertIn("has the same file or device open", refused.stderr)

    def test_a_loop_device_and_the_file_behind_it(self):
        file, _ = self.aliases()
        device = self.loop(file)
        target = self.target(disks=[Disk("d0", kind="block", path=device)])
        self.create_is_refused(target, file)
        target.stop()
        target.disks = [Disk("d0", path=str(file), size="8MiB")]
        target.rewrite()
        target.start()
        refused = target.cli("disk", "create", "d2", "--kind", "block", "--path", device, status=1)
        self.assertIn("has the same file or device open", refused.stderr)

    def test_the_targets_own_files_are_no_disks(self):
        target = self.target(disks=[Disk("d0", size="8MiB")])
        for file in ("state/state.db", "target.toml"):
            with self.subTest(file=file):
                self.create_is_refused(target, target.directory / file)
        target.kill()
        target.start()


class Gone(BackingCase):
    """An empty file under the identity of one with data would be taken for it."""

    def identities(self, target):
        return {disk["config"]["name"]: disk["uuid"] for disk in target.cli.json("disk", "list")}

    def test_a_file_that_was_served_is_not_made_anew_by_a_start(self):
        target = self.target(disks=[Disk("d0"), Disk("d1", size="8MiB")])
        before = self.identities(target)
        target.stop()
        file = target.disk_path("d1")
        file.rename(file.with_suffix(".away"))  # as when its file system is not mounted
        target.launch()
        self.assertEqual(target.wait_ended(10), 1)
        self.assertIn(f"disk `d1`: {file}: this file is gone", target.log())
        self.assertFalse(file.exists())

        d1 = target.disks.pop()
        target.rewrite()
        target.start()  # without the disk, then with it
        target.disks.append(d1)
        self.assertIn("is its file system mounted?", self.apply(target, status=1))
        self.assertFalse(file.exists())
        d1.path = str(file.with_suffix(".new"))
        self.apply(target)
        after = self.identities(target)
        self.assertEqual(after["d0"], before["d0"])
        self.assertNotEqual(after["d1"], before["d1"])
        self.assertEqual(file.with_suffix(".new").stat().st_size, 8 * MIB)

    def test_an_apply_that_is_refused_forgets_nothing(self):
        """The file system is not mounted when the disk is added again: its reservations stay."""
        target = self.target(disks=[Disk("d0"), Disk("d1", size="8MiB")])
        before = self.identities(target)
        session = self.session(target)
        session.ready(1)
        for action, keys in ((scsi.PrOut.REGISTER, {"new_key": 0xA1, "aptpl": True}),
                             (scsi.PrOut.RESERVE, {"key": 0xA1, "type": 1})):
            self.assertTrue(session.pr_out(action, 1, **keys).good)
        both, file = list(target.disks), target.disk_path("d1")
        target.disks = both[:1]
        self.apply(target)
        file.rename(file.with_suffix(".away"))
        target.disks = both
        self.apply(target, status=1)
        self.assertFalse(file.exists())
        file.with_suffix(".away").rename(file)
        self.apply(target)
        self.assertEqual(self.identities(target), before)
        held = [disk["reservation"]["type"] for disk in target.cli.json("reservation", "list")]
        self.assertEqual(held, [0, 1])

    def test_a_file_that_is_smaller_than_what_was_served(self):
        target = self.target(disks=[Disk("d0", size="8MiB")])
        target.stop()
        for size in (0, 4 * MIB):
            with self.subTest(size=size):
                os.truncate(target.disk_path("d0"), size)
                target.launch()
                self.assertEqual(target.wait_ended(10), 1)
                self.assertIn("the file is smaller than what was served of it before", target.log())
                self.assertEqual(target.disk_path("d0").stat().st_size, size)

    def test_the_state_database_is_moved_away(self):
        target = self.target(disks=[Disk("d0", size="8MiB")])
        session = self.session(target)
        (target.directory / "state").rename(target.directory / "elsewhere")
        self.assertFalse(session.pr_out(scsi.PrOut.REGISTER, 0, new_key=0xA1, aptpl=True).good)
        self.assertIn("the state database was moved or deleted", target.log())
        (target.directory / "elsewhere").rename(target.directory / "state")
        self.assertTrue(session.pr_out(scsi.PrOut.REGISTER, 0, new_key=0xA1, aptpl=True).good)

    def test_what_comes_back_is_what_it_was(self):
        target = self.target(disks=[Disk("d0", size="8MiB")])
        before = target.cli.json("disk", "list")
        target.stop()
        file = target.disk_path("d0")
        file.rename(file.with_suffix(".away"))
        target.launch()
        target.wait_ended(10)
        file.with_suffix(".away").rename(file)
        target.start()
        self.assertEqual(target.cli.json("disk", "list"), before)


class Removed(BackingCase):
    def test_its_pr_out_is_still_being_stored(self):
        """What is stored late must not bring the disk back on a thread that has let go of it."""
        fs = self.slowfs()
        target = self.target(disks=[Disk("d0", size="8MiB"), Disk("d1", size="8MiB")],
                             settings={"state_dir": str(fs.mount / "state"), "threads": 2})
        session = self.session(target)
        session.ready(1)
        fs.add("slow", op="fsync", delay_ms=700)
        cdb, data = scsi.pr_out(scsi.PrOut.REGISTER, new_key=0xA1, aptpl=True)
        task = session.submit(cdb, lun=1, data_out=data)
        both = list(target.disks)
        target.disks = both[:1]
        self.apply(target)
        fs.clear()
        session.wait(task)
        self.wait_until(lambda: "let go: disk=d1" in target.log(), "the disk is let go of")
        descriptors = f"/proc/{target.pid}/fd"
        self.wait_until(lambda: not any("d1.img" in os.readlink(f"{descriptors}/{each}")
                                        for each in os.listdir(descriptors)), "its file is closed")
        target.disks = both
        self.apply(target)


class FileSystems(BackingCase):
    def test_a_write_that_is_cut_short_by_a_full_file_system(self):
        place = self.mounted("tmpfs", "-t", "tmpfs", "-o", "size=5140k")
        target = self.target(disks=[Disk("d0", path=str(place / "d0.img"), size="64MiB")])
        session = self.session(target)
        for lba in range(0, 64 * MIB // 512, 128):
            answer = session.command(scsi.write16(lba, 128), data_out=b"\x11" * 65536)
            if not answer.good:
                break
        self.assertEqual((answer.sense.key, answer.sense.asc, answer.sense.ascq), (7, 0x27, 0x07))
        self.assertEqual(session.read(0, 128), b"\x11" * 65536)

    def test_sectors_larger_than_the_block_size(self):
        image = self.scratch / "disk"
        image.touch()
        os.truncate(image, 64 * MIB)
        device = self.loop(image, "--sector-size", "4096")
        run([paths.tool("mkfs.ext4"), "-q", "-F", device])
        place = self.mounted(device)
        disk = Disk("d0", path=str(place / "d0.img"), size="8MiB")
        target = self.target(start=False, disks=[disk])
        target.launch()
        self.assertEqual(target.wait_ended(10), 1)
        self.assertIn("set block_size = 4096", target.log())
        self.assertFalse((place / "d0.img").exists())
        disk.extra["block_size"] = 4096
        target.rewrite()
        target.start()
        self.assertEqual(self.sizes(target), [8 * MIB])
        target.stop()

    def test_a_thick_disk_on_a_file_with_holes(self):
        place = self.mounted("tmpfs", "-t", "tmpfs", "-o", "size=32m")
        (place / "d0.img").touch()
        os.truncate(place / "d0.img", 8 * MIB)
        target = self.target(disks=[Disk("d0", path=str(place / "d0.img"), size="8MiB",
                                         extra={"thin": False})])
        self.assertGreaterEqual((place / "d0.img").stat().st_blocks * 512, 8 * MIB)
        target.stop()


class Grow(BackingCase):
    def thick(self, fs, size):
        return Disk("d0", path=str(fs.mount / "d0.img"), size=size, extra={"thin": False})

    def grow(self, target, size, status):
        target.disks[0].size = size
        return self.apply(target, status)

    def test_a_grow_that_fails_leaves_a_file_that_the_old_configuration_serves(self):
        fs = self.slowfs()
        target = self.target(disks=[self.thick(fs, "8MiB")])
        for op, error in (("fallocate", "ENOSPC"), ("fsync", "EIO")):
            with self.subTest(op=op):
                fs.add("bad", op=op, error=error)
                self.grow(target, "16MiB", status=1)
                fs.clear()
                self.assertEqual((fs.backing / "d0.img").stat().st_size, 8 * MIB)
        self.assertEqual(self.sizes(target), [8 * MIB])
        target.disks[0].size = "8MiB"
        target.rewrite()
        target.stop()
        target.start()
        self.assertEqual(self.sizes(target), [8 * MIB])

    def test_a_file_too_small_on_a_full_file_system_is_served_as_it_is(self):
        """As after a kill in the middle of a grow: what was stored must not become unreachable."""
        fs = self.slowfs()
        target = self.target(disks=[self.thick(fs, "8MiB")])
        target.disks[0].size = "16MiB"
        target.rewrite()
        fs.add("full", op="fallocate", error="ENOSPC")
        target.stop()
        target.start()
        self.assertEqual(self.sizes(target), [8 * MIB])
        self.assertIn("too full to grow it", target.log())
        self.assertIn("too full", self.apply(target, status=1))
        fs.clear()
        self.apply(target)
        self.assertEqual(self.sizes(target), [16 * MIB])

    def test_killed_while_a_resize_is_not_answered(self):
        fs = self.slowfs()
        target = self.target(disks=[self.thick(fs, "8MiB")])
        fs.add("slow", op="fsync", delay_ms=2000)
        resize = target.cli.begin("disk", "resize", "d0", "16MiB")
        self.wait_until(lambda: (fs.backing / "d0.img").stat().st_size == 16 * MIB,
                        "the file is larger")
        target.kill()
        resize.communicate()
        fs.clear()
        target.start()
        self.assertEqual(self.sizes(target), [8 * MIB])
        self.assertIn("of which the first 8388608 are served", target.log())
        target.cli("disk", "resize", "d0", "16MiB")
        self.assertEqual(self.sizes(target), [16 * MIB])

    def test_what_others_have_added_to_the_file_is_not_cut_off(self):
        target = self.target(disks=[Disk("d0", size="8MiB")])
        os.truncate(target.disk_path("d0"), 16 * MIB)
        refused = target.cli("disk", "resize", "d0", "12MiB", status=1)
        self.assertIn("made larger than that by others", refused.stderr)
        self.assertEqual(target.disk_path("d0").stat().st_size, 16 * MIB)
        target.cli("disk", "resize", "d0", "16MiB")
        self.assertEqual(self.sizes(target), [16 * MIB])

    def test_of_two_disks_only_one_has_room(self):
        fs = self.slowfs()
        target = self.target(disks=[Disk("d0", size="8MiB"),
                                    Disk("d1", path=str(fs.mount / "d1.img"), size="8MiB",
                                         extra={"thin": False})])
        fs.add("full", op="fallocate", error="ENOSPC")
        for disk in target.disks:
            disk.size = "16MiB"
        self.assertIn("too full", self.apply(target, status=1))
        self.assertEqual(self.sizes(target), [8 * MIB] * 2)
        for disk in target.disks:
            disk.size = "8MiB"
        self.assertIn("nothing to change", self.apply(target))
        target.stop()
        target.start()
        self.assertEqual(self.sizes(target), [8 * MIB] * 2)


class WriteCache(BackingCase):
    """`write_cache = false`: what is answered is durable, without FUA or a flush."""

    def test_each_write_is_durable_before_it_is_answered(self):
        fs = self.slowfs()
        target = self.target(disks=[
            Disk("cached", path=str(fs.mount / "a.img"), size="8MiB", extra={"thin": False}),
            Disk("through", path=str(fs.mount / "b.img"), size="8MiB",
                 extra={"thin": False, "write_cache": False})])
        session = self.session(target)
        session.ready(1)
        for lun, durable in ((0, False), (1, True)):
            with self.subTest(lun=lun):
                before = fs.counts()["fsync"]
                session.write(0, bytes(4096), lun=lun)
                self.assertEqual(fs.counts()["fsync"] > before, durable)


if __name__ == "__main__":
    case.main()
