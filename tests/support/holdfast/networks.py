"""Hosts in network namespaces of our own, on any number of networks, each a bridge between them.

    net = Networks(directory, {"c0": "10.3.0", "c1": "10.4.0"}, {"hv1": 1, "hv2": 2})
    net.inside("hv1", program)       # a script that runs the program there
    net.address("hv1", "c0")         # "10.3.0.1"; the interface is named c0
    net.cut("hv1", "c0")             # the switch forwards nothing for it; carriers stay
    net.heal("hv1", "c0")
    net.deafen("hv2", "hv1")         # hv2 hears nothing of hv1, over any network; one way
    net.listen("hv2")                # it hears all again
    net.close()                      # nothing is left
"""

import os
import pathlib

from .process import run


SWITCH = "lan"


class Networks:
    def __init__(self, directory, networks, hosts):
        self.directory = pathlib.Path(directory)
        self.networks, self.hosts = dict(networks), dict(hosts)
        self.names = {host: f"holdfast-{os.getpid()}-{host}" for host in [*self.hosts, SWITCH]}
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
        switch = self.names[SWITCH]
        for network in self.networks:
            run(["ip", "-n", switch, "link", "add", f"br-{network}", "type", "bridge"])
            run(["ip", "-n", switch, "link", "set", f"br-{network}", "up"])
            for host in self.hosts:
                name = self.names[host]
                run(["ip", "-n", switch, "link", "add", f"{host}-{network}", "type", "veth", "peer",
                     "name", network, "netns", name])
                self.heal(host, network)
                run(["ip", "-n", switch, "link", "set", f"{host}-{network}", "up"])
                run(["ip", "-n", name, "address", "add", f"{self.address(host, network)}/24", "dev",
                     network])
                run(["ip", "-n", name, "link", "set", network, "up"])

    def address(self, host, network) -> str:
        return f"{self.networks[network]}.{self.hosts[host]}"

    def inside(self, host, program) -> pathlib.Path:
        script = self.directory / f"{host}-{pathlib.Path(program).name}"
        script.write_text(f'#!/bin/sh\nexec ip netns exec {self.names[host]} {program} "$@"\n')
        script.chmod(0o755)
        return script

    def cut(self, host, network):
        run(["ip", "-n", self.names[SWITCH], "link", "set", f"{host}-{network}", "nomaster"])

    def heal(self, host, network):
        run(["ip", "-n", self.names[SWITCH], "link", "set", f"{host}-{network}", "master",
             f"br-{network}"])

    def deafen(self, host, to):
        addresses = ", ".join(self.address(to, network) for network in self.networks)
        self._nft(host, ["add table ip deaf",
                         "add chain ip deaf arrive { type filter hook input priority 0; }",
                         f"add rule ip deaf arrive ip saddr {{ {addresses} }} drop"])

    def listen(self, host):
        self._nft(host, ["add table ip deaf", "delete table ip deaf"])

    def _nft(self, host, rules):
        script = self.directory / f"{host}.nft"
        script.write_text("\n".join(rules) + "\n")
        run(["ip", "netns", "exec", self.names[host], "nft", "-f", script])

    def close(self):
        while self.made:
            run(["ip", "netns", "delete", self.made.pop()], check=False)
