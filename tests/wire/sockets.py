"""
The two ends of the wire, in one thread: clients that send raw bytes, and a backend that keeps every byte it gets.

Everything hangs on one small selector loop that only turns while a test waits for something, so a test decides the
order of all that happens at both ends. Nothing here sleeps: L{Loop.until} waits for a condition, and L{unread} asks
the kernel whether the proxy has read what was sent, which is how a message is cut in two for certain.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable

from tests.wire.reading import Malformed, Message, read_request, read_response

#: Seconds after which something that should have happened counts as not happening. Never waited for on a good day.
LIMIT = 5.0

#: What the backend answers unless told otherwise.
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Served: yes\r\n\r\nOK"


class Loop:
    """Calls back whose socket can be read or written, while L{until} waits."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def until(self, condition: Callable[[], bool], seconds: float = LIMIT, step: float = 0.5) -> bool:
        """
        Turns until C{condition} holds.

        @param seconds: the longest to wait.
        @param step: the longest between two looks at the condition, for those that no socket announces.
        @return: whether it holds.
        """
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            for key, events in self.selector.select(min(left, step)):
                key.data(events)
        return True

    def settle(self) -> None:
        """Reads and writes what can be at once, and what comes of that."""
        for _ in range(100):
            ready = self.selector.select(0)
            if not ready:
                return
            for key, events in ready:
                key.data(events)


class Peer:
    """
    One end of a connection.

    @ivar received: every byte that came.
    @ivar ended: empty, C{closed} (the other end said so in order) or C{reset}.
    """

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.loop = loop
        self.sock = sock
        self.received = bytearray()
        self.ended = ""
        self.gone = False
        self._out = bytearray()
        self._finishing = False
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.selector.register(sock, selectors.EVENT_READ, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and not self.gone:
            try:
                data = self.sock.recv(262144)
            except BlockingIOError:
                return
            except OSError:
                self._end("reset")
                return
            if data:
                self.received += data
                self.came()
            else:
                self._end("closed")

    def _end(self, how: str) -> None:
        self.ended = how
        self.loop.selector.unregister(self.sock)
        self.came()

    def _watch(self, events: int) -> None:
        if not self.ended and not self.gone:
            self.loop.selector.modify(self.sock, events, self._ready)

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self.sock.send(self._out)]
        except BlockingIOError:
            self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
            return
        except OSError:
            # The other end is gone; what it said before is still to be read, and says what became of us.
            self._out.clear()
        self._watch(selectors.EVENT_READ)
        if self._finishing:
            self._finishing = False
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._out.clear()

    def came(self) -> None:
        """Bytes or the end came."""

    def write(self, data: bytes) -> None:
        """Sends as much as goes at once and the rest while the loop turns."""
        if not self.gone:
            self._out += data
            self._flush()

    def finish(self) -> None:
        """Says that nothing more will be sent, once everything is; still reads."""
        if not self.gone:
            self._finishing = True
            self._flush()

    def close(self) -> None:
        """Closes in order."""
        if not self.gone:
            if not self.ended:
                self.loop.selector.unregister(self.sock)
            self.gone = True
            self.sock.close()

    def reset(self) -> None:
        """Closes with a reset."""
        if not self.gone:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()


class Client(Peer):
    """
    Sends what it is given and reads responses.

    @ivar answers: the complete responses, interim ones too, in order.
    @ivar broken: why what came is no response; empty while it is one.
    @ivar open: what has come of a response that is not complete, if its head has.
    """

    def __init__(self, loop: Loop, port: int, heads: tuple[int, ...] = ()) -> None:
        super().__init__(loop, socket.create_connection(("127.0.0.1", port), LIMIT))
        self.answers: list[Message] = []
        self.broken = ""
        self.open: Message | None = None
        self.tunnel = False
        self._at = 0
        self._heads = heads
        self._finals = 0

    @property
    def finals(self) -> int:
        """How many responses other than interim ones are complete."""
        return self._finals

    @property
    def rest(self) -> bytes:
        """What came behind the last complete response."""
        return bytes(self.received[self._at :])

    def came(self) -> None:
        while not self.tunnel and not self.broken and self._at < len(self.received):
            try:
                answer = read_response(self.rest, self._finals in self._heads, self.ended == "closed")
            except Malformed as why:
                self.broken = str(why)
                return
            self.open = answer
            if answer is None or not answer.complete:
                return
            self.open = None
            self.answers.append(answer)
            self._at += answer.size
            self.tunnel = answer.status == 101
            self._finals += answer.status >= 200 or self.tunnel


