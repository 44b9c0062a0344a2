"""
A reverse proxy as a part of a twisted.web site.

    python mounted_in_twisted_web.py 8080 http://127.0.0.1:8000

serves its own page at / and everything below /app from the web server at port 8000. The first argument may be 0 for
any free port; the address is printed.
"""

import sys
import time

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from lemmytx.addresses import parse_url
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost


def reverse_proxy(url: str) -> ReverseProxyResource:
    """A resource that answers with what the web server at this address answers; an IP address, not a name."""
    location = parse_url(url)
    backend = Backend("app", location.url, location, Network(reactor), Passive(), Pool())
    backend.addresses = (location.host,)
    cluster = Cluster("app", [backend], LeastConnections(), Rules(), time.monotonic)
    router = Router([Vhost("all", ("*",), [Route("/*", cluster)])])
    ticker = Ticker(reactor, time.monotonic)
    ticker.start()
    return ReverseProxyResource(router, [cluster], ticker)


def site(url: str) -> Site:
    """The whole site."""
    root = Resource()
    root.putChild(b"", Data(b"This page is our own.\n", "text/plain"))
    root.putChild(b"app", reverse_proxy(url))
    return Site(root)


if __name__ == "__main__":
    port = reactor.listenTCP(int(sys.argv[1]), site(sys.argv[2]), interface="127.0.0.1")
    print(f"http://127.0.0.1:{port.getHost().port}/", flush=True)
    reactor.run()
