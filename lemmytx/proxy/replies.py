"""
Answers that the proxy makes itself: plain text, or JSON where the client prefers it. They say what the client can know
and nothing of what is inside; the reason stands in the log, under the request's id.
"""

from __future__ import annotations

import json
import time
from email.utils import formatdate

#: Reason phrases (RFC 9110 §15; 431 and 511: RFC 6585), and one sentence for a person.
TEXTS = {
    200: ("OK", "The proxy itself was asked and is there."),
    301: ("Moved Permanently", "This is served by HTTPS."),
    308: ("Permanent Redirect", "This is served by HTTPS."),
    400: ("Bad Request", "The request is not valid HTTP."),
    403: ("Forbidden", "The request is not allowed."),
    404: ("Not Found", "Nothing is configured for this host and path."),
    405: ("Method Not Allowed", "The method is not allowed here."),
    408: ("Request Timeout", "The request took too long to arrive."),
    411: ("Length Required", "The length of the body has to be known before it."),
    413: ("Content Too Large", "The body of the request is too large."),
    414: ("URI Too Long", "The target of the request is too long."),
    417: ("Expectation Failed", "The expectation of the request cannot be met."),
    421: ("Misdirected Request", "The request was sent to the wrong server."),
    429: ("Too Many Requests", "Too much is asked for at this time. Please try again."),
    431: ("Request Header Fields Too Large", "The head of the request is too large."),
    500: ("Internal Server Error", "The proxy failed."),
    501: ("Not Implemented", "The proxy does not do what the request asks for."),
    502: ("Bad Gateway", "The server behind the proxy did not give a valid answer."),
    503: ("Service Unavailable", "No server can take the request now. Please try again."),
    504: ("Gateway Timeout", "The server behind the proxy did not answer in time."),
    505: ("HTTP Version Not Supported", "The HTTP version of the request is not supported."),
}

_date = (0, b"")


def date() -> bytes:
    """The value of a Date field for now (RFC 9110 §5.6.7), made once a second."""
    global _date
    second = int(time.time())
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True).encode())
    return _date[1]


def _prefers_json(accept: bytes | None) -> bool:
    """Whether JSON stands in Accept before any text type. Quality values do not matter for so small a choice."""
    if not accept:
        return False
    for item in accept.split(b","):
        kind = item.partition(b";")[0].strip().lower()
        if kind == b"application/json" or kind.endswith(b"+json"):
            return True
        if kind.startswith(b"text/") or kind == b"*/*":
            return False
    return False


def reply(
    status: int,
    accept: bytes | None = None,
    request_id: bytes = b"",
    fields: bytes = b"",
    without_body: bool = False,
) -> bytes:
    """
    A whole response.

    @param accept: the request's Accept.
    @param request_id: by which an operator finds the reason in the log; empty when there is none.
    @param fields: further lines, each with its CRLF.
    @param without_body: for an answer to HEAD: the same head alone (RFC 9110 §9.3.2).
    """
    phrase, sentence = TEXTS[status]
    if _prefers_json(accept):
        kind = b"application/json"
        facts: dict[str, object] = {"status": status, "error": phrase, "detail": sentence}
        if request_id:
            facts["request_id"] = request_id.decode("ascii")
        body = json.dumps(facts).encode() + b"\n"
    else:
        kind = b"text/plain; charset=utf-8"
        body = f"{status} {phrase}\n\n{sentence}\n".encode()
        if request_id:
            body += b"Request: %b\n" % request_id
    head = (
        b"HTTP/1.1 %d %b\r\nDate: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n%b\r\n"
    ) % (
        status,
        phrase.encode(),
        date(),
        kind,
        len(body),
        fields,
    )
    return head if without_body else head + body
