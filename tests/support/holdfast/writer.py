"""Writes stamped blocks over NBD and reads each back, in a thread, until it is stopped.

    writer = Writer(mpiod.nbd("csv1"), "csv1")
    writer.done                      how many it has written and read back so far
    writer.problem                   what ended it, or None
    writer.goes_on(deadline)         waits for some more; AssertionError if they do not come
    writer.stop()                    AssertionError if anything was wrong
"""

import random
import threading
import time

from . import nbd, stamp

BLOCK = stamp.BLOCK
NAME = "writer"


class Writer:
    def __init__(self, socket, export, deadline=60):
        self.client = nbd.Client(socket, export, deadline)
        self.done = 0
        self.problem = None
        self.written = {}  # {offset: what was written there last}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        generator = random.Random(1)
        try:
            while not self._stop.is_set():
                offset = generator.randrange(64) * BLOCK
                data = stamp.block(offset, self.done, NAME)
                self.client.write(offset, data)
                self.written[offset] = data
                stamp.check(self.client.read(offset, BLOCK), offset, self.done, NAME)
                self.done += 1
        except (AssertionError, nbd.Error, OSError) as problem:
            self.problem = problem

    def goes_on(self, deadline=15):
        before, end = self.done, time.monotonic() + deadline
        while self.done <= before + 10:
            if self.problem:
                self.stop()
            if time.monotonic() > end:
                raise AssertionError(f"waited {deadline} s in vain for I/O to go on")
            time.sleep(0.02)

    def stop(self):
        self._stop.set()
        self._thread.join()
        self.client.close()
        if self.problem:
            raise AssertionError(f"after {self.done} writes: {self.problem!r}")
