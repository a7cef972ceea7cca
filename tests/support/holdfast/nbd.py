"""A small NBD client: fixed newstyle, simple replies, one request at a time.

    client = nbd.Client(path, "csv1")
    client.size; client.write(offset, data); client.read(offset, length); client.flush()
    client.trim(offset, length); client.write_zeroes(offset, length)     changes take fua=True
    client.send_write(offset, data); client.send_disconnect()       without waiting for an answer

An error of the server is an nbd.Error with its number.
"""

import socket
import struct

OPTION_MAGIC = 0x49484156454F5054
GO, ACK, INFO = 7, 1, 3
REQUEST_MAGIC, REPLY_MAGIC = 0x25609513, 0x67446698
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FUA = 1


class Error(Exception):
    pass


class Client:
    def __init__(self, path, export, deadline=30):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(deadline)
        self.socket.connect(str(path))
        self.handle = 0
        self.size = None
        self._negotiate(export.encode())

    def _receive(self, length) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise Error("the server closed the connection")
            data += part
        return bytes(data)

    def _negotiate(self, export):
        magic, option_magic, _ = struct.unpack(">8sQH", self._receive(18))
        if magic != b"NBDMAGIC" or option_magic != OPTION_MAGIC:
            raise Error("no NBD server")
        self.socket.sendall(struct.pack(">I", 3))  # fixed newstyle, no zeroes
        body = struct.pack(">I", len(export)) + export + struct.pack(">H", 0)
        self.socket.sendall(struct.pack(">QII", OPTION_MAGIC, GO, len(body)) + body)
        while True:
            _, _, kind, length = struct.unpack(">QIII", self._receive(20))
            data = self._receive(length)
            if kind == ACK:
                return
            if kind != INFO:
                raise Error(f"the export is refused: {kind:#x} {data!r}")
            if struct.unpack(">H", data[:2])[0] == 0:
                self.size, self.flags = struct.unpack(">QH", data[2:12])

    def _request(self, command, offset, length, data=b"", fua=False) -> bytes:
        self.handle += 1
        self.socket.sendall(struct.pack(">IHHQQI", REQUEST_MAGIC, FUA if fua else 0, command,
                                        self.handle, offset, length) + data)
        magic, error, handle = struct.unpack(">IIQ", self._receive(16))
        if magic != REPLY_MAGIC or handle != self.handle:
            raise Error("not a reply to what was asked")
        if error:
            raise Error(error)
        return self._receive(length) if command == READ else b""

    def read(self, offset, length) -> bytes:
        return self._request(READ, offset, length)

    def write(self, offset, data, fua=False):
        self._request(WRITE, offset, len(data), data, fua)

    def trim(self, offset, length, fua=False):
        self._request(TRIM, offset, length, fua=fua)

    def write_zeroes(self, offset, length, fua=False):
        self._request(WRITE_ZEROES, offset, length, fua=fua)

    def send_write(self, offset, data):
        """Asks for it only."""
        self.socket.sendall(struct.pack(">IHHQQI", REQUEST_MAGIC, 0, WRITE, 0, offset, len(data)) +
                            data)

    def send_disconnect(self):
        self.socket.sendall(struct.pack(">IHHQQI", REQUEST_MAGIC, 0, DISCONNECT, 0, 0, 0))

    def flush(self):
        self._request(FLUSH, 0, 0)

    def close(self):
        self.socket.close()
