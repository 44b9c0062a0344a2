"""Bodies from socket to socket inside the kernel, on real sockets."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.runtime import platform

from lemmytx.net import splice
from lemmytx.net.splice import Splice, can_splice
from tests.net.pairs import KINDS, NetCase, Recorder, tick

#: Large enough for many turns and for sockets to be full on the way.
LENGTH = 5_000_000
BODY = (bytes(range(251)) * (LENGTH // 251 + 1))[:LENGTH]


def pipes() -> int:
    """How many pipe ends this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("pipe:")
        except OSError:
            continue
    return found


class SpliceTests(NetCase):
    """A source that we read from and a sink that we write to; a plain socket at the far end of each."""

    if not platform.isLinux():
        skip = "splice is Linux's"

    async def begin(self, kind: str, length: int = LENGTH) -> tuple[Recorder, socket.socket, Recorder, socket.socket]:
        """Everything connected and the splice under way: source, its far end, sink, its far end."""
        source, feeding = await self.raw(kind)
        sink, reading = await self.raw(kind)
        for far in (feeding, reading):
            far.setblocking(False)
        self.moved: list[int] = []
        self.over: Deferred[None] = Deferred()
        self.assertTrue(can_splice(source.transport, sink.transport))
        self.splice = Splice(
            source.transport,  # type: ignore[arg-type]  # ours
            sink.transport,  # type: ignore[arg-type]  # ours
            length,
            source,  # type: ignore[arg-type]  # a producer
            self.moved.append,
            lambda: self.over.callback(None),
        )
        self.addCleanup(self.splice.stop)
        return source, feeding, sink, reading

    async def feed(self, feeding: socket.socket, data: bytes) -> None:
        """Send, as fast as it is taken."""
        view = memoryview(data)
        while view:
            try:
                view = view[feeding.send(view) :]
            except BlockingIOError:
                await tick()

    async def take(self, reading: socket.socket, length: int, piece: int = 1 << 20) -> bytes:
        """Read, a piece in each turn."""
        got = bytearray()
        while len(got) < length:
            try:
                data = reading.recv(min(piece, length - len(got)))
            except BlockingIOError:
                await tick()
                continue
            if not data:
                break
            got += data
            if piece < 1 << 20:
                await tick()
        return bytes(got)

    async def test_exactBytes(self) -> None:
        """All bytes arrive, not one more is read, and both transports are as they were."""
        for kind in KINDS:
            source, feeding, sink, reading = await self.begin(kind)
            feeding_all = Deferred.fromCoroutine(self.feed(feeding, BODY + b"the next"))
            self.assertTrue(await self.take(reading, LENGTH) == BODY)
            await self.over
            await feeding_all
            self.assertEqual(sum(self.moved), LENGTH)
            await source.when(lambda source=source: source.data == b"the next")  # type: ignore[misc]
            for end in (source, sink):
                self.assertNotIn("doRead", vars(end.transport))
                self.assertNotIn("doWrite", vars(end.transport))
            sink.transport.write(b"after")  # type: ignore[union-attr]  # it is connected
            self.assertEqual(await self.take(reading, 5), b"after")

    async def test_slowReader(self) -> None:
        """A slow reader pauses the source, what is on the way stays bounded, and everything arrives in the end."""
        source, feeding, _, reading = await self.begin("tcp")
        reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        feeding_all = Deferred.fromCoroutine(self.feed(feeding, BODY))
        await source.when(lambda: source.pauses > 0)
        for _ in range(20):
            await tick()
        self.assertLess(sum(self.moved), LENGTH)
        self.assertFalse(self.over.called)
        self.assertTrue(await self.take(reading, LENGTH, 200_000) == BODY)
        await self.over
        await feeding_all
        self.assertEqual((source.pauses, sum(self.moved)), (source.resumes, LENGTH))

    async def test_sourceEnds(self) -> None:
        """A source that ends midway is told to its protocol, and the end is never announced."""
        for kind in KINDS:
            source, feeding, _, reading = await self.begin(kind)
            await self.feed(feeding, BODY[:100_000])
            feeding.shutdown(socket.SHUT_WR)
            self.assertTrue(await self.take(reading, 100_000) == BODY[:100_000])
            await source.when(lambda source=source: source.read_closed)  # type: ignore[misc]
            self.assertFalse(self.over.called)
            self.splice.stop()

    async def test_sourceVanishes(self) -> None:
        """The same for a reset."""
        source, feeding, _, reading = await self.begin("tcp")
        await self.feed(feeding, BODY[:100_000])
        await self.take(reading, 100_000)
        feeding.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        feeding.close()
        await source.lost
        self.assertFalse(self.over.called)

    async def test_sinkVanishes(self) -> None:
        """A sink that vanishes midway is told to its protocol, whether it was being waited for or not."""
        for reads in (0, 300_000):
            _, feeding, sink, reading = await self.begin("tcp")
            feeding_all = Deferred.fromCoroutine(self.feed(feeding, BODY)).addErrback(lambda failure: None)
            await self.take(reading, reads)
            if not reads:
                while "doWrite" not in vars(sink.transport):
                    await tick()
            reading.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            reading.close()
            await sink.lost
            self.assertFalse(self.over.called)
            self.splice.stop()
            feeding.close()
            await feeding_all

    async def test_aborted(self) -> None:
        """Either transport may be aborted in the middle; stopping afterwards harms nothing."""
        for which in (0, 2):
            ends: tuple[Any, ...] = await self.begin("tcp")
            feeding_all = Deferred.fromCoroutine(self.feed(ends[1], BODY[:2_000_000])).addErrback(lambda _: None)
            while not self.moved:
                await tick()
            ends[which].transport.abortConnection()
            self.splice.stop()
            await ends[which].lost
            ends[1].close()
            await feeding_all
            self.assertFalse(self.over.called)

    async def test_noPipesLeft(self) -> None:
        """Pipes are used again or closed, however a splice ended."""
        await self.test_exactBytes()
        before, spare = pipes(), len(splice._spare)
        self.assertGreater(spare, 0)
        await self.test_exactBytes()
        self.assertEqual((pipes(), len(splice._spare)), (before, spare))
        await self.test_sinkVanishes()
        self.assertLessEqual(pipes(), before)
        self.assertLessEqual(pipes() - before, 2 * (len(splice._spare) - spare))

    async def test_onlyWhereItFits(self) -> None:
        """Bytes that are queued come first, and transports that are not plain or not connected are not spliced."""
        source, _ = await self.raw("tcp")
        sink, _ = await self.raw("tcp")
        self.assertTrue(can_splice(source.transport, sink.transport))
        sink.transport.write(b"x" * 20_000_000)  # type: ignore[union-attr]  # it is connected
        self.assertFalse(can_splice(source.transport, sink.transport))
        self.assertFalse(can_splice(object(), source.transport))
        self.assertFalse(can_splice(sink.transport, object()))
        sink.transport.abortConnection()  # type: ignore[union-attr]
        await sink.lost
        self.assertFalse(can_splice(source.transport, sink.transport))
