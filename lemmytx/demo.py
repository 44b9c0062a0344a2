"""
C{lemmy demo}: a proxy, two backends that say their name, and the admin side, all on loopback and in one process.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from lemmytx import config

#: What the demo is configured with; the ports of the backends are chosen by the system.
CONFIGURATION = """
listeners:
  - endpoint: "tcp:8080:interface=127.0.0.1"
vhosts:
  - hosts: ["*"]
    routes:
      - {{path: "/hello/*", cluster: demo}}
      - {{cluster: demo}}
clusters:
  demo:
    scheduler: round_robin
    backends:
      - {{url: "http://127.0.0.1:{0}", name: alice}}
      - {{url: "http://127.0.0.1:{1}", name: bob}}
store: {{type: memory}}
admin:
  endpoint: "tcp:8081:interface=127.0.0.1"
access_log: {{path: "-", format: combined}}
"""

WELCOME = """
lemmytx is serving. Try, in another terminal:

    curl http://127.0.0.1:8080/             # alice and bob take turns
    curl -i http://127.0.0.1:8080/hello/you # … and tell what they got from the proxy
    curl http://127.0.0.1:8081/stats        # what the proxy counted

Each request is a line below. Ctrl-C ends it.
"""


class Greeting(Resource):
    """A demo backend."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, request: Request) -> bytes:
        """Twisted: answer with our name and what the proxy told us."""
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        told = [f"Hello from {self._name}.\n", f"You asked for {request.uri.decode('latin-1')}.\n"]
        for name in ("X-Forwarded-For", "X-Request-ID", "Via"):
            value = request.getHeader(name)
            if value:
                told.append(f"{name}: {value}\n")
        return "".join(told).encode()


def main() -> int:
    """
    Run the demo until it is ended.

    @return: the exit code.
    @raise SystemExit: it could not start; the log says why.
    """
    from lemmytx.net.reactor import install

    install()
    from twisted.internet import reactor

    return run(reactor)


def run(reactor: Any) -> int:
    """The demo on a reactor that is installed and does not run yet."""
    from lemmytx.instance import build

    warnings = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)]
    )
    globalLogBeginner.beginLoggingTo([warnings], redirectStandardIO=False)
    backends = [reactor.listenTCP(0, Site(Greeting(name)), interface="127.0.0.1") for name in ("alice", "bob")]
    text = CONFIGURATION.format(*(port.getHost().port for port in backends))
    instance = build(config.read(text.encode(), "demo"), "", reactor)
    services = MultiService()
    instance.setServiceParent(services)
    services.startService()
    print(WELCOME, flush=True)
    reactor.addSystemEventTrigger("before", "shutdown", services.stopService)
    reactor.run()
    return 0
