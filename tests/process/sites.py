"""
Servers of HTTP/1.1 in threads of the tests' own process, for what no program of the system does at the tests' word: to
show any certificate, to stall, to tell all that it has received.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase


class Site:
    """
    It answers each request with its head, as JSON: C{first} line and the C{fields} with lower-case names.

    @ivar port: where it listens, if that is not a unix socket.
    @ivar address: the same for a URL.
    @ivar url: for a configuration.
    @ivar connections: how many there were; C{requests} and C{failures} (connections that ended in an error) likewise.
    """

    scheme = "http"

    def __init__(self, case: SynchronousTestCase, path: str = "", host: str = "127.0.0.1", port: int = 0) -> None:
        """
        @param path: of a unix socket to listen on.
        """
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.connections = self.requests = self.failures = 0
        self.port = 0
        if path:
            self._door = socket.socket(socket.AF_UNIX)
            self._door.bind(path)
            self._door.listen()
            self.address = ""
            self.url = f"{self.scheme}+unix://{path}"
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._door = socket.create_server((host, port), family=family)
            self.port = self._door.getsockname()[1]
            self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
            self.url = f"{self.scheme}://{self.address}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        case.addCleanup(self.close)

    def close(self) -> None:
        """End it, with all connections."""
        for sock in (self._door, *self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # over already
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._door.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.append(sock)
            thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            self.serve(sock)
        except OSError:
            with self._lock:
                self.failures += 1
        finally:
            sock.close()

    def serve(self, sock: Any) -> None:
        """In a thread of its own: one connection."""
        data = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
            while b"\r\n\r\n" in data:
                head, _, data = data.partition(b"\r\n\r\n")
                with self._lock:
                    self.requests += 1
                body = json.dumps(self.told(sock, head.decode("latin-1").split("\r\n"))).encode()
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def told(self, sock: Any, lines: list[str]) -> dict[str, Any]:
        """What is answered to a request with these lines."""
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        return {"first": lines[0], "fields": fields}


class Secure(Site):
    """It speaks TLS, and tells of that too: C{version}, C{resumed}, C{client} (the subject of its certificate)."""

    scheme = "https"

    def __init__(self, case: SynchronousTestCase, context: ssl.SSLContext, **settings: Any) -> None:
        self._context = context
        super().__init__(case, **settings)

    def serve(self, sock: Any) -> None:
        """See L{Site}."""
        with self._context.wrap_socket(sock, server_side=True) as secured:
            super().serve(secured)

    def told(self, sock: Any, lines: list[str]) -> dict[str, Any]:
        """See L{Site}."""
        shown = sock.getpeercert()
        client = dict(pair[0] for pair in shown["subject"]) if shown else None
        return {
            **super().told(sock, lines),
            "version": sock.version(),
            "resumed": sock.session_reused,
            "client": client,
        }


class Plain(Site):
    """It speaks plain HTTP where TLS is expected."""

    scheme = "https"

    def serve(self, sock: Any) -> None:
        """See L{Site}."""
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


class Silent(Site):
    """It takes what comes, and says nothing."""

    scheme = "https"

    def serve(self, sock: Any) -> None:
        """See L{Site}."""
        while sock.recv(65536):
            pass
