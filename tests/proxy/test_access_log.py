"""Lines of the access log: L{lemmytx.proxy.access_log}."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from types import ModuleType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.http1 import codec
from lemmytx.message import RequestHead
from lemmytx.proxy import access_log
from lemmytx.proxy.access_log import FORMATS, appender, rejection_formatter
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.forward import Peer
from lemmytx.proxy.resource import Rejection
from lemmytx.proxy.router import Vhost

compiled: ModuleType | None
try:
    from lemmytx.proxy import _access_line as compiled
except ImportError:  # a build without a compiler: what is about it is skipped, and says so
    compiled = None

#: Why what is about the compiled twin is not run; None: it is.
no_compiled = None if compiled is not None else "the lines of the access log are not compiled here"

#: 20 November 2026, 23:50:00.25 UTC.
NOW = 1795218600.25

#: What a log reader understands as the combined format.
COMBINED = re.compile(
    r'(?P<client>\S+) - - \[(?P<time>[^\]"]+)\] "(?P<request>[^"]*)" (?P<status>\d{3}) (?P<sent>\d+)'
    r' "(?P<referer>[^"]*)" "(?P<agent>[^"]*)"\n'
)

#: Every member, in its order.
MEMBERS = [
    "time", "client", "method", "host", "target", "request_id", "protocol", "status", "sent", "received", "queue_time",
    "connect_time", "first_byte", "total", "attempts", "vhost", "cluster", "backend", "termination", "tunnel",
    "user_agent", "referer",
]  # fmt: skip


class Named:
    """A vhost, a cluster or a backend, as far as a log line knows it."""

    def __init__(self, name: str) -> None:
        self.name = name


class Ended:
    """An exchange that has ended, as far as a log line knows it."""

    # Like the real one, it has no cluster unless a route was found.
    cluster: Named

    def __init__(self, head: RequestHead, routed: bool = True, **differing: Any) -> None:
        self.head = head
        self.client = "192.0.2.7"
        self.request_id = b"0123456789abcdef000000000001"
        self.peer = Peer(self.client)
        self.vhost: Named | None = None
        self.backend: Named | None = None
        if routed:
            self.vhost, self.cluster, self.backend = Named("shop.example"), Named("web"), Named("web1")
        self.queue_time = -1.0
        self.connect_time = 0.0
        self.first_byte = 0.00125
        self.total = 0.25
        self.attempts = 1
        self.status = 200
        self.sent = 31
        self.received = 0
        self.termination = "ok"
        self.why = ""
        self.tunnel = False
        for name, value in differing.items():
            setattr(self, name, value)


def read(*fields: bytes, start: bytes = b"GET /a?b=c HTTP/1.1") -> RequestHead:
    """A head, as the codec makes it."""
    second = start.endswith(b" HTTP/2.0")  # which is written as 1.1 for the codec
    start = start.replace(b"HTTP/2.0", b"HTTP/1.1")
    head = codec.request(b"\r\n".join((start, b"Host: shop.example", *fields, b"", b"")), False, 32768, 100)
    assert head is not None
    if second:
        head.minor = 2
    return head


def made(append: Any, exchange: Any) -> bytes:
    """The line that it makes behind others, which it leaves as they are."""
    lines = bytearray(b"before\n")
    append(exchange, lines)
    assert lines.startswith(b"before\n")
    return bytes(lines[7:])


def line(form: str, exchange: Any, now: float = NOW) -> str:
    """The line of an exchange."""
    return made(appender(form, lambda: now), exchange).decode("utf-8")


def parsed(exchange: Any, now: float = NOW) -> dict[str, Any]:
    """The line of an exchange in JSON, read."""
    members: dict[str, Any] = json.loads(line("json", exchange, now))
    return members


class ZoneMixin(SynchronousTestCase):
    """Tests in a time zone of their own."""

    def set_zone(self, zone: str) -> None:
        """Be somewhere else until the end of the test. C{zone} is as in C{TZ}, where the sign is the other way."""
        before = os.environ.get("TZ")

        def back() -> None:
            if before is None:
                del os.environ["TZ"]
            else:
                os.environ["TZ"] = before
            time.tzset()

        self.addCleanup(back)
        os.environ["TZ"] = zone
        time.tzset()


class CombinedTests(ZoneMixin):
    """The combined format, from whichever twin is at work."""

    def setUp(self) -> None:
        super().setUp()
        self.set_zone("UTC0")

    def test_line(self) -> None:
        """A line is what Apache and nginx write."""
        head = read(b"User-Agent: curl/8.5", b"Referer: http://shop.example/")
        self.assertEqual(
            line("combined", Ended(head)),
            '192.0.2.7 - - [20/Nov/2026:23:50:00 +0000] "GET /a?b=c HTTP/1.1" 200 31'
            ' "http://shop.example/" "curl/8.5"\n',
        )

    def test_nothing_told(self) -> None:
        """Fields that are not there are dashes, and so are empty ones."""
        self.assertTrue(line("combined", Ended(read())).endswith('200 31 "-" "-"\n'))
        self.assertTrue(line("combined", Ended(read(b"User-Agent:", b"Referer: "))).endswith('200 31 "-" "-"\n'))

    def test_version(self) -> None:
        """A request of HTTP/1.0 or HTTP/2 is logged as one."""
        for version in (b"1.0", b"2.0"):
            start = b"GET / HTTP/" + version
            self.assertIn(f'"{start.decode()}"', line("combined", Ended(read(start=start))))
        rejected = Rejection(413, "long", "192.0.2.7", read(start=b"GET / HTTP/2.0"))
        self.assertIn(b'"GET / HTTP/2.0" 413', rejection_formatter("combined", lambda: NOW)(rejected))

    def test_escapes(self) -> None:
        """Quotes, backslashes, controls and bytes beyond ASCII are escaped as nginx does it."""
        head = read(b'User-Agent: a"b\\c\td\xc3\xa9', b'Referer: "')
        self.assertTrue(line("combined", Ended(head)).endswith(r'"\x22" "a\x22b\x5Cc\x09d\xC3\xA9"' + "\n"))

    def test_unanswered(self) -> None:
        """The status of an exchange that was cut before any answer has three digits too."""
        self.assertEqual(COMBINED.fullmatch(line("combined", Ended(read(), status=0)))["status"], "000")  # type: ignore[index]

    def test_unix_socket(self) -> None:
        """A client on a unix socket has no address; nginx's word for it stands there."""
        self.assertTrue(line("combined", Ended(read(), client="")).startswith("unix: - - ["))

    def test_zones(self) -> None:
        """The time is the local one, with its offset, also where that is negative or not of whole hours."""
        self.set_zone("XXX-5:45")
        self.assertIn("[21/Nov/2026:05:35:00 +0545]", line("combined", Ended(read())))
        self.set_zone("XXX3:30")
        self.assertIn("[20/Nov/2026:20:20:00 -0330]", line("combined", Ended(read())))

    def test_time_goes_on(self) -> None:
        """The time is made once a second, and each second anew."""
        now = NOW
        make = appender("combined", lambda: now)
        self.assertIn(b":23:50:00 ", made(make, Ended(read())))
        now += 0.75
        self.assertIn(b":23:50:01 ", made(make, Ended(read())))
        now -= 3600
        self.assertIn(b":22:50:01 ", made(make, Ended(read())))

    def test_rejection(self) -> None:
        """A request that could not be read has a line as well, with what was understood of it."""
        make = rejection_formatter("combined", lambda: NOW)
        self.assertEqual(
            make(Rejection(400, "a bare LF", "192.0.2.7", None)),
            b'192.0.2.7 - - [20/Nov/2026:23:50:00 +0000] "-" 400 0 "-" "-"\n',
        )
        self.assertEqual(
            make(Rejection(413, "long", "192.0.2.7", read(b"User-Agent: x"))),
            b'192.0.2.7 - - [20/Nov/2026:23:50:00 +0000] "GET /a?b=c HTTP/1.1" 413 0 "-" "x"\n',
        )


