"""
Where the regular expressions of L{lemmytx.http1._pure} stop: what is wrong with the byte that stands there, if it is
not only that more has to come.

Off the way of a good message, so it takes its time; but it must come to what the compiled twin, which meets that byte
on its way, says of it.
"""

from __future__ import annotations

import re

from lemmytx.http1 import rules
from lemmytx.message import ProtocolError

_T = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_NAME = re.compile(_T + rb"*+")
_METHOD = re.compile(_T + rb"{0,33}+")
_TARGET = re.compile(rb"[\x21\x22\x24-\x7e]*+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*+")


def request_line(data: bytes, header_size: int) -> None:
    """
    Why C{data} does not begin with a request line: it is not whole, or something in it is wrong.

    @raise ProtocolError: in the latter case.
    """
    n = len(data)
    p = 0
    if data[:1] == b"\r":
        if n < 2 or header_size < 2:
            return _more(n, min(n, header_size), 414, rules.LINE_LONG)
        if data[1] != 10:
            raise ProtocolError(400, rules.BARE_CR)
        p = 2
    end = min(n, header_size, p + rules.REQUEST_LINE)
    start = p
    p = _end(_METHOD, data, p, end)
    if p - start > 32:
        raise ProtocolError(400, rules.METHOD_LONG)
    if p >= end:
        return _more(n, end, 414, rules.LINE_LONG)
    if data[p] != 32:
        raise ProtocolError(400, rules.METHOD_BYTE)
    if p == start:
        raise ProtocolError(400, rules.METHOD_EMPTY)
    start = p = p + 1
    p = _end(_TARGET, data, p, end)
    if p >= end:
        return _more(n, end, 414, rules.LINE_LONG)
    if data[p] != 32:
        raise ProtocolError(400, rules.TARGET_BYTE)
    if p == start:
        raise ProtocolError(400, rules.TARGET_EMPTY)
    p += 1
    for index, byte in enumerate(data[p : min(p + 10, end)]):
        if index in (5, 7):
            if not 48 <= byte <= 57:
                raise ProtocolError(400, rules.VERSION)
            if index == 7 and (data[p + 5] != 49 or byte > 49):
                raise ProtocolError(505, rules.VERSION_OTHER)
        elif byte != b"HTTP/1.1\r\n"[index]:
            raise ProtocolError(400, rules.VERSION)
    return _more(n, end, 414, rules.LINE_LONG)


def status_line(data: bytes, header_size: int) -> None:
    """
    Why C{data} does not begin with a status line: it is not whole, or something in it is wrong.

    @raise ProtocolError: in the latter case.
    """
    n = len(data)
    end = min(n, header_size)
    for index, byte in enumerate(data[: min(12, end)]):
        if index == 7 or index > 8:
            if not 48 <= byte <= 57:
                raise ProtocolError(502, rules.STATUS_LINE)
        elif byte != b"HTTP/1.1 "[index]:
            raise ProtocolError(502, rules.STATUS_LINE)
    if end <= 12:
        return _more(n, end, 502, rules.HEAD_LONG)
    if data[12] == 32:
        p = _end(_VALUE, data, 13, end)
        if p >= end:
            return _more(n, end, 502, rules.HEAD_LONG)
        if data[p] != 13:
            raise ProtocolError(502, rules.BARE_LF if data[p] == 10 else rules.REASON_BYTE)
    elif data[12] == 13:
        p = 12
    else:
        raise ProtocolError(502, rules.STATUS_LINE)
    if p + 1 < end:
        raise ProtocolError(502, rules.BARE_CR)
    return _more(n, end, 502, rules.HEAD_LONG)


def next_line(data: bytes, p: int, header_size: int, count: int, headers: int, status: int) -> None:
    """
    Why the line at C{p} is neither a field line nor the empty one: it is not whole, or something in it is wrong.

    @param status: to raise for everything; 0: as fits a request.
    @raise ProtocolError: in the latter case.
    """
    n = len(data)
    end = min(n, header_size)
    wrong = status or 400
    long = status or 431
    if p >= end:
        return _more(n, end, long, rules.HEAD_LONG)
    byte = data[p]
    if byte == 13:
        if p + 1 >= end:
            return _more(n, end, long, rules.HEAD_LONG)
        raise ProtocolError(wrong, rules.BARE_CR)
    if count >= headers:
        raise ProtocolError(long, rules.FIELDS_MANY)
    start = p
    p = _end(_NAME, data, p, end)
    if p >= end:
        return _more(n, end, long, rules.HEAD_LONG)
    byte = data[p]
    if byte != 58:
        if byte == 10:
            raise ProtocolError(wrong, rules.BARE_LF)
        if byte in (32, 9):
            raise ProtocolError(wrong, rules.FOLDED if p == start else rules.NAME_SPACE)
        raise ProtocolError(wrong, rules.NAME_BYTE)
    if p == start:
        raise ProtocolError(wrong, rules.NAME_EMPTY)
    p = _end(_VALUE, data, p + 1, end)
    if p >= end:
        return _more(n, end, long, rules.HEAD_LONG)
    byte = data[p]
    if byte == 13:
        if p + 1 >= end:
            return _more(n, end, long, rules.HEAD_LONG)
        raise ProtocolError(wrong, rules.BARE_CR)
    raise ProtocolError(wrong, rules.BARE_LF if byte == 10 else rules.VALUE_BYTE)


def _end(expression: re.Pattern[bytes], data: bytes, start: int, end: int) -> int:
    """Where a run of bytes ends that C{expression} (which also matches nothing) takes."""
    found = expression.match(data, start, end)
    assert found is not None
    return found.end()


def _more(n: int, end: int, status: int, reason: str) -> None:
    """Nothing wrong up to C{end}: wait for more, unless more is there and goes beyond what is allowed."""
    if n > end:
        raise ProtocolError(status, reason)
