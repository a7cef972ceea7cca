"""The delayed file system of the other tests: its delays and errors are what they claim to be."""

import json
import os
import subprocess
import sys
import threading
import time

from holdfast import case
from holdfast.process import run


class SlowFsTest(case.TestCase):
    def setUp(self):
        super().setUp()
        self.fs = self.slowfs()
        self.file = self.fs.mount / "file"
        run(["fallocate", "-l", "8M", self.file])

    def test_a_delayed_direct_write_does_not_hold_up_others(self):
        self.fs.add("late", op="write", delay_ms=1500, start=0, end=4096)
        done = run(["fio", "--name=w", f"--filename={self.file}", "--rw=write", "--bs=4k",
                    "--size=1M", "--direct=1", "--ioengine=io_uring", "--iodepth=8",
                    "--output-format=json"])
        text = done.stdout[done.stdout.index("{"):]
        latency = json.loads(text)["jobs"][0]["write"]["clat_ns"]
        self.assertGreater(latency["max"], 1.4e9)
        self.assertLess(latency["percentile"]["90.000000"], 0.5e9)

    def test_errors(self):
        self.fs.add("full", op="write", error="ENOSPC", count=1)
        fd = os.open(self.file, os.O_RDWR)
        self.addCleanup(os.close, fd)
        with self.assertRaisesRegex(OSError, "No space"):
            os.pwrite(fd, b"x" * 512, 0)
        self.assertEqual(os.pwrite(fd, b"x" * 512, 0), 512)
        self.fs.add("bad", op="read", error="EIO", start=4096, end=8192)
        self.assertEqual(os.pread(fd, 512, 0), b"x" * 512)
        with self.assertRaisesRegex(OSError, "Input/output"):
            os.pread(fd, 512, 4096)

    def test_hang_until_released(self):
        self.fs.add("stuck", op="write", hang=True)
        fd = os.open(self.file, os.O_RDWR)
        self.addCleanup(os.close, fd)
        writer = threading.Thread(target=os.pwrite, args=(fd, b"y" * 512, 0))
        writer.start()
        self.wait_until(lambda: self.fs.held() == 1, "the write is held")
        self.assertNotEqual((self.fs.backing / "file").read_bytes()[:1], b"y")
        self.fs.remove("stuck")
        writer.join(5)
        self.assertFalse(writer.is_alive())
        self.assertEqual((self.fs.backing / "file").read_bytes()[:1], b"y")

    def test_delay_after_the_write_landed(self):
        self.fs.add("slow", op="write", delay_ms=600, when="after")
        fd = os.open(self.file, os.O_RDWR)
        self.addCleanup(os.close, fd)
        began = time.monotonic()
        writer = threading.Thread(target=os.pwrite, args=(fd, b"z" * 512, 0))
        writer.start()
        self.wait_until(lambda: (self.fs.backing / "file").read_bytes()[:1] == b"z", "it landed",
                        deadline=0.5)
        writer.join(5)
        self.assertGreater(time.monotonic() - began, 0.55)

    def test_the_lock_of_a_killed_process_is_held_until_its_write_has_ended(self):
        self.fs.add("stuck", op="write", hang=True)
        script = ("import fcntl, os, sys, mmap\n"
                  "fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)\n"
                  "fcntl.flock(fd, fcntl.LOCK_EX)\n"
                  "page = mmap.mmap(-1, 4096)\n"
                  "os.pwritev(fd, [page], 0)\n")
        holder = subprocess.Popen([sys.executable, "-c", script, str(self.file)])
        self.wait_until(lambda: self.fs.held() == 1, "the write is held")
        holder.kill()
        locked = run(["flock", "-n", self.file, "true"], check=False).returncode
        self.assertEqual(locked, 1, "the lock went before the write")
        self.fs.clear()
        holder.wait(5)
        self.assertEqual(run(["flock", "-n", self.file, "true"]).returncode, 0)


if __name__ == "__main__":
    case.main()
