#!/usr/bin/env python3
"""sg3-utils as clients, through the LD_PRELOAD shim tests/support/sg_preload.c."""

import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from holdfast import case, paths
from holdfast.process import run
from holdfast.target import Disk

# Exit statuses of sg3-utils.
ILLEGAL_REQUEST, UNIT_ATTENTION, MISCOMPARE, RESERVATION_CONFLICT = 5, 6, 14, 24
DATA_PROTECT, LBA_OUT_OF_RANGE = 7, 22
PR_TYPES = (1, 3, 5, 6, 7, 8)


class Sg3Utils(case.TestCase):
    def setUp(self):
        super().setUp()
        self.node = self.target(disks=[
            Disk("thin", size="64MiB"),
            Disk("thick", size="16MiB", extra={"thin": False}),
            Disk("readonly", size="16MiB", extra={"read_only": True}),
            Disk("large", size="16MiB", extra={"block_size": 4096}),
        ])

    def sg(self, *command, disk="thin", path=0, isid=1, status=0, keep_attentions=False):
        """Runs a tool against a disk as the initiator port `isid`; asserts its exit status."""
        environment = dict(os.environ, LD_PRELOAD=paths.program("sg_preload.so"),
                           SG_ISCSI_ISID=str(isid))
        if keep_attentions:
            environment["SG_ISCSI_KEEP_UNIT_ATTENTIONS"] = "1"
        done = run([*command, self.node.url(disk, path)], check=False, env=environment)
        self.assertEqual(done.returncode, status,
                         f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def persist(self, *words, **options):
        return self.sg("sg_persist", "--no-inquiry", *words, **options)

    def keys(self, **options):
        return [int(key, 16) for key in re.findall(r"^\s+(0x[0-9a-f]+)$",
                                                   self.persist("--read-keys", **options), re.M)]

    def test_inquiry_and_identity(self):
        self.assertRegex(self.sg("sg_inq"), r"PDT=0\b.*version=0x06")
        self.assertIn("RMB=0", self.sg("sg_inq"))
        serials = {path: self.sg("sg_vpd", "--page=0x80", path=path) for path in (0, 1)}
        self.assertEqual(serials[0], serials[1])
        self.assertRegex(serials[0], r"Unit serial number: \S{8,}")
        self.assertNotEqual(serials[0], self.sg("sg_vpd", "--page=0x80", disk="thick"))
        pages = self.sg("sg_vpd", "--page=sv")
        for page in ("sv", "sn", "di", "ei", "bl", "bdc", "lbpv"):
            self.assertIn(f"[{page}]", pages)
            self.sg("sg_vpd", f"--page={page}")
        identity = self.sg("sg_vpd", "--page=0x83")
        self.assertRegex(identity, r"NAA")
        self.assertRegex(identity, r"Relative target port")
        self.assertRegex(identity, r"Target port group")
        self.sg("sg_vpd", "--page=0xb9", "--force", status=ILLEGAL_REQUEST)

    def test_capacity(self):
        self.assertIn("Device size: 67108864 bytes", self.sg("sg_readcap", "--16"))
        self.assertIn("lbpme=1, lbprz=1", self.sg("sg_readcap", "--16"))
        self.assertIn("lbpme=0", self.sg("sg_readcap", "--16", disk="thick"))
        self.assertIn("Logical block length=4096", self.sg("sg_readcap", "--16", disk="large"))
        self.assertIn("Device size: 67108864 bytes", self.sg("sg_readcap"))

    def test_first_command_of_a_session_gets_the_unit_attention(self):
        self.assertIn("Unit Attention", self.sg("sg_turs", "-v", keep_attentions=True,
                                                status=UNIT_ATTENTION))
        self.sg("sg_turs")
        self.assertIn("Lun list length", self.sg("sg_luns", keep_attentions=True))

    def test_mode_pages(self):
        caching = self.sg("sg_modes", "--page=8")
        self.assertIn("Caching", caching)
        for page in (0x0A, 0x08, 0x1C, 0x01):
            self.sg("sg_modes", f"--page={page}")
        self.sg("sg_modes", "--page=0x14", status=ILLEGAL_REQUEST)
        self.assertIn("WP=1", self.sg("sg_modes", disk="readonly"))
        self.assertIn("WP=0", self.sg("sg_modes"))

    def test_supported_opcodes(self):
        text = self.sg("sg_opcodes")
        for name in ("Compare and write", "Unmap", "Persistent reserve out", "Write same(16)",
                     "Synchronize cache(10)", "Get LBA status", "Report target port groups"):
            self.assertIn(name.lower(), text.lower())
        self.assertIn("Abort task", self.sg("sg_opcodes", "--tmf"))

    def test_report_target_port_groups(self):
        first, second = (self.sg("sg_rtpg", "--decode", path=path) for path in (0, 1))
        self.assertEqual(first, second)
        self.assertRegex(first, r"active/optimized")

    def test_unmap_and_write_same(self):
        data = self.scratch / "data"
        data.write_bytes(os.urandom(512))
        self.sg("sg_write_same", "--16", "--lba=0", "--num=4096", f"--in={data}")
        mapped = self.sg("sg_get_lba_status", "--lba=0")
        self.assertIn("mapped", mapped)
        self.assertNotIn("deallocated", mapped.split("\n")[2])
        self.assertEqual(self.read_blocks(0, 4096), data.read_bytes() * 4096)
        self.sg("sg_unmap", "--force", "--lba=1024", "--num=2048")
        self.assertIn("deallocated", self.sg("sg_get_lba_status", "--lba=1024"))
        expected = data.read_bytes() * 1024 + bytes(2048 * 512) + data.read_bytes() * 1024
        self.assertEqual(self.read_blocks(0, 4096), expected)
        self.sg("sg_unmap", "--force", "--lba=131072", "--num=1", status=LBA_OUT_OF_RANGE)
        self.sg("sg_unmap", "--force", "--lba=0", "--num=8", disk="readonly", status=DATA_PROTECT)

    def read_blocks(self, lba, blocks):
        out = self.scratch / "out"
        run(["qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=512", f"skip={lba}",
             f"count={lba + blocks}", f"if={self.node.url('thin')}", f"of={out}"])
        return out.read_bytes()

    def test_compare_and_write(self):
        zeroes, ones, twos = bytes(512), b"\x01" * 512, b"\x02" * 512
        data = self.scratch / "data"
        data.write_bytes(zeroes + ones)
        self.sg("sg_compare_and_write", "--lba=7", f"--in={data}", "--xferlen=1024")
        self.assertEqual(self.read_blocks(7, 1), ones)
        data.write_bytes(zeroes + twos)
        self.sg("sg_compare_and_write", "--lba=7", f"--in={data}", "--xferlen=1024",
                status=MISCOMPARE)
        self.assertEqual(self.read_blocks(7, 1), ones)

    def test_synchronize_cache_and_verify(self):
        self.sg("sg_sync")
        self.sg("sg_verify", "--lba=0", "--count=64")
        self.sg("sg_requests")
        self.sg("sg_start", "--start")

    def test_reservation_types(self):
        for kind in PR_TYPES:
            with self.subTest(type=kind):
                self.persist("--out", "--register", "--param-sark=0xa1")
                self.persist("--out", "--reserve", "--param-rk=0xa1", f"--prout-type={kind}")
                self.assertIn("scope: LU_SCOPE", self.persist("--read-reservation"))
                self.persist("--out", "--reserve", "--param-rk=0xa1", f"--prout-type={kind}")
                self.persist("--out", "--reserve", "--param-rk=0xbad", f"--prout-type={kind}",
                             status=RESERVATION_CONFLICT)
                self.persist("--out", "--release", "--param-rk=0xa1", f"--prout-type={kind}")
                self.assertIn("NO reservation held", self.persist("--read-reservation"))
                self.persist("--out", "--clear", "--param-rk=0xa1")
                self.assertEqual(self.keys(), [])

    def test_registrations_belong_to_a_nexus(self):
        self.persist("--out", "--register", "--param-sark=0xa1", isid=1)
        self.persist("--out", "--register", "--param-sark=0xb2", isid=2)
        self.assertEqual(sorted(self.keys(isid=3)), [0xA1, 0xB2])
        self.persist("--out", "--reserve", "--param-rk=0xa1", "--prout-type=1", isid=1)
        self.sg("sg_write_same", "--16", "--lba=0", "--num=8", "--in=/dev/zero", isid=2,
                status=RESERVATION_CONFLICT)
        self.sg("sg_write_same", "--16", "--lba=0", "--num=8", "--in=/dev/zero", isid=1)
        self.persist("--out", "--preempt", "--param-rk=0xb2", "--param-sark=0xa1",
                     "--prout-type=1", isid=2)
        self.assertEqual(self.keys(), [0xB2])
        self.sg("sg_write_same", "--16", "--lba=0", "--num=8", "--in=/dev/zero", isid=1,
                status=RESERVATION_CONFLICT)
        full = self.persist("--read-full-status")
        self.assertIn("Key=0xb2", full)
        self.assertIn("<< Reservation holder >>", full)

    def test_preempt_and_abort(self):
        self.persist("--out", "--register", "--param-sark=0xa1", isid=1)
        self.persist("--out", "--register", "--param-sark=0xb2", isid=2)
        self.persist("--out", "--preempt-abort", "--param-rk=0xb2", "--param-sark=0xa1",
                     "--prout-type=5", isid=2)
        self.assertEqual(self.keys(), [0xB2])

    def test_capabilities(self):
        text = self.persist("--report-capabilities")
        for flag in ("(PTPL_C): 1", "(ATP_C): 1", "(TMV): 1"):
            self.assertIn(flag, text)

    def test_reservation_survives_kill_with_aptpl(self):
        self.persist("--out", "--register", "--param-sark=0xa1", "--param-aptpl")
        self.persist("--out", "--reserve", "--param-rk=0xa1", "--prout-type=5")
        self.node.kill()
        self.node.start()
        self.assertEqual(self.keys(), [0xA1])
        self.assertIn("Write Exclusive, registrants only", self.persist("--read-reservation"))

    def test_reservation_without_aptpl_is_gone_after_restart(self):
        self.persist("--out", "--register", "--param-sark=0xa1")
        self.node.stop()
        self.node.start()
        self.assertEqual(self.keys(), [])


if __name__ == "__main__":
    case.main()
