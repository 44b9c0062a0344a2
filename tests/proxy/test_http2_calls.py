"""The guard on speed that does not depend on the machine, for HTTP/2: how many functions a small exchange calls."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from types import FrameType

from lemmytx.http2 import hpack
from tests.proxy.http2_rig import Http2Case
from tests.proxy.rig import OK

#: Calls from the request's bytes to the response's; the pure twin of header compression has some dozens more.
ALLOWED = 66 if hpack.compiled else 160

#: How many exchanges are looked at.
EXCHANGES = 10


class CallTests(Http2Case):
    """One exchange on connections that stand, with statistics and request ids on."""

    def test_small(self) -> None:
        """A small exchange stays within what is allowed, and two writes: one to the backend, one to the client."""
        client = self.second()
        client.request()
        self.accept().send(OK)
        client.go()
        downstream = client.downstream
        most: Counter[str] = Counter()
        for _ in range(EXCHANGES):
            counted: Counter[str] = Counter()
            stream = client.ask()
            data = client.codec.take()

            def profile(frame: FrameType, event: str, argument: object, counted: Counter[str] = counted) -> None:
                if event == "call":
                    counted[frame.f_code.co_qualname] += 1

            gc.disable()  # what it calls is not the exchange's
            sys.setprofile(profile)
            try:
                downstream.dataReceived(data)
                [exchange] = downstream.exchanges()
                exchange.upstream.dataReceived(OK)  # type: ignore[union-attr]  # it has one
            finally:
                sys.setprofile(None)
                gc.enable()
            self.assertEqual(self.answer(client, stream).body, b"hello")
            self.assertEqual(counted["Socket.send"], 2, counted)
            for name in [name for name in counted if name.startswith(("Socket.", "Http2Downstream.exchanges"))]:
                del counted[name]
            most = max(most, counted, key=Counter.total)
        self.assertGreater(most.total(), 10)
        self.assertLessEqual(most.total(), ALLOWED, most)
