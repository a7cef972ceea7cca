"""A cable between an initiator and a portal, that can be cut: a TCP relay.

    wire = Wire(target.portal(0))       # relays; wire.address is what the initiator is given
    wire.cut()                          # both ends get a reset, and new connections are refused
    wire.stall()                        # silence: nothing is relayed, the kernels still acknowledge
    wire.stall(final=True)              # the same; new connections are refused, and after mend()
                                        # the far end gets what lay in it, but hears of no end
    wire.mend()                         # works again
    Wire(portal, replaces=(b"old", b"new"))     # the relay puts one text for another, as long
    wire.close()
"""

import socket
import struct
import threading

CHUNK = 256 * 1024


class Wire:
    def __init__(self, portal, replaces=(b"", b"")):
        self.replaces = replaces
        assert len(replaces[0]) == len(replaces[1])
        self.host = portal[0]
        self.portal = portal  # of the next connections: may be changed to another one
        self.lock = threading.Lock()
        self.flowing = threading.Event()
        self.flowing.set()
        self.ends = []
        self.is_cut = False
        self.hides_ends = False
        self.closed = False
        self.listener = None
        with socket.socket() as probe:
            probe.bind((self.host, 0))
            self.port = probe.getsockname()[1]
        self._listen()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def _listen(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((self.host, self.port))
        self.listener.listen(16)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.portal, timeout=5)
            except OSError:
                self._reset(near)
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source, sink):
        try:
            while True:
                data = source.recv(CHUNK)
                self.flowing.wait()
                if not data:
                    if not self.hides_ends:
                        sink.shutdown(socket.SHUT_WR)
                    return
                if self.replaces[0]:
                    data = data.replace(*self.replaces)
                sink.sendall(data)
        except OSError:
            if self.hides_ends and not self.closed:
                return
            self._reset(source)
            self._reset(sink)

    @staticmethod
    def _reset(end):
        try:
            # The reset leaves at the close.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other relay, or the peer, was first
        end.close()

    def cut(self):
        self.is_cut = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            ends, self.ends = self.ends, []
        for end in ends:
            self._reset(end)  # a relay that sleeps in recv() wakes up, or has closed it itself
        self.flowing.set()

    def stall(self, final=False):
        self.flowing.clear()
        if final:
            self.is_cut = self.hides_ends = True
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()

    def mend(self):
        self.flowing.set()
        if self.is_cut:
            self.is_cut = False
            self._listen()

    def close(self):
        if not self.is_cut:
            self.cut()
