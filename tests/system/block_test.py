"""A block device as a disk (kind = "block"): a loop device over a file. Opening, locking, I/O,
growing, UNMAP down to the file below.
"""

import os
import struct

from holdfast import case, iscsi, paths, scsi
from holdfast.process import run
from holdfast.target import TARGET_NAME, Disk

MIB = 1 << 20
SIZE = 64 * MIB
BLOCK = 512
CAPACITY_CHANGED = (0x2A, 0x09)


class BlockDevice(case.TestCase):
    def setUp(self):
        super().setUp()
        self.below = self.scratch / "below.img"
        self.below.write_bytes(b"")
        os.truncate(self.below, SIZE)
        self.losetup = paths.tool("losetup")
        found = run([self.losetup, "--find", "--show", "--direct-io=off", str(self.below)])
        self.device = found.stdout.strip()
        self.addCleanup(run, [self.losetup, "--detach", self.device])

    def daemon(self, **options):
        return self.target(disks=[Disk("d0", kind="block", path=self.device)], **options)

    def open(self, daemon) -> iscsi.Session:
        session = iscsi.Session.open(daemon.portal(), TARGET_NAME)
        self.addCleanup(session.close)
        session.ready()
        return session

    def blocks(self, session) -> int:
        data = session.good(scsi.read_capacity16(), read_length=32)
        last, size = struct.unpack_from(">QI", data)
        self.assertEqual(size, BLOCK)
        return last + 1

    def file_bytes(self, offset, length) -> bytes:
        run([paths.tool("blockdev"), "--flushbufs", self.device])
        with open(self.below, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def test_it_has_the_devices_size_and_its_data(self):
        session = self.open(self.daemon())
        self.assertEqual(self.blocks(session), SIZE // BLOCK)
        data = bytes(range(256)) * 4096  # 1 MiB
        session.write(2048, data)
        self.assertEqual(session.read(2048, 2048), data)
        session.write(SIZE // BLOCK - 1, b"\x77" * BLOCK)
        beyond = session.command(scsi.read16(SIZE // BLOCK, 1), read_length=BLOCK)
        self.assertEqual((beyond.sense.key, *beyond.sense.asc_ascq), (5, 0x21, 0x00))
        session.good(scsi.synchronize_cache10())
        self.assertEqual(self.file_bytes(MIB, MIB), data)
        self.assertEqual(self.file_bytes(SIZE - BLOCK, BLOCK), b"\x77" * BLOCK)

    def test_data_outlives_kill(self):
        daemon = self.daemon()
        session = self.open(daemon)
        session.write(64, b"\x5a" * 4096, fua=True)
        daemon.kill()
        daemon.start()
        self.assertEqual(self.open(daemon).read(64, 8), b"\x5a" * 4096)

    def test_it_is_locked(self):
        daemon = self.daemon()
        self.open(daemon).write(0, b"\x11" * 4096)
        with self.assertRaises(OSError):  # as mount, mkfs and others claim it
            os.close(os.open(self.device, os.O_RDWR | os.O_EXCL))
        second = self.target(start=False, disks=[Disk("d0", kind="block", path=self.device)])
        second.launch()
        self.wait_until(lambda: not second.running() or "in use" in second.log() or
                        "locked" in second.log(), "it says that the device is taken")
        if second.running():
            response = self.try_read(second)
            self.assertFalse(response is not None and response.good, "two daemons serve one device")
        second.kill()
        self.open(daemon).write(0, b"\x22" * 4096)

    def try_read(self, daemon):
        try:
            with iscsi.Session.open(daemon.portal(), TARGET_NAME, login_deadline=3) as session:
                session.command(scsi.test_unit_ready())  # takes the attention
                return session.command(scsi.read10(0, 1), read_length=BLOCK)
        except (OSError, AssertionError, iscsi.Closed, iscsi.LoginFailed):
            return None

    def test_a_device_that_is_in_use_is_refused(self):
        claim = os.open(self.device, os.O_RDWR | os.O_EXCL)
        self.addCleanup(os.close, claim)
        daemon = self.daemon(start=False)
        daemon.launch()
        self.wait_until(lambda: "in use" in daemon.log() or "locked" in daemon.log(), "it says so")
        daemon.kill()

    def test_it_grows_with_its_device(self):
        daemon = self.daemon()
        sessions = [self.open(daemon)]
        refused = daemon.cli("disk", "resize", "d0", "96MiB", status=1)
        self.assertIn("the block device itself is smaller", refused.stderr)
        self.assertEqual(sessions[0].ready(), [])
        os.truncate(self.below, 96 * MIB)
        run([self.losetup, "--set-capacity", self.device])
        said = daemon.cli("disk", "resize", "d0", "96MiB").stdout
        self.assertNotIn("configuration file", said, "it has no size there")
        self.assertEqual(sessions[0].ready(), [CAPACITY_CHANGED])
        self.assertEqual(self.blocks(sessions[0]), 96 * MIB // BLOCK)
        sessions[0].write(96 * MIB // BLOCK - 8, b"\x41" * 4096)
        # The file says nothing of the size, before and after.
        daemon.cli("apply", str(daemon.config_file))
        self.assertEqual(sessions[0].ready(), [])
        daemon.stop()
        daemon.start()
        session = self.open(daemon)
        self.assertEqual(self.blocks(session), 96 * MIB // BLOCK)
        self.assertEqual(session.read(96 * MIB // BLOCK - 8, 8), b"\x41" * 4096)

    def test_unmap_frees_what_is_below(self):
        daemon = self.daemon()
        session = self.open(daemon)
        limits = session.good(scsi.inquiry(0xB2), read_length=255)
        self.assertTrue(limits[5] & 0x80, "LBPU: UNMAP is offered")
        session.write(0, b"\x99" * (8 * MIB // 32), fua=True)
        for number in range(32):
            session.write(number * 512, b"\x99" * (MIB // 4), fua=True)
        before = self.allocated()
        self.assertGreaterEqual(before, 8 * MIB)
        cdb, parameters = scsi.unmap([(2048, 12 * 1024)])  # 1 MiB to 7 MiB
        session.good(cdb, data_out=parameters)
        self.assertEqual(session.read(2048, 512), bytes(MIB // 4))
        self.assertEqual(session.read(2048 + 12 * 1024 - 512, 512), bytes(MIB // 4))
        for kept in (2047, 2048 + 12 * 1024):
            self.assertEqual(session.read(kept, 1), b"\x99" * BLOCK)
        self.wait_until(lambda: self.allocated() <= before - 5 * MIB, "the space is given back", 5)
        session.good(scsi.write_same16(0, 2048), data_out=bytes(BLOCK))
        self.assertEqual(session.read(0, 512), bytes(MIB // 4))

    def allocated(self) -> int:
        return os.stat(self.below).st_blocks * 512

    def test_without_thin_there_is_no_unmap(self):
        daemon = self.target(disks=[Disk("d0", kind="block", path=self.device,
                                         extra={"thin": False})])
        session = self.open(daemon)
        cdb, parameters = scsi.unmap([(0, 8)])
        response = session.command(cdb, data_out=parameters)
        self.assertEqual((response.sense.key, response.sense.asc), (5, 0x20), response)

    def test_sectors_larger_than_the_blocks_are_refused(self):
        run([self.losetup, "--sector-size", "4096", self.device])
        daemon = self.daemon(start=False)
        daemon.launch()
        self.wait_until(lambda: "set block_size = 4096" in daemon.log(), "it says what to do")
        daemon.kill()
        daemon.disks[0].extra = {"block_size": 4096}
        daemon.rewrite()
        daemon.start()
        session = self.open(daemon)
        session.write(1, b"\x12" * 4096, block_size=4096)
        self.assertEqual(session.read(1, 1, block_size=4096), b"\x12" * 4096)


if __name__ == "__main__":
    case.main()
