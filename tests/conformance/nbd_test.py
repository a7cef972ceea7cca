#!/usr/bin/env python3
"""Foreign NBD clients against tests/support/nbd_export.cc: libnbd's tools, QEMU's, fio."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from holdfast import case, paths
from holdfast.process import die_with_parent, run

KIB = 1 << 10
MIB = 1 << 20


class Export:
    """A running nbd_export."""

    def __init__(self, disk, socket, *options):
        self.socket = socket
        self.uri = f"nbd+unix:///disk?socket={socket}"
        self.log = open(str(socket) + ".log", "w")
        self.process = subprocess.Popen(
            [paths.program("nbd_export"), disk, socket, *options], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, text=True, preexec_fn=die_with_parent())
        assert self.process.stdout.readline() == "ready\n"

    def grow(self, size):
        self.process.stdin.write(f"{size}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stop(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        status = self.process.wait(timeout=30)
        self.process.stdout.close()
        self.log.close()
        if status != 0:
            raise AssertionError(f"nbd_export ended with {status}:\n"
                                 + pathlib.Path(self.log.name).read_text())


class Nbd(case.TestCase):
    def export(self, size=64 * MIB, *options):
        disk = self.scratch / "disk"
        if not disk.exists():
            with open(disk, "wb") as out:
                out.truncate(size)
        export = Export(disk, self.scratch / "socket", *options)
        self.addCleanup(export.stop)
        return export

    def disk(self):
        return self.scratch / "disk"

    def image(self, size=64 * MIB):
        """A file with data and holes, in a pattern that differs everywhere."""
        path = self.scratch / "image"
        with open(path, "wb") as out:
            for offset in range(0, size, 4 * MIB):
                out.seek(offset)
                out.write(os.urandom(MIB))
            out.truncate(size)
        return path

    def qemu_io(self, export, *commands, options=(), check=True):
        # qemu-io ends with 0 after a failed command: what it prints says whether it went well.
        words = [word for command in commands for word in ("-c", command)]
        done = run(["qemu-io", "-f", "raw", *options, *words, export.uri], check=False)
        text = done.stdout + done.stderr
        bad = any(sign in text for sign in ("failed", "rror", "mismatch")) or done.returncode != 0
        if check and bad:
            self.fail(f"qemu-io {commands}:\n{text}")
        return text if check else (bad, text)

    # --- libnbd ---

    def test_nbdinfo(self):
        export = self.export()
        told = json.loads(run(["nbdinfo", "--json", export.uri]).stdout)
        self.assertEqual(told["protocol"], "newstyle-fixed")
        self.assertTrue(told["structured"])
        disk = told["exports"][0]
        self.assertEqual(disk["export-name"], "disk")
        self.assertEqual(disk["export-size"], 64 * MIB)
        self.assertEqual(disk["contexts"], ["base:allocation"])
        self.assertEqual((disk["block_size_minimum"], disk["block_size_maximum"]), (512, 32 * MIB))
        for can in ("can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn", "can_df"):
            self.assertTrue(disk[can], can)
        for can in ("is_read_only", "can_cache", "can_fast_zero"):
            self.assertFalse(disk[can], can)
        self.assertEqual(run(["nbdinfo", "--size", export.uri]).stdout.strip(), str(64 * MIB))
        self.assertIn('export="disk"', run(["nbdinfo", "--list", export.uri]).stdout)

    def test_another_name_is_refused(self):
        export = self.export()
        other = f"nbd+unix:///nosuch?socket={export.socket}"
        self.assertNotEqual(run(["nbdinfo", "--size", other], check=False).returncode, 0)
        nameless = f"nbd+unix://?socket={export.socket}"
        self.assertEqual(run(["nbdinfo", "--size", nameless]).stdout.strip(), str(64 * MIB))

    def test_nbdcopy_both_ways(self):
        export, image, back = self.export(), self.image(), self.scratch / "back"
        run(["nbdcopy", "--flush", image, export.uri])
        run(["cmp", image, self.disk()])
        run(["nbdcopy", export.uri, back])
        run(["cmp", image, back])

    def test_nbdcopy_with_many_connections(self):
        export, image = self.export(), self.image()
        run(["nbdcopy", "--connections=8", "--requests=64", "--request-size=1048576", image,
             export.uri])
        run(["cmp", image, self.disk()])

    def test_map_shows_data_and_holes(self):
        export, image = self.export(), self.image()
        run(["nbdcopy", "--flush", image, export.uri])
        found = json.loads(run(["nbdinfo", "--map", "--json", export.uri]).stdout)
        self.assertEqual(sum(extent["length"] for extent in found), 64 * MIB)
        for extent in found:
            data = extent["offset"] % (4 * MIB) < MIB
            self.assertEqual(extent["type"], 0 if data else 3, extent)
        self.assertEqual(len(found), 32)

    def test_growth_is_seen_by_the_next_client(self):
        export = self.export()
        self.assertEqual(export.grow(80 * MIB), "grown")
        self.assertEqual(run(["nbdinfo", "--size", export.uri]).stdout.strip(), str(80 * MIB))
        self.qemu_io(export, "write -P 5 79M 1M", "read -P 5 79M 1M")
        self.assertIn("grow", export.grow(MIB))

    # --- QEMU ---

    def test_convert_and_compare(self):
        export, image = self.export(), self.image()
        run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, export.uri])
        self.assertIn("identical", run(["qemu-img", "compare", "-f", "raw", "-F", "raw", image,
                                        export.uri]).stdout)
        back = self.scratch / "back.qcow2"
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", export.uri, back])
        self.assertIn("identical", run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", back,
                                        export.uri]).stdout)

    def test_info_and_map(self):
        export = self.export()
        self.assertIn("64 MiB", run(["qemu-img", "info", export.uri]).stdout)
        self.qemu_io(export, "write -P 1 8M 1M")
        found = json.loads(run(["qemu-img", "map", "--output=json", "-f", "raw",
                                export.uri]).stdout)
        self.assertEqual([(each["start"], each["length"]) for each in found if each["data"]],
                         [(8 * MIB, MIB)])

    def test_write_zeroes_and_discard(self):
        export = self.export()
        self.qemu_io(export, "write -P 9 0 16M", "flush")
        before = self.disk().stat().st_blocks
        self.qemu_io(export, "write -z 1M 1M", "write -z -u 2M 1M", "discard 4M 8M",
                     "read -P 9 0 1M", "read -P 0 1M 2M", "read -P 9 3M 1M", "read -P 0 4M 8M",
                     "read -P 9 12M 4M", "flush")
        self.assertLess(self.disk().stat().st_blocks, before - 8 * MIB // 512)

    def test_large_requests_and_fua(self):
        export = self.export()
        self.qemu_io(export, "write -P 3 1M 32M", "read -P 3 1M 32M", "write -f -P 4 33M 8M",
                     "read -P 4 33M 8M", "write -f -z 33M 1M", "read -P 0 33M 1M")

    def test_patterns_of_all_sizes(self):
        export = self.export()
        writes, reads, offset = [], [], 0
        sizes = [512, 4096, 8192 + 512, 64 * KIB, 256 * KIB - 512, MIB + 512, 3 * MIB]
        for number, size in enumerate(sizes):
            writes.append(f"write -P {number + 1} {offset} {size}")
            reads.append(f"read -P {number + 1} {offset} {size}")
            offset += size
        self.qemu_io(export, *writes, "flush")
        self.qemu_io(export, *reads)

    def test_unaligned_requests_are_made_whole_by_the_client(self):
        export = self.export()
        self.qemu_io(export, "write -P 1 0 4096", "write -P 2 100 100", "read -P 1 0 100",
                     "read -P 2 100 100", "read -P 1 200 3896")

    def test_many_requests_in_flight(self):
        export = self.export()
        writes = [f"aio_write -P {n % 250 + 1} {n * 64}k 64k" for n in range(200)]
        reads = [f"read -P {n % 250 + 1} {n * 64}k 64k" for n in range(200)]
        self.qemu_io(export, *writes, "aio_flush", *reads)

    def test_read_only(self):
        export = self.export(64 * MIB, "--read-only")
        self.qemu_io(export, "read -P 0 0 1M", options=["-r"])
        bad, text = self.qemu_io(export, "write 0 4096", check=False)
        self.assertTrue(bad, text)
        self.assertTrue(json.loads(run(["nbdinfo", "--json", export.uri]).stdout)
                        ["exports"][0]["is_read_only"])

    # --- fio, several clients, and one that dies ---

    def fio(self, export, name, **options):
        words = {"ioengine": "nbd", "uri": export.uri, "name": name, "rw": "randwrite",
                 "bs": "4k-128k", "iodepth": 32, "verify": "crc32c", "verify_fatal": 1,
                 "randrepeat": 0, "verify_state_save": 0, "output-format": "json"} | options
        told = run(["fio", *(f"--{key}={value}" for key, value in words.items())], deadline=120)
        job = json.loads(told.stdout[told.stdout.index("{"):])["jobs"][0]
        self.assertEqual(job["error"], 0)
        self.assertGreater(job["read"]["io_bytes"], 0)  # it has verified
        return job

    def test_fio_with_verify(self):
        self.fio(self.export(), "alone", size="48M", trim_percentage=0)

    def test_several_clients_at_once(self):
        export, problems = self.export(), []

        def work(number):
            try:
                self.fio(export, f"client{number}", offset=f"{number * 12}M", size="12M")
            except (AssertionError, ValueError) as error:
                problems.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])

    def test_what_one_client_flushed_another_reads(self):
        export = self.export()
        for number in range(1, 6):
            self.qemu_io(export, f"write -P {number} 0 1M", "flush")
            self.qemu_io(export, f"read -P {number} 0 1M")

    def test_a_killed_client_harms_nobody(self):
        export = self.export()
        self.qemu_io(export, "write -P 7 60M 1M")
        for _ in range(5):
            victim = subprocess.Popen(
                [paths.tool("fio"), "--ioengine=nbd", f"--uri={export.uri}", "--name=victim",
                 "--rw=randwrite", "--bs=256k", "--iodepth=64", "--size=48M", "--time_based",
                 "--runtime=60", "--thread"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent())
            try:
                before = self.disk().stat().st_mtime_ns
                self.wait_until(lambda: self.disk().stat().st_mtime_ns != before, "its writes")
            finally:
                victim.send_signal(signal.SIGKILL)
                victim.wait()
            self.qemu_io(export, "read -P 7 60M 1M", "write -P 7 60M 1M")


if __name__ == "__main__":
    case.main()
