"""
Who may use the admin side.

With tokens in the configuration: whoever sends one of them. Without: whoever can reach the endpoint, which must then
be on loopback or a unix socket, so that these are the people and programs of this machine. A browser on this machine
can be made to reach it by any page on the web, with a host name of the attacker's that suddenly resolves to 127.0.0.1
(DNS rebinding); so without tokens only requests for a host that is called as loopback is called are served.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from twisted.web.http import Request

from lemmytx.admin.tokens import verify_token
from lemmytx.model import Token

_PART = re.compile(r"((?:[^\\:]|\\.)*)(:|\Z)", re.DOTALL)
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{0,5})?\Z")
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([^ ]+) *\Z")


def check_endpoint_is_local(description: str) -> bool:
    """
    Whether only this machine can reach an endpoint. In doubt it is not local: C{systemd:} and other plugins can bring
    any socket.

    @param description: of a server endpoint, one that Twisted can parse.
    """
    parts = [re.sub(r"\\(.)", r"\1", part) for part in _parts(description)]
    kind, positional = parts[0], [part for part in parts[1:] if "=" not in part]
    named = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
    if kind == "unix":
        return True
    if kind not in ("tcp", "tcp4", "tcp6"):
        return False
    # tcp:PORT:INTERFACE is as good as tcp:PORT:interface=INTERFACE.
    listed = positional if "port" in named else positional[1:]
    return _is_loopback(named.get("interface") or (listed[0] if listed else ""))


def _parts(description: str) -> list[str]:
    """An endpoint description at its colons, those that a backslash escapes left alone."""
    found: list[str] = []
    at = 0
    while True:
        match = _PART.match(description, at)
        if match is None:
            # A backslash at the very end.
            return [*found, description[at:]]
        found.append(match[1])
        if not match[2]:
            return found
        at = match.end()


def _is_loopback(name: str) -> bool:
    """Whether a name or an address always means this machine (RFC 6761 §6.3 for names)."""
    folded = name.lower().removesuffix(".")
    if folded == "localhost" or folded.endswith(".localhost"):
        return True
    try:
        return ip_address(folded).is_loopback
    except ValueError:
        return False


def check_admin(endpoint: str, tokens: Sequence[Token]) -> str | None:
    """
    @return: why the admin side cannot be served like that, for the user; L{None} when it can.
    """
    if tokens or check_endpoint_is_local(endpoint):
        return None
    return (
        f"{endpoint!r} can be reached from other machines and there are no admin.tokens, so anybody could use it;"
        " make a token with 'lemmy token new', or listen on loopback alone, as in 'tcp:8081:interface=127.0.0.1'"
    )


class Access:
    """The rules, for one admin side."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)

    def host_refused(self, request: Request) -> str | None:
        """
        @return: why a request for this host is not for us; L{None} when it is.
        """
        if self._tokens:
            return None
        host = request.requestHeaders.getRawHeaders(b"host") or [b""]
        match = _HOST.match(host[0].decode("latin-1")) if len(host) == 1 else None
        if match is not None and _is_loopback(match["address"] or match["name"]):
            return None
        return "without admin.tokens only requests for localhost or a loopback address are served"

    def token_refused(self, request: Request) -> str | None:
        """
        @return: why a request may not pass, for its sender; L{None} when it may. Every role may read, and as yet
            there is nothing else to do.
        """
        if not self._tokens:
            return None
        sent = _token(request)
        if sent is None:
            return "send a token, as in 'Authorization: Bearer TOKEN' or 'X-API-Key: TOKEN'"
        known = False
        for token in self._tokens:
            # All of them, so that the time does not tell which one it was.
            known |= verify_token(sent, token.hash)
        return None if known else "this token is not known here"


def _token(request: Request) -> str | None:
    """What a request shows; L{None} when that is nothing, or more than one thing."""
    headers = request.requestHeaders
    bearers = headers.getRawHeaders(b"authorization") or []
    keys = headers.getRawHeaders(b"x-api-key") or []
    sent = None
    if len(bearers) == 1:
        match = _BEARER.match(bearers[0])
        sent = match[1] if match is not None else None
    if sent is None and len(keys) == 1:
        sent = keys[0].strip()
    return sent.decode("utf-8", "surrogateescape") if sent else None
