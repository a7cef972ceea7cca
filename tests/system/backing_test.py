"""Files behind disks: two names of one file, growing on a full or failing file system."""

import os

from holdfast import case
from holdfast.target import Disk

MIB = 1 << 20


class OneFileTwice(case.TestCase):
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
                                 "disk `d[01]`: .*: another disk of this server is the same file")
                self.assertRegex(target.log(),
                                 f"({file} and {other}|{other} and {file}) are the same")
                self.assertEqual(file.read_bytes(), b"\x5a" * (8 * MIB))

    def test_apply_and_create_are_refused_at_once(self):
        file, (hard, soft) = self.aliases()
        target = self.target(disks=[Disk("d0", path=str(file), size="8MiB")])
        target.disks.append(Disk("d1", path=str(hard), size="8MiB"))
        target.rewrite()
        refused = target.cli("apply", str(target.config_file), status=1)
        self.assertIn("is the same file or device", refused.stderr)
        refused = target.cli("disk", "create", "d2", "--path", str(soft), "--size", "8MiB",
                             status=1)
        self.assertIn("is the same file or device", refused.stderr)
        self.assertEqual([disk["config"]["name"] for disk in target.cli.json("disk", "list")],
                         ["d0"])


class Gone(case.TestCase):
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
        target.start()  # without the disk, then anew with it
        target.disks.append(d1)
        target.rewrite()
        self.assertIn("new identity", target.cli("apply", str(target.config_file)).stdout)
        after = self.identities(target)
        self.assertEqual(after["d0"], before["d0"])
        self.assertNotEqual(after["d1"], before["d1"])
        self.assertEqual(file.stat().st_size, 8 * MIB)

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


class Grow(case.TestCase):
    def thick(self, fs, size):
        return Disk("d0", path=str(fs.mount / "d0.img"), size=size, extra={"thin": False})

    def apply(self, target, size, status):
        target.disks[0].size = size
        target.rewrite()
        return target.cli("apply", str(target.config_file), status=status)

    def test_a_grow_that_fails_leaves_a_file_that_the_old_configuration_serves(self):
        fs = self.slowfs()
        target = self.target(disks=[self.thick(fs, "8MiB")])
        for op, error in (("fallocate", "ENOSPC"), ("fsync", "EIO")):
            with self.subTest(op=op):
                fs.add("bad", op=op, error=error)
                self.apply(target, "16MiB", status=1)
                fs.clear()
                self.assertEqual((fs.backing / "d0.img").stat().st_size, 8 * MIB)
        self.assertEqual(target.cli.json("disk", "list")[0]["size_bytes"], 8 * MIB)
        target.disks[0].size = "8MiB"
        target.rewrite()
        target.stop()
        target.start()
        self.assertEqual(target.cli.json("disk", "list")[0]["size_bytes"], 8 * MIB)

    def test_a_file_too_small_on_a_full_file_system_is_served_as_it_is(self):
        """As after a kill in the middle of a grow: what was stored must not become unreachable."""
        fs = self.slowfs()
        target = self.target(disks=[self.thick(fs, "8MiB")])
        target.disks[0].size = "16MiB"
        target.rewrite()
        fs.add("full", op="fallocate", error="ENOSPC")
        target.stop()
        target.start()
        self.assertEqual(target.cli.json("disk", "list")[0]["size_bytes"], 8 * MIB)
        self.assertIn("too full to grow it", target.log())
        refused = target.cli("apply", str(target.config_file), status=1)
        self.assertIn("too full", refused.stderr)
        fs.clear()
        target.cli("apply", str(target.config_file))
        self.assertEqual(target.cli.json("disk", "list")[0]["size_bytes"], 16 * MIB)


if __name__ == "__main__":
    case.main()
