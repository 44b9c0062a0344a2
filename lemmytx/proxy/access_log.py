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

One line is made per exchange, on the way of a request, so this is written for speed. What a client sent is tested
with C{translate}, which deletes all harmless bytes in one go: what is left, if anything, is the reason to take the
slow way. Times and names that do not change with each exchange are made once and kept.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lemmytx.message import RequestHead
    from lemmytx.proxy.exchange import Exchange
    from lemmytx.proxy.resource import Rejection

#: What C{access_log.format} can be.
FORMATS = ("combined", "json")

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


def formatter(name: str, seconds: Callable[[], float] = time.time) -> Callable[[Exchange], bytes]:
    """
    @param name: one of L{FORMATS}.
    @param seconds: the time of day, in seconds since 1970.
    @return: what makes a line, with its line feed, of an exchange that has ended. It never raises.
    @raise ValueError: when there is no such format.
    """
    if name == "json":
        return _JSON(seconds).exchange
    if name == "combined":
        return _Combined(seconds).exchange
    raise ValueError(f"found {name!r}; write one of {', '.join(FORMATS)}")


def rejection_formatter(name: str, seconds: Callable[[], float] = time.time) -> Callable[[Rejection], bytes]:
    """
    The same for requests that never became an exchange. Parameters as for L{formatter}.
    """
    if name == "json":
        return _JSON(seconds).rejection
    if name == "combined":
        return _Combined(seconds).rejection
    raise ValueError(f"found {name!r}; write one of {', '.join(FORMATS)}")


def _value(raw: bytes, at: int) -> bytes:
    """
    The value of a field.

    @param raw: the field lines.
    @param at: where in them its line begins.
    """
    return raw[raw.find(b":", at) + 1 : raw.find(b"\r", at)].strip(b" \t")


def _escaped(value: bytes) -> bytes:
    """For C{combined}: as nginx does it."""
    return _NOT_PLAIN.sub(lambda found: b"\\x%02X" % ord(found[0]), value)


class _Combined:
    """
    The combined format, with the time of the end of the exchange in the local zone.

    @ivar _second: the one that C{_stamp} is of.
    """

    __slots__ = ("_second", "_seconds", "_stamp")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._second = -1
        self._stamp = b""

    def exchange(self, exchange: Exchange) -> bytes:
        """See L{formatter}."""
        return self._line(exchange.client, exchange.head, exchange.status, exchange.sent)

    def rejection(self, rejection: Rejection) -> bytes:
        """See L{rejection_formatter}."""
        return self._line(rejection.client, rejection.head, rejection.status, 0)

    def _line(self, client: str, head: RequestHead | None, status: int, sent: int) -> bytes:
        second = int(self._seconds())
        if second != self._second:
            self._tick(second)
        if head is None:
            request, referer, agent = b"-", b"-", b"-"
        else:
            raw = head.raw
            lower = b"\n" + raw.lower()
            agent_at, referer_at = lower.find(b"\nuser-agent:"), lower.find(b"\nreferer:")
            request = b"%b %b %b" % (head.method, head.target, b"HTTP/1.1" if head.minor else b"HTTP/1.0")
            agent = _value(raw, agent_at) or b"-" if agent_at >= 0 else b"-"
            referer = _value(raw, referer_at) or b"-" if referer_at >= 0 else b"-"
            if request.translate(None, _PLAIN):
                request = _escaped(request)
            if referer.translate(None, _PLAIN):
                referer = _escaped(referer)
            if agent.translate(None, _PLAIN):
                agent = _escaped(agent)
        address = (client or _UNIX).encode("ascii", "replace")
        return b'%b - - %b "%b" %03d %d "%b" "%b"\n' % (address, self._stamp, request, status, sent, referer, agent)

    def _tick(self, second: int) -> None:
        """Another second has begun."""
        self._second = second
        local = time.localtime(second)
        offset = local.tm_gmtoff // 60
        sign, offset = ("-", -offset) if offset < 0 else ("+", offset)
        self._stamp = (
            f"[{local.tm_mday:02d}/{_MONTHS[local.tm_mon - 1]}/{local.tm_year:04d}"
            f":{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
            f" {sign}{offset // 60:02d}{offset % 60:02d}]"
        ).encode("ascii")


def _quoted(value: bytes) -> str:
    """A JSON string with its quotes, of ASCII alone; C{null} for nothing."""
    if not value:
        return "null"
    if value.translate(None, _PLAIN):
        return json.dumps(value.decode("utf-8", "backslashreplace"))
    return f'"{value.decode("ascii")}"'


def _quoted_text(value: str | None) -> str:
    """The same of text."""
    return "null" if value is None else _quoted(value.encode("utf-8", "backslashreplace"))


def _asked(head: RequestHead, request_id: str) -> str:
    """What the request is, in JSON, from the value of C{method} on."""
    host, target = _quoted(head.authority), _quoted(head.target)
    return f'{_quoted(head.method)},"host":{host},"target":{target},"request_id":{request_id}'


