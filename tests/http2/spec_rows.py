"""
The sections of RFC 9113 as a table: what a client sends after the handshake, and what must come back.

The rows are those of the public conformance suites, and what else the sections ask for. What is said about SETTINGS
acknowledgements and windows has its own tests.
"""

from __future__ import annotations

from lemmytx.http2 import frames
from lemmytx.http2.frames import END_HEADERS, END_STREAM, PADDED, WITH_PRIORITY
from tests.http2.rig import ANSWER, GET, RESET, Script, block, data, frame, get, headers, opening, rst

_PING = frame(frames.PING, 0, 0, b"12345678")
_PONG = "PING 0 ACK"
_UNKNOWN = frame(0x16, 0xFF, 0, b"whatever")
_GONE_CLOSED = ["GOAWAY STREAM_CLOSED"]
_GONE = ["GOAWAY PROTOCOL_ERROR"]
_GONE_SIZE = ["GOAWAY FRAME_SIZE_ERROR"]
_GONE_FLOW = ["GOAWAY FLOW_CONTROL_ERROR"]
_GONE_HPACK = ["GOAWAY COMPRESSION_ERROR"]
_RST = ["RST_STREAM 1 PROTOCOL_ERROR"]
_RST_CLOSED = ["RST_STREAM 1 STREAM_CLOSED"]
_NOTHING: list[str] = []


def _setting(name: int, value: int) -> bytes:
    return frames.settings({name: value})


def _cut(*sizes: int) -> list[bytes]:
    """A GET in HEADERS and CONTINUATIONs of these sizes, and one with the rest."""
    whole = block(GET)
    parts = []
    for size in sizes:
        parts.append(whole[:size])
        whole = whole[size:]
    parts.append(whole)
    made = [frame(frames.HEADERS, END_STREAM, 1, parts[0])]
    made += [frame(frames.CONTINUATION, 0, 1, part) for part in parts[1:-1]]
    return [*made, frame(frames.CONTINUATION, END_HEADERS, 1, parts[-1])]


def _raw(tail: bytes, front: bytes = b"") -> bytes:
    """A GET with something in its header block."""
    return frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, front + block(GET) + tail)


def _head(*fields: tuple[bytes, bytes]) -> bytes:
    return headers(1, list(fields))


_CONTINUATION = frame(frames.CONTINUATION, END_HEADERS, 1, block([(b"x", b"y")]))
_OPEN_BLOCK = frame(frames.HEADERS, END_STREAM, 1, block(GET))
_M, _S, _A, _P = GET
_SELF = (1).to_bytes(4, "big") + b"\xff"
_OTHER = (3).to_bytes(4, "big") + b"\xff"