class PureMixin(SynchronousTestCase):
    """The same from the Python twin."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(access_log, "_access_line", None)


class PureCombinedTests(PureMixin, CombinedTests):
    """The combined format, in Python."""


class JSONTests(SynchronousTestCase):
    """The JSON format, from whichever twin is at work."""

    def test_line(self) -> None:
        """A line is one object with all that is known."""
        head = read(b"User-Agent: curl/8.5", b"Referer: http://shop.example/")
        members = parsed(Ended(head))
        self.assertEqual(list(members), MEMBERS)
        self.assertEqual(
            members,
            {
                "time": "2026-11-20T23:50:00.250Z",
                "client": "192.0.2.7",
                "method": "GET",
                "host": "shop.example",
                "target": "/a?b=c",
                "request_id": "0123456789abcdef000000000001",
                "protocol": "HTTP/1.1",
                "status": 200,
                "sent": 31,
                "received": 0,
                "queue_time": None,
                "connect_time": 0,
                "first_byte": 0.00125,
                "total": 0.25,
                "attempts": 1,
                "vhost": "shop.example",
                "cluster": "web",
                "backend": "web1",
                "termination": "ok",
                "tunnel": False,
                "user_agent": "curl/8.5",
                "referer": "http://shop.example/",
            },
        )

    def test_each_difference(self) -> None:
        """An exchange that differs in one thing from an ordinary one differs in that one thing in its line."""
        ordinary = parsed(Ended(read()))
        for member, value in (
            ("client", "2001:db8::1"),
            ("status", 404),
            ("sent", 10**12),
            ("received", 1),
            ("queue_time", 0.5),
            ("connect_time", 0.5),
            ("first_byte", 0.25),
            ("total", 0.125),
            ("attempts", 2),
            ("tunnel", True),
        ):
            self.assertEqual(parsed(Ended(read(), **{member: value})), {**ordinary, member: value})
        for version in ("HTTP/1.0", "HTTP/2.0"):
            head = read(start=b"GET /a?b=c " + version.encode())
            self.assertEqual(parsed(Ended(head)), {**ordinary, "protocol": version})
        for member in ("vhost", "cluster", "backend"):
            self.assertEqual(parsed(Ended(read(), **{member: Named("other")})), {**ordinary, member: "other"})
        self.assertEqual(parsed(Ended(read(b"User-Agent: x"))), {**ordinary, "user_agent": "x"})
        self.assertEqual(parsed(Ended(read(b"Referer: x"))), {**ordinary, "referer": "x"})

    def test_nothing_told(self) -> None:
        """What is not there is null, not an empty text."""
        members = parsed(Ended(read()))
        self.assertEqual((members["user_agent"], members["referer"]), (None, None))
        members = parsed(Ended(read(b"Referer: x")))
        self.assertEqual((members["user_agent"], members["referer"]), (None, "x"))

    def test_no_host(self) -> None:
        """An HTTP/1.0 request without a Host has none here."""
        head = codec.request(b"GET / HTTP/1.0\r\n\r\n", False, 32768, 100)
        assert head is not None
        members = parsed(Ended(head))
        self.assertEqual((members["host"], members["protocol"], members["target"]), (None, "HTTP/1.0", "/"))

    def test_times(self) -> None:
        """Times are seconds with six digits; what did not happen is null."""
        text = line("json", Ended(read(), queue_time=1.5, connect_time=0.000001, first_byte=-1.0, total=3600.0))
        self.assertIn('"queue_time":1.500000,"connect_time":0.000001,"first_byte":null,"total":3600.000000,', text)
        self.assertIn('"connect_time":null,', line("json", Ended(read(), connect_time=-1.0)))

    def test_milliseconds(self) -> None:
        """The time of day has milliseconds, cut and not rounded, so that none has four digits."""
        self.assertEqual(parsed(Ended(read()), NOW + 0.7499)["time"], "2026-11-20T23:50:00.999Z")
        self.assertEqual(parsed(Ended(read()), NOW + 0.75)["time"], "2026-11-20T23:50:01.000Z")
        self.assertEqual(parsed(Ended(read()), NOW - 0.248)["time"], "2026-11-20T23:50:00.002Z")

    def test_connection(self) -> None:
        """What else is known of the client's connection stands at the end, in lines of each kind."""
        for exchange in (browser(peer=secured()), browser(peer=secured(), received=1), Ended(read(), peer=secured())):
            members = parsed(exchange)
            self.assertEqual((members["tls"], members["sni"]), ("TLSv1.3", "a.example"))
            self.assertEqual(members["proxy_protocol"], {"ssl_cn": 'é "x"'})
            self.assertEqual(list(members)[-4:], ["referer", "tls", "sni", "proxy_protocol"])

    def test_failure(self) -> None:
        """An exchange that did not end well says why."""
        members = parsed(Ended(read(), status=502, termination="backend_gone", why='web1 said "no" \\ left\n'))
        self.assertEqual(members["termination"], "backend_gone")
        self.assertEqual(members["why"], 'web1 said "no" \\ left\n')

    def test_no_route(self) -> None:
        """An exchange for which there was no route names neither vhost nor cluster nor backend."""
        members = parsed(Ended(read(), routed=False, status=404, termination="no_route", why="no route"))
        self.assertEqual((members["vhost"], members["cluster"], members["backend"]), (None, None, None))

    def test_no_backend(self) -> None:
        """An exchange that found no backend names the cluster that had none."""
        members = parsed(Ended(read(), backend=None, termination="no_backend"))
        self.assertEqual((members["vhost"], members["cluster"], members["backend"]), ("shop.example", "web", None))

    def test_places(self) -> None:
        """Names that need escapes get them, and one exchange's do not stand in another's line."""
        make = appender("json", lambda: NOW)
        for name in ("web1", 'b"\\', "web2", "é", "web1"):
            exchange = Ended(read(), backend=Named(name))
            self.assertEqual(json.loads(made(make, exchange))["backend"], name)  # type: ignore[arg-type]

    def test_many_places(self) -> None:
        """However many names come along, what is kept of them is bounded."""
        self.patch(access_log, "_access_line", None)
        make = appender("json", lambda: NOW)
        head = read()
        for number in range(5000):
            exchange = Ended(head, backend=Named(f"b{number}"))
            self.assertIn(b'"backend":"b%d"' % number, made(make, exchange))  # type: ignore[arg-type]
        self.assertLess(len(make.__self__._places), 5000)  # type: ignore[attr-defined]

    def test_tunnel(self) -> None:
        """A tunnel is told as one."""
        self.assertIs(parsed(Ended(read(), tunnel=True))["tunnel"], True)

    def test_field_names(self) -> None:
        """Fields are found however their names are written, and only where a line begins."""
        members = parsed(Ended(read(b"X-User-Agent: no", b"X: user-agent: no", b"uSER-aGENT:\t yes \t", b"REFERER:r")))
        self.assertEqual((members["user_agent"], members["referer"]), ("yes", "r"))

    def test_first_field(self) -> None:
        """A field is found as well when it is the first line."""
        head = codec.request(b"GET / HTTP/1.1\r\nUser-Agent: x\r\nHost: a\r\n\r\n", False, 32768, 100)
        assert head is not None
        self.assertEqual(parsed(Ended(head))["user_agent"], "x")

    def test_ascii(self) -> None:
        """Text beyond ASCII can be read back, and no byte of it can reach a terminal as it is."""
        text = line("json", Ended(read("User-Agent: é\u202e\x9b".encode())))
        self.assertTrue(text.isascii())
        self.assertEqual(json.loads(text)["user_agent"], "é\u202e\x9b")

    def test_not_text(self) -> None:
        """Bytes that are no UTF-8 are shown by their numbers."""
        self.assertEqual(parsed(Ended(read(b"User-Agent: \xff\xfe")))["user_agent"], "\\xff\\xfe")

    def test_rejection(self) -> None:
        """A request that could not be read has the same members, with what was understood of it, and the reason."""
        make = rejection_formatter("json", lambda: NOW)
        members = json.loads(make(Rejection(400, 'a "bare" LF', "", None)))
        self.assertEqual(sorted(members), sorted([*MEMBERS, "why"]))
        self.assertEqual(
            [members[name] for name in ("client", "status", "termination", "why", "method", "target", "total")],
            ["unix:", 400, "refused", 'a "bare" LF', None, None, None],
        )
        members = json.loads(make(Rejection(413, "long", "192.0.2.7", read(b"User-Agent: x"))))
        self.assertEqual(sorted(members), sorted([*MEMBERS, "why"]))
        self.assertEqual(
            [members[name] for name in ("host", "target", "protocol", "user_agent")],
            ["shop.example", "/a?b=c", "HTTP/1.1", "x"],
        )
        members = json.loads(make(Rejection(413, "long", "192.0.2.7", read(start=b"GET / HTTP/2.0"))))
        self.assertEqual(members["protocol"], "HTTP/2.0")


