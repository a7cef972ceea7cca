"""Logins on the wire: their statuses (RFC 7143 11.13.5), the digests of CHAP that may be switched
off, the back-off after wrong secrets. What is malformed is hostile_test.py's, what waits
drain_test.py's.
"""

import struct
import time

from holdfast import case, iscsi
from holdfast.chap import Chap
from holdfast.target import TARGET_NAME, Disk, Initiator, TargetName

AUTHENTICATION_FAILURE, AUTHORIZATION_FAILURE, NOT_FOUND = 0x0201, 0x0202, 0x0203
SESSION_TYPE, NO_SUCH_SESSION, UNAVAILABLE = 0x0209, 0x020A, 0x0301
MD5, SHA1, SHA256, SHA3_256 = 5, 6, 7, 8
SECRET = "the secret of hv1"
FREE_FAILURES, FIRST_WAIT_S = 3, 1  # target/login_backoff.h


class LoginCase(case.TestCase):
    def daemon(self, **options):
        return self.target(disks=[Disk("d0", kind="memory", size="8MiB")], **options)

    def chap_daemon(self, **settings):
        initiators = [Initiator(chap=("hv1", SECRET))]
        return self.daemon(settings={"threads": 1} | settings,
                           targets=[TargetName(initiators=initiators)])

    def open(self, daemon, target=TARGET_NAME, **options) -> iscsi.Session:
        session = iscsi.Session.open(daemon.portal(), target, **options)
        self.addCleanup(session.close)
        return session

    def status(self, daemon, **options) -> int:
        try:
            self.open(daemon, **options).close()
        except iscsi.LoginFailed as failed:
            return failed.status
        return 0

    def refused(self, daemon, status, **options):
        self.assertEqual(f"{self.status(daemon, **options):04x}", f"{status:04x}")


class Statuses(LoginCase):
    def test_who_and_what(self):
        closed = TARGET_NAME + "-closed"
        daemon = self.daemon(targets=[
            TargetName(initiators=[Initiator(iscsi.INITIATOR_NAME)]),
            TargetName(closed, luns={}, initiators=[])])
        self.open(daemon).ready()
        self.refused(daemon, NOT_FOUND, target=TARGET_NAME + "-no")
        self.refused(daemon, AUTHORIZATION_FAILURE, initiator=iscsi.INITIATOR_NAME + "-no")
        self.refused(daemon, AUTHORIZATION_FAILURE, target=closed)

    def test_a_session_that_does_not_exist(self):
        daemon = self.daemon()
        first = self.open(daemon)
        first.ready()
        for tsih in (first.tsih, (first.tsih + 1) & 0xFFFF):
            self.refused(daemon, NO_SUCH_SESSION, tsih=tsih, isid=0x80_0000_0000AA)
        self.assertEqual(first.ready(), [], "nobody's session ends for it")

    def test_a_session_type_that_does_not_exist(self):
        session = iscsi.Session(self.daemon().portal(), TARGET_NAME)
        self.addCleanup(session.close)
        with self.assertRaises(iscsi.LoginFailed) as failed:
            session.login_step(iscsi.SECURITY, iscsi.OPERATIONAL,
                               session.names() | {"SessionType": "Other", "AuthMethod": "None"})
        self.assertEqual(failed.exception.status, SESSION_TYPE)

    def test_a_refusal_is_told_in_the_header_and_ends_the_connection(self):
        session = iscsi.Session(self.daemon().portal(), TARGET_NAME + "-no")
        self.addCleanup(session.close)
        session.send(session.login_pdu(iscsi.SECURITY, iscsi.OPERATIONAL,
                                       session.names() | {"AuthMethod": "None"}))
        answer = session.receive()
        self.assertEqual(struct.unpack_from(">H", answer.bhs, 36)[0], NOT_FOUND)
        self.assertFalse(answer.final, "no transit with a refusal (11.13.3)")
        self.assertEqual(struct.unpack_from(">H", answer.bhs, 14)[0], 0, "no TSIH")
        self.assertTrue(session.is_closed_by_peer(5))


