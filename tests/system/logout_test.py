"""Logout: what is closed and what is refused (RFC 7143 11.14, 11.15)."""

import struct

from holdfast import case, iscsi
from holdfast.pdu import Opcode, Pdu
from holdfast.target import TARGET_NAME, Disk

CLOSED, CID_NOT_FOUND, RECOVERY_NOT_SUPPORTED = 0, 1, 2
INVALID_PDU_FIELD = 0x09  # Reject reason
SESSION, CONNECTION, RECOVERY = 0, 1, 2


class Logout(case.TestCase):
    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=[Disk("a", kind="memory", size="1MiB")])
        self.session = iscsi.Session.open(self.daemon.portal(), TARGET_NAME)
        self.addCleanup(self.session.close)
        self.session.ready()

    def pdu(self, reason, cid=0):
        pdu = Pdu(Opcode.LOGOUT, flags=0x80 | reason, immediate=True)
        struct.pack_into(">H", pdu.bhs, 20, cid)
        return pdu.put32(24, self.session.cmd_sn).put32(28, self.session.exp_stat_sn)

    def ask(self, reason, cid=0):
        return self.session.request(self.pdu(reason, cid)).bhs[2]

    def test_the_session(self):
        self.assertEqual(self.ask(SESSION, cid=77), CLOSED)  # no CID with this reason
        self.assertTrue(self.session.is_closed_by_peer())

    def test_its_connection(self):
        self.assertEqual(self.ask(CONNECTION, cid=0), CLOSED)
        self.assertTrue(self.session.is_closed_by_peer())

    def test_another_connection_is_not_found_and_nothing_ends(self):
        self.assertEqual(self.ask(CONNECTION, cid=9), CID_NOT_FOUND)
        self.assertEqual(self.session.ready(), [])

    def test_recovery_is_not_supported_and_nothing_ends(self):
        self.assertEqual(self.ask(RECOVERY), RECOVERY_NOT_SUPPORTED)
        self.assertEqual(self.session.ready(), [])

    def test_an_unknown_reason_is_rejected_and_nothing_ends(self):
        self.session.send(self.pdu(5))
        self.assertEqual(self.session.ready(), [])
        self.assertEqual([pdu.bhs[2] for pdu in self.session.rejects], [INVALID_PDU_FIELD])


if __name__ == "__main__":
    case.main()
