"""
A network of machines on this one: network namespaces on a bridge, made by C{ip}, which wants root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

#: The network that the machines are in. It is to be found in their namespaces alone.
PREFIX = "10.213.77"


class CannotMake(Exception):
    """There can be no such network here; the text says why."""


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise CannotMake(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Network:
    """
    Machines that reach each other. Use it as a context manager: at its end nothing is left.

    @ivar names: of the machines; each has its own loopback, and C{eth0} with the address L{address}.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        # Names of namespaces are the whole system's.
        self._tag = f"lemmytx{os.getpid()}"

    def address(self, name: str) -> str:
        """Of a machine."""
        return f"{PREFIX}.{self.names.index(name) + 1}"

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command line that runs another one on a machine."""
        return ["ip", "netns", "exec", self._space(name), *command]

    def _space(self, name: str) -> str:
        return f"{self._tag}-{name}"

    def __enter__(self) -> Network:
        if shutil.which("ip") is None:
            raise CannotMake("there is no program ip (package iproute2)")
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def _make(self) -> None:
        hub = self._space("hub")
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for number, name in enumerate(self.names):
            space, port = self._space(name), f"port{number}"
            _ip("netns", "add", space)
            _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "link", "set", "eth0", "up")

    def _remove(self) -> None:
        # Interfaces go with their namespaces.
        for name in (*self.names, "hub"):
            subprocess.run(["ip", "netns", "delete", self._space(name)], capture_output=True, timeout=10, check=False)

    def __exit__(self, *raised: object) -> None:
        self._remove()