class Digests(LoginCase):
    """chap_md5 and chap_sha1 of the configuration; the order is the initiator's (12.1.3)."""

    def chosen(self, daemon, *offered) -> int:
        chap = Chap("hv1", SECRET, offered)
        self.open(daemon, chap=chap).logout()
        return chap.algorithm

    def none_is_chosen(self, daemon, *offered):
        self.refused(daemon, AUTHENTICATION_FAILURE, chap=Chap("hv1", SECRET, offered))

    def test_all_in_the_initiators_order(self):
        daemon = self.chap_daemon()
        for first in (MD5, SHA1, SHA256, SHA3_256):
            rest = [each for each in (SHA3_256, MD5, SHA256, SHA1) if each != first]
            self.assertEqual(self.chosen(daemon, first, *rest), first)
        self.assertEqual(self.chosen(daemon, 99, SHA1, MD5), SHA1)
        self.none_is_chosen(daemon, 99)

    def test_md5_switched_off(self):
        daemon = self.chap_daemon(chap_md5=False)
        self.none_is_chosen(daemon, MD5)
        self.assertEqual(self.chosen(daemon, MD5, SHA1), SHA1)
        self.assertEqual(self.chosen(daemon, MD5, SHA256, SHA1), SHA256)

    def test_both_switched_off(self):
        daemon = self.chap_daemon(chap_md5=False, chap_sha1=False)
        self.none_is_chosen(daemon, MD5, SHA1)
        self.assertEqual(self.chosen(daemon, MD5, SHA1, SHA3_256, SHA256), SHA3_256)

    def test_switched_while_it_runs(self):
        daemon = self.chap_daemon()
        session = self.open(daemon, chap=Chap("hv1", SECRET, [MD5]), isid=0x80_0000_0000AA)
        session.ready()
        daemon.settings["chap_md5"] = False
        daemon.rewrite()
        daemon.cli("apply", str(daemon.config_file))
        self.none_is_chosen(daemon, MD5)
        self.assertEqual(self.chosen(daemon, MD5, SHA1), SHA1)
        self.assertEqual(session.ready(), [], "who is in stays in")
        daemon.settings["chap_md5"] = True
        daemon.rewrite()
        daemon.cli("apply", str(daemon.config_file))
        self.assertEqual(self.chosen(daemon, MD5), MD5)

    def test_discovery_is_no_way_around(self):
        daemon = self.daemon(settings={"chap_md5": False},
                             discovery={"chap": ("finder", SECRET)})
        self.refused(daemon, AUTHENTICATION_FAILURE, target=None,
                     chap=Chap("finder", SECRET, [MD5]))
        self.open(daemon, target=None, chap=Chap("finder", SECRET, [SHA256]))


class BackOff(LoginCase):
    """After several wrong secrets an account is not tried again from this address for a while."""

    def test_it_is_of_one_address_and_ends(self):
        daemon = self.chap_daemon()
        right, wrong = (lambda: Chap("hv1", SECRET)), (lambda: Chap("hv1", "not the secret"))
        for _ in range(FREE_FAILURES):
            self.refused(daemon, AUTHENTICATION_FAILURE, chap=wrong(), source="127.0.0.5")
        last = time.monotonic()
        self.refused(daemon, UNAVAILABLE, chap=right(), source="127.0.0.5")
        self.open(daemon, chap=right(), source="127.0.0.6").logout()
        self.wait_until(
            lambda: self.status(daemon, chap=right(), source="127.0.0.5") == 0, "it is let in", 5)
        self.assertGreater(time.monotonic() - last, FIRST_WAIT_S - 0.5)
        self.refused(daemon, AUTHENTICATION_FAILURE, chap=wrong(), source="127.0.0.5")
        self.open(daemon, chap=right(), source="127.0.0.5").logout()

    def test_a_few_mistakes_have_no_consequence(self):
        daemon = self.chap_daemon()
        for _ in range(3):
            for _ in range(FREE_FAILURES - 1):
                self.refused(daemon, AUTHENTICATION_FAILURE, chap=Chap("hv1", "not the secret"))
            self.open(daemon, chap=Chap("hv1", SECRET)).logout()


if __name__ == "__main__":
    case.main()
