"""Hypothesis strategies for heads and bodies: good ones, nearly good ones, and bytes."""

from __future__ import annotations

from hypothesis import strategies as st

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = bytes((*range(0x21, 0x7F), *range(0x80, 0x100)))


def some(alphabet: bytes, smallest: int = 0, largest: int = 12) -> st.SearchStrategy[bytes]:
    """Bytes from C{alphabet}."""
    return st.lists(st.sampled_from(list(alphabet)), min_size=smallest, max_size=largest).map(bytes)


SPECIAL = [
    b"Host", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect", b"TE",
    b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authenticate", b"Proxy-Authorization", b"Proxy", b"HTTP2-Settings",
    b"X-Forwarded-For", b"X-Forwarded-", b"Forwarded", b"X-Real-IP", b"X-Request-ID", b"Content_Length",
    b"X_Forwarded_For", b"Transfer-encoding", b"X-A", b"Trailer", b"Content-Type", b"Set-Cookie",
]  # fmt: skip
PLAIN = [b"Accept", b"User-Agent", b"Cookie", b"X-A", b"X_B", b"a", b"Via", b"Referer"]
WORDS = [
    b"", b"5", b"05", b"0", b"5, 5", b"9223372036854775807", b"9223372036854775808", b"chunked", b"Chunked",
    b"gzip, chunked", b"close", b"keep-alive", b"Keep-Alive, Upgrade", b"upgrade", b"x-a, close", b"websocket", b"h2c",
    b"100-continue", b"a.example", b"A.Example.:80", b"[::1]:8", b"a..b", b"trailers",
]  # fmt: skip
METHODS = [b"GET", b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"]
TARGETS = [
    b"/", b"/a?b=c", b"*", b"/a/../b", b"/..", b"/%41//x/.", b"/%", b"http://a.example/x?y", b"HTTP://a.example",
    b"//x", b"/.x", b"/a\\b", b"/?a\\b", b"ftp://a/", b"a:80",
]  # fmt: skip

space = st.sampled_from([b" ", b" ", b" ", b"", b"  ", b"\t"])
value = st.one_of(st.sampled_from(WORDS), some(VISIBLE + b" \t", 0, 20).map(lambda found: found.strip(b" \t")))
any_field = st.tuples(st.one_of(st.sampled_from(SPECIAL), st.sampled_from(PLAIN), some(TOKEN, 1)), value)
plain_field = st.tuples(st.sampled_from(PLAIN), value)


def lines(fields: list[tuple[bytes, bytes]], spaces: list[bytes]) -> bytes:
    """Field lines, with space around the values in turn."""
    written = b""
    for place, (name, content) in enumerate(fields):
        before = spaces[place % len(spaces)]
        after = spaces[(place + 1) % len(spaces)] if len(before) != 1 else b""
        written += name + b":" + before + content + after + b"\r\n"
    return written


@st.composite
def request_heads(draw: st.DrawFn) -> bytes:
    """Heads that are well-formed as to lines, and often as to what they say."""
    method = draw(st.one_of(st.sampled_from(METHODS), some(TOKEN, 1, 8)))
    target = draw(st.one_of(st.sampled_from(TARGETS), some(VISIBLE[:94], 1).map(lambda found: b"/" + found)))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    fields = draw(st.lists(any_field, max_size=6))
    if draw(st.integers(0, 9)):
        fields.insert(0, (b"Host", b"a.example"))
    spaces = draw(st.lists(space, min_size=1, max_size=4))
    return method + b" " + target + b" HTTP/" + version + b"\r\n" + lines(fields, spaces) + b"\r\n"


@st.composite
def response_heads(draw: st.DrawFn) -> bytes:
    """The same for responses."""
    status = draw(st.sampled_from([b"200", b"204", b"304", b"101", b"100", b"404", b"599", b"99", b"600"]))
    reason = draw(st.sampled_from([b"", b" ", b" OK", b" Not Found", b" \xe9"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0", b"1.7"]))
    fields = draw(st.lists(any_field, max_size=6))
    spaces = draw(st.lists(space, min_size=1, max_size=4))
    return b"HTTP/" + version + b" " + status + reason + b"\r\n" + lines(fields, spaces) + b"\r\n"


@st.composite
def good_requests(draw: st.DrawFn) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]:
    """
    Requests that must be taken.

    @return: method, target, plain fields, the body, and all of it as bytes.
    """
    method = draw(st.sampled_from(METHODS))
    target = b"/" + draw(some(TOKEN.replace(b"%", b"").replace(b"#", b"") + b"/?=&", 0)).replace(b".", b"")
    fields = draw(st.lists(plain_field, max_size=6))
    body = draw(some(b"ab\r\n0", 0, 40))
    spaces = draw(st.lists(space, min_size=1, max_size=4))
    head = method + b" " + target + b" HTTP/1.1\r\nHost: a.example\r\n" + lines(fields, spaces)
    if draw(st.booleans()):
        return method, target, fields, body, head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return method, target, fields, body, head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(chunks(body))


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> bytes:
    """C{body} in chunks."""
    size = draw(st.integers(1, 20))
    written = b""
    for place in range(0, len(body), size):
        piece = body[place : place + size]
        written += draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(piece)
        written += draw(st.sampled_from([b"", b"", b";a", b';a="b";c=d'])) + b"\r\n" + piece + b"\r\n"
    return written + b"0\r\n" + draw(st.sampled_from([b"", b"X-T: 1\r\n"])) + b"\r\n"


#: Bytes that parsers take apart messages by.
SHARP = [b"\r", b"\n", b" ", b"\t", b":", b"\0", b",", b";", b"0"]


@st.composite
def damaged(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """What C{source} gives, with up to three bytes changed, put in, or taken out, or its end cut off."""
    data = draw(source)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        byte = draw(st.one_of(st.sampled_from(SHARP), some(VISIBLE, 1, 1)))
        change = draw(st.integers(0, 3))
        if change == 0:
            data = data[:place] + byte + data[place + 1 :]
        elif change == 1:
            data = data[:place] + byte + data[place:]
        elif change == 2:
            data = data[:place] + data[place + 1 :]
        else:
            data = data[:place]
    return data
