"""
A serving process: C{python -m lemmytx.worker}, started by L{lemmytx.crew}.

It does what its parent says (L{lemmytx.commands}) on a socket that it was born with, and serves clients in between. It
reads no configuration file, opens no listening socket and writes no log of its own: lines go to the parent, one JSON
object each. When the parent is gone it accepts nobody any more, lets what is under way end, and goes, too.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
import zlib
from collections.abc import Iterator
from typing import Any

from twisted.application.reactors import installReactor
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx import __version__, commands
from lemmytx.assemble import CannotStart
from lemmytx.checks.sightings import Sighting
from lemmytx.net.steady import steady
from lemmytx.net.turns import Board, Turns
from lemmytx.proxy.explain import MOST, BadQuestion
from lemmytx.proxy.pieces import pieces
from lemmytx.serving import Prepared, Serving

log = Logger(namespace="lemmytx.worker")

#: Descriptors that a worker is born with, beside the usual ones: to the parent, and what all workers share.
CONTROL = 3
BOARD = 4

#: How many doubts about a configuration are told to the parent, and how many characters of each.
MOST_DOUBTS = 20
LONGEST = 500

#: Signals that a terminal sends to parent and workers alike. What they mean is the parent's to say.
_THE_PARENTS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@implementer(ILogObserver)
class Lines:
    """
    A log observer that writes JSON objects, one a line, to standard error, where the parent reads.

    It never waits: while the parent does not read, events are dropped and counted.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._rest = b""
        self._dropped = 0

    def __call__(self, event: LogEvent) -> None:
        """Twisted: something happened."""
        text = formatEvent(event)
        failure = event.get("log_failure")
        if failure is not None:
            text = f"{text}\n{failure.getTraceback()}"
        level: Any = event.get("log_level", LogLevel.info)
        self._write({"level": level.name, "namespace": event.get("log_namespace", ""), "text": text})

    def _write(self, said: dict[str, str]) -> None:
        if self._dropped:
            said["text"] += f" ({self._dropped} lines before this one were dropped: the parent did not read)"
        # What did not go out of a line must go before the next one.
        data = self._rest + json.dumps(said).encode() + b"\n"
        try:
            sent = os.write(self._descriptor, data)
        except BlockingIOError:
            self._dropped += 1
            return
        except OSError:
            return  # the parent is gone, and that is noticed elsewhere
        self._dropped = 0
        self._rest = data[sent:]


