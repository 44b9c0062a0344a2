"""
The backend of the drills: several ports, one process, C{python -m benchmarks.drills.origin --size N PORT …}.

* C{GET /r/CLIENT/NUMBER} is answered with the port and the path, so that a client sees whether an answer is its own.
  A number that has been here before is answered with C{X-Before: yes}: a request that was sent again, and that had
  reached a backend whose answer was lost, is thereby told from one that no backend has seen.
  Every eighth answer takes a while (L{SLOW}), so that there always are exchanges under way.
* C{POST /r/CLIENT/NUMBER} likewise, with the body behind the path.
* C{GET /large} is a long body of known contents (L{pieces}).
* C{GET /socket} becomes a WebSocket that sends every message back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import zlib
from collections.abc import Iterator

from benchmarks.drills.wire import CLOSE, Ended, Head, Link, accept_key, frame

#: Bytes that are made and sent at a time.
PIECE = 1 << 18

#: Every so many answers to a client one takes so many seconds.
SLOW = (8, 0.3)

#: What every piece of the long body is cut out of: nothing in it repeats itself.
_NOISE = random.Random(3).randbytes(2 * PIECE)


def pieces(size: int) -> Iterator[bytes]:
    """The long body: no piece is like another, and every process can make it for itself."""
    for number, at in enumerate(range(0, size, PIECE)):
        start = number * 4099 % PIECE
        yield (number.to_bytes(8, "big") + _NOISE[start : start + PIECE - 8])[: size - at]


class Origin:
    """
    @ivar size: of the long body, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._last: dict[str, int] = {}

    async def serve(self, link: Link) -> None:
        """One connection, to its end."""
        with contextlib.suppress(Ended):
            while True:
                head = await link.head()
                path = head.start.split(" ")[1]
                if path.startswith("/socket"):
                    await self._echo(head, link)
                    break
                if path.startswith("/large"):
                    await self._send(link)
                else:
                    await self._answer(link, path, await link.exactly(head.length))
        link.close()

    async def _answer(self, link: Link, path: str, body: bytes) -> None:
        before = ""
        _, kind, *rest = path.split("/")
        if kind == "r":
            client, number = rest[0], int(rest[1])
            if number <= self._last.get(client, 0):
                before = "X-Before: yes\r\n"
            else:
                self._last[client] = number
            if (number + zlib.crc32(client.encode())) % SLOW[0] == 0:  # not those of all clients at one time
                await asyncio.sleep(SLOW[1])
        content = f"{link.port} {path} ".encode() + body
        await link.write(f"HTTP/1.1 200 OK\r\n{before}Content-Length: {len(content)}\r\n\r\n".encode() + content)

    async def _send(self, link: Link) -> None:
        await link.write(f"HTTP/1.1 200 OK\r\nContent-Length: {self.size}\r\n\r\n".encode())
        for piece in pieces(self.size):
            await link.write(piece)
            if link.ended:
                raise Ended(link.ended)

    async def _echo(self, head: Head, link: Link) -> None:
        key = accept_key(head.fields["sec-websocket-key"])
        await link.write(
            f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Accept: {key}\r\n\r\n".encode()
        )
        opcode = 0
        while opcode != CLOSE:
            opcode, payload = await link.frame()
            await link.write(frame(opcode, payload))


async def _main(ports: list[int], size: int) -> None:
    origin = Origin(size)
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Link(origin.serve), "127.0.0.1", port, backlog=1024) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("ports", type=int, nargs="+")
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.ports, arguments.size))
