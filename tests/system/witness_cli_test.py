"""`holdfast quorum witness`: on files, on loop devices with both sizes of sectors, on devices in
use, on devices that do not answer.
"""

import json
import os
import struct
import subprocess
import time
import zlib

from holdfast import case, paths
from holdfast.process import run
from holdfast.target import Disk, slowness

MIB = 1 << 20
SIZE = 64 * MIB
LIMIT_S = 2.0  # a device that is silent for so long is given up
BALLOTS, SLOT = 0x90000, 0x1000
RECORDS_END = 0x150000


def write_gpt(path):
    """An empty partition table and its copy at the end."""
    entries, last = bytes(128 * 128), SIZE // 512 - 1
    with open(path, "r+b") as file:
        for own, other, table in ((1, last, 2), (last, 1, last - 32)):
            fields = (b"EFI PART", 0x10000, 92, 0, 0, own, other, 34, last - 33, b"\x11" * 16,
                      table, 128, 128, zlib.crc32(entries))
            header = struct.pack("<8s4I4Q16sQ3I", *fields)
            crc = struct.pack("<I", zlib.crc32(header))
            file.seek(own * 512)
            file.write(header[:16] + crc + header[20:])
            file.seek(table * 512)
            file.write(entries)
        file.seek(446)  # the protective entry of an MBR
        file.write(struct.pack("<8B2I", 0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1, last))
        file.seek(510)
        file.write(b"\x55\xaa")


