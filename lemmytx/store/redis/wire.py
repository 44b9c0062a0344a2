"""
A connection to Redis: txredisapi's protocol, asked in batches.

This is the one module that imports txredisapi, which takes Twisted's global reactor when it is imported. So it is
imported itself when a store is opened, and not before.

txredisapi makes some three Deferreds and a timer for each command; with 30,000 commands in a first load that is most of
the time. So here commands go out many at a time, with one Deferred and one timer for all of them. What comes in is read
by txredisapi's protocol, with hiredis where that is installed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import txredisapi
from OpenSSL.SSL import Error as SslError
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from lemmytx.store.redis.said import Lost, Refusal


class Connection(txredisapi.RedisProtocol):  # type: ignore[misc]  # it has no annotations
    """
    A connection to Redis that answers batches of commands in their order.

    @ivar lost: called once, when the connection is no more; with a reason for people.
    """

    def __init__(self, clock: IReactorTime, lost: Callable[[Connection, str], None]) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.lost: Callable[[Connection, str], None] | None = lost
        self._clock = clock
        self._waiting: deque[_Batch] = deque()
        self._why = ""

    def connectionMade(self) -> None:
        """Called by Twisted. Logging in is somebody else's affair, so what txredisapi does here is left out."""
        self.connected = 1
        for set_option in ("setTcpNoDelay", "setTcpKeepAlive"):
            if hasattr(self.transport, set_option):
                getattr(self.transport, set_option)(True)

    def connectionLost(self, why: Failure | None = None) -> None:
        """Called by Twisted."""
        self.connected = 0
        reason = self._why or _reason(why)
        waiting, self._waiting = self._waiting, deque()
        lost, self.lost = self.lost, None
        if lost is not None:
            # First, so that whoever asks again at once is not asked here.
            lost(self, reason)
        for batch in waiting:
            batch.fail(Lost(reason))

    def tryConvertData(self, data: Any) -> Any:
        """Called by txredisapi: everything stays as it is."""
        return data

    def ask(self, data: bytes, count: int, timeout: float) -> Deferred[list[Any]]:
        """
        Send commands.

        @param data: all of them, see L{lemmytx.store.redis.said.command}.
        @param count: how many there are: at least one.
        @param timeout: seconds. An answer that is not complete by then ends the connection.
        @return: their replies: bytes, integers, L{None} and lists of these; a L{Refusal} in the place of one that
            Redis refused. It fails with L{Lost}.
        """
        batch = _Batch(count)
        if not self.connected:
            batch.fail(Lost("not connected"))
            return batch.answered
        self._waiting.append(batch)
        batch.timer = self._clock.callLater(timeout, self.end, f"no answer within {timeout:g} s")
        self.transport.write(data)
        return batch.answered

    def replyReceived(self, reply: Any) -> None:
        """Called by txredisapi for each reply."""
        if not self._waiting:
            self.end("it answered what nobody had asked")
            return
        batch = self._waiting[0]
        batch.replies.append(Refusal(str(reply)) if isinstance(reply, Exception) else reply)
        if len(batch.replies) == batch.count:
            self._waiting.popleft()
            batch.succeed()

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Called by Twisted, and by txredisapi."""
        try:
            super().dataReceived(data, unpause)
        except txredisapi.RedisError:
            self.end("it does not speak Redis' protocol")

    def end(self, why: str) -> None:
        """Close it at once. What is waited for fails."""
        if self.connected:
            self._why = self._why or why
            self.transport.abortConnection()


class Subscriber(Connection):
    """A connection on which Redis tells what others publish."""

    def __init__(
        self,
        clock: IReactorTime,
        lost: Callable[[Connection, str], None],
        told: Callable[[bytes, bytes], None],
    ) -> None:
        """
        @param told: called with a channel and what was said there.
        """
        super().__init__(clock, lost)
        self._told = told

    def replyReceived(self, reply: Any) -> None:
        """Called by txredisapi."""
        if isinstance(reply, list) and reply and reply[0] in (b"message", b"pmessage"):
            self._told(reply[-2], reply[-1])
        else:
            super().replyReceived(reply)


def _reason(why: Failure | None) -> str:
    """Why a connection ended that we did not end, on one line."""
    error = why.value if why is not None else None
    if isinstance(error, SslError):
        texts = [str(part[-1]) for part in (error.args[0] if error.args else ()) if part]
        return f"no TLS with it: {'; '.join(texts) or 'it closed the connection'}"
    if isinstance(error, (VerificationError, CertificateError)):
        return "no TLS with it: its certificate is not for its name"
    return "it closed the connection" if error is None or isinstance(error, ConnectionDone) else "the connection broke"


class _Batch:
    """Commands that went out together."""

    __slots__ = ("answered", "count", "replies", "timer")

    def __init__(self, count: int) -> None:
        self.count = count
        self.replies: list[Any] = []
        self.answered: Deferred[list[Any]] = Deferred()
        self.timer: IDelayedCall | None = None

    def succeed(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if not self.answered.called:  # whoever asked may have lost interest
            self.answered.callback(self.replies)

    def fail(self, why: Lost) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if not self.answered.called:
            self.answered.errback(why)
