"""
Who may use the admin side, and for what.

With tokens in the configuration: whoever sends one of them, as far as its role goes. Without: whoever can reach the
endpoint, which must then be on loopback or a unix socket, so that these are the people and programs of this machine.
But a browser on this machine does what any page on the web says:

  - The page can have a host name of its own that suddenly resolves to 127.0.0.1 (DNS rebinding). So without tokens only
    requests for a host that is called as loopback is called are served.
  - The page can send a POST to 127.0.0.1 itself, and only not see the answer. A browser says then where the page is
    from: in Sec-Fetch-Site, and in Origin, which each has sent with a POST for years. So what changes something is
    refused when the page is not our own. With tokens this is not needed: a browser sends none by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from twisted.web.http import Request

from lemmytx.admin.endpoint import check_admin, check_endpoint_is_local, is_loopback
from lemmytx.admin.tokens import verify_token
from lemmytx.model import Token

__all__ = ["Access", "Role", "check_admin", "check_endpoint_is_local"]

Role = Literal["read", "operate", "admin"]

#: Each may what those before it may.
ROLES: tuple[str, ...] = ("read", "operate", "admin")

#: Methods that change nothing.
SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))

_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{0,5})?\Z")
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([^ ]+) *\Z")


class Access:
    """
    The rules, for one admin side.

    @ivar tokens: who may use it; empty: whoever can reach it. May be replaced, and holds from the next request on.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tuple(tokens)

    def host_refused(self, request: Request) -> str | None:
        """
        @return: why a request for this host is not for us; L{None} when it is.
        """
        if self.tokens:
            return None
        host = request.requestHeaders.getRawHeaders(b"host") or [b""]
        match = _HOST.match(host[0].decode("latin-1")) if len(host) == 1 else None
        if match is not None and is_loopback(match["address"] or match["name"]):
            return None
        return "without admin.tokens only requests for localhost or a loopback address are served"

    def page_refused(self, request: Request) -> str | None:
        """
        Asked before the Host field is changed.

        @return: why a request is not taken that a page in a browser may have sent; L{None} when it is.
        """
        if self.tokens or request.method in SAFE:
            return None
        headers = request.requestHeaders
        sites = headers.getRawHeaders(b"sec-fetch-site") or []
        origins = headers.getRawHeaders(b"origin") or []
        host = (headers.getRawHeaders(b"host") or [b""])[0].lower()
        # "none": the user's own doing, as from the address line.
        foreign = any(site.strip().lower() not in (b"same-origin", b"none") for site in sites)
        if not foreign and all(origin.strip().lower() == b"http://" + host for origin in origins):
            return None
        return "this comes from a page of another site; without admin.tokens that may change nothing"

    def who(self, request: Request) -> Token | str | None:
        """
        @return: the token that a request shows; L{None}: none is needed; or text, why it may not pass.
        """
        if not self.tokens:
            return None
        sent = _token(request)
        if sent is None:
            return "send a token, as in 'Authorization: Bearer TOKEN' or 'X-API-Key: TOKEN'"
        known: Token | None = None
        for token in self.tokens:
            # All of them, so that the time does not tell which one it was. One that is there twice has its best role.
            if verify_token(sent, token.hash) and (known is None or reaches(token.role, known.role)):
                known = token
        return known or "this token is not known here"


def reaches(role: str, needed: str) -> bool:
    """Whether a role is enough for what needs another one."""
    return ROLES.index(role) >= ROLES.index(needed)


def role_refused(token: Token | None, needed: Role) -> str | None:
    """
    @param token: what the request shows; L{None} when no tokens are needed.
    @return: why that is not enough; L{None} when it is.
    """
    if token is None or reaches(token.role, needed):
        return None
    return f"the token {token.name!r} has the role {token.role!r}; this needs {needed!r}"


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
