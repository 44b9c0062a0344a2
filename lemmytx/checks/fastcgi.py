"""
C{type: fastcgi}: a request to a FastCGI application, and what its answer has to be like.

php-fpm answers its C{ping.path} itself, without a script; for a script of one's own C{script} is its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from lemmytx.checks.asking import HEAD
from lemmytx.checks.expectation import LONGEST, USUAL, Expectation
from lemmytx.checks.http import target as checked_target
from lemmytx.fastcgi import records
from lemmytx.fastcgi.response import Response
from lemmytx.interfaces import IHealthCheck, Unhealthy
from lemmytx.message import ProtocolError


@implementer(IHealthCheck)
class FastCgiCheck:
    """See the module."""

    protocols = ("fcgi",)

    def __init__(
        self, path: str = "/ping", script: str = "", params: Mapping[str, str] | None = None, expect: Any = USUAL
    ) -> None:
        """
        @param path: SCRIPT_NAME and REQUEST_URI.
        @param script: SCRIPT_FILENAME: the file, as the backend sees it; the path unless given.
        @param params: more variables.
        @param expect: see L{lemmytx.checks.expectation}.
        @raise ValueError: with a text for the user.
        """
        self._expectation = Expectation(expect)
        name, _, query = checked_target(path).partition("?")
        if script and (not script.startswith("/") or "\0" in script):
            raise ValueError(f"script: found {script!r}; write the absolute path of a file, as in /srv/app/health.php")
        variables = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": "lemmytx",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": path,
            "QUERY_STRING": query,
            "DOCUMENT_URI": name,
            "SCRIPT_NAME": name,
            "SCRIPT_FILENAME": script or name,
            "REDIRECT_STATUS": "200",
            **(params or {}),
        }
        pairs = [(key.encode(), value.encode()) for key, value in variables.items()]
        self._request = records.begin(False) + records.params(pairs) + records.stdin(b"", True)

    async def check(self, target: Any) -> str:
        """See L{IHealthCheck}."""
        connection = await target.connect()
        connection.write(self._request)
        response = Response(False, HEAD, 200)
        body = b""
        while not response.done and len(body) <= LONGEST:
            data = await connection.receive()
            if not data:
                raise Unhealthy("it closed the connection before the end of its answer")
            try:
                body += response.feed(data)
            except ProtocolError as error:
                raise Unhealthy(f"its answer is malformed: {error}") from None
        if response.turned_away:
            raise Unhealthy("it has no room, or does not do this (FastCGI's protocol status)")
        assert response.head is not None
        status = response.head.status
        self._expectation.judge_status(status)
        if self._expectation.looks:
            self._expectation.judge_body(body[:LONGEST], response.done and len(body) <= LONGEST)
        return f"it answered {status}"
