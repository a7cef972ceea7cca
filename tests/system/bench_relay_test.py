"""holdfast-bench-relay between two sockets of this test: delay, rate, order, ways to break."""

import pathlib
import socket
import sys
import threading
import time
import unittest

PROGRAM = sys.argv.pop()
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from bench.lib import process, relay  # noqa: E402  (the path is set above)

DEADLINE_S = 20


class RelayTest(unittest.TestCase):
    def setUp(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.listener.settimeout(DEADLINE_S)

    def connect(self, **options):
        """(initiator's end, portal's end) of a connection through a relay."""
        self.port = process.free_port()
        self.relay = relay.Relay(PROGRAM, f"127.0.0.1:{self.port}",
                                 "127.0.0.1:%d" % self.listener.getsockname()[1], **options)
        self.addCleanup(self.relay.close)
        near = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        self.addCleanup(near.close)
        far, _ = self.listener.accept()
        self.addCleanup(far.close)
        far.settimeout(DEADLINE_S)
        return near, far

    @staticmethod
    def receive(end, count):
        got = b""
        while len(got) < count:
            piece = end.recv(count - len(got))
            if not piece:
                raise AssertionError(f"the end after {len(got)} of {count} bytes")
            got += piece
        return got

    def test_bytes_arrive_whole_and_in_order_in_both_directions(self):
        near, far = self.connect()
        data = b"".join(number.to_bytes(4, "big") for number in range(1 << 20))
        for source, sink in ((near, far), (far, near)):
            sender = threading.Thread(target=source.sendall, args=(data,))
            sender.start()
            self.assertTrue(self.receive(sink, len(data)) == data)
            sender.join(DEADLINE_S)

    def test_each_direction_is_delayed(self):
        near, far = self.connect(delay_us=20_000)
        for _ in range(3):
            began = time.monotonic()
            near.sendall(b"ask")
            self.receive(far, 3)
            asked = time.monotonic()
            far.sendall(b"answer")
            self.receive(near, 6)
            self.assertGreaterEqual(asked - began, 0.020)
            self.assertGreaterEqual(time.monotonic() - asked, 0.020)

    def test_the_rate_bounds_what_comes_through(self):
        rate, count = 1_000_000, 600_000
        near, far = self.connect(rate=rate)
        began = time.monotonic()
        threading.Thread(target=near.sendall, args=(b"x" * count,), daemon=True).start()
        self.receive(far, count)
        # A burst of 64 KiB is free.
        self.assertGreaterEqual(time.monotonic() - began, (count - 64 * 1024) / rate)

    def refused(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), DEADLINE_S).close()
        except ConnectionRefusedError:
            return True
        return False

    def test_reset_is_a_reset_of_both_ends_and_nobody_listens(self):
        near, far = self.connect()
        near.sendall(b"x")
        self.receive(far, 1)
        self.relay.reset()
        for end in (near, far):
            with self.assertRaises(ConnectionResetError):
                end.recv(1)
        self.assertTrue(self.refused())

    def test_end_is_an_orderly_end_of_both_and_nobody_listens(self):
        near, far = self.connect()
        near.sendall(b"x")
        self.receive(far, 1)
        self.relay.end()
        for end in (near, far):
            self.assertEqual(end.recv(1), b"")
        self.assertTrue(self.refused())

    def test_one_end_closes_and_the_other_hears_of_it_after_the_data(self):
        near, far = self.connect(delay_us=5_000)
        near.sendall(b"last words")
        near.shutdown(socket.SHUT_WR)
        self.assertEqual(self.receive(far, 10), b"last words")
        self.assertEqual(far.recv(1), b"")
        far.sendall(b"heard")
        self.assertEqual(self.receive(near, 5), b"heard")

    def test_a_portal_that_is_not_there_resets_the_initiator(self):
        self.listener.close()
        port = process.free_port()
        broken = relay.Relay(PROGRAM, f"127.0.0.1:{port}", f"127.0.0.1:{process.free_port()}")
        self.addCleanup(broken.close)
        with self.assertRaises(ConnectionResetError):  # perhaps of connect() already
            with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as near:
                near.recv(1)

    def test_a_relay_that_cannot_listen_says_why(self):
        port = self.listener.getsockname()[1]
        with self.assertRaisesRegex(OSError, "in use"):
            relay.Relay(PROGRAM, f"127.0.0.1:{port}", "127.0.0.1:1")


if __name__ == "__main__":
    unittest.main()
