"""How an exchange gets to a backend that has no connection for it."""

from __future__ import annotations

from typing import Any

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.multiplexed import Multiplexed
from lemmytx.proxy.dial import Dial
from lemmytx.proxy.http2_dial import Http2Dial


def dial(exchange: Any, backend: Backend) -> Dial | Http2Dial:
    """
    What gets a new carrier for the exchange. It is to be started; then one of C{exchange.connected},
    C{exchange.connect_failed} and C{exchange.cannot_connect} is called, unless it is cancelled before.
    """
    if isinstance(backend, Multiplexed):
        return Http2Dial(exchange, backend, Dial)
    return Dial(exchange, backend)
