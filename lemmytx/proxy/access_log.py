"""
What the access log says of an exchange: one line each, in one of two formats.

C{combined} is what Apache and nginx write, byte for byte, so that every log reader knows it. C{json} is one object per
line with all that an operator may ask afterwards: how long each stage took, who answered, how it ended.

B{Nothing that a client sends can write a line of its own, end a string or move a terminal's cursor.} C{combined}
escapes as nginx does: controls, the quote, the backslash and everything beyond ASCII become C{\\xHH}. C{json} is pure
ASCII: what is valid UTF-8 becomes C{\\uHHHH}, what is not becomes the text C{\\xHH}. Methods are tokens (RFC 9110
§5.6.2) and addresses come from the kernel or out of C{ipaddress}, so these two need no look.

Of the fields of a request only Host, User-Agent and Referer are ever logged: no Authorization, no Cookie. The target is
logged with its query.

One line is made per exchange, on the way of a request, so this is written for speed. Ordinary lines come from
L{lemmytx.proxy._access_line}, which is compiled. Everything else is made here, and everything where nothing was
compiled, or C{LEMMYTX_PURE} is set in the environment; both make the same of the same.

What a client sent is tested with C{translate}, which deletes all harmless bytes in one go: what is left, if anything,
is the reason to take the slow way. Times and names that do not change with each exchange are made once and kept.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

_access_line: ModuleType | None = None
if not os.environ.get("LEMMYTX_PURE"):
    try:
        from lemmytx.proxy import _access_line
    except ImportError:  # built without a compiler: said then
        pass

if TYPE_CHECKING:
    from lemmytx.message import RequestHead
    from lemmytx.proxy.exchange import Exchange
    from lemmytx.proxy.resource import Rejection

#: What C{access_log.format} can be.
FORMATS = ("combined", "json")

#: What stands in a line for the version, by L{RequestHead.minor}.
PROTOCOLS = (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0")

_QUOTED_PROTOCOLS = tuple(b'"%b"' % protocol for protocol in PROTOCOLS)

#: Bytes that stand for themselves in both formats: printable ASCII without quote and backslash.
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')

_NOT_PLAIN = re.compile(rb'["\\\x00-\x1f\x7f-\xff]')

#: C{strftime} would write the months in the language of the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: Names that are kept ready for JSON. There are as many as vhosts times backends in use; beyond this, start anew.
_MOST_PLACES = 4096

#: Names of vhost, cluster and backend, as far as an exchange came.
_Place = tuple[str | None, str | None, str | None]

#: What stands for the address of a client on a unix socket, which has none (as in nginx).
_UNIX = "unix:"


def appender(name: str, seconds: Callable[[], float] = time.time) -> Callable[[Exchange, bytearray], None]:
    """
    @param name: one of L{FORMATS}.
    @param seconds: the time of day, in seconds since 1970.
    @return: what makes a line, with its line feed, of an exchange that has ended, at the end of a buffer. (As an object
        of its own, each line would be copied once more, and first be written where no cache holds the memory.) It never
        raises.
    @raise ValueError: when there is no such format.
    """
    if name == "json":
        json_format = _JSON(seconds)
        return json_format.append if _access_line is None else _access_line.JSON(json_format).append
    if name == "combined":
        combined = _Combined(seconds)
        return combined.append if _access_line is None else _access_line.Combined(combined).append
    raise ValueError(f"found {name!r}; write one of {', '.join(FORMATS)}")


def rejection_formatter(name: str, seconds: Callable[[], float] = time.time) -> Callable[[Rejection], bytes]:
    """
    The same for requests that never became an exchange. Parameters as for L{appender}; the line is returned.
    """
    if name == "json":
        return _JSON(seconds).rejection
    if name == "combined":
        return _Combined(seconds).rejection
    raise ValueError(f"found {name!r}; write one of {', '.join(FORMATS)}")


def _told(raw: bytes) -> tuple[bytes, bytes]:
    """
    What a client says of itself: the first User-Agent and the first Referer, empty where there is none.

    @param raw: the field lines.
    """
    lower = b"\n" + raw.lower()
    # The line feed in C{lower} stands where the name does in C{raw}.
    agent = lower.find(b"\nuser-agent:")
    referer = lower.find(b"\nreferer:")
    return (
        raw[agent + 11 : raw.find(b"\r", agent)].strip(b" \t") if agent >= 0 else b"",
        raw[referer + 8 : raw.find(b"\r", referer)].strip(b" \t") if referer >= 0 else b"",
    )


def _escaped(value: bytes) -> bytes:
    """For C{combined}: as nginx does it."""
    return _NOT_PLAIN.sub(lambda found: b"\\x%02X" % ord(found[0]), value)


class _Combined:
    """
    The combined format, with the time of the end of the exchange in the local zone.

    @ivar seconds: the time of day.
    @ivar _second: the one that C{_stamp} is of.
    """

    __slots__ = ("_second", "_stamp", "seconds")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self._second = -1
        self._stamp = b""

    def append(self, exchange: Exchange, lines: bytearray) -> None:
        """See L{appender}."""
        lines += self.exchange(exchange)

    def exchange(self, exchange: Exchange) -> bytes:
        """The line of an exchange."""
        return self._line(exchange.client, exchange.head, exchange.status, exchange.sent)

    def rejection(self, rejection: Rejection) -> bytes:
        """See L{rejection_formatter}."""
        return self._line(rejection.client, rejection.head, rejection.status, 0)

    def _line(self, client: str, head: RequestHead | None, status: int, sent: int) -> bytes:
        second = int(self.seconds())
        if second != self._second:
            self._second, self._stamp = second, self.stamp(second)
        if head is None:
            request, referer, agent = b"-", b"", b""
        else:
            agent, referer = _told(head.raw)
            request = b"%b %b %b" % (head.method, head.target, PROTOCOLS[head.minor])
            if request.translate(None, _PLAIN):
                request = _escaped(request)
            if referer.translate(None, _PLAIN):
                referer = _escaped(referer)
            if agent.translate(None, _PLAIN):
                agent = _escaped(agent)
        address = (client or _UNIX).encode("ascii", "replace")
        return b'%b - - %b "%b" %03d %d "%b" "%b"\n' % (
            address, self._stamp, request, status, sent, referer or b"-", agent or b"-",
        )  # fmt: skip

    def stamp(self, second: int) -> bytes:
        """What stands in a line for this second."""
        local = time.localtime(second)
        offset = local.tm_gmtoff // 60
        sign, offset = ("-", -offset) if offset < 0 else ("+", offset)
        return (
            f"[{local.tm_mday:02d}/{_MONTHS[local.tm_mon - 1]}/{local.tm_year:04d}"
            f":{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
            f" {sign}{offset // 60:02d}{offset % 60:02d}]"
        ).encode("ascii")


#: A line. The lengths of time and what may be null come as text.
_LINE = (
    b'{"time":"%b%bZ","client":"%b","method":%b,"host":%b,"target":%b,"request_id":%b,"protocol":%b,"status":%b'
    b',"sent":%b,"received":%b,"queue_time":%b,"connect_time":%b,"first_byte":%b,"total":%b,"attempts":%b%b'
    b',"termination":%b,"tunnel":%b%b}\n'
)

#: The line of an ordinary exchange, with all that makes it one filled in. Most are, and a third less is to be done.
_ORDINARY = _LINE % (
    b"%b", b"%b", b"%b", b'"%b"', b'"%b"', b'"%b"', b'"%b"', b'"HTTP/1.1"', b"%d",
    b"%d", b"0", b"null", b"0", b"%b", b"%b", b"1", b"%b",
    b'"ok"', b"false", b"%b",
)  # fmt: skip

#: Its end, for a client that says nothing of itself.
_SILENT = b',"user_agent":null,"referer":null'

#: Milliseconds as text.
_MILLISECONDS = [b"%03d" % number for number in range(1000)]


def _quoted(value: bytes) -> bytes:
    """A JSON string with its quotes, of ASCII alone; C{null} for nothing."""
    if not value:
        return b"null"
    if value.translate(None, _PLAIN):
        return json.dumps(value.decode("utf-8", "backslashreplace")).encode("ascii")
    return b'"%b"' % value


def _quoted_text(value: str | None) -> bytes:
    """The same of text."""
    return b"null" if value is None else _quoted(value.encode("utf-8", "backslashreplace"))


def _lasted(value: float) -> bytes:
    """Seconds with microseconds; C{null} for what did not happen."""
    if value <= 0:
        return b"null" if value else b"0"
    return b"%.6f" % value


class _JSON:
    """
    The JSON format.

    @ivar seconds: the time of day.
    @ivar _second: the one that C{_stamp} is of.
    @ivar _places: names of vhost, cluster and backend to the part of the line that they make.
    """

    __slots__ = ("_places", "_second", "_stamp", "seconds")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self._second = -1
        self._stamp = b""
        self._places: dict[_Place, bytes] = {}

    def append(self, exchange: Exchange, lines: bytearray) -> None:
        """See L{appender}."""
        lines += self.exchange(exchange)

    def exchange(self, exchange: Exchange) -> bytes:
        """The line of an exchange."""
        now = self.seconds()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, self.stamp(second)
        head = exchange.head
        agent, referer = _told(head.raw)
        target, authority, request_id = head.target, head.authority, exchange.request_id
        backend = exchange.backend
        if backend is None:
            # Without a route there never was a cluster.
            vhost, cluster = exchange.vhost, getattr(exchange, "cluster", None)
            key: _Place = (vhost and vhost.name, cluster and cluster.name, None)
        else:
            key = (exchange.vhost.name, exchange.cluster.name, backend.name)
        place = self._places.get(key) or self._place(key)
        first, total = exchange.first_byte, exchange.total
        if (
            exchange.termination == "ok"
            and exchange.connect_time == 0.0
            and exchange.queue_time < 0.0
            and exchange.attempts == 1
            and head.minor == 1
            and not exchange.received
            and not exchange.tunnel
            and authority
            and target
            and request_id
            and not b"".join((target, authority, request_id, agent, referer)).translate(None, _PLAIN)
        ):
            told = (
                b',"user_agent":%b,"referer":%b' % (_quoted(agent), _quoted(referer)) if agent or referer else _SILENT
            ) + exchange.peer.told
            lasted = _lasted(total)
            return _ORDINARY % (
                self._stamp, _MILLISECONDS[int((now - second) * 1000)], (exchange.client or _UNIX).encode(),
                head.method, authority, target, request_id, exchange.status, exchange.sent,
                lasted if first == total else _lasted(first), lasted, place, told,
            )  # fmt: skip
        end = b'"%b"' % exchange.termination.encode()
        return _LINE % (
            self._stamp, _MILLISECONDS[int((now - second) * 1000)], (exchange.client or _UNIX).encode(),
            _quoted(head.method), _quoted(authority), _quoted(target), _quoted(request_id),
            _QUOTED_PROTOCOLS[head.minor], b"%d" % exchange.status,
            b"%d" % exchange.sent, b"%d" % exchange.received, _lasted(exchange.queue_time),
            _lasted(exchange.connect_time), _lasted(first), _lasted(total), b"%d" % exchange.attempts, place,
            end if end == b'"ok"' else b'%b,"why":%b' % (end, _quoted_text(exchange.why)),
            b"true" if exchange.tunnel else b"false",
            b',"user_agent":%b,"referer":%b%b' % (_quoted(agent), _quoted(referer), exchange.peer.told),
        )  # fmt: skip

    def rejection(self, rejection: Rejection) -> bytes:
        """See L{rejection_formatter}. It has the same members as an exchange, so that one reader does for both."""
        now = self.seconds()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, self.stamp(second)
        head = rejection.head
        if head is None:
            method = host = target = protocol = b"null"
            told = _SILENT
        else:
            agent, referer = _told(head.raw)
            method, host, target = _quoted(head.method), _quoted(head.authority), _quoted(head.target)
            protocol = _QUOTED_PROTOCOLS[head.minor]
            told = b',"user_agent":%b,"referer":%b' % (_quoted(agent), _quoted(referer))
        return _LINE % (
            self._stamp, _MILLISECONDS[int((now - second) * 1000)], (rejection.client or _UNIX).encode(),
            method, host, target, b"null", protocol, b"%d" % rejection.status,
            b"0", b"0", b"null", b"null", b"null", b"null", b"0", self._place((None, None, None)),
            b'"refused","why":%b' % _quoted_text(rejection.why), b"false", told,
        )  # fmt: skip

    def _place(self, key: _Place) -> bytes:
        """Seen for the first time."""
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
        names = tuple(map(_quoted_text, key))
        place = self._places[key] = b',"vhost":%b,"cluster":%b,"backend":%b' % names
        return place

    def stamp(self, second: int) -> bytes:
        """What stands in a line for this second, before the milliseconds."""
        return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode("ascii")