class Side(Peer):
    """
    The backend's end of one connection from the proxy.

    @ivar served: how many requests were complete since the last L{Backend.forget}.
    @ivar tunnel: whether what comes is sent back as it is.
    """

    def __init__(self, backend: Backend, sock: socket.socket) -> None:
        super().__init__(backend.loop, sock)
        self.backend = backend
        self.served = 0
        self.tunnel = False
        self.broken = ""
        self.head: Message | None = None
        self._at = 0

    @property
    def rest(self) -> bytes:
        """What came behind the last complete request."""
        return bytes(self.received[self._at :])

    def came(self) -> None:
        if self.tunnel and self.ended:
            # Whoever speaks through a tunnel hangs up when the other one has.
            self.close()
            return
        while self._at < len(self.received) and not self.broken:
            if self.tunnel:
                data = self.rest
                self._at = len(self.received)
                self.write(data)
                return
            try:
                request = read_request(self.rest)
            except Malformed as why:
                self.broken = str(why)
                self.reset()
                return
            if request is None:
                return
            if self.head is None:
                self.head = request
                self.backend.began(self, request)
            if not request.complete:
                return
            self.head = None
            self.served += 1
            self._at += request.size
            self.backend.requests.append(request)
            self.backend.script(self, request)


def serve(side: Side, request: Message) -> None:
    """What the backend does with a complete request unless a test says otherwise."""
    if b"websocket" in [value.lower() for value in request.values(b"upgrade")]:
        side.tunnel = True
        side.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    elif request.start.startswith(b"HEAD "):
        side.write(PLAIN[:-2])
    else:
        side.write(PLAIN)


def greet(side: Side, request: Message) -> None:
    """What the backend does with a request's head unless a test says otherwise: says that it wants the body."""
    if not request.complete and b"100-continue" in [value.lower() for value in request.values(b"expect")]:
        side.write(b"HTTP/1.1 100 Continue\r\n\r\n")


class Backend:
    """
    A strict origin server that keeps what it is sent.

    @ivar sides: its connections, the ended ones too, since the last L{forget}.
    @ivar requests: complete requests in the order in which they ended.
    @ivar script: what it does with a complete request.
    @ivar began: what it does with a request's head, before its body.
    """

    def __init__(self, loop: Loop, port: int = 0) -> None:
        """
        @param port: where it listens; 0: the system chooses.
        """
        self.loop = loop
        self.sides: list[Side] = []
        self.requests: list[Message] = []
        self.script: Callable[[Side, Message], None] = serve
        self.began: Callable[[Side, Message], None] = greet
        self._listening = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        loop.selector.register(self._listening, selectors.EVENT_READ, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            while True:
                self.sides.append(Side(self, self._listening.accept()[0]))
        except BlockingIOError:
            return

    def forget(self) -> None:
        """Begins a new record: drops what came, and the connections that have ended, also those just now."""
        self.loop.settle()
        self.requests.clear()
        self.script = serve
        self.began = greet
        for side in self.sides:
            if side.ended:
                side.close()
        self.sides = [side for side in self.sides if not side.gone and not side.ended]
        for side in self.sides:
            side.served = 0
            if side.head is None and not side.tunnel:
                del side.received[: side._at]
                side._at = 0

    def close(self) -> None:
        """Stops listening and resets every connection."""
        self.loop.selector.unregister(self._listening)
        self._listening.close()
        for side in self.sides:
            side.reset()


def unread(mine: int = 0, peer: int = 0) -> int:
    """
    Bytes that have arrived at sockets of this machine and were not read yet by whoever owns them, as the kernel
    counts them (C{sock_diag(7)}): connections not accepted yet count too.

    @param mine: the local port of those sockets; 0 = any.
    @param peer: the remote port of those sockets; 0 = any.
    """
    established_or_half_closed = 1 << 1 | 1 << 8
    question = struct.pack("=BBBBI48s", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, established_or_half_closed, b"")
    found = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as link:
        link.send(struct.pack("=IHHII", 16 + len(question), 20, 0x301, 1, 0) + question)
        while True:
            data = link.recv(1 << 18)
            at = 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind != 20:
                    return found
                source, target = struct.unpack_from("!HH", data, at + 20)
                if mine in (0, source) and peer in (0, target):
                    found += struct.unpack_from("=I", data, at + 16 + 56)[0]
                at += (length + 3) & ~3