class WitnessCli(case.TestCase):
    def ask(self, *words, limit_s=10.0):
        """Exit status and report."""
        began = time.monotonic()
        done = run([paths.program("holdfast"), "quorum", "witness", *words, "--json"], check=False)
        self.assertLess(time.monotonic() - began, limit_s * slowness(), words)
        self.assertEqual(done.stderr, "")
        return done.returncode, json.loads(done.stdout)

    def format(self, device, *words):
        return self.ask("format", str(device), "--cluster", "store", *words)

    def show(self, device):
        return self.ask("show", str(device), limit_s=LIMIT_S)

    def file(self, name="witness.img", size=SIZE):
        path = self.scratch / name
        path.touch()
        os.truncate(path, size)
        return path

    def loop(self, path, sector=512):
        losetup = paths.tool("losetup")
        found = run([losetup, "--find", "--show", "--sector-size", str(sector), str(path)])
        device = found.stdout.strip()
        self.addCleanup(run, [losetup, "--detach", device], check=False)
        return device

    def assert_witness(self, device, sector):
        status, made = self.format(device)
        self.assertEqual(status, 0, made)
        status, shown = self.show(device)
        self.assertEqual(status, 0, shown)
        self.assertEqual(shown["superblock"], made["superblock"])
        self.assertEqual(shown["superblock"]["cluster_name"], "store")
        self.assertEqual(shown["sector_bytes"], sector)
        self.assertEqual([each["condition"] for each in shown["superblocks"]], ["valid"] * 2)
        self.assertEqual((shown["warnings"], shown["corrupt"]), ([], []))
        # It is not made twice.
        status, refused = self.format(device)
        self.assertEqual(status, 1)
        self.assertIn(made["superblock"]["witness"], refused["problems"][0])
        self.assertEqual(self.show(device)[1]["superblock"], made["superblock"])

    def test_a_file(self):
        self.assert_witness(self.file(), 512)

    def test_a_device_with_sectors_of_512_bytes(self):
        self.assert_witness(self.loop(self.file()), 512)

    def test_a_device_with_sectors_of_4096_bytes(self):
        path = self.file()
        self.assert_witness(self.loop(path, 4096), 4096)
        # The places are the same whatever the sectors: here it has others.
        status, shown = self.show(path)
        self.assertEqual(status, 0)
        self.assertIn("sectors of 4096", shown["warnings"][0])

    def test_damage_is_shown(self):
        path = self.file()
        self.format(path)
        with open(path, "r+b") as file:
            file.seek(BALLOTS + 3 * SLOT)
            file.write(b"\x07" * 512)
        status, shown = self.show(path)
        self.assertEqual(status, 1)
        self.assertEqual([(each["offset"], each["record"]) for each in shown["corrupt"]],
                         [(BALLOTS + 3 * SLOT, "ballot block of node 3")])
        self.assertEqual(shown["condition"], "valid")
        with open(path, "r+b") as file:
            file.write(os.urandom(RECORDS_END))
        status, shown = self.show(path)
        self.assertEqual((status, shown["condition"]), (1, "corrupt"))
        text = run([paths.program("holdfast"), "quorum", "witness", "show", path], check=False)
        self.assertIn("no record of a witness", text.stdout)

    def test_what_is_there_is_named_and_kept(self):
        path = self.file()
        run(["mkfs.ext4", "-q", "-L", "precious", path])
        before = path.read_bytes()
        for device in (path, self.loop(path)):
            status, report = self.format(device)
            self.assertEqual(status, 1)
            self.assertIn("file system ext4, label `precious`", report["problems"][0])
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual(self.format(path, "--force")[0], 0)
        self.assertEqual(run(["blkid", "-p", path], check=False).stdout, "")

    def test_a_partition_table_and_its_copy_are_gone_afterwards(self):
        path = self.file()
        write_gpt(path)
        device = self.loop(path)
        status, report = self.format(device)
        self.assertEqual(status, 1)
        self.assertIn("partition table gpt", " ".join(report["problems"]))
        self.assertEqual(self.format(device, "--force")[0], 0)
        self.assertEqual(run(["blkid", "-p", device], check=False).stdout, "")
        self.assertEqual(path.read_bytes()[-65536:], bytes(65536))

    def test_a_device_in_use_is_refused_also_by_force(self):
        path = self.file()
        run(["mkfs.ext4", "-q", path])
        device = self.loop(path)
        mount = self.scratch / "mount"
        mount.mkdir()
        run(["mount", device, mount])
        self.addCleanup(run, ["umount", mount])
        status, report = self.format(device, "--force")
        self.assertEqual(status, 1)
        self.assertIn("in use", report["problems"][0])

    def test_the_disk_of_a_running_target_is_refused_and_can_be_looked_at(self):
        path = self.file()
        self.format(path)
        self.target(disks=[Disk("witness", path=str(path), size="64MiB")])
        status, report = self.format(path, "--force")
        self.assertEqual(status, 1)
        self.assertIn("in use", report["problems"][0])
        self.assertEqual(self.show(path)[0], 0)

    def test_a_device_that_does_not_answer(self):
        fs = self.slowfs()
        path = fs.mount / "witness.img"
        path.touch()
        os.truncate(path, SIZE)
        self.assertEqual(self.format(path)[0], 0)
        for what, words in (("read", ("show", str(path))),
                            ("write", ("format", str(path), "--cluster", "b", "--force")),
                            ("fsync", ("format", str(path), "--cluster", "b", "--force"))):
            with self.subTest(what=what):
                fs.add("h", op=what, hang=True)
                status, report = self.ask(*words, limit_s=LIMIT_S + 0.9)
                self.assertEqual(status, 1)
                self.assertIn("does not answer within 2s", report["problems"][0])
                fs.clear()
                # What was left behind ends, and lets go of the device.
                self.wait_until(lambda: self.locks(path) == 0, "the lock is free")
        self.assertEqual(self.format(path, "--force")[0], 0)

    def test_a_slow_device_is_waited_for(self):
        fs = self.slowfs()
        path = fs.mount / "witness.img"
        path.touch()
        os.truncate(path, SIZE)
        fs.add("s", op="write", delay_ms=500)
        began = time.monotonic()
        self.assertEqual(self.format(path)[0], 0)
        self.assertGreater(time.monotonic() - began, LIMIT_S)

    @staticmethod
    def locks(path) -> int:
        """Whether somebody has it open for writing: 0 or 1."""
        taken = subprocess.run(["flock", "--nonblock", "--exclusive", path, "true"], check=False)
        return taken.returncode


if __name__ == "__main__":
    case.main()
