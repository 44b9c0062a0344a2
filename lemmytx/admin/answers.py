"""What every answer of the admin side has in common: JSON, not kept by anybody, and errors in one form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from twisted.web.http import Request

#: On every answer. What it says is of this moment and not for everybody, it is never to be taken for a script or a
#: page, and no other site may embed it.
COMMON = (
    (b"server", b"lemmytx"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

#: Below it errors are problem details (RFC 9457).
API = b"/api/"


def prepare(request: Request) -> None:
    """Set what every answer has. Called once per request, before anything else."""
    for name, value in COMMON:
        request.setHeader(name, value)


def answer(request: Request, body: object, status: int = 200) -> bytes:
    """
    @param body: what C{json.dumps} takes.
    @return: the answer's body, to be returned to klein or to be written.
    """
    return answer_text(request, json.dumps(body), status)


def answer_text(request: Request, text: str, status: int = 200) -> bytes:
    """The same of what is JSON already."""
    encoded = text.encode("utf-8") + b"\n"
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(encoded))
    return encoded


def refuse(request: Request, status: int, detail: str, errors: Sequence[str] = ()) -> bytes:
    """
    An error: below L{API} as problem details (RFC 9457), elsewhere in the form that the proxy's own replies have too.

    @param detail: one sentence for a person: what was wrong and what would be right.
    @param errors: all that was wrong, where that may be more than one thing.
    """
    phrase = HTTPStatus(status).phrase
    if not request.path.startswith(API):
        return answer(request, {"status": status, "error": phrase, "detail": detail}, status)
    problem: dict[str, Any] = {"type": "about:blank", "title": phrase, "status": status, "detail": detail}
    if errors:
        problem["errors"] = list(errors)
    body = answer(request, problem, status)
    request.setHeader(b"content-type", b"application/problem+json")
    return body
