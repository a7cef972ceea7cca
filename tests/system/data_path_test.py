"""Orders of events that the data path once got wrong, and random PDUs in random order.

Each test ends by asking a fresh session: the daemon lives and serves.
"""

import contextlib
import os
import random
import threading
import time

from holdfast import case, iscsi, scsi
from holdfast.iscsi import TaskFunction
from holdfast.pdu import Opcode, Pdu
from holdfast.target import TARGET_NAME, Disk, TargetName, slowness

BLOCK = b"\x5a" * 512
DISKS = (0, 1)


class DataPathCase(case.TestCase):
    disks = staticmethod(lambda: [Disk("mem", kind="memory", size="16MiB"), Disk("file")])
    settings = {"threads": 1}  # one shard: the sessions meet

    def setUp(self):
        super().setUp()
        self.daemon = self.target(disks=self.disks(), settings=self.settings)

    def open(self, isid=1, luns=DISKS, **options):
        session = iscsi.Session.open(self.daemon.portal(), TARGET_NAME,
                                     isid=0x80_0000_000000 + isid, **options)
        self.addCleanup(session.close)
        for lun in luns:
            session.ready(lun)
        return session

    def still_serves(self):
        self.assertTrue(self.daemon.running(), self.daemon.log())
        session = self.open(isid=0xFFFF)
        for lun in DISKS:
            session.write(8, BLOCK, lun=lun)
            self.assertEqual(session.read(8, 1, lun=lun), BLOCK)
        session.logout()


class Places(DataPathCase):
    def occupy(self, session, count, lun=0):
        """Writes whose data does not come: each holds a place of the unit's 128."""
        for each in range(count):
            session.submit(scsi.write16(64 + each, 1), lun=lun, data_out=BLOCK, immediate=b"",
                           unsolicited=False, answer_r2t=False)

    def test_the_end_of_a_session_runs_commands_that_end_at_once(self):
        other = self.open(isid=1)
        self.occupy(other, 127)
        session = self.open(isid=2)
        self.occupy(session, 1)
        session.poll(0.2)
        for _ in range(60):  # they wait for a place, get it during the abort, and end within it
            session.submit(scsi.write16(0, 0), lun=0)
        time.sleep(0.2)
        session.drop()
        other.poll(0.2)
        other.drop()
        self.still_serves()

    def test_thousands_that_wait_for_a_place_and_end_at_once(self):
        other = self.open(isid=1)
        self.occupy(other, 128)
        other.poll(0.2)
        waiting = [self.open(isid=2 + number) for number in range(16)]
        tasks = []
        for session in waiting:
            tasks += [(session, session.submit(scsi.write16(0, 0), lun=0)) for _ in range(150)]
        time.sleep(0.3)
        other.drop()
        for session, task in tasks:
            self.assertTrue(session.wait(task).good)
        self.still_serves()



class Tags(DataPathCase):
    def test_a_tag_is_free_again_with_the_response(self):
        # The responses before the big reads are taken while the send that carries them is not over.
        session = self.open(receive_buffer=4096)
        for turn in range(30):
            base = session.next_itt
            first = session.submit(scsi.test_unit_ready(), lun=0)
            session.submit(scsi.read16(0, 4096), lun=0, read_length=4096 * 512)
            self.assertTrue(session.wait(first).good)
            session.next_itt = base
            again = session.submit(scsi.test_unit_ready(), lun=0)
            session.next_itt = base + 1000
            self.assertTrue(session.wait(again).good, f"turn {turn}")
        self.still_serves()


class Unsolicited(DataPathCase):
    def test_more_than_the_cdb_moves_across_its_end(self):
        session = self.open(keys={"InitialR2T": "No", "ImmediateData": "Yes"})
        data = os.urandom(16384)  # announced and sent; the CDB says 8 KiB
        pdu = Pdu(Opcode.SCSI_COMMAND, flags=0x21, itt=session.next_itt, lun=1, data=data[:4096])
        pdu.put32(20, len(data)).put32(24, session.cmd_sn).put32(28, session.exp_stat_sn)
        pdu.bhs[32:48] = scsi.write16(0, 16).ljust(16, b"\0")
        task = iscsi.Task(session.next_itt, session.cmd_sn, 1, data, False)
        session.tasks[task.itt] = task
        session.next_itt += 1
        session.cmd_sn += 1
        session.send(pdu)
        session.send_data_out(task, data=data[4096:], offset=4096)
        response = session.wait(task, 5 * slowness())
        self.assertTrue(response.good, response)
        self.assertEqual((response.underflow, response.residual), (True, 8192))
        self.assertEqual(session.read(0, 16, lun=1), data[:8192])
        self.still_serves()


