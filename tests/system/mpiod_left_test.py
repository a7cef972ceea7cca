"""What a holdfast-mpiod that was killed, or stopped, leaves behind is found again by the next one,
whatever has been changed between them: a write that still hangs in the target never lands on what
is written after it."""

import subprocess

from holdfast import case
from holdfast.crash_case import TWO_GROUPS, CrashCase
from holdfast.slowfs import SlowFs
from holdfast.target import TARGET_NAME, TargetName
from holdfast.wire import Wire


class FullStateDisk(CrashCase):
    STARTED = False

    def state_disk(self):
        """A small one; what fills it."""
        state = self.scratch / "state-disk"
        state.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", state], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", state], check=True)
        return state, state / "filler"

    def fill(self, filler):
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 512)
            except OSError:
                pass

    def test_no_path_is_used_before_it_is_on_disk_that_it_is(self):
        state, filler = self.state_disk()
        for wire in self.wires:
            wire.cut()
        self.mpio = self.mpiod(self.store, start=False, devices=[self.device()],
                               settings={"state_dir": state})
        self.mpio.launch()
        self.wait_until(self.mpio.control_socket.exists, "it answers")
        self.fill(filler)
        for wire in self.wires:
            wire.mend()
        self.wait_until(lambda: self.mpio.log().count("a path is not used") >= 4 or
                        "ACTIVE" in self.mpio.states(), "several attempts of each path", 30)
        try:
            self.assertNotIn("ACTIVE", self.mpio.states())
        finally:
            filler.unlink()
        self.all_active()
        self.crash_with_a_write_that_hangs()
        self.mpio.start()
        self.next_write_waits()


class OtherDevices(CrashCase):
    """The configuration says something else of the disk now."""

    DISKS = 2
    TARGET = {"targets": [TargetName(), TargetName(name=TARGET_NAME + "2")]}

    def test_the_names_of_two_devices_are_exchanged(self):
        self.mpio.stop()
        self.restart_with(self.device("csv1", 0), self.device("csv2", 1))
        self.all_active("csv1")
        self.all_active("csv2")
        self.crash_with_a_write_that_hangs()
        self.restart_with(self.device("csv2", 0), self.device("csv1", 1))
        self.next_write_waits("csv2")

    def test_the_device_has_another_lun_and_a_new_device_has_its_old_one(self):
        self.crash_with_a_write_that_hangs()
        self.restart_with(self.device("csv1", 1), self.device("new", 0))
        self.next_write_waits("new")

    def test_the_device_is_reached_under_another_name_of_the_target(self):
        self.crash_with_a_write_that_hangs()
        text = self.mpio.config_text()
        self.mpio.rewrite(text.replace(f'"{TARGET_NAME}"', f'"{TARGET_NAME}2"'))
        self.mpio.start()
        self.next_write_waits()


class StoppedWithAnOpenFence(CrashCase):
    """The hold is over, but the target drains: only the end of the write ends the fence. While the
    daemon stops its other path is silent, so that it takes the daemon all its time."""

    def stop_and_start(self):
        self.fences_have_had_their_time()
        self.wires[1].stall()
        self.mpio.stop()
        self.wires[1].mend()
        self.mpio.start()

    def test_of_a_session_of_its_own(self):
        self.old_write_hangs()
        self.wires[0].cut()
        self.stop_and_start()
        self.next_write_waits()

    def test_of_a_session_of_the_process_before(self):
        self.crash_with_a_write_that_hangs()
        self.mpio.start()
        self.stop_and_start()
        self.next_write_waits()


class OtherGroup(CrashCase):
    """The only path comes back in another portal group. It is let in after the hold, for nobody
    else can reset the unit; but the login that ends the write is one to the first group."""

    PATHS = 1
    TARGET = TWO_GROUPS

    def come_back_in_the_other_group(self):
        self.old_write_hangs()
        self.wires[0].cut()
        self.wires[0].portal = self.store.portal(1)
        self.wires[0].mend()
        self.wait_for("ACTIVE")
        self.assertTrue(self.held())

    def test_then_it_is_killed(self):
        self.come_back_in_the_other_group()
        self.mpio.kill()
        self.mpio.start()
        self.next_write_waits()

    def test_then_it_is_stopped(self):
        self.come_back_in_the_other_group()
        self.mpio.stop()
        self.mpio.start()
        self.next_write_waits()


class SlowStateDisk(CrashCase):
    TARGET = TWO_GROUPS
    STARTED = False

    def lead_to(self, group):
        self.wires[0].cut()
        self.wires[0].portal = self.store.portal(group)
        self.wires[0].mend()

    def test_the_path_is_back_in_its_first_group_before_the_other_is_noted(self):
        states = SlowFs(self.scratch / "state-disk")
        self.addCleanup(states.stop)
        states.start()
        self.start_daemon(settings={"state_dir": states.mount / "state"})
        states.add("slow", op="fsync", hang=True, count=1)
        self.lead_to(1)
        self.wait_until(lambda: states.held() == 1, "the note is under way", 20)
        self.lead_to(0)
        # It may be let in at once, as this group is noted, or when the note is there.
        self.comes(lambda: self.mpio.states() == ["ACTIVE", "ACTIVE"], 3)
        states.clear()
        self.all_active()
        self.crash_with_a_write_that_hangs()
        self.mpio.start()
        self.next_write_waits()


class NoGroup(CrashCase):
    """A target that does not say which portal group its portals are in."""

    def wire(self, path):
        return Wire(self.store.portal(path),
                    replaces=(b"TargetPortalGroupTag=1", b"X-org.holdfast.nothi=1"))

    def test_its_write_is_found_again_all_the_same(self):
        for path in self.mpio.paths().values():
            self.assertNotIn("portal_group_tag", path)
        self.crash_with_a_write_that_hangs()
        self.mpio.start()
        self.next_write_waits()


class StateDirectory(CrashCase):
    def test_with_a_fifo_in_the_place_of_a_file_the_daemon_is_ready_or_ends(self):
        self.mpio.stop()
        for name in ("closed", "isids"):
            with self.subTest(file=name):
                file = self.mpio.state_dir / name
                content = file.read_bytes() if file.exists() else None
                file.unlink(missing_ok=True)
                subprocess.run(["mkfifo", file], check=True)
                self.mpio.launch()
                try:
                    self.mpio.wait_ready(5)
                except AssertionError:
                    self.assertFalse(self.mpio.running(), "it hangs")
                finally:
                    self.mpio.kill()
                    file.unlink(missing_ok=True)
                    if content is not None:
                        file.write_bytes(content)


if __name__ == "__main__":
    case.main()
