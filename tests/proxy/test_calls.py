"""The guard on speed that does not depend on the machine: how many Python functions a small exchange calls."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType

from lemmytx.http1 import codec
from lemmytx.proxy.access_log import appender
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.forward import Forwarding
from tests.proxy.rig import GET, OK, ProxyCase

#: What the design allows, in total, from the request's bytes to the response's.
ALLOWED = 60

#: How many exchanges are looked at.
EXCHANGES = 10

BROWSER = (
    b"GET /shop/cart?x=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nReferer: https://www.example.com/start\r\nConnection: keep-alive\r\n"
    b"Cookie: session=0123456789abcdef; theme=dark\r\nUpgrade-Insecure-Requests: 1\r\nCache-Control: max-age=0\r\n"
    b"DNT: 1\r\n\r\n"
)


class CallTests(ProxyCase):
    """One exchange on connections that stand, with statistics and request ids on."""

    def calls(
        self,
        request: bytes = GET,
        backends: int = 1,
        forwarding: Forwarding | None = None,
        record: Callable[[Exchange], None] | None = None,
    ) -> Counter[str]:
        """The calls of one exchange, by function: of several, the one that needs most."""
        self.compose(backends=backends, forwarding=forwarding)
        self.resource.record = record
        clients = [self.client() for _ in range(backends)]
        for client in clients:
            client.send(GET)
        for _ in range(backends):
            self.accept().send(OK)
        ends = {end.wire: end for end in self.network.ends}
        for end in [*clients, *ends.values()]:
            end.take()
        downstream = clients[0].wire.protocol
        client = clients[0]
        most: Counter[str] = Counter()
        for _ in range(EXCHANGES):
            counted: Counter[str] = Counter()

            def profile(frame: FrameType, event: str, argument: object, counted: Counter[str] = counted) -> None:
                if event == "call":
                    counted[frame.f_code.co_qualname] += 1

            gc.disable()  # what it calls is not the exchange's
            sys.setprofile(profile)
            try:
                downstream.dataReceived(request)
                upstream = downstream.exchange.upstream
                upstream.dataReceived(OK)
            finally:
                sys.setprofile(None)
                gc.enable()
            self.assertEqual(client.take(), OK)
            self.assertIn(b"X-Request-ID: ", ends[upstream.transport].take())
            # The sockets of the test are not what is measured.
            for name in [name for name in counted if name.startswith("Socket.")]:
                del counted[name]
            if counted.total() > most.total():
                most = counted
        self.assertEqual(self.vhost.traffic.count, EXCHANGES + backends)
        return most

    def test_small(self) -> None:
        """A small exchange stays within what the design allows."""
        calls = self.calls()
        self.assertGreater(calls.total(), 10)
        self.assertLessEqual(calls.total(), ALLOWED, calls)

    def test_browser(self) -> None:
        """A browser's head costs no more calls than a short one; the pure codec asks about two of its fields."""
        self.assertLessEqual(self.calls(BROWSER).total(), self.calls().total() + (0 if codec.compiled else 2))

    def test_accessLog(self) -> None:
        """The JSON access log adds a handful, and the whole stays within what is allowed."""
        without = self.calls().total()
        append = appender("json")
        lines = bytearray()
        calls = self.calls(record=lambda exchange: append(exchange, lines))
        self.assertLessEqual(calls.total(), ALLOWED, calls)
        self.assertLessEqual(calls.total() - without, 12, calls)
        self.assertEqual(lines.count(b"\n"), EXCHANGES + 1)

    def test_forwarded(self) -> None:
        """Forwarded costs two calls."""
        plain = self.calls().total()
        self.assertLessEqual(self.calls(forwarding=Forwarding(forwarded=True)).total() - plain, 2)

    def test_manyBackends(self) -> None:
        """Sixteen backends cost no more calls than two, and hundreds a dozen more, however many."""
        few = self.calls(backends=2).total()
        self.assertEqual(self.calls(backends=16).total(), few)
        for count in (100, 300):
            self.assertLessEqual(self.calls(backends=count).total(), few + 12, count)
