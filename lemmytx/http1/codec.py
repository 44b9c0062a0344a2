"""
The HTTP/1.1 codec: the compiled one where there is one, else its pure Python twin. Both do exactly the same.

Setting C{LEMMYTX_PURE} in the environment chooses the twin. Sans I/O: bytes in, heads and bodies out; the caller owns
the buffer.

A head that is not whole yet is L{None}, and the caller asks again with more of it. Each such call looks from the start,
so a caller whose peer dribbles asks again only when a line feed has come, or when more is there than C{header_size}:
nothing else can complete a head. That bounds the work by the number of fields times the size of the head.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lemmytx.http1 import _pure

__all__ = ["LAST_CHUNK", "ChunkedBody", "chunk", "compiled", "last_chunk", "request", "response"]

#: Whether the compiled twin is at work.
compiled = False

if TYPE_CHECKING:
    from lemmytx.http1._pure import ChunkedBody, request, response
else:
    request = _pure.request
    response = _pure.response
    ChunkedBody = _pure.ChunkedBody
    if not os.environ.get("LEMMYTX_PURE"):
        try:
            from lemmytx.http1 import _compiled
        except ImportError:  # built without a compiler: said then, and visible here
            pass
        else:
            request = _compiled.request
            response = _compiled.response
            ChunkedBody = _compiled.ChunkedBody
            compiled = True

#: The end of a chunked body without trailers.
LAST_CHUNK = b"0\r\n\r\n"


def chunk(payload: bytes) -> bytes:
    """
    One chunk (RFC 9112 §7.1).

    @param payload: not empty: an empty chunk would be the last one.
    """
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def last_chunk(trailers: bytes) -> bytes:
    """
    The end of a chunked body.

    @param trailers: lines with their CRLF, as L{ChunkedBody} gives them; may be empty.
    """
    return b"0\r\n" + trailers + b"\r\n"
