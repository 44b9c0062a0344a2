"""How a backend is spoken to."""

from __future__ import annotations

from typing import Any, Literal


class Way:
    """
    What stands between a connection to a backend and HTTP/1.1 on it.

    @ivar protocol: C{http}, C{https}, C{h2}, C{h2c} or C{fcgi}.
    @ivar tls: for C{https} and C{h2}: a L{lemmytx.net.tls.client.ClientTls}.
    @ivar fastcgi: for C{fcgi}: what the program behind it is told (L{lemmytx.fastcgi}).
    @ivar proxy: the version of the PROXY protocol header that comes first; L{None}: no header.
    """

    __slots__ = ("fastcgi", "protocol", "proxy", "tls")

    def __init__(
        self,
        protocol: str = "http",
        tls: Any = None,
        fastcgi: Any = None,
        proxy: Literal["v1", "v2"] | None = None,
    ) -> None:
        self.protocol = protocol
        self.tls = tls
        self.fastcgi = fastcgi
        self.proxy = proxy


#: HTTP/1.1 on the connection itself.
PLAIN = Way()