class PureJSONTests(PureMixin, JSONTests):
    """The JSON format, in Python."""


class BothTests(SynchronousTestCase):
    """What holds for each format."""

    def test_unknown(self) -> None:
        """A format that there is not is refused with the names of those that there are."""
        for make in (appender, rejection_formatter):
            error = self.assertRaises(ValueError, make, "clf")
            self.assertEqual(str(error), "found 'clf'; write one of combined, json")

    def test_secrets(self) -> None:
        """Neither credentials nor cookies are ever logged."""
        head = read(b"Authorization: Bearer geheim", b"Cookie: id=geheim", b"Proxy-Authorization: Basic geheim")
        for form in FORMATS:
            self.assertNotIn("geheim", line(form, Ended(head)))
            self.assertNotIn(b"geheim", rejection_formatter(form)(Rejection(413, "", "192.0.2.7", head)))

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(
        target=st.binary(min_size=1),
        host=st.binary(),
        agent=st.binary().map(lambda value: value.replace(b"\r", b"")),
        referer=st.binary().map(lambda value: value.replace(b"\r", b"")),
        request_id=st.binary(),
        why=st.text(st.characters()),
        termination=st.sampled_from(["ok", "refused"]),
    )
    def test_hostile(
        self, target: bytes, host: bytes, agent: bytes, referer: bytes, request_id: bytes, why: str, termination: str
    ) -> None:
        """Whatever bytes a client sends, even such as no codec lets through, they make one line that can be read."""
        head = read()
        head.target, head.authority = target, host
        head.raw = b"User-Agent: %b\r\nReferer: %b\r\n" % (agent, referer)
        exchange = Ended(head, request_id=request_id, why=why, termination=termination)
        text = made(appender("json", lambda: NOW), exchange)  # type: ignore[arg-type]
        self.assertEqual(text.count(b"\n"), 1)
        members = json.loads(text.decode("ascii"))
        self.assertEqual(list(members), [name for name in (*MEMBERS[:19], "why", *MEMBERS[19:])
                                         if name != "why" or termination != "ok"])  # fmt: skip
        self.assertEqual(members["target"], target.decode("utf-8", "backslashreplace"))
        self.assertEqual(members["host"], host.decode("utf-8", "backslashreplace") or None)
        text = made(appender("combined", lambda: NOW), exchange)  # type: ignore[arg-type]
        found = COMBINED.fullmatch(text.decode("ascii"))
        assert found is not None, text
        restored = re.sub(rb"\\x(..)", lambda code: bytes([int(code[1], 16)]), found["request"].encode())
        self.assertEqual(restored, b"GET %b HTTP/1.1" % target)


