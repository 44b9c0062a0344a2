"""A backend, as a program: C{python -m benchmarks.ha.backend ADDRESS PORT}. It answers with whom it was asked by."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    """The address that the request came from: the instance's."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Called by the standard library."""
        body = self.client_address[0].encode()
        # In one piece: two would have the second wait for the acknowledgement of the first.
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def log_message(self, format: str, *arguments: object) -> None:
        """Called by the standard library: it need not tell."""


if __name__ == "__main__":
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Answer).serve_forever()
