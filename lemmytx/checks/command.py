"""
C{type: command}: a program; what it ends with decides. 0 is well, anything else is not.

It runs as the user of this process, without a shell, in a session (and process group) of its own that is killed as a
whole at the timeout or when the backend goes. It gets no descriptor of ours but what it writes to, no input, and of the
environment C{PATH}, C{HOME} and C{LANG}, besides::

    BACKEND_NAME  BACKEND_URL  BACKEND_ADDRESS  BACKEND_PORT  CLUSTER_NAME

The first line that it writes, to standard output or error, is the reason that the log has.

The end of a process is an event on its C{pidfd}: Twisted's way, a signal and a look at every child, is not made for
several a second.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from lemmytx.cluster.health import LONGEST, printable
from lemmytx.interfaces import IHealthCheck, Unhealthy

#: Variables that are passed on.
_PASSED = ("PATH", "HOME", "LANG")


@implementer(IReadDescriptor)
class _Readable:
    """A descriptor that calls when it can be read."""

    def __init__(self, descriptor: int, read: Any) -> None:
        self._descriptor = descriptor
        self._read = read

    def fileno(self) -> int:
        """Twisted: the descriptor."""
        return self._descriptor

    def doRead(self) -> None:
        """Twisted: it can be read."""
        self._read()

    def connectionLost(self, reason: Any) -> None:
        """Twisted: cannot come: it is removed before it is closed."""

    def logPrefix(self) -> str:
        """Twisted: for the log."""
        return "lemmytx.checks"


class Running:
    """
    A program that runs.

    @ivar ended: fires with how it ended (as C{subprocess} has it) when it has, and when it is killed.
    @ivar said: the beginning of what it has written.
    """

    def __init__(self, reactor: Any, command: tuple[str, ...], environment: dict[str, str]) -> None:
        """
        @raise OSError: it cannot be started.
        """
        self.ended: Deferred[int] = Deferred(lambda _: self.kill())
        self.said = b""
        self._reactor = reactor
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # What it writes may be more than it waits for: its end of the pipe is a usual one.
        os.set_blocking(writing, True)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=environment, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._output: _Readable | None = _Readable(reading, self._written)
        reactor.addReader(self._output)
        try:
            self._end: _Readable | None = _Readable(os.pidfd_open(self._process.pid), self._has_ended)
        except OSError:
            self._end = None
            self.kill()
            self._process.wait()
            raise
        reactor.addReader(self._end)

    def _written(self) -> None:
        assert self._output is not None
        try:
            data = os.read(self._output.fileno(), 65536)
        except BlockingIOError:
            return
        if data:
            self.said = (self.said + data)[: 4 * LONGEST]
        else:
            self._close_output()

    def _has_ended(self) -> None:
        status = self._process.wait()
        if self._output is not None:
            self._written()  # what it wrote last may be in the pipe still
        self._let_go()
        if not self.ended.called:
            self.ended.callback(status)

    def kill(self) -> None:
        """End it, and all that it has started. What it says is of no interest any more."""
        self._close_output()
        if self._process.returncode is None:
            # Nobody has waited for it, so its number is still its own. It is when its end has come, which is soon.
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _let_go(self) -> None:
        self._close_output()
        end, self._end = self._end, None
        if end is not None:
            self._reactor.removeReader(end)
            os.close(end.fileno())

    def _close_output(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            self._reactor.removeReader(output)
            os.close(output.fileno())


@implementer(IHealthCheck)
class CommandCheck:
    """See the module."""

    #: A process is some milliseconds of the machine, however little it does.
    at_once = 8

    def __init__(self, command: tuple[str, ...]) -> None:
        """
        @param command: the program, found on PATH or with its path, and its arguments.
        @raise ValueError: with a text for the user.
        """
        if not command or not command[0]:
            raise ValueError("command: found no program; write a list, as in [/usr/local/bin/check, --fast]")
        if any("\0" in word for word in command):
            raise ValueError("command: no argument of a program can have a zero byte in it")
        program = shutil.which(command[0])
        if program is None:
            raise ValueError(f"command: there is no program {command[0]!r} that can be run")
        self._command = (os.path.abspath(program), *command[1:])

    async def check(self, target: Any) -> str:
        """See L{IHealthCheck}."""
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        environment |= {
            "BACKEND_NAME": target.name,
            "BACKEND_URL": target.url,
            "BACKEND_ADDRESS": target.address,
            "BACKEND_PORT": str(target.port),
            "CLUSTER_NAME": target.cluster,
        }
        running = Running(target.reactor, self._command, environment)
        status = await running.ended
        said = printable(running.said.decode("utf-8", "replace").strip().partition("\n")[0])
        if status:
            how = f"ended with {status}" if status > 0 else f"was killed by {signal.Signals(-status).name}"
            raise Unhealthy(f"{os.path.basename(self._command[0])} {how}{': ' if said else ''}{said}")
        return said or "the program ended with 0"
