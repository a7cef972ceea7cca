"""holdfast-bench-relay: a cable that is slower or longer than loopback, and that breaks."""

import signal
import subprocess

from bench.lib import process


class Relay:
    """Relays `listen` to `to`, both ADDRESS:PORT. Listens when it has been made."""

    def __init__(self, program, listen, to, delay_us=0, rate=0):
        self._process = process.start(
            [program, "--listen", listen, "--to", to, "--delay-us", delay_us, "--rate", rate],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "ready\n":
            said = self._process.stderr.read().strip()
            self.close()
            raise OSError(f"the relay did not start: {said}")

    @property
    def pid(self):
        return self._process.pid

    def reset(self):
        """RST to both ends of each connection; new ones are refused."""
        self._process.send_signal(signal.SIGUSR1)

    def end(self):
        """FIN instead."""
        self._process.send_signal(signal.SIGUSR2)

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()
