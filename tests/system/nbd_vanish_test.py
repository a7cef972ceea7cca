"""NBD clients of holdfast-mpiod that vanish with requests under way. Nobody hears what became of
these, so the next client must not be overtaken by them; nor may the dead take what it needs."""

import concurrent.futures
import socket

from holdfast import case, nbd
from holdfast.crash_case import BLOCK, NEW, OLD, CrashCase

MIB = 1 << 20
SLOTS = 128  # requests of one client that are taken at a time
CLIENTS = 64  # of one export


class VanishCase(CrashCase):
    def old_client(self):
        """Its write to the first block hangs."""
        client = self.client()
        self.hold()
        client.send_write(0, OLD)
        self.wait_until(self.held, "the write is in the target")
        return client


class ItsWrite(VanishCase):
    def test_the_next_one_waits_for_it(self):
        self.old_client().close()
        self.next_write_waits()

    def test_also_when_the_client_took_its_leave_before(self):
        old = self.old_client()
        old.send_disconnect()
        old.close()
        self.next_write_waits()

    def test_a_read_waits_for_it_too(self):
        """What it sees would change by itself."""
        self.old_client().close()
        self.assertEqual(self.client().read(BLOCK, BLOCK), bytes(BLOCK))  # another block
        read = self.in_background(self.client().read, 0, BLOCK)
        self.waits(read)
        self.let_go()
        self.assertEqual(read.result(30), OLD)

    def test_what_a_vanished_client_still_waited_with_is_not_executed(self):
        self.old_client().close()
        waits = self.client()
        waits.send_write(0, OLD + OLD)
        waits.close()
        write = self.in_background(self.client().write, 0, NEW)
        self.waits(write)
        self.let_go()
        write.result(30)
        self.client().flush()
        self.assertEqual(self.on_disk(), NEW)
        self.assertEqual(self.on_disk(1), bytes(BLOCK))


class AllItsRequests(VanishCase):
    DEVICE = {"policy": "round-robin"}

    def paths_take(self) -> int:
        return sum(path["limit"] for path in self.mpio.paths().values())

    def test_the_next_one_waits_when_the_client_had_all_under_way_that_it_may(self):
        elsewhere = self.client()
        while self.paths_take() < 3 * SLOTS // 2:  # each answer lets a new path take one more
            for _ in range(SLOTS):
                elsewhere.write(4 * MIB, NEW)
        old = self.old_client()
        # The others hang for as long as the rule is there; the last one is not even taken.
        self.fs.add("others", op="write", hang=True, start=BLOCK, end=(SLOTS + 1) * BLOCK)
        for number in range(1, SLOTS + 1):
            old.send_write(number * BLOCK, OLD)
        self.wait_until(lambda: self.mpio.devices()["csv1"]["executing"] == SLOTS,
                        "all its requests are under way")
        old.close()
        elsewhere.write(4 * MIB, OLD)
        self.assertEqual(elsewhere.read(4 * MIB, BLOCK), OLD)
        write = self.in_background(self.client().write, 0, NEW)
        self.waits(write)
        self.let_go()
        write.result(30)
        self.assertEqual(self.on_disk(), NEW)


class ItsPlace(VanishCase):
    DEVICE = {"policy": "round-robin"}

    def is_served(self) -> bool:
        try:
            client = nbd.Client(self.mpio.nbd("csv1"), "csv1", deadline=2)
            self.addCleanup(client.close)
            return client.read(4 * MIB, BLOCK) == bytes(BLOCK)
        except (nbd.Error, OSError):
            return False

    def test_the_dead_who_wait_do_not_keep_the_living_out(self):
        self.old_client().close()
        for _ in range(CLIENTS - 1):
            waits = self.client()
            waits.send_write(0, NEW)
            waits.close()
        self.wait_until(self.is_served, "a client is served", 5)
        self.assertTrue(self.held())


class ItsBuffers(VanishCase):
    SIZE = "160MiB"
    LARGEST = 32 * MIB

    def test_two_that_held_all_they_may_do_not_keep_a_small_request_waiting(self):
        for number in range(4):  # of each large write the first command
            self.fs.add(f"hang{number}", op="write", hang=True, start=number * self.LARGEST,
                        end=number * self.LARGEST + BLOCK)
        for first in (0, 2):
            large = self.client()
            self.in_background(self.send, large, (first, first + 1))
            self.wait_until(lambda: self.fs.held() > first, "the first is in the target", 20)
            # The last of all may have to wait for buffers.
            self.comes(lambda: self.fs.held() == first + 2, 20 if first == 0 else 2)
            large.socket.shutdown(socket.SHUT_RDWR)
            large.close()
        read = self.in_background(self.client().read, 4 * self.LARGEST, BLOCK)
        _, waits = concurrent.futures.wait([read], 5)
        self.assertFalse(waits, "it is not served")
        self.assertEqual(read.result(), bytes(BLOCK))
        self.assertGreaterEqual(self.fs.held(), 3)

    def send(self, client, numbers):
        for number in numbers:
            client.send_write(number * self.LARGEST, bytes(self.LARGEST))


if __name__ == "__main__":
    case.main()