# The section; what it is; what is sent; what comes back.
ROWS: list[tuple[str, str, Script, list[str]]] = [
    ("3.4", "a request at once", [get(1), ANSWER], ["HEADERS 1 END"]),
    ("4.1", "an unknown frame is ignored", [_UNKNOWN, _PING], [_PONG]),
    ("4.1", "undefined flags are ignored", [frame(frames.PING, 0xFE, 0, b"12345678")], [_PONG]),
    ("4.1", "the reserved bit is ignored", [frame(frames.PING, 0, 1 << 31, b"12345678")], [_PONG]),
    ("4.2", "the largest DATA", [opening(1), data(1, bytes(16384), True), ANSWER], ["HEADERS 1 END"]),
    ("4.2", "DATA too large", [opening(1), data(1, bytes(16385))], _GONE_SIZE),
    ("4.2", "HEADERS too large", [frame(frames.HEADERS, END_HEADERS, 1, bytes(16385))], _GONE_SIZE),
    ("4.3", "a block that is none", [_raw(b"\x40")], _GONE_HPACK),
    ("4.3", "PRIORITY within a block", [_OPEN_BLOCK, frame(frames.PRIORITY, 0, 1, bytes(5)), _CONTINUATION], _GONE),
    ("4.3", "HEADERS of another stream within a block", [_OPEN_BLOCK, get(3), _CONTINUATION], _GONE),
    ("4.3", "DATA within a block", [_OPEN_BLOCK, data(1, b"x")], _GONE),
    ("4.3", "SETTINGS within a block", [_OPEN_BLOCK, frames.settings({})], _GONE),
    # states
    ("5.1", "idle: DATA", [data(1, b"test", True)], _GONE),
    ("5.1", "idle: RST_STREAM", [rst(1)], _GONE),
    ("5.1", "idle: WINDOW_UPDATE", [frames.window_update(1, 100)], _GONE),
    ("5.1", "idle: CONTINUATION", [frame(frames.CONTINUATION, END_HEADERS, 1, block(GET))], _GONE),
    ("5.1", "idle: PRIORITY", [frame(frames.PRIORITY, 0, 1, bytes(5)), _PING], [_PONG]),
    ("5.1", "half-closed (remote): DATA", [get(1), data(1, b"test", True)], _RST_CLOSED),
    ("5.1", "half-closed (remote): HEADERS", [get(1), get(1)], _RST_CLOSED),
    ("5.1", "half-closed (remote): CONTINUATION", [get(1), _CONTINUATION], _GONE),
    ("5.1", "half-closed (remote): RST_STREAM", [get(1), rst(1), _PING], [_PONG]),
    ("5.1", "half-closed (remote): WINDOW_UPDATE", [get(1), frames.window_update(1, 1), _PING], [_PONG]),
    ("5.1", "reset by the peer: DATA", [opening(1), rst(1), data(1, b"test", True)], _RST_CLOSED),
    ("5.1", "reset by the peer: HEADERS", [opening(1), rst(1), get(1)], _RST_CLOSED),
    ("5.1", "reset by the peer: CONTINUATION", [opening(1), rst(1), _CONTINUATION], _GONE),
    ("5.1", "reset by the peer: PRIORITY", [opening(1), rst(1), frame(frames.PRIORITY, 0, 1, bytes(5))], _NOTHING),
    ("5.1", "reset by the peer: RST_STREAM", [opening(1), rst(1), rst(1), _PING], [_PONG]),
    ("5.1", "reset by us: DATA is ignored", [opening(1), RESET, data(1, b"x"), _PING], ["RST_STREAM 1 CANCEL", _PONG]),
    ("5.1", "reset by us: HEADERS are ignored", [opening(1), RESET, get(1), get(3), ANSWER],
     ["RST_STREAM 1 CANCEL", "HEADERS 3 END"]),
    ("5.1", "reset by us: WINDOW_UPDATE is ignored", [get(1), RESET, frames.window_update(1, 9)],
     ["RST_STREAM 1 CANCEL"]),
    ("5.1", "ended: DATA", [get(1), ANSWER, data(1, b"test", True)], ["HEADERS 1 END", *_GONE_CLOSED]),
    ("5.1", "ended: HEADERS", [get(1), ANSWER, get(1)], ["HEADERS 1 END", *_GONE_CLOSED]),
    ("5.1", "ended: CONTINUATION", [get(1), ANSWER, _CONTINUATION], ["HEADERS 1 END", *_GONE]),
    ("5.1", "ended: WINDOW_UPDATE, RST_STREAM, PRIORITY",
     [get(1), ANSWER, frames.window_update(1, 1), rst(1), frame(frames.PRIORITY, 0, 1, bytes(5)), _PING],
     ["HEADERS 1 END", _PONG]),
    ("5.1.1", "an even identifier", [get(2)], _GONE),
    ("5.1.1", "an identifier below the last", [get(5), get(3)], _GONE),
    ("5.1.1", "identifiers may be left out", [get(1), get(7), ANSWER], ["HEADERS 1 END", "HEADERS 7 END"]),
    ("5.1.1", "the highest identifier", [get((1 << 31) - 1), ANSWER], [f"HEADERS {(1 << 31) - 1} END"]),
    ("5.1.1", "PRIORITY of a higher stream does not use up lower ones",
     [frame(frames.PRIORITY, 0, 9, bytes(5)), get(1), ANSWER], ["HEADERS 1 END"]),
    ("5.3.1", "HEADERS that depend on themselves",
     [frame(frames.HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, _SELF + block(GET))], _RST),
    ("5.3.1", "trailers that depend on themselves",
     [opening(1), frame(frames.HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, _SELF + block([(b"x", b"y")]))],
     _RST),
    ("5.3.1", "HEADERS in two frames that depend on themselves",
     [frame(frames.HEADERS, END_STREAM | WITH_PRIORITY, 1, _SELF),
      frame(frames.CONTINUATION, END_HEADERS, 1, block(GET))], _RST),
    ("5.3.1", "PRIORITY that depends on itself, idle", [frame(frames.PRIORITY, 0, 1, _SELF)], _GONE),
    ("5.3.1", "PRIORITY that depends on itself, open", [get(1), frame(frames.PRIORITY, 0, 1, _SELF)], _RST),
    ("5.3.1", "HEADERS that depend on another stream",
     [frame(frames.HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, _OTHER + block(GET)), ANSWER],
     ["HEADERS 1 END"]),
    ("5.4.1", "after GOAWAY nothing is said", [frame(frames.PING, 0, 3, bytes(8)), _PING, get(1)], _GONE),
    ("5.5", "an unknown frame within a block", [_OPEN_BLOCK, _UNKNOWN], _GONE),
    # frames
    ("6.1", "DATA without a stream", [data(0, b"test", True)], _GONE),
    ("6.1", "DATA on an even stream", [data(2, b"test", True)], _GONE),
    ("6.1", "padding", [opening(1), frame(frames.DATA, PADDED | END_STREAM, 1, b"\5test\0\0\0\0\0"), ANSWER],
     ["HEADERS 1 END"]),
    ("6.1", "nothing but padding", [opening(1), frame(frames.DATA, PADDED | END_STREAM, 1, b"\1\0"), ANSWER],
     ["HEADERS 1 END"]),
    ("6.1", "padding as long as the frame", [opening(1), frame(frames.DATA, PADDED, 1, b"\5test")], _GONE),
    ("6.1", "padding longer than the frame", [opening(1), frame(frames.DATA, PADDED, 1, b"\6test")], _GONE),
    ("6.1", "padding without its length", [opening(1), frame(frames.DATA, PADDED, 1)], _GONE_SIZE),
    ("6.2", "HEADERS without a stream", [frame(frames.HEADERS, END_HEADERS | END_STREAM, 0, block(GET))], _GONE),
    ("6.2", "padding", [frame(frames.HEADERS, 0x0D, 1, b"\2" + block(GET) + b"\0\0"), ANSWER], ["HEADERS 1 END"]),
    ("6.2", "padding and priority", [frame(frames.HEADERS, 0x2D, 1, b"\1" + _OTHER + block(GET) + b"\0"), ANSWER],
     ["HEADERS 1 END"]),
    ("6.2", "padding longer than the frame", [frame(frames.HEADERS, 0x0D, 1, b"\x7f" + block(GET))], _GONE),
    ("6.2", "nothing but padding", [frame(frames.HEADERS, 0x0D, 1, b"\2\0\0")], _RST),
    ("6.2", "nothing but the length of no padding", [frame(frames.HEADERS, 0x0D, 1, b"\0")], _RST),
    ("6.2", "nothing but padding and priority", [frame(frames.HEADERS, 0x2D, 1, b"\0" + _OTHER)], _RST),
    ("6.2", "too short for padding and priority", [frame(frames.HEADERS, 0x2D, 1, _OTHER)], _GONE_SIZE),
    ("6.2", "nothing but priority", [frame(frames.HEADERS, 0x25, 1, _OTHER)], _RST),
    ("6.2", "too short for its priority", [frame(frames.HEADERS, 0x25, 1, b"\0\0\0\0")], _GONE_SIZE),
    ("6.2", "too short for the length of its padding", [frame(frames.HEADERS, 0x0D, 1)], _GONE_SIZE),
    ("6.2", "an empty HEADERS is no request", [frame(frames.HEADERS, 0x05, 1)], _RST),
    ("6.3", "PRIORITY without a stream", [frame(frames.PRIORITY, 0, 0, bytes(5))], _GONE),
    ("6.3", "PRIORITY of four bytes", [get(1), frame(frames.PRIORITY, 0, 1, bytes(4))],
     ["RST_STREAM 1 FRAME_SIZE_ERROR"]),
    ("6.3", "PRIORITY of six bytes, idle", [frame(frames.PRIORITY, 0, 1, bytes(6))], _GONE_SIZE),
    ("6.4", "RST_STREAM without a stream", [rst(0)], _GONE),
    ("6.4", "RST_STREAM of an even stream", [rst(2)], _GONE),
    ("6.4", "RST_STREAM of three bytes", [get(1), frame(frames.RST_STREAM, 0, 1, bytes(3))], _GONE_SIZE),
    ("6.5", "SETTINGS on a stream", [frame(frames.SETTINGS, 0, 1)], _GONE),
    ("6.5", "an acknowledgement with something in it", [frame(frames.SETTINGS, 1, 0, bytes(6))], _GONE_SIZE),
    ("6.5", "SETTINGS of three bytes", [frame(frames.SETTINGS, 0, 0, bytes(3))], _GONE_SIZE),
    ("6.5.2", "ENABLE_PUSH of 2", [_setting(2, 2)], _GONE),
    ("6.5.2", "ENABLE_PUSH of 1", [_setting(2, 1), _PING], [_PONG]),
    ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", [_setting(4, 1 << 31)], _GONE_FLOW),
    ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31 - 1", [_setting(4, (1 << 31) - 1), _PING], [_PONG]),
    ("6.5.2", "MAX_FRAME_SIZE of 16383", [_setting(5, 16383)], _GONE),
    ("6.5.2", "MAX_FRAME_SIZE of 16384", [_setting(5, 16384), _PING], [_PONG]),
    ("6.5.2", "MAX_FRAME_SIZE of 2^24", [_setting(5, 1 << 24)], _GONE),
    ("6.5.2", "MAX_FRAME_SIZE of 2^24 - 1", [_setting(5, (1 << 24) - 1), _PING], [_PONG]),
    ("6.5.2", "an unknown setting", [_setting(0xFF, 1), _PING], [_PONG]),
    ("6.5.2", "the largest HEADER_TABLE_SIZE", [_setting(1, (1 << 32) - 1), get(1), ANSWER], ["HEADERS 1 END"]),
    ("8441-3", "ENABLE_CONNECT_PROTOCOL of 2", [_setting(8, 2)], _GONE),
    ("8441-3", "ENABLE_CONNECT_PROTOCOL twice", [_setting(8, 1), _setting(8, 1), _PING], [_PONG]),
    ("8441-3", "ENABLE_CONNECT_PROTOCOL taken back", [_setting(8, 1), _setting(8, 0)], _GONE),
    ("6.6", "PUSH_PROMISE", [frame(frames.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(GET))], _GONE),
    ("6.7", "PING", [_PING], [_PONG]),
    ("6.7", "an acknowledgement of nothing", [frame(frames.PING, 1, 0, bytes(8))], _NOTHING),
    ("6.7", "PING on a stream", [frame(frames.PING, 0, 1, bytes(8))], _GONE),
    ("6.7", "PING of six bytes", [frame(frames.PING, 0, 0, bytes(6))], _GONE_SIZE),
    ("6.8", "GOAWAY on a stream", [frame(frames.GOAWAY, 0, 1, bytes(8))], _GONE),
    ("6.8", "GOAWAY of seven bytes", [frame(frames.GOAWAY, 0, 0, bytes(7))], _GONE_SIZE),
    ("6.8", "after a client's GOAWAY its streams go on", [get(1), frames.goaway(0, 0), ANSWER], ["HEADERS 1 END"]),
    ("6.9", "WINDOW_UPDATE by 0", [frames.window_update(0, 0)], _GONE),
    ("6.9", "WINDOW_UPDATE of a stream by 0", [opening(1), frames.window_update(1, 0)], _RST),
    ("6.9", "WINDOW_UPDATE of three bytes", [frame(frames.WINDOW_UPDATE, 0, 0, bytes(3))], _GONE_SIZE),
    ("6.9.1", "a window above 2^31 - 1", [frames.window_update(0, (1 << 31) - 1)] * 2, _GONE_FLOW),
    ("6.9.1", "the largest window", [frames.window_update(0, (1 << 31) - 1 - 65535), _PING], [_PONG]),
    ("6.9.1", "a stream's window above 2^31 - 1", [opening(1), *[frames.window_update(1, (1 << 31) - 1)] * 2],
     ["RST_STREAM 1 FLOW_CONTROL_ERROR"]),
    ("6.9.2", "SETTINGS that make a window too large",
     [get(1), frames.window_update(1, (1 << 31) - 1 - 65535), _setting(4, 65536)], _GONE_FLOW),
    ("6.9.2", "SETTINGS that make a window as large as can be",
     [get(1), frames.window_update(1, (1 << 31) - 1 - 65536), _setting(4, 65536), _PING], [_PONG]),
    ("6.10", "one CONTINUATION", [*_cut(5), ANSWER], ["HEADERS 1 END"]),
    ("6.10", "two CONTINUATIONs, cut within a field", [*_cut(5, 5), ANSWER], ["HEADERS 1 END"]),
    ("6.10", "HEADERS with nothing in it, and CONTINUATION", [*_cut(0, 0), ANSWER], ["HEADERS 1 END"]),
    ("6.10", "CONTINUATION after the end of a block", [*_cut(5), _CONTINUATION], _GONE),
    ("6.10", "CONTINUATION after a whole HEADERS", [get(1), _CONTINUATION], _GONE),
    ("6.10", "CONTINUATION after DATA", [opening(1), data(1, b"x"), _CONTINUATION], _GONE),
    ("6.10", "CONTINUATION without a stream", [_OPEN_BLOCK, frame(frames.CONTINUATION, END_HEADERS, 0)], _GONE),
    ("6.10", "CONTINUATION of another stream", [_OPEN_BLOCK, frame(frames.CONTINUATION, END_HEADERS, 3)], _GONE),
    ("7", "GOAWAY with an unknown code", [frames.goaway(0, 0xFF), _PING], [_PONG]),
    ("7", "RST_STREAM with an unknown code", [opening(1), rst(1, 0xFF), _PING], [_PONG]),
    # messages
    ("8.1", "trailers", [opening(1), data(1, b"test"), headers(1, [(b"x-test", b"ok")]), ANSWER], ["HEADERS 1 END"]),
    ("8.1", "trailers that do not end the stream",
     [opening(1), data(1, b"test"), headers(1, [(b"x-test", b"ok")], END_HEADERS)], _RST),
    ("8.1", "trailers with a colon", [opening(1), data(1, b"test"), headers(1, [(b":method", b"POST")])], _RST),
    ("8.1", "trailers with a name in capitals", [opening(1), data(1, b"test"), headers(1, [(b"X-Test", b"ok")])], _RST),
    ("8.1.1", "more DATA than content-length", [opening(1, (b"content-length", b"1")), data(1, b"test", True)], _RST),
    ("8.1.1", "more DATA in sum", [opening(1, (b"content-length", b"5")), data(1, b"test"), data(1, b"test", True)],
     _RST),
    ("8.1.1", "what comes for a stream after its error",
     [opening(1, (b"content-length", b"1")), data(1, b"test"), data(1, b"test"), headers(1, [(b"x", b"y")]), _PING],
     [*_RST, _PONG]),
    ("8.1.1", "less DATA than content-length", [opening(1, (b"content-length", b"5")), data(1, b"test", True)], _RST),
    ("8.1.1", "content-length and no DATA", [get(1, (b"content-length", b"5"))], _RST),
    ("8.1.1", "trailers before content-length is there",
     [opening(1, (b"content-length", b"5")), data(1, b"test"), headers(1, [(b"x", b"y")])], _RST),
    ("8.1.1", "content-length that is right",
     [opening(1, (b"content-length", b"8")), data(1, b"test"), data(1, b"test", True), ANSWER], ["HEADERS 1 END"]),
    ("8.1.1", "content-length that is right, and trailers",
     [opening(1, (b"content-length", b"4")), data(1, b"test"), headers(1, [(b"x", b"y")]), ANSWER], ["HEADERS 1 END"]),
    ("8.1.1", "content-length of 0 and DATA", [opening(1, (b"content-length", b"0")), data(1, b"x", True)], _RST),
    ("8.1.1", "content-length of 0 and an empty DATA",
     [opening(1, (b"content-length", b"0")), data(1, b"", True), ANSWER], ["HEADERS 1 END"]),
    ("8.2.1", "a name in capitals", [get(1, (b"X-TEST", b"ok"))], _RST),
    ("8.2.2", "connection", [get(1, (b"connection", b"keep-alive"))], _RST),
    ("8.2.2", "te with something else", [get(1, (b"te", b"trailers, deflate"))], _RST),
    ("8.2.2", "te: trailers", [get(1, (b"te", b"trailers")), ANSWER], ["HEADERS 1 END"]),
    ("8.3", "an unknown one", [get(1, (b":test", b"ok"))], _RST),
    ("8.3", "one of responses", [get(1, (b":status", b"200"))], _RST),
    ("8.3", "one behind a field", [_head((b"x-test", b"ok"), *GET)], _RST),
    ("8.3.1", "an empty :path", [_head(_M, _S, _A, (b":path", b""))], _RST),
    ("8.3.1", "no :method", [_head(_S, _A, _P)], _RST),
    ("8.3.1", "no :scheme", [_head(_M, _A, _P)], _RST),
    ("8.3.1", "no :path", [_head(_M, _S, _A)], _RST),
    ("8.3.1", "two :method", [_head(_M, *GET)], _RST),
    ("8.3.1", "two :scheme", [_head(_S, *GET)], _RST),
    ("8.3.1", "two :path", [_head(_P, *GET)], _RST),
    ("8.3.1", "two :authority", [_head(_A, *GET)], _RST),
    ("8.5", "CONNECT", [_head((b":method", b"CONNECT"), _A)], ["HEADERS 1 END"]),
    ("8.5", "CONNECT whose stream is open", [headers(1, [(b":method", b"CONNECT"), _A], END_HEADERS)],
     ["HEADERS 1 END", "RST_STREAM 1 NO_ERROR"]),
    ("8.5", "what comes after CONNECT whose stream is open",
     [headers(1, [(b":method", b"CONNECT"), _A], END_HEADERS), data(1, b"x", True), _PING],
     ["HEADERS 1 END", "RST_STREAM 1 NO_ERROR", _PONG]),
    ("8.5", "HEADERS after CONNECT", [_head((b":method", b"CONNECT"), _A), get(1)], ["HEADERS 1 END", *_GONE_CLOSED]),
    ("8.5", "CONNECT with :path", [_head((b":method", b"CONNECT"), _A, _P)], _RST),
    ("8441-4", ":protocol that nobody offered",
     [_head((b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket"))], _RST),
    # header compression
    ("7541-2.3.3", "an index beyond the tables", [_raw(b"\xc6")], _GONE_HPACK),
    ("7541-2.3.3", "a literal with such an index", [_raw(b"\x7f\x07\x00")], _GONE_HPACK),
    ("7541-4.2", "a size update at the end", [_raw(b"\x21")], _GONE_HPACK),
    ("7541-5.2", "Huffman with long padding", [_raw(b"\0\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")], _GONE_HPACK),
    ("7541-5.2", "Huffman padded by zeros", [_raw(b"\0\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")], _GONE_HPACK),
    ("7541-5.2", "Huffman with EOS", [_raw(b"\0\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")],
     _GONE_HPACK),
    ("7541-6.1", "the index 0", [_raw(b"\x80")], _GONE_HPACK),
    ("7541-6.3", "a size update beyond our setting", [_raw(b"", b"\x3f\xe2\x1f")], _GONE_HPACK),
    ("7541-6.3", "a size update at the start", [_raw(b"", b"\x20"), ANSWER], ["HEADERS 1 END"]),
]  # fmt: skip

#: What a client sends first, and that is no beginning.
BAD_PREFACES: list[tuple[str, bytes, str]] = [
    ("another protocol", b"INVALID CONNECTION PREFACE\r\n\r\n", "GOAWAY PROTOCOL_ERROR"),
    ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GOAWAY PROTOCOL_ERROR"),
    ("a preface with a wrong end", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", "GOAWAY PROTOCOL_ERROR"),
    ("no SETTINGS", _PING, "GOAWAY PROTOCOL_ERROR"),
    ("an acknowledgement", frames.SETTINGS_ACK, "GOAWAY PROTOCOL_ERROR"),
    ("a request", get(1), "GOAWAY PROTOCOL_ERROR"),
    ("an unknown frame", _UNKNOWN, "GOAWAY PROTOCOL_ERROR"),
    ("CONTINUATION", _CONTINUATION, "GOAWAY PROTOCOL_ERROR"),
]

#: What a server answers to a GET, and what must be said to it.
ANSWERS: list[tuple[str, list[bytes], list[str]]] = [
    ("an answer", [headers(1, [(b":status", b"200")])], _NOTHING),
    ("DATA before the head", [data(1, b"x")], _RST),
    ("PUSH_PROMISE", [frame(frames.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(GET))], _GONE),
    ("HEADERS on a stream of its own", [headers(2, [(b":status", b"200")])], _GONE),
    ("HEADERS on a stream that we have not opened", [headers(3, [(b":status", b"200")])], _GONE),
    ("DATA on a stream that we have not opened", [data(3, b"x")], _GONE),
    ("ENABLE_PUSH of 1", [_setting(2, 1)], _GONE),
    ("ENABLE_PUSH of 0", [_setting(2, 0), _PING], [_PONG]),
    ("HEADERS after the end", [headers(1, [(b":status", b"200")]), headers(1, [(b"x", b"y")])], _GONE_CLOSED),
    ("DATA after the end", [headers(1, [(b":status", b"200")]), data(1, b"x")], _GONE_CLOSED),
    ("no :status", [headers(1, [(b"x", b"y")])], _RST),
    ("two :status", [headers(1, [(b":status", b"200"), (b":status", b"200")])], _RST),
    (":status behind a field", [headers(1, [(b"x", b"y"), (b":status", b"200")])], _RST),
    (":method", [headers(1, [(b":status", b"200"), (b":method", b"GET")])], _RST),
    (":status of two digits", [headers(1, [(b":status", b"20")])], _RST),
    (":status of 600", [headers(1, [(b":status", b"600")])], _RST),
    (":status with a sign", [headers(1, [(b":status", b"+20")])], _RST),
    ("101", [headers(1, [(b":status", b"101")], END_HEADERS)], _RST),
    ("an informational one that ends the stream", [headers(1, [(b":status", b"103")])], _RST),
    ("connection", [headers(1, [(b":status", b"200"), (b"connection", b"close")])], _RST),
    ("te", [headers(1, [(b":status", b"200"), (b"te", b"trailers")])], _RST),
    ("transfer-encoding", [headers(1, [(b":status", b"200"), (b"transfer-encoding", b"chunked")])], _RST),
    ("two content-length", [headers(1, [(b":status", b"200"), *[(b"content-length", b"0")] * 2])], _RST),
    ("content-length and no DATA", [headers(1, [(b":status", b"200"), (b"content-length", b"1")])], _RST),
    ("more DATA than content-length",
     [headers(1, [(b":status", b"200"), (b"content-length", b"1")], END_HEADERS), data(1, b"xy")], _RST),
    ("DATA for a 304", [headers(1, [(b":status", b"304")], END_HEADERS), data(1, b"x", True)], _RST),
    ("DATA for a 204", [headers(1, [(b":status", b"204")], END_HEADERS), data(1, b"x", True)], _RST),
    ("an empty DATA for a 204", [headers(1, [(b":status", b"204")], END_HEADERS), data(1, b"", True)], _NOTHING),
    ("a second head that does not end",
     [headers(1, [(b":status", b"200")], END_HEADERS), headers(1, [(b"x", b"y")], END_HEADERS)], _RST),
    ("a second :status", [headers(1, [(b":status", b"200")], END_HEADERS), headers(1, [(b":status", b"200")])], _RST),
    ("a line end in a value", [headers(1, [(b":status", b"200"), (b"x", b"a\r\nset-cookie: b")])], _RST),
]  # fmt: skip
