"""
The bytes of a response for a client of HTTP/1.1 or 1.0, wherever they are not simply those that the backend sent.

How a response is framed, by what is known of its length (L{ResponseHead.length}), by the client's version and by
whether the connection ends after it::

    length    client   after it     fields that are added           body
    known     1.1      goes on      -                               as it is
    known     1.1      ends         Connection: close               as it is
    known     1.0      goes on      Connection: keep-alive          as it is
    known     1.0      ends         Connection: close               as it is
    unknown   1.1      goes on      Transfer-Encoding: chunked      in chunks
    unknown   1.1      ends         both, with close                in chunks
    unknown   1.0      ends         Connection: close               as it is; the connection's end is its end

HTTP/1.0 knows no chunks, so an eighth row cannot be: whoever calls has decided that the connection ends. A Date is
added in all of them where the backend left it out (RFC 9110 §6.6.1). The first row, with a Date, is most of the
traffic; L{lemmytx.proxy.downstream.Downstream.respond} writes it itself.
"""

from __future__ import annotations

from lemmytx.http1 import codec
from lemmytx.message import RequestHead, ResponseHead
from lemmytx.proxy import replies

#: The word that lets a client send its body (RFC 9110 §10.1.1).
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CLOSE = b"Connection: close\r\n"

#: What is said about the connection, by whether it ends and by whether the client speaks HTTP/1.0, where it would end
#: unless told otherwise (RFC 9112 §9.3).
_CONNECTION = {
    (False, False): b"",
    (False, True): b"Connection: keep-alive\r\n",
    (True, False): _CLOSE,
    (True, True): _CLOSE,
}


def response(head: ResponseHead, minor: int, close: bool, body: bytes, ended: bool, trailers: bytes) -> bytes:
    """
    The beginning of a response, or all of it: see the table.

    @param minor: of the client's version.
    @param close: whether the connection ends after it.
    @param body: what there is of the body.
    @param ended: whether that is all of it.
    @param trailers: when it has ended, what goes behind the last chunk.
    """
    framing = _CONNECTION[close, not minor]
    if head.length < 0 and minor:
        framing = b"Transfer-Encoding: chunked\r\n" + framing
        body = (codec.chunk(body) if body else b"") + (codec.last_chunk(trailers) if ended else b"")
    dated = b"" if head.dated else b"Date: %b\r\n" % replies.date()
    return b"%b%b%b\r\n%b" % (head.block, dated, framing, body)


def switching(head: ResponseHead, asked: bytes | None) -> bytes:
    """
    The 101 that opens a tunnel.

    @param asked: the Upgrade of the request: what is meant where the backend does not repeat it.
    """
    dated = b"" if head.dated else b"Date: %b\r\n" % replies.date()
    return b"%b%bConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % (head.block, dated, head.upgrade or asked or b"")


def reply(status: int, head: RequestHead, close: bool, request_id: bytes, fields: bytes) -> bytes:
    """
    An answer of our own to a request.

    @param head: the request's.
    @param close: whether the connection ends after it.
    @param request_id: see L{replies.reply}; C{fields} too.
    """
    fields += _CONNECTION[close, not head.minor]
    return replies.reply(status, head.field(b"accept"), request_id, fields, head.method == b"HEAD")


def rejection(status: int, head: RequestHead | None) -> bytes:
    """
    An answer of our own to what is not let in; the connection ends after it.

    @param head: the request's, if it got so far as to have one.
    """
    if head is None:
        return replies.reply(status, None, b"", _CLOSE)
    return reply(status, head, True, b"", b"")
