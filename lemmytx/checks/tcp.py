"""C{type: tcp}: whether it takes connections; and what it says, where that is asked for."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from lemmytx.cluster.health import printable
from lemmytx.interfaces import IHealthCheck, Unhealthy

#: How much is waited for at the most until it has said what it should.
LONGEST = 4096


@implementer(IHealthCheck)
class TcpCheck:
    """See the module."""

    def __init__(self, send: str = "", expect: str = "") -> None:
        """
        @param send: is sent, once the connection stands. YAML's escapes are understood in double quotes: "PING\\r\\n".
        @param expect: has to come, within the first 4 kB. It need not be the beginning.
        """
        self._send = send.encode()
        self._expect = expect.encode()

    async def check(self, target: Any) -> str:
        """See L{IHealthCheck}."""
        connection = await target.connect()
        if self._send:
            connection.write(self._send)
        if not self._expect:
            return "it takes connections"
        found = b""
        while self._expect not in found:
            if len(found) > LONGEST:
                raise Unhealthy(f"{self._expect.decode()!r} is not in the {LONGEST} bytes that it says first")
            data = await connection.receive()
            if not data:
                said = repr(printable(found[:60].decode("utf-8", "replace"))) if found else "nothing"
                raise Unhealthy(f"it said {said} and closed the connection; {self._expect.decode()!r} is expected")
            found += data
        return "it says what it should"