def pure(form: str, now: float = NOW) -> Any:
    """A format in Python."""
    return access_log._JSON(lambda: now) if form == "json" else access_log._Combined(lambda: now)


def fast(form: str, twin: Any) -> Any:
    """The compiled format that asks C{twin}."""
    assert compiled is not None
    return (compiled.JSON if form == "json" else compiled.Combined)(twin)


class Unasked:
    """A twin that must not be needed but for the stamp."""

    def __init__(self, form: str) -> None:
        self.seconds = lambda: NOW
        self.stamp = pure(form).stamp

    def append(self, exchange: Any, lines: bytearray) -> None:
        """Never called."""
        raise AssertionError("this line should be made by the compiled twin")


def secured() -> Peer:
    """A client of which more is known."""
    peer = Peer("192.0.2.7", b"https")
    peer.told = b',"tls":"TLSv1.3","sni":"a.example","proxy_protocol":{"ssl_cn":"\\u00e9 \\"x\\""}'
    return peer


def browser(**differing: Any) -> Ended:
    """What most exchanges are."""
    return Ended(
        read(b"Accept: */*", b"User-Agent: Mozilla/5.0 (X11)", b"referer:http://a/", b"Cookie: a=b"), **differing
    )


def real(ended: Ended) -> Exchange:
    """The same as an exchange of the real class, and so are all that it refers to."""
    exchange = Exchange.__new__(Exchange)
    for name, value in vars(ended).items():
        kind: Any = {"vhost": Vhost, "cluster": Cluster, "backend": Backend}.get(name)
        if kind is not None and value is not None:
            named = kind.__new__(kind)
            named.name = value.name
            value = named
        setattr(exchange, name, value)
    return exchange


