"""Peers that take more than their share: connections, time, memory. The others do not notice.

Memory is compared with what the daemon has after its start: buffer_memory is taken then.
"""

import contextlib
import os
import resource
import select
import socket
import time

from holdfast import case, iscsi, scsi
from holdfast.pdu import NO_TAG, Opcode, Pdu
from holdfast.target import TARGET_NAME, Disk, slowness

MIB = 1 << 20
FLOOD = 10_000
AT_ONCE_S = 1.0
LOGIN_TIMEOUT_S = 15.0  # target/limits.h
BLOCKS_256K = 512

# Address sanitizer keeps freed memory back, up to 256 MiB of it by default, to notice a late use:
# that is not growth of the daemon.
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=8"


class FloodCase(case.TestCase):
    settings = {"buffer_memory": "16MiB"}

    def setUp(self):
        super().setUp()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(FLOOD + 2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        self.daemon = self.target(disks=[Disk("d0", size="64MiB"),
                                         Disk("m0", kind="memory", size="64MiB")],
                                  settings=self.settings)
        self.isid = 0x80_0000_000100
        self.witness = self.open()
        for lun in (0, 1):
            self.witness.write(0, b"\x44" * 4096, lun=lun)
        self.memory = self.daemon.memory_bytes()

    def open(self, **options):
        self.isid += 1
        session = iscsi.Session.open(self.daemon.portal(self.isid % 2), TARGET_NAME, isid=self.isid,
                                     **options)
        self.addCleanup(session.close)
        for lun in (0, 1):
            session.ready(lun)
        return session

    def flood(self, count, stack):
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.settimeout(10)
            client.connect(self.daemon.portal())

    def grown(self) -> int:
        return self.daemon.memory_bytes() - self.memory

    def others_are_served(self, rounds=3):
        """An old and new sessions, each answer at once."""
        for _ in range(rounds):
            for lun in (0, 1):
                self.soon("a read", self.witness.read, 0, 8, lun=lun)
                self.soon("a write", self.witness.write, 0, b"\x44" * 65536, lun=lun)
            fresh = self.soon("a login", self.open)
            self.assertEqual(self.soon("a read", fresh.read, 0, 8), b"\x44" * 4096)
            self.soon("a logout", fresh.logout)

    def soon(self, what, function, *arguments, **options):
        began = time.monotonic()
        result = function(*arguments, **options)
        took = time.monotonic() - began
        self.assertLess(took, AT_ONCE_S * slowness(), f"{what} took {took:.2f} s")
        return result


class SilentCase(FloodCase):
    def open(self, **options):
        """While the flood lasts a login may be the one that gives way: it is tried again."""
        def try_it():
            with contextlib.suppress(iscsi.Closed, ConnectionError):
                return super(SilentCase, self).open(**options)
        return self.wait_until(try_it, "a login", 3)


class SilentConnections(SilentCase):
    limit = 200
    settings = {"buffer_memory": "16MiB", "max_connections": limit}

    def test_ten_thousand_in_turn(self):
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                self.flood(FLOOD // 4, stack)
                self.others_are_served(1)
            self.assertLess(self.grown(), 64 * MIB)
            self.wait_until(lambda: self.daemon.descriptor_count() < self.limit + 100,
                            "no more than allowed")
        self.others_are_served(1)


class TooFewDescriptors(SilentCase):
    settings = {"buffer_memory": "16MiB", "max_connections": 60000}

    def test_connections_that_never_log_in_give_way(self):
        resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE,
                         (self.daemon.descriptor_count() + 50,) * 2)
        with contextlib.ExitStack() as stack:
            self.flood(200, stack)
            self.others_are_served(1)
            self.assertIn("raise LimitNOFILE", self.daemon.log())


class RoomForAll(FloodCase):
    settings = {"buffer_memory": "16MiB", "max_connections": FLOOD + 1000}

    def test_ten_thousand_at_once(self):
        with contextlib.ExitStack() as stack:
            self.flood(FLOOD, stack)
            began = time.monotonic()
            self.wait_until(lambda: self.daemon.descriptor_count() > FLOOD, "all are accepted")
            self.assertLess(self.grown(), FLOOD * 32 * 1024, "more than 32 KiB a connection")
            self.others_are_served()
            self.wait_until(lambda: self.daemon.descriptor_count() < 200, "all are timed out",
                            LOGIN_TIMEOUT_S + 5)
            self.assertGreater(time.monotonic() - began, 5)
            self.others_are_served(1)


class SlowLogin(FloodCase):
    def test_logins_that_never_end_are_closed_in_time(self):
        """One byte, one PDU, or nothing a second."""
        def names(session):
            return session.login_pdu(iscsi.SECURITY, iscsi.OPERATIONAL,
                                     session.names() | {"AuthMethod": "None"}).encode()

        def endless(session):
            return session.login_pdu(iscsi.OPERATIONAL, None, b"").encode()

        kinds = {}
        for kind in ("silent", "bytes of a header", "bytes of data", "in the second stage", "PDUs"):
            session = iscsi.Session(self.daemon.portal(), TARGET_NAME, isid=0x80_0000_000001)
            self.addCleanup(session.close)
            first = names(session)
            session.pace = {"silent": [], "bytes of a header": [first[n:n + 1] for n in range(40)],
                            "bytes of data": [first[:48]] + [first[n:n + 1] for n in range(48, 90)],
                            "in the second stage": [first],
                            "PDUs": [first] + [endless(session)] * 30}[kind]
            kinds[session.socket] = (kind, session)
        began = time.monotonic()
        ended = {}
        while len(ended) < len(kinds) and time.monotonic() - began < LOGIN_TIMEOUT_S + 5:
            for _, session in kinds.values():
                with contextlib.suppress(iscsi.Closed):
                    if session.pace:
                        session.send_raw(session.pace.pop(0))
            for ready in select.select([s for s in kinds if s not in ended], [], [], 0.9)[0]:
                try:
                    alive = ready.recv(65536)
                except ConnectionError:
                    alive = b""
                if not alive:
                    ended[ready] = time.monotonic() - began
            self.others_are_served(1)
        times = {kind: ended.get(sock) for sock, (kind, _) in kinds.items()}
        for kind, took in times.items():
            self.assertIsNotNone(took, f"{kind}: not closed: {times}")
            self.assertLess(took, LOGIN_TIMEOUT_S + 3, times)


class SessionsThatTake(FloodCase):
    settings = {"buffer_memory": "8MiB"}  # the least: what one session holds is missed at once

    def test_clients_that_do_not_read(self):
        for number in range(6):
            greedy = self.open(receive_buffer=4096)
            for each in range(150):
                greedy.submit(scsi.read16(512 * (each % 100), BLOCKS_256K), lun=number % 2,
                              read_length=256 * 1024)
        time.sleep(0.5)
        self.others_are_served()
        self.assertLess(self.grown(), 32 * MIB)

    def test_clients_that_announce_writes_and_send_nothing(self):
        for number in range(6):
            greedy = self.open()
            for each in range(150):
                greedy.submit(scsi.write16(1024 + 512 * (each % 100), BLOCKS_256K),
                              lun=number % 2, data_out=b"\x66" * 256 * 1024, immediate=b"",
                              unsolicited=False, answer_r2t=False)
        time.sleep(0.5)
        self.others_are_served()
        self.assertLess(self.grown(), 32 * MIB)

    def test_clients_that_stop_amid_a_pdu(self):
        for size in (10, 48, 100, 40_000):
            for _ in range(10):
                stopped = self.open()
                pdu = Pdu(Opcode.SCSI_COMMAND, flags=0xA1, itt=9, data=b"\x66" * 65536)
                pdu.put32(20, 65536).put32(24, stopped.cmd_sn)
                pdu.bhs[32:48] = scsi.write16(1024, 128)
                stopped.send_raw(pdu.encode()[:size])
        self.others_are_served()

    def ping_flood(self, receive_buffer):
        flooder = self.open(receive_buffer=receive_buffer)
        ping = Pdu(Opcode.NOP_OUT, flags=0x80, immediate=True, itt=77, data=b"p" * 4096)
        ping.put32(20, NO_TAG).put32(24, flooder.cmd_sn)
        data = ping.encode() * 16
        flooder.socket.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError, iscsi.Closed):
            for _ in range(5000):
                flooder.send_raw(data)
                sent += len(data)
        return sent

    def test_pings_whose_answers_nobody_reads(self):
        sent = self.ping_flood(4096)
        self.assertLess(sent, 64 * MIB, "it goes on reading pings that it cannot answer")
        self.assertLess(self.grown(), 16 * MIB)
        self.others_are_served()

    def test_sessions_opened_and_dropped(self):
        for _ in range(300):
            session = self.open()
            session.submit(scsi.read16(0, BLOCKS_256K), read_length=256 * 1024)
            session.drop()
        self.wait_until(lambda: len(self.daemon.cli.json("session", "list")) == 1, "all are gone")
        self.assertLess(self.grown(), 16 * MIB)
        self.others_are_served(1)


if __name__ == "__main__":
    case.main()
