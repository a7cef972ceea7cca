"""What holdfast-mpiod does with the data of its NBD clients: durability, holes, growth, several
sessions for each portal, and copies while paths come and go."""

import concurrent.futures
import errno
import json
import os
import random
import stat
import subprocess
import time

from holdfast import case, nbd, paths
from holdfast.mpiod import Device
from holdfast.process import die_with_parent, run
from holdfast.target import Disk, slowness
from holdfast.wire import Wire
from holdfast.writer import Writer

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 4096
NOT_YET_S = 1.5


class DataCase(case.TestCase):
    def all_active(self, mpiod, count=2):
        self.wait_until(lambda: mpiod.states() == ["ACTIVE"] * count, "all paths are active", 20)

    def client(self, mpiod) -> nbd.Client:
        client = nbd.Client(mpiod.nbd("csv1"), "csv1")
        self.addCleanup(client.close)
        return client

    def slow_target(self, size):
        """A target whose disk, in self.fs, is slow or bad on demand."""
        self.fs = self.slowfs()
        target = self.target(disks=[Disk("d0", path=str(self.fs.mount / "d0.img"), size=size)])
        self.addCleanup(self.fs.clear)
        return target

    def wired(self, target, **extra):
        """An mpiod whose paths are self.wires, all active."""
        self.wires = [Wire(target.portal(path)) for path in (0, 1)]
        for wire in self.wires:
            self.addCleanup(wire.close)
        mpiod = self.mpiod(target, devices=[Device(
            portals=[(wire.address, None) for wire in self.wires], extra=extra)])
        self.all_active(mpiod)
        return mpiod

    def in_background(self, function, *arguments) -> concurrent.futures.Future:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        return pool.submit(function, *arguments)

    def fails(self, function, *arguments, number=errno.EIO, **options):
        with self.assertRaises(nbd.Error) as failed:
            function(*arguments, **options)
        self.assertEqual(failed.exception.args, (number,))


class Durability(DataCase):
    """What has to be durable before it is answered is: the target's fsync says whether."""

    def setUp(self):
        super().setUp()
        mpiod = self.mpiod(self.slow_target("8MiB"))
        self.all_active(mpiod)
        self.nbd = self.client(mpiod)

    def fsyncs(self, function, *arguments, **options) -> int:
        before = self.fs.counts()["fsync"]
        function(*arguments, **options)
        return self.fs.counts()["fsync"] - before

    def test_a_flush_reaches_the_disk_and_its_error_the_client(self):
        self.nbd.write(0, b"\x11" * BLOCK)
        self.assertEqual(self.fsyncs(self.nbd.flush), 1)
        self.fs.add("bad", op="fsync", error="EIO")
        self.fails(self.nbd.flush)
        self.fs.clear()
        self.nbd.flush()

    def test_a_write_with_fua_reaches_the_disk_and_its_error_the_client(self):
        data = b"\x22" * 64 * KIB
        self.assertEqual(self.fsyncs(self.nbd.write, 0, data), 0)
        self.assertGreater(self.fsyncs(self.nbd.write, 0, data, fua=True), 0)
        self.fs.add("bad", op="fsync", error="EIO")
        self.nbd.write(MIB, data)
        self.fails(self.nbd.write, MIB, data, fua=True)
        self.fs.clear()
        self.nbd.write(MIB, data, fua=True)
        self.assertEqual(self.nbd.read(MIB, len(data)), data)

    def test_every_part_of_a_large_write_with_fua_is_durable(self):
        data = os.urandom(4 * MIB)
        self.fs.add("bad", op="fsync", error="EIO", count=1)
        self.fails(self.nbd.write, 0, data, fua=True)
        self.nbd.write(0, data, fua=True)
        self.assertEqual(self.nbd.read(0, len(data)), data)

    def test_zeroes_and_holes_with_fua_reach_the_disk_and_their_error_the_client(self):
        self.nbd.write(0, b"\x44" * MIB)
        for change in (self.nbd.write_zeroes, self.nbd.trim):
            with self.subTest(change.__name__):
                self.assertEqual(self.fsyncs(change, 0, 64 * KIB), 0)
                self.assertGreater(self.fsyncs(change, 0, 64 * KIB, fua=True), 0)
                self.fs.add("bad", op="fsync", error="EIO")
                self.fails(change, 64 * KIB, 64 * KIB, fua=True)
                self.fs.clear()


