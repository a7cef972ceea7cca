"""Peers that are silent, slow, or asked to leave: when the target asks, when it gives up, and that
it does neither too early. All of them wait side by side, so the whole takes about 50 s.

The times are those of target/limits.h; housekeeping looks once a second, so an end may be a little
late and never early.
"""

import concurrent.futures
import contextlib
import threading
import time

from holdfast import case, iscsi, scsi
from holdfast.pdu import NO_TAG, Opcode, Pdu
from holdfast.target import TARGET_NAME, Disk, slowness

LOGIN_S, IDLE_S, PING_S, STALL_S, DATA_S, LOGOUT_S = 15, 30, 15, 30, 30, 10
EARLY_S, LATE_S = 0.3, 4.0
WHOLE_S = IDLE_S + PING_S + 1  # after it whoever did not answer a ping is gone
SLOW_BYTES = 128 * 1024  # a second


class SessionLimits(case.TestCase):
    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=[Disk("d0", kind="memory", size="64MiB")],
                                  settings={"threads": 1})  # they meet on one
        self.isid = 0x80_0000_000000
        self.lock = threading.Lock()
        self.over = threading.Event()

    def open(self, target=TARGET_NAME, **options) -> iscsi.Session:
        with self.lock:
            self.isid += 1
            isid = self.isid
        session = iscsi.Session.open(self.daemon.portal(), target, isid=isid, **options)
        self.addCleanup(session.close)
        if target:
            session.ready()
        return session

    def in_time(self, began, wanted):
        """`wanted` seconds since `began` have just gone by."""
        took = time.monotonic() - began
        self.assertGreater(took, wanted - EARLY_S, f"after {took:.1f} s, {wanted} s were promised")
        self.assertLess(took, wanted + LATE_S * slowness(), f"after {took:.1f} s, not {wanted} s")

    def ends_after(self, connection, began, wanted):
        self.assertTrue(connection.is_closed_by_peer(wanted + LATE_S * slowness() + 2),
                        "it never ended")
        self.in_time(began, wanted)

    def listed(self) -> set:
        return {int(each["isid"], 16) for each in self.daemon.cli.json("session", "list")}

    def is_gone(self, session):
        self.wait_until(lambda: session.isid not in self.listed(), "it is off the list", 5)

    # --- what waits side by side

    def a_silent_session_is_asked_and_ends(self):
        """RFC 7143 11.19: a tag of the target's own, no StatSN used up."""
        session = self.open()
        began = time.monotonic()
        ping = session.receive(IDLE_S + LATE_S * slowness())
        self.in_time(began, IDLE_S)
        self.assertEqual((ping.opcode, ping.flags, ping.itt), (Opcode.NOP_IN, 0x80, NO_TAG))
        self.assertNotEqual(ping.ttt, NO_TAG)
        self.assertEqual((ping.stat_sn, len(ping.data)), (session.exp_stat_sn, 0))
        self.ends_after(session, time.monotonic(), PING_S)
        self.is_gone(session)

    def a_silent_session_that_answers_lives(self):
        session = self.open()
        due = session.exp_stat_sn
        session.poll(WHOLE_S + LATE_S)
        response = session.command(scsi.test_unit_ready())
        self.assertTrue(response.good)
        self.assertEqual(response.pdu.stat_sn, due, "the ping used up a StatSN")

    def a_busy_session_is_not_asked(self):
        session = self.open()
        session.answer_pings = False
        handled, handle = [], session._handle
        session._handle = lambda pdu: handled.append(pdu.opcode) or handle(pdu)
        while not self.over.wait(5):
            session.ready()
        self.assertNotIn(Opcode.NOP_IN, handled)

    def a_discovery_session_is_not_asked(self):
        """RFC 7143 7.4.3: nothing but answers to text requests and logouts."""
        session = self.open(target=None)
        self.assertFalse(session.has_input(IDLE_S + LATE_S), "a PDU, or the end")
        self.assertEqual(list(session.send_targets()), [TARGET_NAME])

    def a_session_asked_to_log_out_ends(self):
        """RFC 7143 11.9: event 1, with the time it has in Parameter3."""
        session = self.open()
        number = next(str(each["id"]) for each in self.daemon.cli.json("session", "list")
                      if int(each["isid"], 16) == session.isid)
        due = session.exp_stat_sn
        began = time.monotonic()
        self.daemon.cli("session", "logout", number)
        message = session.receive(5)
        self.assertEqual((message.opcode, message.flags), (Opcode.ASYNC_MESSAGE, 0x80))
        self.assertEqual(message.itt, NO_TAG)
        self.assertEqual((message.bhs[36], message.bhs[37]), (1, 0))
        self.assertEqual([int.from_bytes(message.bhs[at:at + 2], "big") for at in (38, 40, 42)],
                         [0, 0, LOGOUT_S])
        self.assertEqual(message.stat_sn, due)
        session._track(message)
        session.poll(LOGOUT_S / 2)
        session.ready()  # it may use the time it has
        self.ends_after(session, began, LOGOUT_S)
        self.is_gone(session)

    def a_login_within_its_time_is_served(self):
        session = iscsi.Session(self.daemon.portal(), TARGET_NAME, isid=0x80_0000_00F001)
        self.addCleanup(session.close)
        self.over.wait(LOGIN_S / 2)
        session.login_step(iscsi.SECURITY, iscsi.OPERATIONAL,
                           session.names() | {"AuthMethod": "None"})
        self.over.wait(LOGIN_S / 2 - 2)
        answer, keys = session.login_step(iscsi.OPERATIONAL, iscsi.FULL_FEATURE,
                                          {"ImmediateData": "Yes"})
        session.enter_full_feature(answer, {"HeaderDigest": "None", "DataDigest": "None",
                                            "FirstBurstLength": "65536"} | keys)
        self.over.wait(5)  # and is a session for longer than a login may take
        session.ready()

    def a_silent_login_is_closed(self):
        connection = iscsi.Connection(self.daemon.portal())
        self.addCleanup(connection.close)
        self.ends_after(connection, time.monotonic(), LOGIN_S)

    def one_that_takes_no_data_ends(self):
        session = self.open(receive_buffer=4096)
        for number in range(100):
            session.submit(scsi.read16(512 * number, 512), read_length=512 * 512)
        self.ends_off_the_list(session)

    def one_that_takes_no_answers_ends(self):
        session = self.open(receive_buffer=4096)
        ping = Pdu(Opcode.NOP_OUT, flags=0x80, immediate=True, itt=77, data=b"p" * 4096)
        data = ping.put32(20, NO_TAG).put32(24, session.cmd_sn).encode() * 16
        session.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(5000):
                session.send_raw(data)
            self.fail("it goes on reading pings whose answers nobody takes")
        self.ends_off_the_list(session)

    def ends_off_the_list(self, session):
        """Seen in the list of sessions: to look at the socket is to take what it holds."""
        began = time.monotonic()
        self.over.wait(STALL_S - 3)
        self.assertIn(session.isid, self.listed(), "it had time left")
        self.wait_until(lambda: session.isid not in self.listed(), "it ends",
                        3 + LATE_S * slowness(), 0.3)
        self.assertGreater(time.monotonic() - began, STALL_S - 2)

    def one_that_takes_its_data_slowly_lives(self):
        session = self.open(receive_buffer=4096)
        tasks = [session.submit(scsi.read16(512 * number, 512), read_length=512 * 512)
                 for number in range(100)]
        taken = session._receive_exactly

        def slowly(count, end):
            if count > 1000 and not self.over.is_set():
                time.sleep(count / SLOW_BYTES)
            return taken(count, end)

        session._receive_exactly = slowly
        for task in tasks:
            self.assertEqual(len(session.wait(task, 60).data), 512 * 512)
        self.assertTrue(self.over.is_set(), "it was not slow")

    def one_that_keeps_back_what_it_promised_ends(self):
        held = self.open()
        task = held.submit(scsi.write16(64, 8), data_out=b"\x55" * 4096, immediate=b"",
                           unsolicited=False, answer_r2t=False)
        gap = self.open()
        gap.cmd_sn += 1
        gap.submit(scsi.test_unit_ready())
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            ends = [pool.submit(self.ends_after, session, began, DATA_S) for session in (held, gap)]
        for end in ends:
            end.result()
        self.assertIsNone(task.response)

    def others_are_served(self):
        """All the time, and at once."""
        session = self.open()
        while not self.over.wait(0.2):
            began = time.monotonic()
            session.write(0, b"\x33" * 65536)
            self.assertEqual(session.read(0, 128), b"\x33" * 65536)
            took = time.monotonic() - began
            self.assertLess(took, 1.0 * slowness(), f"{took:.2f} s for 64 KiB to and fro")

    def test_who_is_asked_and_who_is_ended(self):
        waits = [self.a_silent_session_is_asked_and_ends, self.a_silent_session_that_answers_lives,
                 self.a_discovery_session_is_not_asked, self.a_session_asked_to_log_out_ends,
                 self.a_login_within_its_time_is_served, self.a_silent_login_is_closed,
                 self.one_that_takes_no_data_ends, self.one_that_takes_no_answers_ends,
                 self.one_that_keeps_back_what_it_promised_ends]
        lasting = [self.a_busy_session_is_not_asked, self.others_are_served,
                   self.one_that_takes_its_data_slowly_lives]
        with concurrent.futures.ThreadPoolExecutor(len(waits) + len(lasting)) as pool:
            running = {each.__name__: pool.submit(each) for each in waits + lasting}
            ending = [running[each.__name__] for each in waits]
            concurrent.futures.wait(ending, WHOLE_S * 2)
            self.over.set()
        for name, future in running.items():
            with self.subTest(name.replace("_", " ")):
                future.result(0)


if __name__ == "__main__":
    case.main()
