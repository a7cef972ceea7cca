"""holdfast-mpiod as a process: devices over two portals, NBD, command line, faults, restarts."""

import json
import re
import time

from holdfast import case, nbd, paths
from holdfast.mpiod import INITIATOR_NAME, Device
from holdfast.process import run
from holdfast.target import TARGET_NAME, Disk, Initiator, TargetName, slowness
from holdfast.writer import Writer

BLOCK = 4096


class Mpiod(case.TestCase):
    def both_active(self, mpiod):
        self.wait_until(lambda: mpiod.states() == ["ACTIVE", "ACTIVE"], "both paths are active")

    # --- data

    def test_what_is_written_over_nbd_is_on_the_disk(self):
        target = self.target()
        mpiod = self.mpiod(target)
        info = json.loads(run(["nbdinfo", "--json", mpiod.url("csv1")]).stdout)["exports"][0]
        self.assertEqual(info["export-size"], 64 << 20)
        self.assertTrue(info["can_multi_conn"])
        run(["qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 3M", "-c", "flush",
             "-c", "read -P 0x5a 1M 3M", "-c", "read -P 0 0 1M", mpiod.url("csv1")])
        mpiod.stop()
        self.assertFalse(mpiod.nbd("csv1").exists(), "the NBD socket is left behind")
        with open(target.disk_path("d0"), "rb") as file:
            file.seek(1 << 20)
            self.assertEqual(file.read(3 << 20), b"\x5a" * (3 << 20))

    def test_both_paths_carry_io(self):
        mpiod = self.mpiod(self.target(), devices=[Device(extra={"policy": "round-robin"})])
        self.both_active(mpiod)
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        writer.goes_on()
        writer.stop()
        for path in mpiod.paths().values():
            self.assertGreater(path["reads"] + path["writes"], 0, path["name"])
        self.assertEqual(len({path["isid"] for path in mpiod.paths().values()}), 2)

    def test_several_devices_on_several_threads(self):
        target = self.target(disks=[Disk("d0"), Disk("d1", size="32MiB")])
        mpiod = self.mpiod(target, settings={"io_threads": 2},
                           devices=[Device("a", lun=0), Device("b", lun=1)])
        for name, size in (("a", 64), ("b", 32)):
            client = nbd.Client(mpiod.nbd(name), name)
            self.assertEqual(client.size, size << 20)
            client.write(0, name.encode() * BLOCK)
            self.assertEqual(client.read(0, BLOCK), name.encode() * BLOCK)
            client.close()
        wwids = {device["wwid"] for device in mpiod.devices().values()}
        self.assertEqual(len(wwids), 2)

    def test_chap_both_ways_and_digests(self):
        account = {"chap": ("hv1", "secret-of-hv1x"), "mutual_chap": ("store", "secret-of-store")}
        target = self.target(targets=[TargetName(initiators=[Initiator(INITIATOR_NAME,
                                                                       **account)])])
        files = {kind: target._account(each) for kind, each in account.items()}
        mpiod = self.mpiod(target, devices=[Device(extra=files | {"header_digest": True,
                                                                  "data_digest": "crc32c"})])
        self.both_active(mpiod)
        client = nbd.Client(mpiod.nbd("csv1"), "csv1")
        client.write(0, b"\x77" * BLOCK)
        self.assertEqual(client.read(0, BLOCK), b"\x77" * BLOCK)
        client.close()
        sessions = target.cli.json("session", "list")
        self.assertEqual({session["user"] for session in sessions}, {"hv1"})
        self.assertTrue(all(session["header_digest"] and session["data_digest"]
                            for session in sessions))

    # --- faults

    def test_io_goes_on_when_the_target_is_killed_and_comes_back(self):
        target = self.target()
        mpiod = self.mpiod(target)
        self.both_active(mpiod)
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        writer.goes_on()
        target.kill()
        self.wait_until(lambda: "without_path_ms" in mpiod.devices()["csv1"],
                        "the device has no path")
        target.start()
        writer.goes_on(deadline=30)
        writer.stop()
        self.assertEqual(mpiod.devices()["csv1"]["failed"], 0)

    def test_path_that_is_disabled_carries_nothing(self):
        mpiod = self.mpiod(self.target())
        self.both_active(mpiod)
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        first, second = mpiod.paths()
        mpiod.cli("disable", "csv1", first)
        self.wait_until(lambda: mpiod.paths()[first]["state"] == "DISABLED", "it is disabled")
        before = mpiod.paths()
        writer.goes_on()
        after = mpiod.paths()
        self.assertEqual(after[first]["writes"], before[first]["writes"])
        self.assertGreater(after[second]["writes"], before[second]["writes"])
        self.assertIn("administrator disabled it", mpiod.cli("explain", "csv1").stdout)
        mpiod.cli("enable", "csv1", first)
        self.both_active(mpiod)
        writer.stop()

    def test_device_comes_up_with_one_path(self):
        target = self.target()
        dead = "127.0.0.3:%d" % target.port
        living = "127.0.0.1:%d" % target.port
        mpiod = self.mpiod(target, devices=[Device(portals=[(dead, None), (living, "127.0.0.1")])])
        client = nbd.Client(mpiod.nbd("csv1"), "csv1")
        self.assertEqual(client.read(0, BLOCK), bytes(BLOCK))
        client.close()
        explained = mpiod.cli("explain", "csv1").stdout
        self.assertIn("only one path works", explained)
        self.assertEqual(mpiod.paths()[living]["source"], "127.0.0.1")

    def test_command_line_answers_in_time_with_all_paths_down(self):
        target = self.target()
        mpiod = self.mpiod(target)
        self.both_active(mpiod)
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        writer.goes_on()
        target.kill()
        self.wait_until(lambda: mpiod.devices()["csv1"]["executing"] > 0 and
                        "without_path_ms" in mpiod.devices()["csv1"], "a request waits")
        first = next(iter(mpiod.paths()))
        for words, status in ((["list"], 0), (["list", "--json"], 0), (["explain", "csv1"], 0),
                              (["policy", "csv1", "failover"], 0), (["top", "-n", "1"], 0),
                              (["disable", "csv1", first], 0), (["enable", "csv1", first], 0),
                              (["fence-test", "csv1"], 1)):
            began = time.monotonic()
            mpiod.cli(*words, status=status)
            self.assertLess(time.monotonic() - began, 2 * slowness(), words)
        self.assertIn("no path is usable", mpiod.cli("list").stdout)
        target.start()
        writer.goes_on(deadline=30)
        writer.stop()

    # --- the command line

    def test_list_says_what_is_in_force_and_why(self):
        mpiod = self.mpiod(self.target(), devices=[Device(extra={"policy": "failover"})])
        self.both_active(mpiod)

        def effective():
            return {value["key"]: (value["value"], value["origin"])
                    for value in mpiod.devices()["csv1"]["effective"]}

        line = mpiod.line_of("policy")
        self.assertEqual(effective()["policy"], ("failover", f"{mpiod.config_file}:{line}"))
        self.assertEqual(effective()["profile"], ("lan", "default"))
        mpiod.cli("policy", "csv1", "least-queue-depth")
        self.assertEqual(effective()["policy"], ("least-queue-depth", "runtime"))
        device = mpiod.devices()["csv1"]
        self.assertRegex(device["wwid"], r"^naa\.6")
        self.assertEqual(device["vendor"], "HOLDFAST")
        for path in device["paths"]:
            self.assertEqual(path["alua"], "active/optimized")
            self.assertTrue(path["why"])
        text = mpiod.cli("list").stdout
        for word in (device["wwid"], "IN FLIGHT", "LATENCY", "WHY", "least-queue-depth", "runtime"):
            self.assertIn(word, text)
        self.assertIn("DEVICE", mpiod.cli("top", "-n", "1").stdout)

    def test_wrong_requests_are_refused(self):
        mpiod = self.mpiod(self.target())
        self.assertIn("did you mean `csv1`?", mpiod.cli("explain", "csv2", status=1).stderr)
        self.assertIn("no path `x`", mpiod.cli("disable", "csv1", "x", status=1).stderr)
        mpiod.cli("policy", "csv1", "fastest", status=2)
        answer = json.loads(mpiod.cli("disable", "csv1", "x", "--json", status=1).stdout)
        self.assertFalse(answer["ok"])
        mpiod.stop()
        self.assertIn("no daemon answers", mpiod.cli("list", status=2).stderr)

    def test_fence_test_reinstates_its_own_session_only(self):
        target = self.target()
        mpiod = self.mpiod(target)
        self.both_active(mpiod)
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        writer.goes_on()
        before = mpiod.paths()
        answer = json.loads(mpiod.cli("fence-test", "csv1", "--json").stdout)
        self.assertTrue(answer["reinstated"])
        self.assertGreater(answer["login_ms"], 0)
        writer.goes_on()
        writer.stop()
        for name, path in mpiod.paths().items():
            self.assertEqual(path["sessions"], before[name]["sessions"])
            self.assertEqual(path["state"], "ACTIVE")
        self.wait_until(lambda: len(target.cli.json("session", "list")) == 2,
                        "the extra sessions have ended")

    def test_fence_test_across_portal_groups_fails(self):
        target = self.target(portal_groups={1: ["127.0.0.1"], 2: ["127.0.0.2"]},
                             targets=[TargetName(portal_groups=[1, 2])])
        mpiod = self.mpiod(target)
        self.both_active(mpiod)
        self.assertIn("different portal groups", mpiod.cli("fence-test", "csv1", status=1).stdout)
        self.assertIn("several portal groups", mpiod.cli("explain", "csv1").stdout)

    # --- configuration

    def test_wrong_configurations_start_nothing(self):
        target = self.target()
        mpiod = self.mpiod(target, start=False)
        good = mpiod.config_text()
        for text, said in ((good + "\nbogus = 1\n", "unknown key `bogus`"),
                           (good.replace('"csv1"', '"csv2"', 1), "no device is named `csv1`"),
                           (good.replace("lun = 0", "lun = -1"), "whole number from 0 to 16383"),
                           ("", "missing key `initiator_name`"),
                           (good.replace("127.0.0.2", "127.0.0.1"), "already used")):
            mpiod.rewrite(text)
            for more in ([], ["--check"]):
                result = run([mpiod.program, "--config", mpiod.config_file, *more], check=False,
                             deadline=10)
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn(said, result.stderr)
                self.assertIn(str(mpiod.config_file), result.stderr)
        self.assertFalse(mpiod.state_dir.exists())
        mpiod.rewrite()
        run([mpiod.program, "--config", mpiod.config_file, "--check"])

    # --- life

    def test_isids_stay_over_a_restart(self):
        target = self.target()
        mpiod = self.mpiod(target)
        self.both_active(mpiod)
        before = {name: path["isid"] for name, path in mpiod.paths().items()}
        mpiod.kill()
        mpiod.start()
        self.both_active(mpiod)
        self.assertEqual({name: path["isid"] for name, path in mpiod.paths().items()}, before)
        # Reinstated, not added to.
        self.assertEqual(len(target.cli.json("session", "list")), 2)

    def test_damaged_isids_start_nothing(self):
        target = self.target()
        mpiod = self.mpiod(target)
        mpiod.stop()
        file = mpiod.state_dir / "isids"
        file.write_text(file.read_text().replace("0001", "0002", 1))
        result = run([mpiod.program, "--config", mpiod.config_file], check=False, deadline=10)
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"{file} is damaged", result.stderr)
        self.assertEqual(target.cli.json("session", "list"), [])

    def test_second_daemon_never_shares_the_state_directory(self):
        target = self.target()
        first = self.mpiod(target)
        second = self.mpiod(target, start=False, settings={"state_dir": first.state_dir})
        result = run([second.program, "--config", second.config_file], check=False, deadline=10)
        self.assertEqual(result.returncode, 1)
        self.assertIn("another holdfast-mpiod uses the state directory", result.stderr)
        self.assertEqual(first.states(), ["ACTIVE", "ACTIVE"])

    def test_starts_without_a_target_and_takes_it_when_it_comes(self):
        target = self.target(start=False)
        mpiod = self.mpiod(target)  # READY all the same
        self.assertFalse(mpiod.devices()["csv1"]["known"])
        self.assertFalse(mpiod.nbd("csv1").exists())
        target.start()
        self.wait_until(mpiod.nbd("csv1").exists, "the export appears", deadline=20)
        client = nbd.Client(mpiod.nbd("csv1"), "csv1")
        self.assertEqual(client.size, 64 << 20)
        client.close()

    def test_sigterm_ends_in_time_with_requests_that_wait(self):
        target = self.target()
        mpiod = self.mpiod(target)
        self.both_active(mpiod)
        writer = Writer(mpiod.nbd("csv1"), "csv1")
        writer.goes_on()
        target.kill()
        self.wait_until(lambda: "without_path_ms" in mpiod.devices()["csv1"], "no path is left")
        began = time.monotonic()
        mpiod.stop(deadline=5)
        self.assertLess(time.monotonic() - began, 5 * slowness())
        with self.assertRaises(AssertionError):
            writer.stop()


