"""
What systemd is told of the service's state (sd_notify(3)): datagrams of lines C{NAME=value} to a unix socket. Without
such a socket in the environment nothing is done.

systemd knows the sender by its process id, and with C{NotifyAccess=main} listens to the main process alone. So it is
the old process of an upgrade that names the new one, and all that it says later is void: a C{STOPPING=1} of it would
concern the whole service, were it heard.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from twisted.logger import Logger

log = Logger(namespace="lemmytx")

#: What systemd puts into the environment. Nothing of it is for the workers.
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

#: Seconds that a change of state waits for systemd to read, should its queue be full. The reactor stands still for that
#: time; but a service whose READY=1 is lost is killed.
WAIT = 1.0

#: Characters of a status: C{systemctl status} shows it on one line.
LONGEST = 500


class Notifier:
    """
    Each method returns whether a datagram was sent, and none raises.

    @ivar enabled: whether systemd wants to be told anything.
    @ivar interval: seconds within which L{watchdog} must come again, or systemd kills the service; half of that is a
        good pace. L{None}: no watchdog.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        pid: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param environ: read now, and never changed.
        @param pid: the process's own unless given.
        @param monotonic: CLOCK_MONOTONIC, in seconds.
        """
        self._environ = {name: environ[name] for name in VARIABLES if environ.get(name)}
        self._address = _address(self._environ.get("NOTIFY_SOCKET", ""))
        self._monotonic = monotonic
        self._failed = False
        self.enabled = self._address is not None
        self.interval = self._interval(os.getpid() if pid is None else pid)

    def _interval(self, pid: int) -> float | None:
        """The watchdog is of the process that it is for, or of whom it was handed over to (sd_watchdog_enabled(3))."""
        microseconds = self._environ.get("WATCHDOG_USEC", "")
        named = self._environ.get("WATCHDOG_PID", str(pid))
        if not self.enabled or not microseconds.isdecimal() or named != str(pid):
            return None
        return int(microseconds) / 1e6 or None

    def ready(self, text: str = "") -> bool:
        """
        It serves: after the start, and after every L{reloading}, whether anything came of that or not.

        @param text: as for L{status}.
        """
        return self._send("READY=1", *_status(text))

    def reloading(self) -> bool:
        """It begins to read its configuration again. L{ready} must follow."""
        # systemd compares that with the time at which it asked for the reload.
        return self._send("RELOADING=1", f"MONOTONIC_USEC={int(self._monotonic() * 1e6)}")

    def stopping(self, seconds: float = 0.0) -> bool:
        """
        It begins to stop.

        @param seconds: how long that may take; systemd waits for so long, also where TimeoutStopSec is less.
        """
        extension = [f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}"] if seconds else []
        return self._send("STOPPING=1", "STATUS=stopping", *extension)

    def status(self, text: str) -> bool:
        """
        @param text: for C{systemctl status}.
        """
        return self._send(*_status(text))

    def main_pid(self, pid: int) -> bool:
        """
        Another process is the service now, and is ready. Nothing is said after that: it is for the other one to speak.
        """
        sent = self._send(f"MAINPID={pid}", "READY=1")
        self.enabled = False
        self.interval = None
        return sent

    def watchdog(self) -> bool:
        """It is alive: called from the reactor, so that this is true."""
        return self._send("WATCHDOG=1", wait=0.0)

    def for_successor(self) -> dict[str, str]:
        """
        What of systemd's environment is for the process that takes over. The watchdog is no longer bound to a pid,
        since the new one is not known before it runs.
        """
        return {name: value for name, value in self._environ.items() if name != "WATCHDOG_PID"}

    def _send(self, *lines: str, wait: float = WAIT) -> bool:
        if not self.enabled or self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(wait)
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._failed:
                log.warn(
                    "systemd cannot be told {what}: {why} (told once until it works again)",
                    what=lines[0],
                    why=error.strerror or str(error),
                )
            self._failed = True
            return False
        self._failed = False
        return True


def _address(name: str) -> str | bytes | None:
    """
    @return: as C{sendto} takes it; L{None} for none, and for a kind that is not for us (C{vsock:}).
    """
    if name.startswith("@"):
        # In the abstract namespace.
        return b"\0" + os.fsencode(name[1:])
    return name if name.startswith("/") else None


def _status(text: str) -> list[str]:
    """A line breaks the protocol's own lines."""
    line = " ".join(text.split())[:LONGEST]
    return [f"STATUS={line}"] if line else []