#: The same of a request that could not be understood.
_ASKED_NOTHING = 'null,"host":null,"target":null,"request_id":null'

#: And what there is to say of a client that says nothing of itself.
_TOLD_NOTHING = ',"user_agent":null,"referer":null'


class _JSON:
    """
    The JSON format.

    @ivar _second: the one that C{_stamp} is of.
    @ivar _places: names of vhost, cluster and backend to the part of the line that they make.
    """

    __slots__ = ("_places", "_second", "_seconds", "_stamp")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._second = -1
        self._stamp = ""
        self._places: dict[_Place, str] = {}

    def exchange(self, exchange: Exchange) -> bytes:
        """See L{formatter}."""
        now = self._seconds()
        second = int(now)
        if second != self._second:
            self._tick(second)
        head = exchange.head
        raw = head.raw
        lower = b"\n" + raw.lower()
        agent_at, referer_at = lower.find(b"\nuser-agent:"), lower.find(b"\nreferer:")
        agent = _value(raw, agent_at) if agent_at >= 0 else b""
        referer = _value(raw, referer_at) if referer_at >= 0 else b""
        target, authority, request_id = head.target, head.authority, exchange.request_id
        if not authority or b"".join((target, authority, request_id, agent, referer)).translate(None, _PLAIN):
            asked = _asked(head, _quoted(request_id))
        else:
            # The same without looking at each again.
            asked = (
                b'"%b","host":"%b","target":"%b","request_id":"%b"' % (head.method, authority, target, request_id)
            ).decode()
        if agent or referer:
            told = f',"user_agent":{_quoted(agent)},"referer":{_quoted(referer)}'
        else:
            told = _TOLD_NOTHING
        backend = exchange.backend
        if backend is None:
            # Without a route there never was a cluster.
            vhost, cluster = exchange.vhost, getattr(exchange, "cluster", None)
            key: _Place = (vhost and vhost.name, cluster and cluster.name, None)
        else:
            key = (exchange.vhost.name, exchange.cluster.name, backend.name)
        place = self._places.get(key) or self._place(key)
        queue, connect, first = exchange.queue_time, exchange.connect_time, exchange.first_byte
        end = exchange.termination
        why = '"ok"' if end == "ok" else f'"{end}","why":{_quoted_text(exchange.why)}'
        return (
            f'{self._stamp}{int((now - second) * 1000):03d}Z","client":"{exchange.client or _UNIX}"'
            f',"method":{asked},"protocol":"{"HTTP/1.1" if head.minor else "HTTP/1.0"}"'
            f',"status":{exchange.status},"sent":{exchange.sent},"received":{exchange.received}'
            f',"queue_time":{"null" if queue < 0 else f"{queue:.6f}"}'
            f',"connect_time":{f"{connect:.6f}" if connect > 0 else "null" if connect else "0"}'
            f',"first_byte":{"null" if first < 0 else f"{first:.6f}"},"total":{exchange.total:.6f}'
            f',"attempts":{exchange.attempts}{place},"termination":{why}'
            f',"tunnel":{"true" if exchange.tunnel else "false"}{told}}}\n'
        ).encode()

    def rejection(self, rejection: Rejection) -> bytes:
        """See L{rejection_formatter}. It has the same members as an exchange, so that one reader does for both."""
        now = self._seconds()
        second = int(now)
        if second != self._second:
            self._tick(second)
        head = rejection.head
        asked, protocol, told = _ASKED_NOTHING, "null", _TOLD_NOTHING
        if head is not None:
            raw = head.raw
            lower = b"\n" + raw.lower()
            agent_at, referer_at = lower.find(b"\nuser-agent:"), lower.find(b"\nreferer:")
            agent = _value(raw, agent_at) if agent_at >= 0 else b""
            referer = _value(raw, referer_at) if referer_at >= 0 else b""
            asked = _asked(head, "null")
            protocol = '"HTTP/1.1"' if head.minor else '"HTTP/1.0"'
            told = f',"user_agent":{_quoted(agent)},"referer":{_quoted(referer)}'
        return (
            f'{self._stamp}{int((now - second) * 1000):03d}Z","client":"{rejection.client or _UNIX}"'
            f',"method":{asked},"protocol":{protocol},"status":{rejection.status},"sent":0,"received":0'
            f',"queue_time":null,"connect_time":null,"first_byte":null,"total":null,"attempts":0'
            f',"vhost":null,"cluster":null,"backend":null,"termination":"refused"'
            f',"why":{_quoted_text(rejection.why)},"tunnel":false{told}}}\n'
        ).encode()

    def _place(self, key: _Place) -> str:
        """Seen for the first time."""
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
        vhost, cluster, backend = map(_quoted_text, key)
        place = self._places[key] = f',"vhost":{vhost},"cluster":{cluster},"backend":{backend}'
        return place

    def _tick(self, second: int) -> None:
        """Another second has begun."""
        self._second = second
        self._stamp = time.strftime('{"time":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second))
