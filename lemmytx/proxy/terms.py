"""On what terms clients come in by a listener."""

from __future__ import annotations

from typing import Any

from lemmytx.proxy.forward import Networks


class Terms:
    """
    What a listener asks of its clients and grants them. A reload brings new ones; connections that stand go by what has
    been agreed with them, requests by the new ones.

    @ivar trusted: whose X-Forwarded-*, and whose PROXY protocol headers, are believed.
    @ivar tls: a L{lemmytx.net.tls.server.ServerTls}; L{None}: no TLS.
    @ivar http2: whether HTTP/2 is spoken: over TLS with who asks for it (ALPN), else with who begins with it.
    @ivar proxy_protocol: whether a connection begins with a PROXY protocol header.
    @ivar redirect: the port of HTTPS to which every request is sent; 0: none is.
    @ivar hsts: the line that is added to responses, with its CRLF (RFC 6797); may be empty.
    @ivar wrapped: whether the endpoint may bring TLS with it, as C{lemmytls:} and Twisted's C{ssl:} do.
    @ivar handshakes: how many handshakes may be under way at one time.
    @ivar handshake_timeout: seconds for one.
    """

    __slots__ = (
        "handshake_timeout", "handshakes", "hsts", "http2", "proxy_protocol", "redirect", "tls", "trusted",
        "wrapped",
    )  # fmt: skip

    def __init__(
        self,
        trusted: Networks = (),
        tls: Any = None,
        http2: bool = False,
        proxy_protocol: bool = False,
        redirect: int = 0,
        hsts: bytes = b"",
        handshakes: int = 1000,
        handshake_timeout: float = 10.0,
        wrapped: bool = False,
    ) -> None:
        self.trusted = trusted
        self.tls = tls
        self.http2 = http2
        self.proxy_protocol = proxy_protocol
        self.redirect = redirect
        self.hsts = hsts
        self.handshakes = handshakes
        self.handshake_timeout = handshake_timeout
        self.wrapped = wrapped

    @property
    def plain(self) -> bool:
        """Whether a connection begins with HTTP/1.1, and with nothing else."""
        return self.tls is None and not (self.http2 or self.proxy_protocol or self.wrapped)
