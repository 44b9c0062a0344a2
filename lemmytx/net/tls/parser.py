"""What C{twisted.plugin} finds for C{lemmytls:} in endpoint descriptions; light, for every Twisted program loads it."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IStreamServerEndpointStringParser)
class Parser:
    """See L{lemmytx.net.tls.endpoint}."""

    prefix = "lemmytls"

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamServerEndpoint:
        """
        See L{IStreamServerEndpointStringParser}. No file is looked at before the endpoint listens.

        @raise ValueError: the settings cannot be.
        """
        from lemmytx.net.tls.endpoint import Endpoint, read  # with all that TLS needs, and only where it is wanted

        if len(args) != 1:
            raise ValueError(
                "lemmytls: takes one endpoint to listen on, its colons and equals signs with a backslash: "
                "tcp\\:8443\\:interface\\=127.0.0.1"
            )
        protocols = tuple(filter(None, kwargs.pop("alpn", "").split(",")))
        return Endpoint(reactor, serverFromString(reactor, args[0]), read(kwargs), protocols)
