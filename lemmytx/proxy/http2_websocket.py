"""
The handshake of a WebSocket between HTTP/1.1, which an exchange knows (RFC 6455 §4), and extended CONNECT, which a
backend of HTTP/2 does (RFC 8441 §5).
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

#: What an accepting server proves with that it has read the key (RFC 6455 §1.3).
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#: Fields that only one of them has, or that do not go with a 101.
_LEFT_OUT = (b"sec-websocket-key:", b"sec-websocket-accept:", b"content-length:", b"transfer-encoding:")


def connecting(head: bytes) -> bytes:
    """
    The head of a request to upgrade, as it goes into an extended CONNECT.

    @param head: as HTTP/1.1, with the empty line.
    """
    return b"".join(_kept(head)) + b"\r\n"


def switching(head: bytes, key: bytes) -> bytes:
    """
    The 101 that says what this 2xx to an extended CONNECT does.

    @param head: as HTTP/1.1, with the empty line.
    @param key: what the client has sent as Sec-WebSocket-Key.
    """
    accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    first = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    return b"%bSec-WebSocket-Accept: %b\r\n%b\r\n" % (first, accept, b"".join(_kept(head)[1:]))


def _kept(head: bytes) -> list[bytes]:
    """The lines of a head, each with its CRLF, without the empty one."""
    lines = head[:-2].split(b"\r\n")[:-1]
    return [line + b"\r\n" for line in lines if not line.lower().startswith(_LEFT_OUT)]
