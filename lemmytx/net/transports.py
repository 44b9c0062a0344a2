"""
Twisted's stream transports, made to send at once.

Twisted's C{write} puts the bytes into a buffer and asks the reactor to be called when the socket is writable: two
more system calls and a turn of the loop for every answer, though the socket almost always has room. Here C{write}
gives the bytes to the socket when nothing is queued before them, and falls back to Twisted's buffering for what the
socket did not take. Everything else (producers, half close, abort) is Twisted's own. Measured on a small exchange
(42 µs of CPU against 54 µs) in one run with the plain transports.

C{tcp.Port}, C{tcp.Server} and C{tcp.Client} are meant to be subclassed in this way (C{Port.transport}).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import main, tcp, unix

from lemmytx.net.accepting import AcceptsWhileOpen

#: L{socket.socket.recv} and L{socket.socket.send}, or the compiled ones that cost less around the system call.
recv: Callable[[socket.socket, int], bytes] = socket.socket.recv
send: Callable[[socket.socket, bytes], int] = socket.socket.send
if not os.environ.get("LEMMYTX_PURE"):
    try:
        from lemmytx.net._calls import recv, send
    except ImportError:  # built without a compiler: said then
        pass

#: How much one read may bring. The small size serves heads; a read that fills it is followed by large ones, since
#: a body is then under way: one system call per 256 kB halves what 1 MB costs.
SMALL_READ = 64 * 1024
LARGE_READ = 256 * 1024

if TYPE_CHECKING:
    _Base = tcp.Connection
else:
    _Base = object


class SendsAtOnce(_Base):
    """
    Mixed into a Twisted stream transport, before it.

    @ivar read_size: how much the next read asks for, bytes.
    """

    read_size = SMALL_READ

    _recv = staticmethod(recv)
    _send = staticmethod(send)

    #: A write found the connection gone: the socket took nothing of it, and will take nothing more.
    failed_write = False

    #: A write had to be queued. Whoever waits for the queue to empty sets it back.
    behind = False

    #: Something waits to be sent, so what is written has to wait behind it.
    _queueing = False

    #: A plain socket: bytes may go around us, from descriptor to descriptor (L{lemmytx.net.splice}).
    plain = True

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._tempDataBuffer and len(self.dataBuffer) == self.offset

    @property
    def queued(self) -> int:
        """How many bytes wait to be sent."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def write(self, data: bytes) -> None:
        """Send what the socket takes now and queue the rest. See L{twisted.internet.interfaces.ITransport}."""
        if self._queueing or not self.connected or self._writeDisconnected:
            tcp.Connection.write(self, data)
            return
        try:
            sent = self._send(self.socket, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Not told here: the caller is in the middle of something. The queue's own attempt fails in the same way
            # from the reactor, which then reports the loss in the ordinary place.
            self.failed_write = True
            sent = 0
        if sent < len(data):
            self.behind = self._queueing = True
            tcp.Connection.write(self, data[sent:])

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See L{twisted.internet.interfaces.ITransport}. In order with what L{write} sends."""
        self.write(b"".join(iovec))

    def stopWriting(self) -> None:
        """Called by C{doWrite} when the queue is empty, and by an abort, whatever is in it."""
        # What an abort leaves there is a gap: nothing that is written after it may reach the other side.
        self._queueing = bool(self._tempDataBuffer) or len(self.dataBuffer) != self.offset
        super().stopWriting()

    def doRead(self) -> Any:
        """Called by the reactor when bytes have come."""
        size = self.read_size
        try:
            data = self._recv(self.socket, size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        if len(data) == size:
            self.read_size = LARGE_READ
        elif size != SMALL_READ:
            # The memory for a large read is mapped anew each time: 12 µs that a head should not pay.
            self.read_size = SMALL_READ
        try:
            self.protocol.dataReceived(data)
        except Exception:
            # The reactor would end this connection alone, and whoever waits at the other one would wait on.
            broke_down = getattr(self.protocol, "broke_down", None)
            if broke_down is None:
                raise
            broke_down()
        return None


class Server(SendsAtOnce, tcp.Server):
    """An accepted TCP connection."""


class Port(AcceptsWhileOpen, tcp.Port):
    """A listening TCP socket whose connections are L{Server}."""

    transport = Server

    def createInternetSocket(self) -> socket.socket:
        """Answers are written whole, so Nagle's delay only costs; Linux hands the option on to what is accepted."""
        created: socket.socket = super().createInternetSocket()
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return created


class Client(SendsAtOnce, tcp.Client):
    """A TCP connection that we made."""


class Connector(tcp.Connector):
    """Makes L{Client} connections."""

    def _makeTransport(self) -> Client:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)


class _NoDescriptorsSent(SendsAtOnce):
    """Unix sockets: no file descriptors are passed over them here, so what Twisted does for those is left out."""

    def writeSomeData(self, data: bytes) -> Any:
        return tcp.Connection.writeSomeData(self, data)

    def _isSendBufferFull(self) -> bool:
        full: bool = tcp.Connection._isSendBufferFull(self)
        return full


class UnixServer(_NoDescriptorsSent, unix.Server):
    """An accepted unix connection."""


class UnixPort(AcceptsWhileOpen, unix.Port):
    """A listening unix socket whose connections are L{UnixServer}."""

    transport = UnixServer


class UnixClient(_NoDescriptorsSent, unix.Client):
    """A unix connection that we made."""


class UnixConnector(unix.Connector):
    """Makes L{UnixClient} connections."""

    def _makeTransport(self) -> Any:
        return UnixClient(self.address, self, self.reactor, self.checkPID)
