#!/usr/bin/env python3
"""QEMU's tools as clients (block driver `iscsi`, on libiscsi): qemu-img and qemu-io."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from holdfast import case
from holdfast.process import run
from holdfast.target import Disk, Initiator, TargetName

MIB = 1 << 20
CHAP_TARGET = "iqn.2026-11.org.holdfast:with-chap"
ACCOUNT = ("qemu", "twelve or more")


class Qemu(case.TestCase):
    def setUp(self):
        super().setUp()
        self.node = self.target(
            disks=[Disk("plain"), Disk("thick", extra={"thin": False}),
                   Disk("large", extra={"block_size": 4096}), Disk("guarded")],
            targets=[TargetName(luns={0: "plain", 1: "thick", 2: "large"}),
                     TargetName(CHAP_TARGET, {0: "guarded"}, [Initiator(chap=ACCOUNT)])])

    def options(self, disk, path=0, digest=None, account=None):
        """--image-opts text: the URL syntax has no place for the digest."""
        names = {"plain": 0, "thick": 1, "large": 2, "guarded": 0}
        address, port = self.node.portal(path)
        name = CHAP_TARGET if disk == "guarded" else self.node.targets[0].name
        words = ["driver=iscsi", "transport=tcp", f"portal={address}:{port}", f"target={name}",
                 f"lun={names[disk]}", "initiator-name=iqn.2026-11.org.holdfast:qemu"]
        if digest:
            words.append(f"header-digest={digest}")
        if account:
            secret = self.scratch / "secret"
            secret.write_text(account[1])
            words += [f"user={account[0]}", "password-secret=s0"]
        return ",".join(words)

    def qemu_io(self, options, *commands, secret=False, check=True):
        objects = ["--object", f"secret,id=s0,file={self.scratch / 'secret'}"] if secret else []
        # qemu-io ends with 0 after a failed command: what it prints says whether it went well.
        words = [word for command in commands for word in ("-c", command)]
        done = run(["qemu-io", *objects, "--image-opts", *words,
                    "driver=raw,file." + options.replace(",", ",file.")], check=False)
        text = done.stdout + done.stderr
        bad = any(sign in text for sign in ("failed", "rror", "mismatch")) or done.returncode != 0
        if check and bad:
            self.fail(f"qemu-io {commands}:\n{text}")
        return text if check else (bad, text)

    def image(self, size=32 * MIB):
        """A file with data and holes, in a pattern that differs everywhere."""
        path = self.scratch / "image"
        with open(path, "wb") as out:
            for offset in range(0, size, 2 * MIB):
                out.seek(offset)
                out.write(os.urandom(MIB))
            out.truncate(size)
        return path

    def test_convert_and_compare(self):
        image = self.image()
        for disk in ("plain", "thick", "large"):
            with self.subTest(disk=disk):
                first, second = self.node.url(disk, 0), self.node.url(disk, 1)
                run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, first])
                self.assertIn("identical", run(["qemu-img", "compare", "-f", "raw", "-F", "raw",
                                                image, second]).stdout)

    def test_discarded_ranges_are_reported_as_zero(self):
        url = self.node.url("plain")
        run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", self.image(), url])
        before = self.node.disk_path("plain").stat().st_blocks
        self.qemu_io(self.options("plain"), "discard 0 64M", "read -P 0 0 64M")
        self.assertLess(self.node.disk_path("plain").stat().st_blocks, before / 4)

    def test_convert_to_qcow2_and_back(self):
        image, packed, url = self.image(8 * MIB), self.scratch / "packed", self.node.url("plain")
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, packed])
        run(["qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", packed, url])
        self.assertIn("identical", run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", packed,
                                        url]).stdout)

    def test_qcow2_inside_a_logical_unit(self):
        url = self.node.url("plain")
        run(["qemu-img", "create", "-f", "qcow2", url, "16M"])
        self.assertIn("qcow2", run(["qemu-img", "info", url]).stdout)
        run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 2M", url])
        read = run(["qemu-io", "-f", "qcow2", "-c", "read -P 7 1M 2M", url])
        self.assertNotIn("failed", read.stdout)
        run(["qemu-img", "check", "-f", "qcow2", url])

    def test_patterns_of_all_sizes(self):
        writes, reads = [], []
        offset = 0
        for number, size in enumerate([512, 4096, 8192 + 512, 65536, 262144 - 512, MIB, 3 * MIB]):
            writes.append(f"write -P {number + 1} {offset} {size}")
            reads.append(f"read -P {number + 1} {offset} {size}")
            offset += size
        self.qemu_io(self.options("plain", 0), *writes, "flush")
        self.qemu_io(self.options("plain", 1), *reads)

    def test_pattern_mismatch_is_seen(self):
        self.qemu_io(self.options("plain"), "write -P 1 0 4096")
        bad, text = self.qemu_io(self.options("plain"), "read -P 2 0 4096", check=False)
        self.assertTrue(bad, text)

    def test_write_zeroes_and_discard(self):
        self.qemu_io(self.options("plain"), "write -P 9 0 4M", "write -z 1M 1M",
                     "write -z -u 2M 1M", "read -P 9 0 1M", "read -P 0 1M 2M", "read -P 9 3M 1M")

    def test_fua(self):
        self.qemu_io(self.options("plain"), "write -f -P 5 0 64k", "read -P 5 0 64k")

    def test_many_requests_in_flight(self):
        commands = [f"aio_write -P {n % 250 + 1} {n * 64}k 64k" for n in range(128)]
        checks = [f"read -P {n % 250 + 1} {n * 64}k 64k" for n in range(128)]
        self.qemu_io(self.options("plain"), *commands, "aio_flush", *checks)

    def test_header_digest(self):
        for digest in ("crc32c", "none", "crc32c-none", "none-crc32c"):
            with self.subTest(digest=digest):
                self.qemu_io(self.options("plain", digest=digest), "write -P 3 0 1M",
                             "read -P 3 0 1M")

    def test_chap(self):
        self.qemu_io(self.options("guarded", account=ACCOUNT), "write -P 4 0 1M", "read -P 4 0 1M",
                     secret=True)

    def test_chap_with_a_wrong_secret(self):
        wrong = (ACCOUNT[0], "not the right one")
        bad, text = self.qemu_io(self.options("guarded", account=wrong), "read 0 512", secret=True,
                                 check=False)
        self.assertTrue(bad, text)

    def test_chap_required_but_not_offered(self):
        bad, text = self.qemu_io(self.options("guarded"), "read 0 512", check=False)
        self.assertTrue(bad, text)

    def test_beyond_the_end(self):
        bad, text = self.qemu_io(self.options("plain"), "read 64M 512", check=False)
        self.assertTrue(bad, text)


if __name__ == "__main__":
    case.main()