class Worker(commands.Control):
    """The worker's end of the control connection."""

    def __init__(self, serving: Serving, reactor: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # AMP has few annotations
        self._serving = serving
        self._reactor = reactor
        self._handed: dict[str, list[int]] = {}
        self._parts: list[bytes] = []
        self._prepared: Prepared | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._piece: bytes | None = None
        self._load = b""
        self._leaving = False

    def connectionMade(self) -> None:
        """The reactor runs."""
        super().connectionMade()  # type: ignore[no-untyped-call]  # as above
        self._serving.sightings.tell = self._seen
        self._serving.start()

    @commands.Listening.responder
    def listening(self, endpoint: str, descriptor: int) -> dict[str, Any]:
        """A socket to accept from."""
        self._handed.setdefault(endpoint, []).append(descriptor)
        return {}

    @commands.Forget.responder
    def forget(self, endpoint: str) -> dict[str, Any]:
        """A socket that is not needed any more."""
        for descriptor in self._handed.pop(endpoint, ()):
            os.close(descriptor)
        return {}

    @commands.Part.responder
    def part(self, data: bytes) -> dict[str, Any]:
        """A part of a configuration."""
        self._parts.append(data)
        return {}

    @commands.Prepare.responder
    async def prepare(self, folders: list[str]) -> dict[str, Any]:
        """Build it."""
        data = b"".join(self._parts)
        self._abort()
        try:
            configuration, self._serving.secret, self._serving.private, self._serving.folder = pickle.loads(data)
            self._prepared = await self._serving.prepare(configuration, folders, self._handed)
        except CannotStart:
            raise
        except Exception as error:  # a foreign plugin may raise anything; AMP would hang up
            log.failure("a configuration could not be built")
            raise CannotStart(f"an error of our own, which the log tells: {error!r}") from error
        return {"doubts": [doubt[:LONGEST] for doubt in self._prepared.doubts()[:MOST_DOUBTS]]}

    @commands.Commit.responder
    def commit(self) -> dict[str, Any]:
        """Put it to work."""
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        prepared.commit()
        return {}

    @commands.Abort.responder
    def abort(self) -> dict[str, Any]:
        """Forget it."""
        self._abort()
        return {}

    def _abort(self) -> None:
        self._parts = []
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.abort()

    @commands.Statistics.responder
    async def statistics(self, first: bool) -> dict[str, Any]:
        """A piece of them."""
        if first:
            self._pieces = pieces(await self._serving.snapshot())
            self._piece = next(self._pieces, b"")
        piece, self._piece = self._piece, next(self._pieces, None)
        return {"piece": piece or b"", "more": self._piece is not None}

    @commands.Load.responder
    def load(self, first: bool) -> dict[str, Any]:
        """A piece of how busy it is."""
        if first:
            self._load = json.dumps(self._serving.load()).encode()
        piece, self._load = self._load[: commands.PART], self._load[commands.PART :]
        return {"piece": piece, "more": bool(self._load)}

    @commands.Share.responder
    def share(self, room: bytes) -> dict[str, Any]:
        """What may be."""
        return {"held": json.dumps(self._serving.share(json.loads(room))).encode()}

    @commands.Look.responder
    def look(self, changes: bytes) -> dict[str, Any]:
        """Another worker sees backends otherwise than before."""
        self._serving.look(json.loads(changes))
        return {}

    def _seen(self, changes: list[Sighting]) -> None:
        """This one does."""
        control: Any = self
        said = json.dumps(changes).encode()
        # It is a hint: one with names as long as that may be lost.
        if self.transport is not None and len(said) <= commands.PART:
            control.callRemote(commands.Seen, changes=said)

    @commands.Explain.responder
    def explain(self, asked: bytes) -> dict[str, Any]:
        """What would become of a request."""
        url, method, fields, client = json.loads(asked)
        for most in (MOST, MOST // 10, MOST // 100):
            told = zlib.compress(json.dumps(self._serving.explain(url, method, fields, client, most)).encode())
            if len(told) <= commands.PART:
                return {"answer": told}
        raise BadQuestion("there is too much to say about it")

    @commands.Reopen.responder
    def reopen(self) -> dict[str, Any]:
        """Log files were moved."""
        self._serving.reopen_logs()
        return {}

    @commands.Drain.responder
    def drain(self) -> dict[str, Any]:
        """Go, in good order."""
        self.leave()
        return {}

    @commands.Hurry.responder
    def hurry(self) -> dict[str, Any]:
        """Go now."""
        self._serving.hurry()
        self.leave()
        return {}

    def leave(self) -> None:
        """Let what is under way end, and go."""
        if self._leaving:
            return
        self._leaving = True
        self._abort()
        for descriptors in self._handed.values():
            for descriptor in descriptors:
                os.close(descriptor)
        self._handed.clear()
        self._serving.drain().addBoth(lambda _: self._end())

    def _end(self) -> None:
        self._serving.end()
        self._reactor.stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The parent is gone, or has hung up."""
        super().connectionLost(reason)
        if not self._leaving:
            log.warn("the parent is gone; {count} exchanges may end", count=self._serving.exchanges)
        self.leave()


def main(reactor_name: str, number: int, version: str) -> None:
    """
    Serve until told otherwise.

    @param reactor_name: Twisted's short name of the reactor to install.
    @param number: which of the workers this is, from 0.
    @param version: the parent's.
    """
    for each in _THE_PARENTS:
        signal.signal(each, signal.SIG_IGN)
    installReactor(reactor_name)
    globalLogBeginner.beginLoggingTo([Lines(2)], redirectStandardIO=False)
    from twisted.internet import reactor as installed

    reactor: Any = installed
    steady(reactor)
    worker = Worker(Serving(reactor, Turns(Board(fd=BOARD), number, reactor), BOARD, number), reactor)
    control = socket.socket(fileno=CONTROL)
    control.setblocking(False)

    def begin() -> None:
        reactor.adoptStreamConnection(control.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: worker))
        control.close()
        # Not before: at its start the reactor puts its own in the place of what is there.
        for each in _THE_PARENTS:
            signal.signal(each, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(worker.leave))

    if version != __version__:
        log.warn(
            "this worker is of lemmytx {own}, the parent is of {version}: 'lemmy upgrade' makes them one again",
            own=__version__,
            version=version,
        )
    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
