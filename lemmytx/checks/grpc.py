"""
C{type: grpc}: C{grpc.health.v1.Health/Check}, the protocol that gRPC servers and Kubernetes have for this.

Its two messages have a field each, so they are written and read by hand::

    HealthCheckRequest  {string service = 1;}
    HealthCheckResponse {ServingStatus status = 1;}    0 UNKNOWN, 1 SERVING, 2 NOT_SERVING, 3 SERVICE_UNKNOWN
"""

from __future__ import annotations

import re
from typing import Any

from zope.interface import implementer

from lemmytx.checks.asking import Answer, ask_http2
from lemmytx.cluster.health import printable
from lemmytx.interfaces import IHealthCheck, Unhealthy
from lemmytx.message import fields

_SERVICE = re.compile(r"[!-~]{0,1000}\Z")
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

#: What the codes of gRPC mean that a health check sees (google.rpc.Code).
_CODES = {b"5": ": it does not know this service", b"12": ": it has no grpc.health.v1.Health"}

#: Bytes of the answer's body: five in front of a message of two, and room for fields that come later.
_LONGEST = 1024


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it has ended."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Unhealthy("its answer is no HealthCheckResponse")
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def request_message(service: str) -> bytes:
    """A HealthCheckRequest as it goes over the wire."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def serving_status(body: bytes) -> int:
    """
    @param body: an answer's: one HealthCheckResponse.
    @raise Unhealthy: it is none.
    """
    size = int.from_bytes(body[1:5], "big")
    if len(body) < 5 or body[0] or len(body) != 5 + size:
        raise Unhealthy("its answer is no HealthCheckResponse")
    message, at, status = body[5:], 0, 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == 0:
            number, at = _read_varint(message, at)
            if key >> 3 == 1:
                status = number
        elif kind == 2:
            number, at = _read_varint(message, at)
            at += number
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise Unhealthy("its answer is no HealthCheckResponse")
    if at != len(message):
        raise Unhealthy("its answer is no HealthCheckResponse")
    return status


@implementer(IHealthCheck)
class GrpcCheck:
    """See the module."""

    protocols = ("h2", "h2c")

    def __init__(self, service: str = "") -> None:
        """
        @param service: whose health is asked for; empty: the server's as a whole.
        @raise ValueError: with a text for the user.
        """
        if not _SERVICE.match(service):
            raise ValueError(f"service: found {service!r}; write the full name of a service, as in shop.v1.Orders")
        self._message = request_message(service)

    async def check(self, target: Any) -> str:
        """See L{IHealthCheck}."""
        connection = await target.connect()
        head = (
            "POST /grpc.health.v1.Health/Check HTTP/1.1\r\n"
            f"Host: {target.authority}\r\nContent-Type: application/grpc\r\nTE: trailers\r\n"
            f"User-Agent: lemmytx (health check)\r\nGrpc-Timeout: {max(1, int(target.timeout * 1000))}m\r\n\r\n"
        ).encode("ascii")
        answer = await ask_http2(connection, head, False, _LONGEST, self._message, target.protocol == "h2")
        self._judge(answer)
        return "it is SERVING"

    @staticmethod
    def _judge(answer: Answer) -> None:
        if answer.head.status != 200:
            raise Unhealthy(f"it answered {answer.head.status}, which is not gRPC")
        # Without a message all is in the head.
        said = dict(fields(answer.head.raw)) | dict(fields(answer.trailers))
        code = said.get(b"grpc-status")
        if code is None:
            raise Unhealthy("its answer has no grpc-status")
        if code != b"0":
            words = printable(said.get(b"grpc-message", b"").decode("latin-1"))
            why = _CODES.get(code, f": {words}" if words else "")
            raise Unhealthy(f"it answered with gRPC's status {printable(code.decode('latin-1'))}{why}")
        status = serving_status(answer.body)
        if status != 1:
            raise Unhealthy(f"it is {_STATES.get(status, status)}")
