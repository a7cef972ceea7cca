"""A program of a host that writes to a volume by the right of its node: tests/support/
cluster_writer.cc.

    writer = Writer(case, node, "volume1", "hv1-a")
    writer.wait_for("writing")       a line that it has said
    writer.acked()                   how many writes were acknowledged
    writer.end()                     the last line, once it has ended: "fenced", "no lease"
    blocks(file)                     [(writer, number)] of each block; AssertionError: one is torn
"""

import pathlib
import struct
import subprocess

from . import paths
from .process import die_with_parent
from .target import toml

BLOCK, BLOCKS = 4096, 256


class Writer:
    def __init__(self, case, node, disk, name, blindly=False):
        self.node, self.name = node, name
        self.directory = node.directory / name
        self.directory.mkdir()
        lines = [f"control_socket = {toml(self.directory / 'none')}",
                 f"state_dir = {toml(self.directory / 'state')}",
                 f"initiator_name = {toml(f'iqn.2026-11.org.holdfast:{name}')}"]
        lines += case.san.device_tables(node.number, ["witness", "volume1"])
        config = self.directory / "writer.toml"
        config.write_text("\n".join(lines) + "\n")
        self.output = self.directory / "output"
        program = case.net.inside(node.name, paths.program("cluster_writer"))
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [program, *(["--blindly"] if blindly else []), node.lease_page, config, disk, name],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent())
        case.addCleanup(self.kill)
        self.case = case

    def lines(self) -> list:
        return self.output.read_text(errors="replace").split("\n")[:-1]

    def wait_for(self, text, deadline=20):
        self.case.wait_until(lambda: text in self.lines() or self._ended(), f"{self.name}: {text}",
                             deadline)
        self.case.assertIn(text, self.lines())

    def _ended(self):
        return self.process.poll() is not None

    def acked(self) -> int:
        return sum(line.isdigit() for line in self.lines())

    def wait_acked(self, count, deadline=20):
        before = self.acked()
        self.case.wait_until(lambda: self.acked() >= before + count,
                             f"{self.name} writes {count} more", deadline)

    def end(self, deadline=30) -> str:
        self.process.wait(deadline)
        return self.lines()[-1]

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait(10)


def blocks(file: pathlib.Path) -> list:
    out = []
    with open(file, "rb") as disk:
        for number in range(BLOCKS):
            data = disk.read(BLOCK)
            assert data == data[:16] * (BLOCK // 16), f"block {number} is torn"
            name, count = struct.unpack("<8sQ", data[:16])
            out.append((name.rstrip(b"\0").decode(errors="replace"), count))
    return out
