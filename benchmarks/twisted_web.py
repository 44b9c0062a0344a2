"""
C{twisted.web}'s own reverse proxy as a program: C{python -m benchmarks.twisted_web PORT BACKEND_PORT}.

It has no keep-alive towards the backend: L{ReverseProxyResource} connects anew for each request.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.web.proxy import ReverseProxyResource
from twisted.web.server import Site


def main() -> None:
    """Serve until SIGTERM."""
    port, backend = map(int, sys.argv[1:])
    resource = ReverseProxyResource("127.0.0.1", backend, b"")
    site = Site(resource)
    reactor.listenTCP(port, site, backlog=4096, interface="127.0.0.1")  # type: ignore[arg-type]  # Site has no annotations
    reactor.run()


if __name__ == "__main__":
    main()
