"""The metrics page: Prometheus text on its own address, off unless asked for."""

import http.client
import os
import pathlib
import re
import socket

from holdfast import case, iscsi
from holdfast.target import TARGET_NAME

SAMPLE = re.compile(r"^([a-z_:][a-z0-9_:]*)(\{.*\})? (-?[0-9.e+-]+|[+-]Inf|NaN)$", re.I)


class Metrics(case.TestCase):
    def get(self, target, path="/metrics"):
        connection = http.client.HTTPConnection("127.0.0.1", target.metrics_port, timeout=5)
        self.addCleanup(connection.close)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type", ""), response.read().decode()

    def samples(self, target):
        status, kind, text = self.get(target)
        self.assertEqual(status, 200)
        self.assertTrue(kind.startswith("text/plain"), kind)
        found, typed = {}, set()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                typed.add(line.split()[2])
            elif line and not line.startswith("#"):
                match = SAMPLE.match(line)
                self.assertTrue(match, f"not Prometheus text: {line}")
                self.assertTrue(match[1].startswith("holdfast_"), line)
                self.assertNotIn(match[1] + (match[2] or ""), found, "a sample comes twice")
                found[match[1] + (match[2] or "")] = float(match[3])
                family = re.sub(r"_(bucket|sum|count)$", "", match[1])
                self.assertTrue({match[1], family} & typed, f"no TYPE for {line}")
        return found

    def test_counters_follow_the_traffic(self):
        target = self.target(metrics=True)
        before = self.samples(target)
        self.assertTrue(before)
        session = iscsi.Session.open(target.portal(), TARGET_NAME)
        session.ready()
        session.write(0, bytes(8192))
        for _ in range(5):
            session.read(0, 8)
        after = self.samples(target)

        def grown(family, op):
            name = f'holdfast_target_{family}{{disk="d0",op="{op}"}}'
            return after[name] - before[name]

        self.assertEqual(grown("bytes_total", "read"), 5 * 4096)
        self.assertEqual(grown("bytes_total", "write"), 8192)
        self.assertEqual(grown("commands_total", "read"), 5)
        self.assertEqual(grown("command_duration_seconds_count", "write"), 1)
        self.assertEqual(after[f'holdfast_target_sessions{{target="{TARGET_NAME}"}}'], 1)
        session.logout()

    def test_other_paths_are_not_found(self):
        target = self.target(metrics=True)
        self.assertEqual(self.get(target, "/")[0], 404)
        self.assertEqual(self.get(target, "/metrics/../../etc/passwd")[0], 404)

    def test_garbage_does_not_disturb(self):
        target = self.target(metrics=True)
        for data in (b"\0" * 4096, b"GET " + b"A" * 65536, b"POST /metrics HTTP/1.1\r\n\r\n", b""):
            with socket.create_connection(("127.0.0.1", target.metrics_port), 5) as raw:
                try:
                    raw.sendall(data)
                except OSError:
                    pass
        self.assertTrue(self.samples(target))

    def test_off_by_default(self):
        target = self.target()
        self.assertNotIn("metrics", target.config_text())
        sockets = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        listening = [line.split()[1] for line in sockets
                     if line.split()[3] == "0A" and self.owns(target, line.split()[9])]
        self.assertEqual(len(listening), 2, "one listener for each portal and no other")

    @staticmethod
    def owns(target, inode):
        for name in os.listdir(f"/proc/{target.pid}/fd"):
            try:
                if os.readlink(f"/proc/{target.pid}/fd/{name}") == f"socket:[{inode}]":
                    return True
            except FileNotFoundError:
                continue
        return False


if __name__ == "__main__":
    case.main()
