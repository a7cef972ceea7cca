"""The watch over network interfaces, against a kernel's real ones in a network namespace of its
own: a veth pair whose far end is the cable."""

import os
import queue
import signal
import subprocess
import threading

from holdfast import case, paths
from holdfast.process import die_with_parent, run

LARGE = 1 << 20
ADDRESS = "10.9.0.1"


class Watch:
    """link_watch_tool in a namespace that ends with it."""

    def __init__(self, receive_buffer, addresses):
        self.process = subprocess.Popen(
            [paths.tool("unshare"), "-n", paths.program("link_watch_tool"), str(receive_buffer),
             *addresses],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent())
        self.lines = queue.Queue()
        self.places = {}  # the last that was said of each address
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "where":
                self.places[words[1]] = (words[2], words[3])
            else:
                self.lines.put(line.strip())

    def wait_for(self, line, deadline=10):
        """The lines up to this one, which must come."""
        seen = []
        while not seen or seen[-1] != line:
            try:
                seen.append(self.lines.get(timeout=deadline))
            except queue.Empty:
                raise AssertionError(f"no line '{line}', only {seen}") from None
        return seen

    def ip(self, *arguments):
        run(["nsenter", "-t", self.process.pid, "-n", paths.tool("ip"), *arguments])

    def stop(self):
        """Its end must be clean."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.stdin.close()
        try:
            status = self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait(10)
            self.reader.join(10)
            self.process.stdout.close()
        if status != 0:
            raise AssertionError(f"link_watch_tool ended with status {status}")


class LinkWatchTest(case.TestCase):
    def watch(self, receive_buffer=LARGE, addresses=(ADDRESS,)):
        watch = Watch(receive_buffer, addresses)
        self.addCleanup(watch.stop)
        watch.wait_for("ready")
        return watch

    def make_link(self, watch):
        """san0 with the address, up; san1 is where its cable ends."""
        watch.ip("link", "add", "san0", "type", "veth", "peer", "name", "san1")
        watch.ip("addr", "add", f"{ADDRESS}/24", "dev", "san0")
        watch.ip("link", "set", "san1", "up")
        watch.ip("link", "set", "san0", "up")
        watch.wait_for("link san0 up")

    def test_nothing_is_there_before_it_is_made(self):
        watch = self.watch()
        self.assertEqual(watch.places[ADDRESS], ("-", "down"))

    def test_the_cable(self):
        watch = self.watch()
        self.make_link(watch)
        self.wait_until(lambda: watch.places[ADDRESS] == ("san0", "up"), "the address is on san0")
        watch.ip("link", "set", "san1", "down")
        watch.wait_for("link san0 down")
        self.wait_until(lambda: watch.places[ADDRESS] == ("san0", "down"), "and not usable")
        watch.ip("link", "set", "san1", "up")
        watch.wait_for("link san0 up")

    def test_set_down_by_the_administrator(self):
        watch = self.watch()
        self.make_link(watch)
        watch.ip("link", "set", "san0", "down")
        watch.wait_for("link san0 down")

    def test_addresses_come_and_go(self):
        second = "fd09::1"
        watch = self.watch(addresses=(ADDRESS, second))
        self.make_link(watch)
        watch.ip("addr", "del", f"{ADDRESS}/24", "dev", "san0")
        watch.wait_for(f"removed san0 up {ADDRESS}")
        self.wait_until(lambda: watch.places[ADDRESS] == ("-", "down"), "the address is nowhere")
        # Told when duplicate address detection has ended, which takes a second or two.
        watch.ip("addr", "add", f"{second}/64", "dev", "san0")
        watch.wait_for(f"added san0 up {second}")

    def test_an_interface_goes_with_its_addresses(self):
        watch = self.watch()
        self.make_link(watch)
        watch.ip("link", "del", "san0")
        seen = watch.wait_for("link san0 down")
        while not any(line.startswith("removed san0") and line.endswith(ADDRESS) for line in seen):
            seen += watch.wait_for("link san0 down")
        self.wait_until(lambda: watch.places[ADDRESS] == ("-", "down"), "the address is nowhere")

    def test_lost_messages_are_made_up_for(self):
        watch = self.watch(receive_buffer=4096)
        self.make_link(watch)
        os.kill(watch.process.pid, signal.SIGSTOP)
        for last in range(2, 60):
            watch.ip("addr", "add", f"10.9.1.{last}/24", "dev", "san0")
        watch.ip("addr", "del", f"{ADDRESS}/24", "dev", "san0")
        watch.ip("link", "set", "san1", "down")
        os.kill(watch.process.pid, signal.SIGCONT)
        seen = watch.wait_for("overrun")
        self.wait_until(lambda: watch.places[ADDRESS] == ("-", "down"), "the address is nowhere")
        # The last change of all was among the lost ones, and is told all the same; the loss may be
        # reported before or after it.
        if "link san0 down" not in seen:
            watch.wait_for("link san0 down")


if __name__ == "__main__":
    case.main()