#: Exchanges whose lines are made without the twin.
PLAIN = {
    "small": lambda: Ended(read()),
    "browser": browser,
    "HTTP/1.0": lambda: Ended(read(start=b"GET / HTTP/1.0")),
    "HTTP/2.0": lambda: Ended(read(start=b"GET / HTTP/2.0")),
    "no Host": lambda: Ended(codec.request(b"GET / HTTP/1.0\r\n\r\n", False, 32768, 100)),  # type: ignore[arg-type]
    "upload": lambda: browser(received=10**15, sent=0, status=201),
    "slow": lambda: browser(queue_time=1.5, connect_time=0.000001, first_byte=99.999999, total=86400.25),
    "failed": lambda: browser(status=502, first_byte=-1.0, termination="backend_gone", why="web1: gone", attempts=2),
    "left": lambda: browser(status=499, termination="client_gone"),
    "cut": lambda: browser(status=0, termination="client_gone", why="x"),
    "TLS": lambda: browser(peer=secured()),
    "slow TLS": lambda: browser(peer=secured(), connect_time=0.5),
    "tunnel": lambda: browser(status=101, tunnel=True, received=2**63 - 1, sent=2**63 - 1),
}

#: Bytes as they mostly are, and as they should not be.
_SOME = st.one_of(
    st.text(st.characters(codec="ascii", min_codepoint=0x20, exclude_characters='"\\\x7f')).map(str.encode),
    st.binary(max_size=40),
)
_NAMES = st.one_of(st.sampled_from(["web1", "127.0.0.1:9001", "*"]), st.text(max_size=10))
_COUNTS = st.one_of(st.integers(0, 1000), st.integers(0, 2**70))
#: Whole numbers of microseconds, the halves between them and what is next to those, and any others.
_TIMES = st.one_of(
    st.sampled_from([-1.0, 0.0, -0.0, 1e-7, 5e-7, 1.0, 0.9999995, 9999999.0, 1e300, float("inf"), float("nan")]),
    st.integers(1, 10**8).map(lambda number: number / 1e6),
    st.integers(0, 10**8).map(lambda number: (number + 0.5) / 1e6),
    st.floats(0, 2e6),
)
_FIELDS = st.lists(
    st.tuples(st.sampled_from([b"User-Agent", b"user-agent", b"REFERER", b"Referer", b"X", b"Referrer", b""]),
              st.sampled_from([b":", b": ", b":\t", b" :", b""]), _SOME, st.sampled_from([b"", b" ", b"\t "])),
    max_size=6,
)  # fmt: skip


