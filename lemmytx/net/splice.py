"""
Bodies from socket to socket inside the kernel.

A body of known length between two plain sockets needs no look from us: C{splice(2)} moves its pages from one socket
into a pipe and out of the pipe into the other socket. 1 MB costs 0.30 ms of CPU in this way, 0.45 with C{recv} and
C{send} (nginx beside it: 0.85).

While it lasts, a L{Splice} takes the place of the source's C{doRead} and, when the sink is full, of the sink's
C{doWrite}. The states::

    flowing     the source is read; the pipe is empty between two reads
    blocked     the pipe holds bytes that the sink did not take; the source is not read, the sink's socket is watched
    over        all bytes are through, or it was stopped; both transports are as they were

The ends of the connections are reported as ever: what C{doRead} and C{doWrite} return goes to the reactor, which
tells the transports' protocols. Whoever started the splice stops it then.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet import main
from twisted.internet.interfaces import IPushProducer

from lemmytx.net.transports import SendsAtOnce

#: Below this many bytes a copy is cheaper than setting a splice up.
WORTH_IT = 128 * 1024

#: What one step moves, and what a pipe holds unless it is told otherwise. Larger pipes cost more for each byte: 1 MB
#: took 620 µs of CPU with 256 kB in the pipe, 300 with 64 kB.
PIPE_SIZE = 64 * 1024

#: How many empty pipes are kept.
SPARE_PIPES = 16

#: How much one turn of the reactor moves at most, so that a fast pair does not starve the others.
TURN = 1024 * 1024

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if hasattr(os, "splice") else 0

_spare: list[tuple[int, int]] = []


def _open_pipe() -> tuple[int, int]:
    if _spare:
        return _spare.pop()
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def can_splice(source: Any, sink: Any) -> bool:
    """Whether bytes can go from the one transport's socket to the other's now."""
    return (
        _FLAGS != 0
        and getattr(source, "plain", False)
        and getattr(sink, "plain", False)
        and sink.connected
        and source.connected
        and sink.quiet
    )


class Splice:
    """
    One body on its way.

    @ivar left: bytes that have not come out of the source yet.
    """

    __slots__ = ("_done", "_held", "_moved", "_pipe", "_producer", "_sink", "_source", "left")

    def __init__(
        self,
        source: SendsAtOnce,
        sink: SendsAtOnce,
        length: int,
        producer: IPushProducer,
        moved: Callable[[int], None],
        done: Callable[[], None],
    ) -> None:
        """
        Take over. The caller has seen that L{can_splice} and that the source is not paused.

        @param length: how many bytes to move, above 0; not one more is read.
        @param producer: the source's protocol: paused while the sink is full. It pauses the source's transport.
        @param moved: called with a number of bytes each time the sink's socket has taken some.
        @param done: called once, from the reactor, when all have been taken; not after L{stop}.
        @raise OSError: no pipe could be had; nothing has changed.
        """
        self._pipe: tuple[int, int] | None = _open_pipe()
        self._source = source
        self._sink = sink
        self._producer = producer
        self._moved = moved
        self._done = done
        self._held = 0
        self.left = length
        source.doRead = self._read  # type: ignore[method-assign]

    def stop(self) -> None:
        """
        Give both transports back. Bytes that were in the pipe are lost, so this is for the end of one of the
        connections.
        """
        if self._pipe is None:
            return
        pipe, self._pipe = self._pipe, None
        # The methods of the class again, unless somebody else (an abort) has taken the place meanwhile.
        if self._source.__dict__.get("doRead") == self._read:
            del self._source.doRead
        if self._sink.__dict__.get("doWrite") == self._write:
            del self._sink.doWrite
        if self._held or len(_spare) >= SPARE_PIPES:
            os.close(pipe[0])
            os.close(pipe[1])
        else:
            _spare.append(pipe)

    def _read(self) -> Any:
        """In the place of the source's C{doRead}."""
        assert self._pipe is not None
        reading, writing = self._pipe
        source, sink = self._source.fileno(), self._sink.fileno()
        budget = TURN
        while budget > 0:
            try:
                count = os.splice(source, writing, min(self.left, PIPE_SIZE), flags=_FLAGS)
            except BlockingIOError:
                return None
            except OSError:
                return main.CONNECTION_LOST
            if count == 0:
                return main.CONNECTION_DONE
            budget -= count
            self.left -= count
            self._held = count
            try:
                taken = os.splice(reading, sink, count, flags=_FLAGS | (os.SPLICE_F_MORE if self.left else 0))
            except BlockingIOError:
                taken = 0
            except OSError:
                # The sink is gone. Its own attempt to write says so from the reactor, where losses are told.
                taken = 0
            self._held -= taken
            if self._held:
                self._block()
                if taken:
                    self._moved(taken)
                return None
            self._moved(taken)
            if self._pipe is None:
                return None
            if not self.left:
                self.stop()
                self._done()
                return None
        return None

    def _block(self) -> None:
        self._producer.pauseProducing()
        self._sink.doWrite = self._write  # type: ignore[method-assign]
        self._sink.startWriting()

    def _write(self) -> Any:
        """In the place of the sink's C{doWrite}, while the pipe holds something."""
        assert self._pipe is not None
        try:
            taken = os.splice(
                self._pipe[0], self._sink.fileno(), self._held, flags=_FLAGS | (os.SPLICE_F_MORE if self.left else 0)
            )
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        self._held -= taken
        if not self._held:
            del self._sink.doWrite
            self._sink.stopWriting()
            self._producer.resumeProducing()
        self._moved(taken)
        if self._pipe is not None and not self._held and not self.left:
            self.stop()
            self._done()
        return None
