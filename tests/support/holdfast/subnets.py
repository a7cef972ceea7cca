"""Two SAN subnets in network namespaces of our own: a storage server, an initiator's host, and a
switch between them, so that a silent loss (a port of the switch is down: both hosts keep their
carrier) differs from a pulled cable.

    net = Subnets(directory)            # 10.1.0.0/24 and 10.2.0.0/24; server .10, host .1
    net.inside("host", program)         # a script that runs the program there
    net.silence(0); net.mend(0)         # subnet 0 forwards nothing; forwards again
    net.pull(0); net.plug(0)            # the host's cable
    net.drop("host", 0, 1000)           # of 1000 packets that arrive there: so many are lost
    net.drop("host", 0, 0)              # none any more
    net.close()                         # nothing is left
"""

import os
import pathlib

from .process import run

SUBNETS = ("10.1.0", "10.2.0")


class Subnets:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.names = {role: f"holdfast-{os.getpid()}-{role}"
                      for role in ("server", "host", "switch")}
        self.made = []
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self):
        for name in self.names.values():
            self.made.append(name)  # first: what interrupts us must not leave it behind
            run(["ip", "netns", "add", name])
            run(["ip", "-n", name, "link", "set", "lo", "up"])
        switch = self.names["switch"]
        for number, subnet in enumerate(SUBNETS):
            run(["ip", "-n", switch, "link", "add", f"br{number}", "type", "bridge"])
            run(["ip", "-n", switch, "link", "set", f"br{number}", "up"])
            for role, last in (("server", 10), ("host", 1)):
                port = f"{role[0]}{number}"
                run(["ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name",
                     f"san{number}", "netns", self.names[role]])
                run(["ip", "-n", switch, "link", "set", port, "master", f"br{number}", "up"])
                name = self.names[role]
                run(["ip", "-n", name, "address", "add", f"{subnet}.{last}/24", "dev",
                     f"san{number}"])
                run(["ip", "-n", name, "link", "set", f"san{number}", "up"])

    def inside(self, role, program) -> pathlib.Path:
        script = self.directory / f"{role}-{pathlib.Path(program).name}"
        script.write_text(f'#!/bin/sh\nexec ip netns exec {self.names[role]} {program} "$@"\n')
        script.chmod(0o755)
        return script

    def silence(self, number):
        run(["ip", "-n", self.names["switch"], "link", "set", f"s{number}", "nomaster"])

    def mend(self, number):
        run(["ip", "-n", self.names["switch"], "link", "set", f"s{number}", "master",
             f"br{number}"])

    def pull(self, number):
        run(["ip", "-n", self.names["switch"], "link", "set", f"h{number}", "down"])

    def plug(self, number):
        run(["ip", "-n", self.names["switch"], "link", "set", f"h{number}", "up"])

    def drop(self, role, number, per_mille):
        """One-way loss. (The kernel may lack netem.)"""
        name, table = self.names[role], f"impair{number}"
        rules = [f"add table inet {table}", f"delete table inet {table}"]
        if per_mille > 0:
            rules += [f"add table inet {table}",
                      f"add chain inet {table} arrive {{ type filter hook input priority 0; }}",
                      f"add rule inet {table} arrive iifname san{number} "
                      f"numgen random mod 1000 <= {per_mille - 1} drop"]
        script = self.directory / f"{table}-{role}.nft"
        script.write_text("\n".join(rules) + "\n")
        run(["ip", "netns", "exec", name, "nft", "-f", script])

    def close(self):
        while self.made:
            run(["ip", "netns", "delete", self.made.pop()], check=False)
