"""What C{/proc} knows of a process: memory, descriptors, threads, and with whom it is connected."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sight:
    """
    A process at one moment.

    @ivar role: C{parent}, C{worker 0}, or C{process} where there is only one.
    @ivar memory: resident, in bytes.
    """

    role: str
    pid: int
    memory: int
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
    return Sight(role, pid, memory, len(os.listdir(f"/proc/{pid}/fd")), threads)


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
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed while we looked
            inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port and f"socket:[{fields[9]}]" in inodes:
            found.add(int(fields[2].partition(":")[2], 16))
    return found
