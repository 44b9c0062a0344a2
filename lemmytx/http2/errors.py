"""What can go wrong on an HTTP/2 connection: the codes of RFC 9113 §7, and what is raised."""

from __future__ import annotations

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
CONNECT_ERROR = 0xA
ENHANCE_YOUR_CALM = 0xB
INADEQUATE_SECURITY = 0xC
HTTP_1_1_REQUIRED = 0xD


class StreamGone(KeyError):
    """
    Nothing can be sent on this stream (any more): it was never there, has been reset, what we send on it has ended, or
    the whole connection has. For L{Connection.request<lemmytx.http2.connection.Connection.request>}: the peer takes no
    more streams, for now or for good.
    """


class Malformed(Exception):
    """
    A head that is not HTTP as RFC 9113 §8 defines it, or that would be ambiguous as HTTP/1.1: a stream error
    (§8.1.1). Does not get out of the package.
    """


class Declined(Exception):
    """
    A well-formed request that we do not do, and answer at once. Does not get out of the package.

    @ivar status: with which to answer it.
    """

    def __init__(self, status: bytes) -> None:
        super().__init__(status)
        self.status = status


class Broken(Exception):
    """
    A connection error (RFC 9113 §5.4.1). Does not get out of the package.

    @ivar code: for the GOAWAY.
    @ivar reason: one short sentence for the log, without any byte of the peer's in it.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