class InitiatorCommands(case.TestCase):
    """`holdfast initiator`, which needs no daemon."""

    def cli(self, *words, status=0):
        result = run([paths.program("holdfast"), "initiator", *words], check=False, deadline=30)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result

    def portals(self, target):
        return ["%s:%d" % target.portal(path) for path in (0, 1)]

    def test_discovery(self):
        target = self.target()
        portals = self.portals(target)
        found = json.loads(self.cli("discover", portals[0], "--json").stdout)["targets"]
        self.assertEqual([each["name"] for each in found], [TARGET_NAME])
        self.assertEqual({portal["address"] for portal in found[0]["portals"]}, set(portals))
        self.assertIn(TARGET_NAME, self.cli("discover", portals[0]).stdout)

    def test_login_test_shows_both_portals(self):
        target = self.target(disks=[Disk("d0"), Disk("d1", size="32MiB")])
        options = [word for portal in self.portals(target) for word in ("--portal", portal)]
        report = json.loads(self.cli("login-test", TARGET_NAME, *options, "--json").stdout)
        self.assertEqual(report["problems"], [])
        first, second = report["portals"]
        self.assertEqual([unit["size_bytes"] for unit in first["units"]], [64 << 20, 32 << 20])
        self.assertEqual([unit["identity"] for unit in first["units"]],
                         [unit["identity"] for unit in second["units"]])
        for portal in report["portals"]:
            self.assertGreater(portal["login_ms"], 0)
            self.assertGreater(portal["logout_ms"], 0)
        self.assertIn("All portals lead to the same units",
                      self.cli("login-test", TARGET_NAME, *options).stdout)

    def test_login_test_says_what_is_wrong(self):
        secret = self.scratch / "secret"
        secret.write_text("not-the-right-one\n")
        secret.chmod(0o600)
        target = self.target(targets=[TargetName(initiators=[
            Initiator("*", chap=("hv1", "secret-of-hv1x"))])])
        portal = self.portals(target)[0]
        chap = ["--chap-user", "hv1", "--chap-secret-file", secret]
        text = self.cli("login-test", TARGET_NAME, "--portal", portal, *chap, status=1).stdout
        self.assertIn("not usable", text)
        secret.write_text("secret-of-hv1x\n")
        text = self.cli("login-test", TARGET_NAME, "--portal", portal, *chap).stdout
        self.assertIn("CHAP: done", text)
        dead = "127.0.0.3:%d" % target.port
        text = self.cli("login-test", TARGET_NAME, "--portal", portal, "--portal", dead, *chap,
                        status=1).stdout
        self.assertRegex(text, re.escape(dead) + r"\n +not usable")
        self.assertIn("--source", self.cli("login-test", TARGET_NAME, "--portal", portal,
                                           "--source", "127.0.0.1", "--source", "127.0.0.2",
                                           status=2).stderr)


if __name__ == "__main__":
    case.main()
