"""What C{/proc} knows of a process: memory, descriptors, threads, and with whom it is connected."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sight:
    """
    A process at one moment.

    @ivar role: C{parent}, C{worker 0}, or C{process} where there is only one.
    @ivar memory: resident, in bytes.
    @ivar connections: descriptors of TCP connections, which come and go with the load.
    @ivar descriptors: all others.
    """

    role: str
    pid: int
    memory: int
    connections: int
    descriptors: int
    threads: int


def look(role: str, pid: int) -> Sight:
    """
    A process as it is now.

    @raise OSError: there is none.
    """
    memory = threads = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            memory = int(value.split()[0]) * 1024
        elif name == "Threads":
            threads = int(value)
    held = _held(pid)
    connections = sum(f"socket:[{inode}]" in held for _, _, inode in _connections())
    return Sight(role, pid, memory, connections, len(held) - connections, threads)


def _held(pid: int) -> list[str]:
    """What the descriptors of a process are."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed while we looked
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


#: A listening socket's state in C{/proc/net/tcp}.
_LISTENS = "0A"


def _connections() -> Iterator[tuple[int, int, str]]:
    """All TCP connections on IPv4: own port, the other end's, and the socket's number."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] != _LISTENS:
            own, other = (int(address.partition(":")[2], 16) for address in fields[1:3])
            yield own, other, fields[9]


def _stat(pid: int) -> list[str]:
    """The fields of C{/proc/PID/stat} behind the command's name; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def state(pid: int) -> str:
    """The letter of its state; empty when there is no such process, or it only waits to be asked for its end."""
    found = _stat(pid)[:1]
    return found[0] if found and found[0] not in "ZX" else ""


def of_session(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in os.listdir("/proc"):
        fields = _stat(int(entry)) if entry.isdigit() else []
        if len(fields) > 3 and int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(entry))
    return found


def client_ports(pid: int, port: int) -> set[int]:
    """The ports of the clients whose connections to one of our ports a process holds, on IPv4."""
    held = set(_held(pid))
    return {other for own, other, inode in _connections() if own == port and f"socket:[{inode}]" in held}