class Answers(DataPathCase):
    def test_commands_of_a_client_that_takes_no_answers_do_not_use_up_the_slots(self):
        greedy = self.open(receive_buffer=4096)
        greedy.socket.settimeout(1.0)
        try:
            for _ in range(12_000):
                greedy.submit(scsi.read16(0, 16), lun=0, read_length=8192)
        except OSError:
            pass  # it reads no more from us: as it should
        time.sleep(0.3)
        self.still_serves()

    def test_logouts_again_and_again(self):
        for number in range(40):
            session = self.open(isid=2 + number)
            session.submit(scsi.write16(0, 8), lun=0, data_out=BLOCK * 8, immediate=b"",
                           unsolicited=False, answer_r2t=False)
            for _ in range(20):
                session.send(Pdu(Opcode.LOGOUT, flags=0x80, itt=session.next_itt, immediate=True)
                             .put32(24, session.cmd_sn).put32(28, session.exp_stat_sn))
                session.next_itt += 1
            with contextlib.suppress(iscsi.Closed):
                session.poll(0.02)
            session.drop()
        self.still_serves()


class Hanging(DataPathCase):
    """With a backing that hangs."""

    def setUp(self):
        self.fs = None
        super().setUp()

    def disks(self):
        self.fs = self.slowfs()
        self.addCleanup(self.fs.clear)
        return [Disk("mem", kind="memory", size="16MiB"),
                Disk("file", path=str(self.fs.mount / "slow.img"), extra={"thin": False}),
                Disk("other", size="8MiB")]

    def hang(self, session):
        self.fs.add("hang", op="write", hang=True, start=0, end=4096)
        task = session.submit(scsi.write16(0, 8), lun=1, data_out=b"\x11" * 4096)
        self.wait_until(lambda: self.fs.held() == 1, "the write is in the backing")
        return task

    def test_a_connection_lost_while_its_logout_waits(self):
        session = self.open()
        self.hang(session)
        session.send(Pdu(Opcode.LOGOUT, flags=0x80, itt=0x77, immediate=True)
                     .put32(24, session.cmd_sn).put32(28, session.exp_stat_sn))
        session.poll(0.3)
        session.drop()
        time.sleep(0.3)
        self.fs.clear()
        time.sleep(0.3)
        self.still_serves()

    def test_a_stalled_unit_leaves_its_session_buffers_for_the_others(self):
        session = self.open(luns=(0, 1, 2))
        self.fs.add("hang", op="write", hang=True)
        data = bytes(512 * 512)
        for number in range(150):  # away from what still_serves() writes beside them afterwards
            session.submit(scsi.write16(512 * (1 + number % 15), 512), lun=1, data_out=data)
            session.poll(0)
        session.poll(0.5)
        self.assertGreater(self.fs.held(), 0)
        session.write(0, bytes(65536), lun=2)
        for _ in range(3):
            self.assertEqual(session.read(0, 512, lun=2), data)
        self.fs.clear()
        self.still_serves()

    def remap(self, luns):
        self.daemon.targets = [TargetName(luns=luns)]
        self.daemon.rewrite()
        return self.daemon.cli("apply", str(self.daemon.config_file))

    def test_a_lun_that_names_another_disk_while_a_command_runs(self):
        session = self.open(luns=(0, 1, 2))
        self.hang(session)
        self.in_background(self.remap, {0: "mem", 1: "other"})
        self.wait_until(lambda: len(self.luns(session)) == 2, "the new map holds")
        session.ready(1)
        session.write(64, b"\x33" * 512, lun=1)
        self.fs.clear()
        session.poll(0.3)
        with open(self.daemon.disk_path("other"), "rb") as file:
            file.seek(64 * 512)
            self.assertEqual(file.read(512), b"\x33" * 512, "written to the disk of the old map")

    def luns(self, session):
        data = session.good(scsi.report_luns(), lun=0, read_length=4096)
        return range(int.from_bytes(data[:4], "big") // 8)

    def in_background(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        self.addCleanup(thread.join)


class Chaos(DataPathCase):
    settings = {"threads": 2, "buffer_memory": "8MiB"}
    SECONDS = 12

    def test_random_pdus(self):
        seed = int(os.environ.get("HOLDFAST_SEED", time.time_ns() % 1_000_000))
        chooser = random.Random(seed)
        sessions = []
        end = time.monotonic() + self.SECONDS
        while time.monotonic() < end:
            self.assertTrue(self.daemon.running(), f"seed {seed}: {self.daemon.log()[-4000:]}")
            try:
                if len(sessions) < 8:
                    sessions.append(self.start(chooser))
                at = chooser.randrange(len(sessions))
                self.throw(chooser, sessions[at])
            except (OSError, iscsi.Closed, iscsi.LoginFailed, TimeoutError):
                if sessions:
                    sessions.pop(min(at, len(sessions) - 1)).close()
            if chooser.random() < 0.01 and sessions:
                sessions.pop(chooser.randrange(len(sessions))).drop()
        for session in sessions:
            session.drop()
        self.still_serves()

    def start(self, chooser):
        digest = chooser.choice(["None", "CRC32C"])
        return iscsi.Session.open(
            self.daemon.portal(), TARGET_NAME, isid=0x80_0000_000000 + chooser.randrange(12),
            keys={"HeaderDigest": digest, "DataDigest": chooser.choice(["None", "CRC32C"]),
                  "InitialR2T": chooser.choice(["Yes", "No"]),
                  "ImmediateData": chooser.choice(["Yes", "No"]),
                  "MaxOutstandingR2T": str(chooser.choice([1, 8]))},
            deadline=3)

    def throw(self, chooser, session):
        what = chooser.random()
        lun = chooser.randrange(2)
        if what < 0.55:
            self.throw_command(chooser, session, lun)
        elif what < 0.75:
            self.throw_data(chooser, session)
        elif what < 0.83:
            tags = list(session.tasks) or [1]
            pdu = Pdu(Opcode.TASK_MANAGEMENT, flags=0x80 | chooser.choice(list(TaskFunction)[:7]),
                      itt=session.next_itt, lun=lun, immediate=chooser.random() < 0.7)
            session.next_itt += 1
            pdu.put32(20, chooser.choice(tags)).put32(24, session.cmd_sn)
            pdu.put32(28, session.exp_stat_sn)
            pdu.put32(32, session.cmd_sn + chooser.randrange(-2, 3) & 0xFFFFFFFF)
            session.send(pdu)
            if not pdu.bhs[0] & 0x40:
                session.cmd_sn += 1
        elif what < 0.86:
            pdu = Pdu(chooser.randrange(0x40), flags=chooser.randrange(256),
                      itt=chooser.randrange(1 << 32), data=os.urandom(chooser.randrange(200)),
                      immediate=True)
            session.send(pdu)
        elif what < 0.88:
            whole = Pdu(Opcode.SCSI_COMMAND, flags=0xA1, itt=session.next_itt, lun=lun,
                        data=bytes(8192))
            whole.put32(20, 8192).put32(24, session.cmd_sn)
            whole.bhs[32:48] = scsi.write16(0, 16).ljust(16, b"\0")
            session.send_raw(whole.encode()[:chooser.randrange(1, 8200)])
            raise iscsi.Closed()
        else:
            session.poll(chooser.choice([0, 0, 0.002, 0.02]))

    def throw_command(self, chooser, session, lun):
        blocks = chooser.choice([0, 1, 8, 64, 512, 1024])
        lba = chooser.choice([0, 0, 3, 4096])
        data = bytes(blocks * 512)
        few = min(blocks, 16)
        cdb, options = chooser.choice([
            (scsi.read16(lba, blocks), {"read_length": len(data)}),
            (scsi.write16(lba, blocks), {"data_out": data}),
            (scsi.write16(lba, blocks), {"data_out": data, "answer_r2t": False}),
            (scsi.verify16(lba, blocks, bytchk=1), {"data_out": data}),
            (scsi.write_same16(lba, 64), {"data_out": BLOCK}),
            (scsi.write_same16(lba, 64, unmap=True, no_data=True), {}),
            (scsi.compare_and_write(lba, few), {"data_out": bytes(2 * few * 512)}),
            (b"\x8b\0" + scsi.write16(lba, blocks)[2:], {"data_out": data}),
            (b"\x8e\0" + scsi.write16(lba, blocks)[2:], {"data_out": data}),
            (scsi.get_lba_status(0), {"read_length": 4096}),
            (scsi.inquiry(), {"read_length": 255}),
            (scsi.report_luns(), {"read_length": 4096}),
            (scsi.synchronize_cache10(), {}),
            (os.urandom(16), {"read_length": chooser.randrange(4096)}),
        ])
        if chooser.random() < 0.1:
            options["expected_length"] = chooser.choice([0, 1, 511, 512, 65536, 1 << 20])
        if chooser.random() < 0.05:
            session.cmd_sn = (session.cmd_sn + 1) & 0xFFFFFFFF
        session.submit(cdb, lun=lun, is_immediate=chooser.random() < 0.1, **options)

    def throw_data(self, chooser, session):
        tasks = [task for task in session.tasks.values() if task.r2ts]
        if not tasks:
            return
        task = chooser.choice(tasks)
        r2t = task.r2ts.pop()
        if chooser.random() < 0.8:
            session.send_data_out(task, r2t)
        else:
            session.send_data_out(task, r2t, data=task.data_out[:chooser.randrange(2000)],
                                  offset=chooser.randrange(4096),
                                  data_sn=chooser.randrange(3))


if __name__ == "__main__":
    case.main()
