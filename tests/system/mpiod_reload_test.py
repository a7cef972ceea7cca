"""holdfast-mpiod takes a changed configuration on SIGHUP: values, exports and devices come and go,
and what the change does not concern goes on."""

import signal

from holdfast import case, nbd
from holdfast.crash_case import CrashCase
from holdfast.mpiod import Device
from holdfast.target import Disk
from holdfast.writer import Writer

BLOCK = 4096


class Reload(case.TestCase):
    def both_active(self, mpiod):
        self.wait_until(lambda: mpiod.states() == ["ACTIVE", "ACTIVE"], "both paths are active")

    def reload(self, mpiod, outcome="reload: done"):
        before = mpiod.log().count(outcome)
        mpiod.rewrite()
        mpiod.signal(signal.SIGHUP)
        self.wait_until(lambda: mpiod.log().count(outcome) > before, outcome)

    def test_sighup_applies_what_may_change(self):
        mpiod = self.mpiod(self.target())
        self.both_active(mpiod)
        mpiod.devices_wanted[0].extra = {"policy": "round-robin", "profile": "safe",
                                         "no_path_timeout": "7s"}
        mpiod.rewrite()
        mpiod.signal(signal.SIGHUP)
        self.wait_until(lambda: mpiod.devices()["csv1"]["profile"] == "safe", "it is applied")
        device = mpiod.devices()["csv1"]
        self.assertEqual(device["policy"], "round-robin")
        values = {value["key"]: value["value"] for value in device["effective"]}
        self.assertEqual(values["no_path_timeout"], "7000ms")

        mpiod.devices_wanted[0].extra["sessions_per_portal"] = 2
        mpiod.devices_wanted[0].extra["policy"] = "failover"
        mpiod.rewrite()
        mpiod.signal(signal.SIGHUP)
        self.wait_until(lambda: "`sessions_per_portal` cannot be changed" in mpiod.log(),
                        "it is refused")
        self.assertEqual(mpiod.devices()["csv1"]["policy"], "round-robin")

    def test_a_device_comes_and_goes_while_another_carries_io(self):
        target = self.target(disks=[Disk("d0"), Disk("d1", size="32MiB")])
        mpiod = self.mpiod(target, settings={"io_threads": 2}, devices=[Device("csv1", lun=0)])
        self.both_active(mpiod)
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        mine = {session["id"] for session in target.cli.json("session", "list")}
        self.assertEqual(len(mine), 2)
        for turn in range(3):
            mpiod.devices_wanted.append(Device("csv2", lun=1))
            self.reload(mpiod)
            self.wait_until(mpiod.nbd("csv2").exists, "it is exported")
            client = nbd.Client(mpiod.nbd("csv2"), "csv2")
            self.addCleanup(client.close)
            self.assertEqual(client.size, 32 << 20)
            self.assertEqual(client.read(0, BLOCK), bytes([turn]) * BLOCK)
            client.write(0, bytes([turn + 1]) * BLOCK)
            self.wait_until(lambda: len(target.cli.json("session", "list")) == 4, "its sessions")
            writer.goes_on()

            del mpiod.devices_wanted[1]
            self.reload(mpiod)
            self.assertEqual(list(mpiod.devices()), ["csv1"])
            self.assertFalse(mpiod.nbd("csv2").exists(), "its socket is left behind")
            with self.assertRaises((nbd.Error, OSError)):
                client.read(0, BLOCK)
            # Logged out, not dropped; and nobody touched the others.
            self.assertEqual({session["id"] for session in target.cli.json("session", "list")},
                             mine)
            writer.goes_on()
        self.assertEqual(mpiod.states(), ["ACTIVE", "ACTIVE"])
        writer.stop()

    def test_the_last_device_and_the_first(self):
        mpiod = self.mpiod(self.target())
        device = mpiod.devices_wanted.pop()
        self.reload(mpiod)
        self.assertEqual(mpiod.devices(), {})
        mpiod.devices_wanted.append(device)
        self.reload(mpiod)
        self.both_active(mpiod)
        nbd.Client(mpiod.nbd("csv1"), "csv1").close()

    def test_another_lun_under_the_same_name_takes_two_reloads(self):
        mpiod = self.mpiod(self.target(disks=[Disk("d0"), Disk("d1", size="32MiB")]))
        self.both_active(mpiod)
        mpiod.devices_wanted[0].lun = 1
        self.reload(mpiod, "reload a file without it, then one with it")
        self.assertEqual(mpiod.states(), ["ACTIVE", "ACTIVE"])
        device = mpiod.devices_wanted.pop()
        self.reload(mpiod)
        mpiod.devices_wanted.append(device)
        self.reload(mpiod)
        self.both_active(mpiod)
        client = nbd.Client(mpiod.nbd("csv1"), "csv1")
        self.assertEqual(client.size, 32 << 20)
        client.close()

    def test_an_export_comes_and_goes(self):
        mpiod = self.mpiod(self.target(), devices=[Device(exported=False)])
        self.both_active(mpiod)
        self.assertFalse(mpiod.nbd("csv1").exists())
        for _ in range(2):
            mpiod.devices_wanted[0].exported = True
            self.reload(mpiod)
            self.wait_until(mpiod.nbd("csv1").exists, "it is exported")
            client = nbd.Client(mpiod.nbd("csv1"), "csv1")
            self.addCleanup(client.close)
            client.write(0, b"e" * BLOCK)
            mpiod.devices_wanted[0].exported = False
            self.reload(mpiod)
            self.wait_until(lambda: not mpiod.nbd("csv1").exists(), "the socket is gone")
            with self.assertRaises((nbd.Error, OSError)):
                client.read(0, BLOCK)
        self.assertEqual(mpiod.states(), ["ACTIVE", "ACTIVE"])

    def test_of_many_at_once_the_last_file_counts(self):
        mpiod = self.mpiod(self.target(disks=[Disk("d0"), Disk("d1"), Disk("d2")]))
        for number in range(20):
            mpiod.devices_wanted[1:] = [Device(f"n{number}", lun=1 + number % 2)]
            mpiod.rewrite()
            mpiod.signal(signal.SIGHUP)
        self.wait_until(lambda: list(mpiod.devices()) == ["csv1", "n19"], "the last is there")
        self.wait_until(mpiod.nbd("n19").exists, "it is exported")

    def test_session_identifiers_that_cannot_be_kept_change_nothing(self):
        mpiod = self.mpiod(self.target(disks=[Disk("d0"), Disk("d1")]))
        self.both_active(mpiod)
        obstacle = mpiod.state_dir / "isids.new"
        obstacle.mkdir()
        mpiod.devices_wanted[0].extra = {"policy": "failover"}
        mpiod.devices_wanted.append(Device("csv2", lun=1))
        self.reload(mpiod, "reload: nothing has changed")
        self.assertIn(f"cannot write {obstacle}", mpiod.log())
        self.assertEqual(list(mpiod.devices()), ["csv1"])
        self.assertEqual(mpiod.devices()["csv1"]["policy"], "adaptive")
        obstacle.rmdir()
        self.reload(mpiod)
        self.assertEqual(mpiod.devices()["csv1"]["policy"], "failover")
        self.wait_until(mpiod.nbd("csv2").exists, "it is exported")

    def test_it_ends_in_time_while_a_device_goes_that_cannot(self):
        slow = self.slowfs()
        target = self.target(disks=[Disk("d0"), Disk("d1", path=str(slow.mount / "d1.img"))])
        mpiod = self.mpiod(target, devices=[Device("csv1"), Device("csv2", lun=1)])
        self.addCleanup(slow.clear)
        client = nbd.Client(mpiod.nbd("csv2"), "csv2")
        self.addCleanup(client.close)
        slow.add("hang", op="write", hang=True)
        client.send_write(0, bytes(BLOCK))
        self.wait_until(lambda: slow.held() == 1, "the write is in the backing")
        del mpiod.devices_wanted[1]
        mpiod.rewrite()
        mpiod.signal(signal.SIGHUP)
        self.wait_until(lambda: "csv2" not in mpiod.devices(), "it goes")
        mpiod.stop()


class GoesWhileAWriteHangs(CrashCase):
    """In the disk of the target, for as long as the test wants."""

    DISKS = 2

    def test_the_device_goes_in_time_and_who_comes_next_waits_for_the_write(self):
        self.old_write_hangs()
        for number, wanted in enumerate(([self.device("csv2", 1)], [self.device()]), 1):
            self.mpio.devices_wanted = wanted
            self.mpio.rewrite()
            self.mpio.signal(signal.SIGHUP)
            self.wait_until(lambda n=number: self.mpio.log().count("reload: done") == n,
                            "the device is gone", 8)
        self.next_write_waits()


if __name__ == "__main__":
    case.main()
