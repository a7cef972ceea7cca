"""`holdfast initiator`: what it says of portals that answer, and that it never waits for others."""

import json
import socket
import threading
import time

from holdfast import case, paths
from holdfast.process import run
from holdfast.target import TARGET_NAME, slowness

LIMIT_S = 2.0  # the command line never blocks longer


class FallsSilent:
    """A portal that passes so many answers of the target on, and then nothing more."""

    def __init__(self, portal, answers):
        self.portal, self.answers = portal, answers
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.ends = [self.listener]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self):
        return "%s:%d" % self.listener.getsockname()

    def _serve(self):
        try:
            while True:
                client, _ = self.listener.accept()
                target = socket.create_connection(self.portal)
                self.ends += [client, target]
                threading.Thread(target=self._pass, args=(client, target), daemon=True).start()
                threading.Thread(target=self._answer, args=(target, client), daemon=True).start()
        except OSError:
            pass

    def _pass(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def _answer(self, source, sink):
        try:
            for _ in range(self.answers):
                sink.sendall(source.recv(65536))
        except OSError:
            pass

    def close(self):
        for end in self.ends:
            end.close()


class InitiatorCli(case.TestCase):
    def ask(self, *words):
        began = time.monotonic()
        result = run([paths.program("holdfast"), "initiator", *words, "--json"], check=False)
        took = time.monotonic() - began
        self.assertLess(took, LIMIT_S * slowness(), words)
        return result.returncode, json.loads(result.stdout)

    def silent(self, target, answers):
        made = FallsSilent(target.portal(), answers)
        self.addCleanup(made.close)
        return made.address

    def test_portals_that_answer(self):
        target = self.target()
        portals = ["%s:%d" % target.portal(path) for path in (0, 1)]
        status, report = self.ask("login-test", TARGET_NAME, "--portal", portals[0],
                                  "--portal", portals[1])
        self.assertEqual(status, 0, report)
        self.assertEqual([each["portal"] for each in report["portals"]], portals)
        self.assertEqual(target.cli.json("session", "list"), [], "a session is left behind")
        status, report = self.ask("discover", portals[0])
        self.assertEqual(status, 0, report)

    def test_portals_that_fall_silent_at_any_time(self):
        target = self.target()
        for answers in range(6):
            with self.subTest(answers=answers):
                address = self.silent(target, answers)
                status, _ = self.ask("login-test", TARGET_NAME, "--portal", address)
                self.assertEqual(status, 1)
        for answers in range(3):
            with self.subTest(answers=answers):
                status, _ = self.ask("discover", self.silent(target, answers))
                self.assertEqual(status, 1)

    def test_several_that_are_silent_do_not_add_up(self):
        target = self.target()
        good = "%s:%d" % target.portal()
        portals = [self.silent(target, 0), good, self.silent(target, 1), self.silent(target, 3)]
        status, report = self.ask("login-test", TARGET_NAME,
                                  *(word for each in portals for word in ("--portal", each)))
        self.assertEqual(status, 1)
        self.assertEqual([each["portal"] for each in report["portals"]], portals)
        self.assertEqual([each["logged_in"] for each in report["portals"]],
                         [False, True, False, True])


if __name__ == "__main__":
    case.main()
