"""C{type: http}: a request, and what its answer has to be like. In HTTP/2 where the backend is spoken to in that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from lemmytx import __version__
from lemmytx.checks.asking import ask_http1, ask_http2
from lemmytx.checks.expectation import LONGEST, USUAL, Expectation
from lemmytx.interfaces import IHealthCheck

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}\Z")
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*\Z")
_UNFIT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

#: Fields that are made here, or that would make another message of it.
_OURS = frozenset(("connection", "content-length", "host", "transfer-encoding", "upgrade"))


def target(path: str, option: str = "path") -> str:
    """
    @raise ValueError: it cannot stand in a request line.
    """
    if not _TARGET.match(path):
        raise ValueError(f"{option}: found {path!r}; write a path as it is sent, as in '/health' or '/health?deep=1'")
    return path


def text(value: str, option: str) -> str:
    """
    @raise ValueError: it cannot stand in a field.
    """
    if _UNFIT.search(value) or not value.isascii():
        raise ValueError(f"{option}: found {value!r}; a field holds printable ASCII text")
    return value


@implementer(IHealthCheck)
class HttpCheck:
    """See the module."""

    protocols = ("http", "https", "h2", "h2c")

    def __init__(
        self,
        path: str = "/",
        method: str = "GET",
        host: str = "",
        headers: Mapping[str, str] | None = None,
        expect: Any = USUAL,
    ) -> None:
        """
        @param host: the Host field; the backend's own unless given.
        @param headers: more fields.
        @param expect: see L{lemmytx.checks.expectation}.
        @raise ValueError: with a text for the user.
        """
        self._expectation = Expectation(expect)
        if not _TOKEN.match(method) or method == "CONNECT":
            raise ValueError(f"method: found {method!r}; write the name of a method, as in GET")
        self._headless = method == "HEAD"
        if self._headless and self._expectation.looks:
            raise ValueError("expect: an answer to HEAD has no body; write GET")
        fields = {"User-Agent": f"lemmytx/{__version__} (health check)", "Accept": "*/*"}
        for name, value in (headers or {}).items():
            if not _TOKEN.match(name) or name.lower() in _OURS:
                instead = "write it as 'host'" if name.lower() == "host" else "it cannot be sent"
                raise ValueError(f"headers: found {name!r}; {instead}")
            fields = {known: kept for known, kept in fields.items() if known.lower() != name.lower()}
            fields[name] = text(value, f"headers.{name}")
        self._line = f"{method} {target(path)} HTTP/1.1\r\nHost: ".encode("ascii")
        self._host = text(host, "host").encode("ascii")
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        # No length stands for no body, and a server may want that said of methods that usually have one.
        length = "" if method in ("GET", "HEAD", "OPTIONS", "TRACE", "DELETE") else "Content-Length: 0\r\n"
        self._fields = f"\r\nConnection: close\r\n{length}{lines}\r\n".encode("ascii")

    async def check(self, target: Any) -> str:
        """See L{IHealthCheck}."""
        connection = await target.connect()
        head = self._line + (self._host or target.authority.encode("ascii")) + self._fields
        expectation = self._expectation
        if target.protocol in ("h2", "h2c"):
            answer = await ask_http2(connection, head, self._headless, LONGEST, secure=target.protocol == "h2")
        else:
            answer = await ask_http1(connection, head, self._headless, LONGEST)
        status = answer.head.status
        expectation.judge_status(status)
        if expectation.looks:
            expectation.judge_body(answer.body, answer.whole)
        return f"it answered {status}"
