"""A removable disk: eject, load, and who may forbid it."""

from holdfast import case, iscsi, scsi
from holdfast.target import TARGET_NAME, Disk

PREVENTED = (5, (0x53, 0x02))
MEDIUM_NOT_PRESENT = (2, (0x3A, 0x00))
MEDIUM_MAY_HAVE_CHANGED = (0x28, 0x00)
HV1, HV2 = 0xA1, 0xB2


class Removable(case.TestCase):
    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=[Disk("tape", extra={"removable": True})],
                                  settings={"threads": 2})
        self.one, self.two, self.three = (self.open(number) for number in (1, 2, 3))

    def open(self, number):
        session = iscsi.Session.open(self.daemon.portal(), TARGET_NAME,
                                     isid=0x80_0000_000000 + number,
                                     initiator=f"iqn.2026-11.org.holdfast:hv{number}")
        self.addCleanup(session.close)
        session.ready()
        return session

    def refused(self, response):
        self.assertEqual(response.status, scsi.Status.CHECK_CONDITION, response)
        return response.sense.key, response.sense.asc_ascq

    def eject(self, session):
        return session.command(scsi.start_stop_unit(start=False, loej=True))

    def load(self, session):
        return session.command(scsi.start_stop_unit(start=True, loej=True))

    def test_load_tells_every_other_nexus_once(self):
        self.assertTrue(self.eject(self.one).good)
        for session in (self.one, self.two):
            self.assertEqual(self.refused(session.command(scsi.test_unit_ready())),
                             MEDIUM_NOT_PRESENT)
        for descriptor, head in ((False, "70 00 02"), (True, "72 02 3a 00")):
            told = self.three.good(scsi.request_sense(descriptor), read_length=252)
            self.assertTrue(told.startswith(bytes.fromhex(head)), told.hex())
        self.assertTrue(self.load(self.one).good)
        self.assertTrue(self.load(self.one).good)  # it is there already: no news
        self.assertEqual(self.one.ready(), [])
        for session in (self.two, self.three):
            self.assertEqual(session.ready(), [MEDIUM_MAY_HAVE_CHANGED])
            self.assertEqual(session.ready(), [])
        self.assertNotIn(MEDIUM_MAY_HAVE_CHANGED, self.fresh_attentions(4))

    def fresh_attentions(self, number):
        session = iscsi.Session.open(self.daemon.portal(), TARGET_NAME,
                                     isid=0x80_0000_000000 + number)
        self.addCleanup(session.close)
        return session.ready()

    def test_one_nexus_forbids_it_to_all_until_it_allows_or_goes(self):
        self.one.good(scsi.prevent_allow(True))
        self.two.good(scsi.prevent_allow(True))
        self.assertEqual(self.refused(self.eject(self.three)), PREVENTED)
        self.one.good(scsi.prevent_allow(False))
        self.assertEqual(self.refused(self.eject(self.three)), PREVENTED)
        self.two.drop()
        self.wait_until(lambda: self.eject(self.three).good, "the lost nexus forbids nothing")

    def test_preempt_and_abort_ends_the_prevention_of_the_preempted(self):
        for session, key in ((self.one, HV1), (self.two, HV2)):
            self.assertTrue(session.pr_out(scsi.PrOut.REGISTER, new_key=key).good)
        self.two.good(scsi.prevent_allow(True))
        self.assertEqual(self.refused(self.eject(self.one)), PREVENTED)
        preempt = {"key": HV1, "new_key": HV2, "type": 5}
        self.assertTrue(self.one.pr_out(scsi.PrOut.PREEMPT_AND_ABORT, **preempt).good)
        self.assertTrue(self.eject(self.one).good)


if __name__ == "__main__":
    case.main()
