"""Nodes' TLS against a program that is not ours: certificates made by openssl's command, and its
client and server at the other end of our connections."""

import os
import queue
import socket
import subprocess
import threading

from holdfast import case, paths
from holdfast.authority import Authority
from holdfast.process import die_with_parent, run


class Lines:
    """A program whose standard output is read line by line; it ends with its standard input."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=die_with_parent())
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def wait_for(self, text, deadline=20):
        """The first line that has this text in it."""
        seen = []
        while True:
            try:
                seen.append(self.lines.get(timeout=deadline))
            except queue.Empty:
                raise AssertionError(f"no line with '{text}', only {seen}") from None
            if text in seen[-1]:
                return seen[-1]

    def stop(self):
        """Its exit status."""
        self.process.stdin.close()
        try:
            return self.process.wait(10)
        finally:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.reader.join(10)
        self.process.stdin.close()
        self.process.stdout.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RpcTls(case.TestCase):
    def setUp(self):
        super().setUp()
        self.ca = Authority(self.scratch, "ca")
        self.hv1 = self.ca.issue("hv1", "holdfast://c1/hv1")
        self.hv2 = self.ca.issue("hv2", "holdfast://c1/hv2")
        self.address = f"127.0.0.1:{free_port()}"

    def node(self, verb, files, name, *rest, status=0):
        """A program of ours; it must end with this status."""
        started = Lines([paths.program("rpc_tool"), verb, self.ca.certificate, *files, "c1", name,
                         self.address, *rest])
        self.addCleanup(lambda: self.assertEqual(started.stop(), status))
        return started

    def listener(self):
        listener = self.node("listen", self.hv2, "hv2")
        listener.wait_for("listening 127.0.0.1")
        return listener

    def client(self, *options):
        """openssl's client against our listener: what it prints until the connection ends."""
        command = ["openssl", "s_client", "-connect", self.address, "-CAfile",
                   self.ca.certificate, "-ign_eof", *options]
        result = run(["timeout", "10", *command], check=False, deadline=20)
        return result.stdout + result.stderr

    def test_two_nodes(self):
        listener = self.listener()
        peer = self.node("connect", self.hv1, "hv1", "hv2")
        listener.wait_for("up hv1")
        peer.wait_for("up hv2")
        peer.wait_for("reply ping")
        peer.stop()
        listener.wait_for("down hv1: closed by the peer")

    def test_openssl_as_a_client_with_a_good_certificate(self):
        listener = self.listener()
        process = subprocess.Popen(
            [paths.tool("openssl"), "s_client", "-connect", self.address, "-CAfile",
             str(self.ca.certificate), "-cert", str(self.hv1[0]), "-key", str(self.hv1[1]),
             "-quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent())
        try:
            listener.wait_for("up hv1")
            hello = os.read(process.stdout.fileno(), 100)
            self.assertEqual(hello, b"HF\x01\x04" + bytes(16))
            # A request of type 7 with id 1, and its answer.
            process.stdin.write(b"HF\x01\x01\x00\x07\0\0\0\0\0\x02" + bytes(7) + b"\x01" + b"hi")
            process.stdin.flush()
            answer = os.read(process.stdout.fileno(), 100)
            self.assertEqual(answer, b"HF\x01\x02\x00\x07\0\0\0\0\0\x02" + bytes(7) + b"\x01hi")
            process.stdin.write(b"garbage, as long as a header is")
            process.stdin.flush()
            listener.wait_for("down hv1: protocol error: not a frame of ours")
        finally:
            process.kill()
            process.communicate()

    def test_openssl_as_a_client_that_is_refused(self):
        listener = self.listener()
        other = Authority(self.scratch, "other")
        stranger = other.issue("stranger", "holdfast://c1/hv1")
        elsewhere = self.ca.issue("elsewhere", "holdfast://c2/hv1")
        # openssl's x509 makes one that ended yesterday when told so.
        expired = self.ca.issue("expired", "holdfast://c1/hv1", days="-1")
        cases = [
            ([], "certificate required", "the peer showed no certificate"),
            (["-tls1_2"], "protocol version", "the peer does not speak TLS 1.3"),
            (["-cert", stranger[0], "-key", stranger[1]], "unknown ca",
             "the peer's certificate is not of the CA of this cluster"),
            (["-cert", elsewhere[0], "-key", elsewhere[1]], "bad certificate",
             "the peer is a node of another cluster"),
            (["-cert", expired[0], "-key", expired[1]], "certificate expired",
             "the peer's certificate has expired"),
        ]
        for options, alert, reason in cases:
            with self.subTest(reason):
                self.assertIn(f"alert {alert}", self.client(*options))
                self.assertIn("connection ended before it proved a name",
                              listener.wait_for(reason))

    def test_no_session_is_kept_for_later(self):
        listener = self.listener()
        process = subprocess.Popen(
            [paths.tool("openssl"), "s_client", "-connect", self.address, "-CAfile",
             str(self.ca.certificate), "-cert", str(self.hv1[0]), "-key", str(self.hv1[1])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", preexec_fn=die_with_parent())
        listener.wait_for("up hv1")
        output = process.communicate(timeout=10)[0]  # the end of its input ends it
        self.assertIn("TLSv1.3", output)
        self.assertIn("Verify return code: 0 (ok)", output)
        self.assertNotIn("Session Ticket", output)

    def server(self, files, *options):
        """openssl's server, at the address where our peer looks for hv2."""
        command = [paths.tool("openssl"), "s_server", "-accept", self.address, "-CAfile",
                   self.ca.certificate, "-cert", files[0], "-key", files[1], "-Verify", "1",
                   *options]
        server = Lines(command)
        self.addCleanup(server.kill)
        server.wait_for("ACCEPT")
        return server

    def test_openssl_as_a_server(self):
        for files, options, reason in [
                # Its TLS is right; that it speaks no frames is seen at the deadline.
                (self.hv2, [], "timed out: the handshake took too long"),
                (self.hv1, [], "tls failed: another node than the wanted one answers"),
                (self.hv2, ["-tls1_2"], "tls failed: the peer does not speak TLS 1.3")]:
            with self.subTest(reason):
                server = self.server(files, *options)
                peer = self.node("connect", self.hv1, "hv1", "hv2")
                peer.wait_for("vain " + reason)
                self.assertEqual(peer.stop(), 0)
                server.kill()

    def test_files_that_do_not_fit_are_named(self):
        swapped = self.node("listen", (self.hv1[0], self.hv2[1]), "hv1", status=1)
        swapped.wait_for(f"the key in {self.hv2[1]} does not belong to the certificate in "
                         f"{self.hv1[0]}")


if __name__ == "__main__":
    case.main()
