"""
All that comes back for one request, put together: records, the head in their output, the body behind it.

By its attributes it is one of these::

    head   delivered   done    what has come
    None   False       False   a part of the head, or nothing
    set    False       False   the head and a part of the body
    set    True        False   all that the client gets; the program is still at work
    set    -           True    all, with END_REQUEST
    None   False       True    END_REQUEST in the place of an answer: L{Response.turned_away}
"""

from __future__ import annotations

from lemmytx.fastcgi import records
from lemmytx.fastcgi.answers import AnswerHead
from lemmytx.http1 import codec
from lemmytx.message import ProtocolError, ResponseHead

TURNED = "a program that has begun to answer and says that it has not looked at the request"
EARLY = "bytes from a program that was not asked"

_BODILESS = (204, 304)


class Response:
    """
    @ivar head: once it is whole, as of any HTTP/1.1 backend. It has a Content-Length where the program gave one, or
        where all has come at once; else its length is C{CHUNKED}.
    @ivar records: what is known of the records: exit status, STDERR.
    @ivar delivered: whether the client has all that there can be of the body.
    """

    __slots__ = (
        "_begun", "_bodiless", "_fields", "_headless", "_incoming", "_over", "_remaining", "delivered", "head",
        "records",
    )  # fmt: skip

    def __init__(self, headless: bool, size: int, fields: int) -> None:
        """
        @param headless: whether it answers a HEAD, so that there is a head alone.
        @param size: bytes that its head may have.
        @param fields: fields that its head may have.
        """
        self.head: ResponseHead | None = None
        self.records = records.Answer()
        self.delivered = False
        self._incoming = AnswerHead(size, fields)
        self._begun = False  # any output has come
        self._headless = headless
        self._fields = fields
        self._bodiless = False
        self._remaining = -1  # bytes of the body; -1: nobody knows
        self._over = False  # there were more than that

    @property
    def done(self) -> bool:
        """Whether the program has ended."""
        return self.records.done

    @property
    def clean(self) -> bool:
        """Once it is done: whether the connection is fit for another request."""
        return self.records.clean and not self._over

    @property
    def turned_away(self) -> bool:
        """Whether the application has not even looked at the request: no room, or not what it does."""
        return self.records.done and self.records.protocol_status != records.COMPLETE

    def feed(self, data: bytes) -> bytes:
        """
        @param data: what has come; not to be called again once it is done.
        @return: what of it is body for the client.
        @raise ProtocolError: 502, it is no answer, or not the one that it announced.
        """
        output = self.records.feed(data)
        if output:
            self._begun = True
        if self.turned_away and (self._begun or self.records.errors_size):
            raise ProtocolError(502, TURNED)
        if self.head is not None:
            return self._body(output)
        body = self._incoming.feed(output) if output else None
        if body is None:
            if self.done and not self.turned_away:
                status = self.records.application_status
                raise ProtocolError(502, f"the program ended (status {status}) without a head")
            return b""
        incoming = self._incoming
        lines = incoming.lines
        self._bodiless = self._headless or incoming.status in _BODILESS
        if not self._bodiless and not incoming.measured:
            lines += b"Content-Length: %d\r\n" % len(body) if self.done else b"Transfer-Encoding: chunked\r\n"
        # Its bounds have been kept already; what it is now may be longer.
        self.head = codec.response(lines + b"\r\n", self._headless, len(lines) + 2, self._fields + 1)
        assert self.head is not None
        self._remaining = self.head.length
        return self._body(body)

    def _body(self, output: bytes) -> bytes:
        if self._bodiless:
            self.delivered = True
            return b""
        remaining = self._remaining
        if remaining < 0:
            return output
        if len(output) > remaining:
            self._over = True
            output = output[:remaining]
        self._remaining = remaining = remaining - len(output)
        self.delivered = not remaining
        if remaining and self.done:
            raise ProtocolError(502, f"the program ended {remaining} bytes before its Content-Length")
        return output