class BlockStatus(DataCase):
    SIZE = 64 * MIB

    def setUp(self):
        super().setUp()
        self.daemon = self.target()
        self.multipath = self.mpiod(self.daemon)
        self.all_active(self.multipath)
        self.url = self.multipath.url("csv1")

    def qemu_io(self, *commands):
        words = [word for command in commands for word in ("-c", command)]
        done = run(["qemu-io", "-f", "raw", *words, self.url])
        self.assertNotRegex(done.stdout + done.stderr, "failed|rror")

    def data_ranges(self) -> list:
        """[(begin, end)] of what the export says is data; all else is holes that read as zeroes."""
        extents = json.loads(run(["nbdinfo", "--map=base:allocation", "--json", self.url]).stdout)
        ranges, at = [], 0
        for extent in extents:
            self.assertEqual(extent["offset"], at)
            at += extent["length"]
            self.assertIn(extent["type"], (0, 3), extent)
            if extent["type"] == 3:
                continue
            if ranges and ranges[-1][1] == extent["offset"]:
                ranges[-1] = (ranges[-1][0], at)
            else:
                ranges.append((extent["offset"], at))
        self.assertEqual(at, self.SIZE)
        return ranges

    def assert_copies(self):
        """nbdcopy, which skips holes, takes what is on the disk."""
        copy = self.scratch / "copy"
        run(["nbdcopy", self.url, copy])
        run(["cmp", copy, self.daemon.disk_path("d0")])

    def test_what_was_written_is_data_and_the_rest_holes(self):
        self.assertEqual(self.data_ranges(), [])
        self.qemu_io("write -P 1 0 64k", "write -P 2 1M 192k", "write -P 3 40M 3M",
                     f"write -P 4 {self.SIZE - 64 * KIB} 64k")
        self.assertEqual(self.data_ranges(), [(0, 64 * KIB), (MIB, MIB + 192 * KIB),
                                              (40 * MIB, 43 * MIB),
                                              (self.SIZE - 64 * KIB, self.SIZE)])
        self.assert_copies()

    def test_what_is_trimmed_is_a_hole_again(self):
        self.qemu_io("write -P 5 8M 4M", "discard 9M 1M", "write -P 6 9472k 64k", "discard 11M 1M")
        self.assertEqual(self.data_ranges(), [(8 * MIB, 9 * MIB),
                                              (9472 * KIB, 9536 * KIB), (10 * MIB, 11 * MIB)])
        self.qemu_io("read -P 0 9M 256k", "read -P 6 9472k 64k", "read -P 0 11M 1M")
        self.assert_copies()
        self.qemu_io("discard 8M 4M")
        self.assertEqual(self.data_ranges(), [])
        self.assert_copies()

    def test_more_extents_than_one_answer_holds(self):
        client = self.client(self.multipath)
        written = [(at, at + 64 * KIB) for at in range(0, self.SIZE, 128 * KIB)]
        for begin, end in written:
            client.write(begin, b"\x77" * (end - begin))
        self.assertEqual(self.data_ranges(), written)
        self.assert_copies()

    def test_never_a_hole_where_data_was_written(self):
        client, generator = self.client(self.multipath), random.Random(7)
        model = bytearray(self.SIZE)
        for _ in range(400):
            length = generator.randrange(1, 17) * BLOCK
            offset = generator.randrange((8 * MIB - length) // BLOCK) * BLOCK
            change = generator.choice(("write", "write", "trim", "zeroes"))
            data = generator.randbytes(length) if change == "write" else bytes(length)
            if change == "write":
                client.write(offset, data)
            elif change == "trim":
                client.trim(offset, length)
            else:
                client.write_zeroes(offset, length)
            model[offset:offset + length] = data
        end = 0
        for begin, following in self.data_ranges() + [(self.SIZE, self.SIZE)]:
            self.assertEqual(model.count(0, end, begin), begin - end, f"[{end}, {begin})")
            end = following
        self.assert_copies()
        self.assertEqual((self.scratch / "copy").read_bytes(), model)


class Growth(DataCase):
    def test_new_clients_see_it_and_old_ones_write_beyond_the_old_end(self):
        target = self.target()
        mpiod = self.mpiod(target)
        self.all_active(mpiod)
        old = self.client(mpiod)
        data = b"\x22" * BLOCK
        self.fails(old.write, 64 * MIB, data, number=errno.ENOSPC)
        target.cli("disk", "resize", "d0", "96MiB")
        self.wait_until(lambda: mpiod.devices()["csv1"]["size_bytes"] == 96 * MIB, "it has grown")
        old.write(96 * MIB - BLOCK, data)
        new = self.client(mpiod)
        self.assertEqual((old.size, new.size), (64 * MIB, 96 * MIB))
        self.assertEqual(new.read(96 * MIB - BLOCK, BLOCK), data)
        with open(target.disk_path("d0"), "rb") as file:
            file.seek(96 * MIB - BLOCK)
            self.assertEqual(file.read(), data)
        self.fails(old.write, 96 * MIB, data, number=errno.ENOSPC)
        self.assertEqual(mpiod.states(), ["ACTIVE", "ACTIVE"])


class Sockets(DataCase):
    def test_only_the_owner_may_use_them(self):
        for mask in (0o000, 0o077):
            before = os.umask(mask)
            self.addCleanup(os.umask, before)
            mpiod = self.mpiod(self.target())
            os.umask(before)
            self.wait_until(mpiod.nbd("csv1").exists, "it is exported")
            for socket in (mpiod.nbd("csv1"), mpiod.control_socket):
                mode = socket.stat().st_mode
                self.assertTrue(stat.S_ISSOCK(mode), socket)
                self.assertEqual(stat.S_IMODE(mode), 0o600, socket)


class SessionsPerPortal(DataCase):
    def isids(self, mpiod) -> dict:
        return {name: path["isid"] for name, path in mpiod.paths().items()}

    def test_all_carry_io_and_keep_their_isids_over_a_restart(self):
        target = self.target()
        mpiod = self.mpiod(target, devices=[Device(extra={"policy": "round-robin",
                                                          "sessions_per_portal": 2})])
        self.all_active(mpiod, 4)
        portals = ["%s:%d" % target.portal(path) for path in (0, 1)]
        self.assertEqual(list(mpiod.paths()), [portals[0], f"{portals[0]}#2",
                                               portals[1], f"{portals[1]}#2"])
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        writer.goes_on()
        writer.stop()
        for path in mpiod.paths().values():
            self.assertGreater(path["bytes_read"] + path["bytes_written"], 0, path["name"])
        isids = self.isids(mpiod)
        self.assertEqual(len(set(isids.values())), 4)

        def at_the_target():
            return sorted(session["isid"].removeprefix("0x")
                          for session in target.cli.json("session", "list"))

        self.assertEqual(at_the_target(), sorted(isids.values()))
        for end in (mpiod.kill, mpiod.stop):
            end()
            mpiod.start()
            self.all_active(mpiod, 4)
            self.assertEqual(self.isids(mpiod), isids)
            self.assertEqual(at_the_target(), sorted(isids.values()))


class CutWhileCopying(DataCase):
    """cut_while() has a request in the middle of the copy hang in the target's disk, so that the
    copy cannot be over, and cuts the path that carries it."""

    SIZE = 16 * MIB
    MIDDLE = SIZE // 2

    def setUp(self):
        super().setUp()
        self.multipath = self.wired(self.slow_target("16MiB"), policy="round-robin")
        self.disk = self.fs.backing / "d0.img"
        self.url = self.multipath.url("csv1")
        self.content = os.urandom(self.SIZE)

    def begin(self, *command):
        copying = subprocess.Popen([paths.tool(command[0]), *map(str, command[1:])],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True,
                                   preexec_fn=die_with_parent())
        self.addCleanup(copying.stderr.close)
        self.addCleanup(copying.wait, 30)
        self.addCleanup(copying.kill)
        return copying

    def end(self, copying):
        _, said = copying.communicate(timeout=60)
        self.assertEqual(copying.returncode, 0, said)
        self.assertEqual(self.multipath.devices()["csv1"]["failed"], 0)
        self.assertGreater(self.multipath.devices()["csv1"]["retries"], 0)

    def cut_while(self, op, *command):
        self.fs.add("hang", op=op, hang=True, start=self.MIDDLE, end=self.MIDDLE + BLOCK, count=1)
        copying = self.begin(*command)
        self.wait_until(lambda: self.fs.held() == 1, "a request hangs in the disk")
        number, = self.wait_until(self.path_in_use, "no other request is under way")
        self.assertIsNone(copying.poll(), "it has ended before the path is cut")
        self.wires[number].cut()
        self.wait_until(lambda: self.multipath.states()[number] != "ACTIVE", "it is given up")
        if op == "write":  # a read is repeated while its first attempt still hangs
            self.fs.clear()
        self.end(copying)

    def path_in_use(self):
        """(number,) of the only path that has a request; None: several have, or none."""
        busy = [(number,) for number, path in enumerate(self.multipath.paths().values())
                if path["in_flight"] > 0]
        return busy[0] if len(busy) == 1 else None

    def image(self):
        image = self.scratch / "image"
        image.write_bytes(self.content)
        return image

    def test_nbdcopy_to_the_export(self):
        self.cut_while("write", "nbdcopy", "--flush", self.image(), self.url)
        run(["cmp", self.image(), self.disk])

    def test_nbdcopy_from_the_export(self):
        self.disk.write_bytes(self.content)
        copy = self.scratch / "copy"
        self.cut_while("read", "nbdcopy", self.url, copy)
        run(["cmp", self.disk, copy])

    def test_qemu_img_convert_to_the_export(self):
        image = self.image()
        self.cut_while("write", "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image,
                       self.url)
        said = run(["qemu-img", "compare", "-f", "raw", "-F", "raw", image, self.url]).stdout
        self.assertIn("identical", said)
        run(["cmp", image, self.disk])

    def test_nbdcopy_while_each_path_loses_writes_in_turn(self):
        self.fs.add("slow", op="write", delay_ms=20)
        image = self.scratch / "image"
        for number in (0, 1):
            self.all_active(self.multipath)
            image.write_bytes(os.urandom(self.SIZE))
            before = self.fs.counts()["write"]
            copying = self.begin("nbdcopy", "--connections=1", "--requests=16", image, self.url)
            self.wait_until(lambda: self.fs.counts()["write"] > before, "it has begun")
            self.lose_writes(number)
            self.end(copying)
            run(["cmp", image, self.disk])

    def lose_writes(self, number):
        """Cuts a path when requests are in it only; those that came last are not in the target."""
        self.wires[number].stall()
        self.wait_until(lambda: self.path_in_use() == (number,), "the requests are in the path")
        self.wires[number].cut()
        self.wires[number].mend()


class NoPathTimeout(DataCase):
    TIMEOUT_S = 2

    def setUp(self):
        super().setUp()
        self.multipath = self.wired(self.slow_target("8MiB"), no_path_timeout=f"{self.TIMEOUT_S}s")
        self.nbd = self.client(self.multipath)
        self.nbd.write(0, b"\x11" * BLOCK)

    def cut(self):
        self.began = time.monotonic()
        for wire in self.wires:
            wire.cut()
        self.wait_until(lambda: self.without_path_ms() is not None, "no path is left")

    def mend(self):
        for wire in self.wires:
            wire.mend()
        self.all_active(self.multipath)
        self.assertIsNone(self.without_path_ms())

    def without_path_ms(self):
        return self.multipath.devices()["csv1"].get("without_path_ms")

    def end_in_time(self, futures):
        for future in futures:
            self.fails(future.result, 30)
        took = time.monotonic() - self.began
        self.assertGreater(took, self.TIMEOUT_S - 0.5)
        self.assertLess(took, 6 * slowness())
        self.assertIn(f"no path for {self.TIMEOUT_S} s", self.multipath.log())

    def test_requests_end_with_an_error_and_later_ones_succeed(self):
        self.cut()
        first, second = self.client(self.multipath), self.client(self.multipath)
        waiting = [self.in_background(first.read, 0, BLOCK),
                   self.in_background(second.write, 0, b"\x22" * BLOCK)]
        self.end_in_time(waiting)
        self.assertGreaterEqual(self.without_path_ms(), 1000 * self.TIMEOUT_S)
        began = time.monotonic()
        self.fails(self.nbd.read, 0, BLOCK)
        self.assertLess(time.monotonic() - began, 1 * slowness(), "it waited once more")
        self.mend()
        self.assertEqual(first.read(0, BLOCK), b"\x11" * BLOCK)
        second.write(0, b"\x33" * BLOCK)
        self.assertEqual(self.nbd.read(0, BLOCK), b"\x33" * BLOCK)

    def test_a_write_that_ended_so_never_lands_on_a_later_one(self):
        self.fs.add("hang", op="write", hang=True, start=0, end=BLOCK, count=1)
        other = self.client(self.multipath)
        old = self.in_background(other.write, 0, b"\x22" * BLOCK)
        self.wait_until(lambda: self.fs.held() == 1, "the write is in the disk")
        self.cut()
        self.end_in_time([old])
        for wire in self.wires:
            wire.mend()
        self.wait_until(lambda: self.without_path_ms() is None, "the other path is back", 20)
        later = self.in_background(self.nbd.write, 0, b"\x33" * BLOCK)
        with self.assertRaises(concurrent.futures.TimeoutError, msg="the old one may still land"):
            later.result(NOT_YET_S)
        self.assertEqual(other.read(MIB, BLOCK), bytes(BLOCK))
        self.fs.clear()
        later.result(30)
        self.wait_until(lambda: self.fs.counts()["held"] == 0, "nothing is in the disk")
        with open(self.fs.backing / "d0.img", "rb") as file:
            self.assertEqual(set(file.read(BLOCK)), {0x33})


if __name__ == "__main__":
    case.main()