class CompiledTests(ZoneMixin):
    """The compiled twin: it makes the same, by itself where it should, and keeps to its memory."""

    skip = no_compiled

    def setUp(self) -> None:
        super().setUp()
        self.set_zone("XXX-5:45")

    def same(self, exchange: Any, now: float = NOW) -> None:
        """Both twins make one line of it."""
        for form in FORMATS:
            twin = pure(form, now)
            expected = twin.exchange(exchange)
            self.assertTrue(made(fast(form, twin).append, exchange) == expected, expected[:2000])
            self.assertTrue(made(fast(form, twin).append, real(exchange)) == expected, expected[:2000])

    def test_at_work(self) -> None:
        """Where it is built, it is taken."""
        self.patch(access_log, "_access_line", compiled)
        for form in FORMATS:
            self.assertEqual(type(appender(form).__self__).__module__, "lemmytx.proxy._access_line")  # type: ignore[attr-defined]

    def test_by_itself(self) -> None:
        """Ordinary lines, and those of most failures, are made without the Python twin, and are the same."""
        for name, make in PLAIN.items():
            for form in FORMATS:
                exchange = make()
                expected = pure(form).exchange(exchange)
                self.assertEqual(made(fast(form, Unasked(form)).append, exchange), expected, name)
                self.assertEqual(made(fast(form, Unasked(form)).append, real(exchange)), expected, name)

    def test_by_the_twin(self) -> None:
        """What is rare is made by the Python twin."""
        for exchange in (
            browser(client="\xe9"),
            Ended(read(b"User-Agent: \xff")),
            browser(sent=2**63),
            browser(sent=-1),
        ):
            for form in FORMATS:
                self.assertRaises(AssertionError, made, fast(form, Unasked(form)).append, exchange)
            self.same(exchange)
        for exchange in (
            browser(backend=None),
            browser(total=0.0000005),
            browser(total=1e7),
            browser(termination="x", why="\n"),
            browser(backend=Named('"')),
        ):
            self.assertRaises(AssertionError, made, fast("json", Unasked("json")).append, exchange)
            self.same(exchange)

    @settings(max_examples=600, deadline=None, derandomize=True)
    @given(st.data())
    def test_same(self, data: st.DataObject) -> None:
        """Whatever an exchange has gone through and whatever was sent, both twins make the same line."""
        head = read(start=data.draw(st.sampled_from([b"GET / HTTP/1.1", b"PATCH / HTTP/1.0", b"PUT / HTTP/2.0"])))
        head.target, head.authority = data.draw(_SOME), data.draw(_SOME)
        head.raw = b"".join(b"%b%b%b%b\r\n" % field for field in data.draw(_FIELDS))
        exchange = Ended(head, **data.draw(st.fixed_dictionaries({}, optional={
            "client": st.sampled_from(["", "2001:db8::1"]), "request_id": _SOME, "queue_time": _TIMES,
            "connect_time": _TIMES, "first_byte": _TIMES, "total": _TIMES, "attempts": _COUNTS, "received": _COUNTS,
            "status": st.sampled_from([0, 99, 404]), "sent": _COUNTS, "tunnel": st.booleans(), "why": _NAMES,
            "termination": st.sampled_from(["ok", "ko", "backend_gone"]), "vhost": st.builds(Named, _NAMES),
            "cluster": st.builds(Named, _NAMES), "backend": st.one_of(st.none(), st.builds(Named, _NAMES)),
        })))  # fmt: skip
        self.same(exchange, data.draw(st.floats(0, 4e9)))

    @settings(max_examples=1000, deadline=None, derandomize=True)
    @given(_TIMES)
    def test_times(self, total: float) -> None:
        """Times are rounded by their exact value, as C{%.6f} does it."""
        self.same(browser(total=total))

    def test_every_byte(self) -> None:
        """Each byte there is, amid plain ones, is escaped or left as it is by both twins alike, wherever it stands."""
        for byte in range(256):
            text = b"/%cxxxxxxxxxxxxxxxxxxxx" % byte
            head = read()
            head.raw = b"User-Agent: %b\r\n" % text[::-1]
            self.same(Ended(head, request_id=b"%c" % byte))
            head.raw, head.target = b"", text
            self.same(Ended(head))
            self.same(browser(backend=Named(chr(byte)), why=chr(byte), termination="x"))

    def test_fields_anywhere(self) -> None:
        """Names at the very ends of the field lines, and parts of names, are seen as the Python twin sees them."""
        head = read()
        whole = b"X: y\r\nUser-Agent: abc\r\nUSER-agent: d\r\nReferer:e\r\n"
        for start in range(len(whole)):
            for end in range(start, len(whole) + 1):
                head.raw = whole[start:end]
                self.same(Ended(head))
        for raw in (b"User-Agent:", b"Referer:\r", b"user\ragent: x\r\n", b"userMagent: x\r\n", b"referer\x1a x\r\n",
                    b"User-Agent:  \t \r\n", b"user-agent:a\nreferer:b\r\n", b"\nReferer: c\r\n"):  # fmt: skip
            head.raw = raw
            self.same(Ended(head))

    def test_every_length(self) -> None:
        """Lines of every length around those at which the memory for them changes are whole."""
        head = read()
        for size in (*range(1, 40), *range(2500, 4200), 10**6):
            head.target = b"/" * size
            self.same(Ended(head))
        for size in (3000, 10**6):
            head.authority = head.raw = head.method = b"x" * size
            head.raw = b"User-Agent: %b\r\nReferer: %b\r\n" % (b"y" * size, b"z" * size)
            name = "n" * size
            self.same(Ended(head, request_id=b"i" * size, termination="t" * size, why="w" * size, client="1" * size,
                            backend=Named(name), cluster=Named(name), vhost=Named(name)))  # fmt: skip

    def test_room(self) -> None:
        """What stands around the texts of the longest line fits into the room that is set aside for it."""
        assert compiled is not None
        most: dict[str, Any] = dict.fromkeys(("status", "sent", "received", "attempts"), 2**63 - 1)
        most.update(dict.fromkeys(("queue_time", "connect_time", "first_byte", "total"), 999999.75))
        head = read(b"User-Agent: a", b"Referer: b", start=b"A /t HTTP/1.1")
        exchange = Ended(head, termination="t", why="w", client="c", request_id=b"i", vhost=Named("v"), **most)
        for form in FORMATS:
            self.assertLess(len(made(fast(form, Unasked(form)).append, exchange)), compiled.ROOM)

    def test_wrong_types(self) -> None:
        """What is no exchange, or has something else where text or numbers belong, is an error and no more."""
        for form in FORMATS:
            for wrong in (None, 3, object()):
                self.assertRaises(AttributeError, made, fast(form, Unasked(form)).append, wrong)
            for name in ("method", "target", "raw"):
                for value in (None, bytearray(b"GET"), 3):
                    head = read()
                    setattr(head, name, value)
                    self.assertRaises(AssertionError, made, fast(form, Unasked(form)).append, Ended(head))
            self.assertRaises(TypeError, made, fast(form, Unasked(form)).append, Ended(read(), status="200"))
            headless, unanswered = real(browser()), real(browser())
            headless.head = None  # type: ignore[assignment]
            del unanswered.status
            for exchange in (headless, unanswered, Exchange.__new__(Exchange)):
                self.assertRaises(AttributeError, made, fast(form, Unasked(form)).append, exchange)
            for now in (-1.0, 1e300, float("nan"), float("inf")):
                twin = Unasked(form)
                twin.seconds = lambda: now  # noqa: B023
                self.assertRaises(AssertionError, made, fast(form, twin).append, Ended(read()))
            twin = Unasked(form)
            twin.stamp = lambda second: None
            self.assertRaises(AssertionError, made, fast(form, twin).append, Ended(read()))

    def test_no_leak(self) -> None:
        """Ten thousand lines of all kinds leave no block of memory behind."""
        exchanges: list[Any] = [*(make() for make in PLAIN.values()), *(real(make()) for make in PLAIN.values())]
        exchanges += [browser(backend=None), browser(sent=2**63), browser(request_id=b"x" * 5000), None]
        formats = [fast(form, pure(form)) for form in FORMATS]

        def once() -> None:
            for form in formats:
                for exchange in exchanges:
                    try:
                        made(form.append, exchange)
                    except AttributeError:
                        self.assertIsNone(exchange)

        once()
        before = sys.getallocatedblocks()
        for _ in range(400):
            once()
        self.assertTrue(sys.getallocatedblocks() - before < 100, sys.getallocatedblocks() - before)
