"""
The next program takes over: nginx's way, with the listening sockets inherited.

The old process starts the new one by the command line that it was started with itself, and hands it its listening
sockets. Nothing is bound anew, so no connection is refused or lost in between; both accept from the same queues for a
moment. The new one says over a pipe that it serves; then the old one accepts nobody any more and drains. One that ends
before that, or takes too long, changes nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import AlreadyCalled
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from lemmytx.interfaces import Refused
from lemmytx.net.sockets import Sockets

log = Logger(namespace="lemmytx.upgrade")

#: The environment variables by which a successor knows what it has inherited: endpoint descriptions with descriptors,
#: and the pipe on which it says that it serves.
SOCKETS = "LEMMYTX_SOCKETS"
READY = "LEMMYTX_READY"

#: The environment variable that names the file with the process id of whoever serves, after a daemon's upgrade.
PIDFILE = "LEMMYTX_PIDFILE"

#: Seconds that a successor has to say that it serves.
PATIENCE = 120.0

#: Options of twistd behind which a value stands as an argument of its own.
_VALUES = frozenset(
    (
        "-l", "--logfile", "--logger", "--pidfile", "-d", "--rundir", "--chroot", "-u", "--uid", "-g", "--gid",
        "--umask", "-r", "--reactor", "--prefix", "-p", "--profile", "--profiler", "-b", "--debug-port",
    )
)  # fmt: skip


class Inheritance:
    """
    What this process has from the one before it.

    @ivar sockets: what L{lemmytx.net.sockets.Sockets} has handed over; L{None}: there was none before.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """
        @param environ: what is found there is taken out: it is not for those whom we start.
        """
        self.sockets: dict[str, Any] | None = None
        self._ready = -1
        sockets, ready = environ.pop(SOCKETS, ""), environ.pop(READY, "")
        if sockets and ready:
            self.sockets = json.loads(sockets)
            self._ready = int(ready)
            os.set_inheritable(self._ready, False)

    def serves(self) -> bool:
        """
        Say that we serve.

        @return: whether that is wanted: the process before this one has not ended meanwhile, or been told to.
        """
        ready, self._ready = self._ready, -1
        if ready < 0:
            return True
        try:
            os.write(ready, b"serves\n")
        except OSError:
            return False
        finally:
            os.close(ready)
        return True


class _Successor(ProcessProtocol):
    """The new process, as the old one sees it."""

    def __init__(self, serves: Deferred[None]) -> None:
        self._serves: Deferred[None] | None = serves

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted: it has said something: there is only one thing to say."""
        serves, self._serves = self._serves, None
        if serves is not None:
            serves.callback(None)

    def processEnded(self, reason: Any) -> None:
        """Twisted: it is gone."""
        serves, self._serves = self._serves, None
        if serves is not None:
            status = reason.value
            why = f"signal {status.signal}" if status.signal else f"exit status {status.exitCode}"
            serves.errback(Refused(f"the new program ended before it served: {why}; its own lines say more"))


async def start(reactor: Any, command: Sequence[str], folder: str, environ: Mapping[str, str], sockets: Sockets) -> int:
    """
    Start the new program and wait until it serves.

    @param command: what to run, the program first.
    @param folder: where to run it.
    @param environ: its environment.
    @param sockets: the listening ones; they stay open here.
    @return: its process id.
    @raise Refused: it cannot be started, ended, or took too long; it is gone then. So it is when this is cancelled.
    """
    serves: Deferred[None] = Deferred()
    mapping: dict[int, int | str] = {number: number for number in (0, 1, 2, *sockets.descriptors())}
    pipe = max(mapping) + 1
    mapping[pipe] = "r"
    try:
        transport = reactor.spawnProcess(
            _Successor(serves),
            command[0],
            list(command),
            {**environ, SOCKETS: json.dumps(sockets.hand_over()), READY: str(pipe)},
            path=folder,
            childFDs=mapping,
        )
    except OSError as error:
        raise Refused(f"the new program cannot be started: {error.strerror or error}") from error
    pid = int(transport.pid)
    log.info("upgrade: pid {pid} has been started", pid=pid)

    def late() -> None:
        log.error("upgrade: pid {pid} does not serve after {seconds:g} s; it is killed", pid=pid, seconds=PATIENCE)
        transport.signalProcess("KILL")

    timer = reactor.callLater(PATIENCE, late)
    try:
        await serves
    except CancelledError:
        log.info("upgrade: pid {pid} is not wanted any more", pid=pid)
        transport.signalProcess("KILL")
        raise
    finally:
        try:
            timer.cancel()
        except AlreadyCalled:
            pass  # it was late, and has ended since
    return pid


def command(arguments: Sequence[str] | None = None) -> list[str]:
    """
    The command line that runs this program again, in the foreground: whoever started it as a daemon has one already.

    @param arguments: the present one; the process's own unless given.
    """
    line = list(sys.orig_argv if arguments is None else arguments)
    line[0] = sys.executable
    return line


def foreground(line: Sequence[str]) -> list[str]:
    """
    A command line of twistd, as one that stays in the foreground, writes no process id and logs to the same place.
    """
    at = next(index for index, word in enumerate(line) if word == "lemmy" and line[index - 1] not in _VALUES)
    options = list(line[:at])
    logged = any(option.startswith(("-l", "--logfile", "--syslog", "--logger")) for option in options)
    return [*options, "--nodaemon", "--pidfile=", *(() if logged else ("--logfile=twistd.log",)), *line[at:]]


def append_only(file: str) -> None:
    """
    Have what this process has open of a log file write at its end, wherever that is by then: during an upgrade two
    processes write to it, and Twisted's log files know only where they were themselves.
    """
    try:
        wanted = os.stat(file)
    except OSError:
        return  # twistd logs elsewhere
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.samestat(os.fstat(int(name)), wanted):
                fcntl.fcntl(int(name), fcntl.F_SETFL, fcntl.fcntl(int(name), fcntl.F_GETFL) | os.O_APPEND)
        except OSError:
            continue  # the one by which the folder was read


def write_pid(file: str, pid: int) -> None:
    """Say who serves now. A file that cannot be written is told and no reason to stop."""
    try:
        with open(f"{file}.new", "w", encoding="ascii") as new:
            new.write(f"{pid}\n")
        os.replace(f"{file}.new", file)
    except OSError as error:
        log.error("{file} cannot be written, and has another process id: {why}", file=file, why=error.strerror)


def remove_pid(file: str) -> None:
    """Nobody serves any more."""
    try:
        os.unlink(file)
    except OSError as error:
        log.warn("{file} cannot be removed: {why}", file=file, why=error.strerror)
