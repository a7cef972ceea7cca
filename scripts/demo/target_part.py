"""The iSCSI target: a witness disk and a volume disk on two portals, real clients, kill -9."""

import os
import re
import time

from holdfast import iscsi, paths, scsi
from holdfast.process import run
from holdfast.target import Disk, Initiator, Target, TargetName

STORE = "iqn.2026-11.org.holdfast:store"
HOST_A, HOST_B = "iqn.2026-11.org.holdfast:hv1", "iqn.2026-11.org.holdfast:hv2"
KEY_A, KEY_B = "0xa1", "0xb2"
WRITE_EXCLUSIVE_REGISTRANTS = 5
RESERVATION_CONFLICT = 24  # exit status of sg3-utils
MIB = 1 << 20
IMAGE_BYTES = 256 * MIB
BLOCK = 4096
STREAM_OFFSET = 512 * MIB  # the verified stream writes here, beyond the image
STREAM_BLOCKS = 4096


def steps(show):
    part = TargetPart(show)
    part.start()
    part.discover()
    part.copy_and_compare()
    part.performance()
    part.reserve()
    part.kill_in_the_middle()
    part.after_restart()
    part.status()
    part.stop()


class TargetPart:
    def __init__(self, show):
        self.show = show
        self.image = show.directory / "image"
        self.target = Target(
            show.directory / "target",
            disks=[Disk("witness", size="64MiB", extra={"thin": False}),
                   Disk("csv1", size="1GiB", extra={"thin": True})],
            targets=[TargetName(STORE, initiators=[Initiator("*")])], outlives_us=show.keep)

    def start(self):
        self.show.title("A target with a witness disk and a volume disk, on two portals")
        self.show.say(self.target.config_file.read_text())
        with self.show.check("target is ready") as check:
            self.show.cleanup(self.target.kill)
            self.target.start()
            check.saw = " and ".join(f"{a}:{p}" for a, p in map(self.target.portal, (0, 1)))

    def discover(self):
        self.show.title("Discovery through both portals")
        with self.show.check("both portals show the same disks") as check:
            seen = []
            for path in (0, 1):
                address, port = self.target.portal(path)
                words = ["iscsi-ls", "-s", f"iscsi://{address}:{port}"]
                self.show.command(words)
                listing = run(words).stdout
                self.show.say(listing)
                assert STORE in listing, "the target is not listed"
                words = ["iscsi-inq", "-e", "1", "-c", "128", self.target.url("csv1", path)]
                seen.append(re.search(r"Unit Serial Number:\[\s*(\S+?)\s*\]", run(words).stdout))
            assert seen[0] and seen[1], "no serial number"
            assert seen[0][1] == seen[1][1], f"{seen[0][1]} and {seen[1][1]} differ"
            check.saw = f"serial number {seen[0][1]}"
        with self.show.check("capacity") as check:
            for disk, size in (("witness", 64 * MIB), ("csv1", 1024 * MIB)):
                text = run(["iscsi-readcapacity16", self.target.url(disk)]).stdout
                assert f"Total size:{size}" in text, text
            check.saw = "64 MiB and 1 GiB"

    def copy_and_compare(self):
        self.show.title("QEMU writes an image through one portal and reads it through the other")
        with open(self.image, "wb") as out:
            for offset in range(0, IMAGE_BYTES, 16 * MIB):  # half data, half holes
                out.seek(offset)
                out.write(os.urandom(8 * MIB))
            out.truncate(IMAGE_BYTES)
        with self.show.check("qemu-img convert to the first portal") as check:
            words = ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", self.image,
                     self.target.url("csv1", 0)]
            self.show.command(words)
            began = time.monotonic()
            run(words)
            check.saw = f"{IMAGE_BYTES / 2 / MIB / (time.monotonic() - began):.0f} MiB/s of data"
        with self.show.check("qemu-img compare through the second portal") as check:
            check.saw = self.compare(1)
        with self.show.check("qemu-io verifies patterns of many requests in flight") as check:
            self.patterns()
            check.saw = "64 x 64 KiB written on one portal, verified on the other"

    def compare(self, path) -> str:
        address, port = self.target.portal(path)
        # Only as many bytes as the image has: other steps write beyond them.
        words = ["qemu-img", "compare", "--image-opts", f"driver=raw,file.filename={self.image}",
                 f"driver=raw,size={IMAGE_BYTES},file.driver=iscsi,file.transport=tcp,"
                 f"file.portal={address}:{port},file.target={STORE},file.lun=1"]
        self.show.command(words)
        text = run(words, check=False).stdout
        assert "identical" in text, text
        return text.strip().splitlines()[-1]

    def patterns(self):
        base = IMAGE_BYTES + 16 * MIB
        writes = [word for n in range(64)
                  for word in ("-c", f"aio_write -P {n + 1} {base + n * 65536} 64k")]
        reads = [word for n in range(64)
                 for word in ("-c", f"read -P {n + 1} {base + n * 65536} 64k")]
        for path, commands in ((0, [*writes, "-c", "aio_flush", "-c", "flush"]), (1, reads)):
            text = run(["qemu-io", "-f", "raw", *commands, self.target.url("csv1", path)])
            text = text.stdout + text.stderr
            assert "failed" not in text and "error" not in text, text

    def performance(self):
        self.show.title("A few seconds of load (bench/ measures properly)")
        with self.show.check("iscsi-perf: random reads, 4 KiB, 32 in flight") as check:
            words = ["iscsi-perf", "-r", "-m", "32", "-b", "8", "-t", "3",
                     self.target.url("csv1")]
            self.show.command(words)
            done = run(words)
            rates = re.findall(r"iops (?:average )?(\d+)", done.stdout + done.stderr)
            assert rates, f"iscsi-perf printed no rate: {done.stdout[-300:]}"
            check.saw = f"{int(rates[-1]):,} reads a second"

    # --- reservations

    def sg(self, *words, host=HOST_A, path=0, disk="witness", status=0) -> str:
        """A tool of sg3-utils, as one host through one portal."""
        environment = dict(os.environ, LD_PRELOAD=paths.program("sg_preload.so"),
                           SG_ISCSI_INITIATOR=host, SG_ISCSI_ISID=str(path + 1))
        done = run([*words, self.target.url(disk, path)], check=False, env=environment)
        text = done.stdout + done.stderr
        assert done.returncode == status, f"{' '.join(words)}: status {done.returncode}\n{text}"
        return text

    def persist(self, *words, **options) -> str:
        return self.sg("sg_persist", "--no-inquiry", *words, **options)

    def foreign_write(self):
        self.sg("sg_write_same", "--16", "--lba=0", "--num=8", "--in=/dev/zero",
                host="iqn.2026-11.org.holdfast:stranger", status=RESERVATION_CONFLICT)

    def reserve(self):
        self.show.title("Two hosts register on the witness, one reserves it (APTPL)")
        with self.show.check("hv1 reserves; hv1 and hv2 are registered on both paths") as check:
            for host, key in ((HOST_A, KEY_A), (HOST_B, KEY_B)):
                for path in (0, 1):
                    self.persist("--out", "--register", f"--param-sark={key}", "--param-aptpl",
                                 host=host, path=path)
            self.persist("--out", "--reserve", f"--param-rk={KEY_A}",
                         f"--prout-type={WRITE_EXCLUSIVE_REGISTRANTS}")
            check.saw = self.reservation_seen()
        with self.show.check("a host that is not registered may not write"):
            self.foreign_write()

    def reservation_seen(self) -> str:
        """Asserts keys and holder through both portals."""
        for path in (0, 1):
            keys = re.findall(r"^\s+(0x[0-9a-f]+)$", self.persist("--read-keys", path=path), re.M)
            assert sorted(keys) == [KEY_A] * 2 + [KEY_B] * 2, f"keys {keys}"
            held = self.persist("--read-reservation", path=path)
            assert "Write Exclusive, registrants only" in held, held
            assert f"Key={KEY_A}" in held.replace(" ", ""), held
        self.show.say(self.persist("--read-full-status"))
        return f"keys {KEY_A}, {KEY_B} twice; held: Write Exclusive, Registrants Only"

    # --- kill -9

    def kill_in_the_middle(self):
        self.show.title("A stream of verified writes, and kill -9 of the target in its middle")
        with self.show.check("restart after kill -9: ready again") as check:
            self.acknowledged, unanswered = self.stream_until_killed()
            began = time.monotonic()
            self.target.start()
            took = time.monotonic() - began
            check.saw = (f"{took:.2f} s; {len(self.acknowledged):,} blocks were acknowledged, "
                         f"{unanswered} in flight when it died")

    def stream_until_killed(self):
        """Writes stamped blocks, 16 in flight, until the target is dead. The last acknowledged
        version of each block, and how many writes got no answer."""
        session = iscsi.Session.open(self.target.portal(0), STORE, initiator=HOST_A,
                                     isid=0x800000000042)
        session.ready(lun=1)
        acknowledged, flying, version = {}, {}, 0
        end = time.monotonic() + 3.0
        try:
            while True:
                while len(flying) < 16:
                    version += 1
                    block = version * 7919 % STREAM_BLOCKS
                    if block in flying:
                        break
                    lba = (STREAM_OFFSET + block * BLOCK) // 512
                    flying[block] = (version, session.submit(
                        scsi.write16(lba, BLOCK // 512), lun=1, data_out=stamp(block, version)))
                block = next(iter(flying))
                stamped, task = flying[block]
                assert session.wait(task, 10).good, "a write failed"
                del flying[block]
                acknowledged[block] = stamped
                if end is not None and time.monotonic() > end:
                    end = None
                    self.show.command(["kill", "-9", self.target.pid])
                    self.target.kill()
        except (iscsi.Closed, OSError):
            pass
        finally:
            session.close()
        self.in_flight = {block: version for block, (version, _) in flying.items()}
        return acknowledged, len(flying)

    def after_restart(self):
        self.show.title("After the restart")
        with self.show.check("no acknowledged write is lost") as check:
            check.saw = self.verify_stream()
        with self.show.check("the image is identical through the first portal") as check:
            check.saw = self.compare(0)
        with self.show.check("the image is identical through the second portal") as check:
            check.saw = self.compare(1)
        with self.show.check("registrations and reservation are as before") as check:
            check.saw = self.reservation_seen()
        with self.show.check("the unregistered host still may not write"):
            self.foreign_write()

    def verify_stream(self) -> str:
        session = iscsi.Session.open(self.target.portal(1), STORE, initiator=HOST_B,
                                     isid=0x800000000043)
        session.ready(lun=1)
        newer = 0
        for block, version in self.acknowledged.items():
            data = session.read((STREAM_OFFSET + block * BLOCK) // 512, BLOCK // 512, lun=1)
            if data == stamp(block, version):
                continue
            # A write that was in flight may have landed, whole and newer.
            assert data == stamp(block, self.in_flight.get(block, version)), \
                f"block {block} is not what was acknowledged"
            newer += 1
        session.logout()
        return f"{len(self.acknowledged):,} blocks read back; {newer} newer, from writes in flight"

    # --- the end

    def status(self):
        self.show.title("What the target says of itself")
        with self.show.check("holdfast target status") as check:
            words = ["holdfast", "target", "status", "--socket", self.target.control_socket]
            self.show.command(words)
            self.show.say(self.target.cli("status").stdout)
            self.show.say(self.target.cli("reservation", "list").stdout)
            check.saw = "answers through its control socket"

    def stop(self):
        socket = self.target.control_socket
        if self.show.keep:
            self.show.farewell += [
                f"The target runs: process {self.target.pid}, files in {self.target.directory}",
                f"  {self.target.url('csv1', 0)}",
                f"  {self.target.url('csv1', 1)}",
                f"  {paths.program('holdfast')} target status --socket {socket}",
                f"Stop it:  kill {self.target.pid}"]
            return
        self.show.title("A clean stop")
        with self.show.check("SIGTERM ends it within 5 s"):
            self.target.stop(deadline=5)


def stamp(block, version) -> bytes:
    """A block that says which it is."""
    return (block.to_bytes(8, "big") + version.to_bytes(8, "big")) * (BLOCK // 16)
