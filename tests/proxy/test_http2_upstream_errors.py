"""Errors of our own, beside streams of HTTP/2 that have nothing to do with them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet import error

from lemmytx.proxy.downstream import Downstream
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.tunnel import WebSocket
from tests.proxy.http2_backends import Http2Case, Peer
from tests.proxy.rig import GET, End, split
from tests.proxy.test_http2_upstream_tunnel import TOLD, WEBSOCKET


class OwnErrorTests(Http2Case):
    """What one exchange breaks ends that one exchange."""

    def breaks(self, kind: type, name: str) -> None:
        """From now on this method fails for requests of /broken."""
        works: Callable[..., Any] = getattr(kind, name)

        def fails(here: Any, *args: Any, **others: Any) -> Any:
            exchange = here if isinstance(here, Exchange) else getattr(here, "exchange", None) or here._exchange
            if exchange.head.path == b"/broken":
                raise ZeroDivisionError
            return works(here, *args, **others)

        self.patch(kind, name, fails)

    def two(self) -> tuple[End, End, Peer]:
        """A client whose exchange breaks and one whose does not, on one connection."""
        _, peer = self.warm()
        broken, other = self.client(), self.client()
        broken.send(GET.replace(b"/ ", b"/broken "))
        peer.read()
        other.send(GET)
        peer.read()
        return broken, other, peer

    def goes_on(self, other: End, peer: Peer) -> None:
        """The other one is answered, on the same connection; the error was told once."""
        peer.ok()
        self.assertEqual((split(other.got)[2], peer.end.fate), (b"hello", "open"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_response(self) -> None:
        """In the beginning of a response."""
        self.breaks(Downstream, "inform")
        broken, other, peer = self.two()
        peer.head(peer.last - 2, 103)
        self.assertEqual(split(broken.got)[0], b"HTTP/1.1 500 Internal Server Error")
        self.goes_on(other, peer)

    def test_body(self) -> None:
        """In the middle of one."""
        self.breaks(Downstream, "send")
        broken, other, peer = self.two()
        peer.head(peer.last - 2, 200)
        peer.data(peer.last - 2, b"ab")
        self.assertEqual(broken.fate, "reset")
        self.goes_on(other, peer)

    def test_trailers(self) -> None:
        """At its end."""
        broken, other, peer = self.two()
        self.breaks(Downstream, "send")
        peer.head(peer.last - 2, 200)
        peer.trailers(peer.last - 2, ("x-a", "b"))
        self.assertEqual(broken.fate, "reset")
        self.goes_on(other, peer)

    def test_loss(self) -> None:
        """In what is done about a stream that was reset."""
        self.breaks(Exchange, "upstream_gone")
        broken, other, peer = self.two()
        peer.reset(peer.last - 2, 2)
        self.assertEqual(split(broken.got)[0], b"HTTP/1.1 500 Internal Server Error")
        self.goes_on(other, peer)

    def test_malformed(self) -> None:
        """In what is done about a malformed one."""
        self.breaks(Exchange, "upstream_broke")
        broken, other, peer = self.two()
        peer.frame(1, 4, peer.last - 2, peer.h2.encoder.encode([(b"x-a", b"b")]))
        self.assertEqual(split(broken.got)[0], b"HTTP/1.1 500 Internal Server Error")
        self.goes_on(other, peer)

    def test_time(self) -> None:
        """In what is done about one that takes too long."""
        self.breaks(Exchange, "upstream_timed_out")
        _, peer = self.warm()
        broken = self.client()
        broken.send(GET.replace(b"/ ", b"/broken "))
        self.loop.wait(20)
        other = self.client()
        other.send(GET)
        self.loop.wait(11)
        self.assertEqual(split(broken.got)[0], b"HTTP/1.1 500 Internal Server Error")
        peer.ok()
        self.assertEqual((split(other.got)[2], peer.end.fate), (b"hello", "open"))
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    def test_tunnel(self) -> None:
        """In a tunnel."""
        self.breaks(WebSocket, "from_backend")
        _, peer = self.warm(ENABLE_CONNECT_PROTOCOL=1)
        broken, other = self.client(), self.client()
        broken.send(WEBSOCKET.replace(b"/chat", b"/broken"))
        stream = peer.last
        other.send(GET)
        peer.read()
        peer.head(stream, 200)
        peer.data(stream, TOLD)
        self.assertEqual(broken.fate, "reset")
        self.goes_on(other, peer)

    def test_gathered(self) -> None:
        """In one of those that waited for a connection: the others get theirs."""
        self.breaks(Exchange, "_send")
        broken, other = self.client(), self.client()
        broken.send(GET.replace(b"/ ", b"/broken "))
        other.send(GET)
        peer = self.peer()
        self.assertEqual(split(broken.got)[0], b"HTTP/1.1 500 Internal Server Error")
        self.goes_on(other, peer)

    def test_gatheredInVain(self) -> None:
        """The same when there is no connection, for either reason."""
        for name, why in (("connect_failed", None), ("cannot_connect", error.ConnectError(errno.EMFILE))):
            self.breaks(Exchange, name)
            broken, other = self.client(), self.client()
            broken.send(GET.replace(b"/ ", b"/broken "))
            other.send(GET)
            self.refuse(why)
            self.assertEqual(split(broken.got)[0], b"HTTP/1.1 500 Internal Server Error")
            self.assertTrue(split(other.got)[0].startswith(b"HTTP/1.1 50"))
            self.assertEqual(self.log[-1].termination, "overloaded" if why else "backend_refused")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.flushLoggedErrors()

    def test_starved(self) -> None:
        """Without descriptors of ours nobody that waits is connected: 503, and the backend is not blamed."""
        clients = [self.client(), self.client()]
        for client in clients:
            client.send(GET)
        self.refuse(error.ConnectError(errno.EMFILE))
        self.assertEqual([split(client.got)[0] for client in clients], [b"HTTP/1.1 503 Service Unavailable"] * 2)
        self.assertEqual(self.backend.failures, {})

    def test_connection(self) -> None:
        """An error that is no exchange's ends the connection, and those on it hear of it."""
        _, other, peer = self.two()
        self.patch(type(peer.end.wire.protocol), "_settings", lambda here: 1 / 0)
        peer.h2.update_settings({3: 50})
        peer.send()
        self.assertEqual((peer.end.fate, len(self.flushLoggedErrors(ZeroDivisionError))), ("reset", 1))
        second = self.accept()
        second.close()
        self.assertEqual(split(other.got)[0], b"HTTP/1.1 502 Bad Gateway")
