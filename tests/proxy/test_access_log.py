"""Lines of the access log: L{lemmytx.proxy.access_log}."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import codec
from lemmytx.message import RequestHead
from lemmytx.proxy.access_log import FORMATS, formatter, rejection_formatter
from lemmytx.proxy.resource import Rejection

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
    head = codec.request(b"\r\n".join((start, b"Host: shop.example", *fields, b"", b"")), False, 32768, 100)
    assert head is not None
    return head


def line(form: str, exchange: Any, now: float = NOW) -> str:
    """The line of an exchange."""
    return formatter(form, lambda: now)(exchange).decode("utf-8")


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
    """The combined format."""

    def setUp(self) -> None:
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
        """An HTTP/1.0 request is logged as one."""
        self.assertIn('"GET / HTTP/1.0"', line("combined", Ended(read(start=b"GET / HTTP/1.0"))))

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
        make = formatter("combined", lambda: now)
        self.assertIn(b":23:50:00 ", make(Ended(read())))  # type: ignore[arg-type]
        now += 0.75
        self.assertIn(b":23:50:01 ", make(Ended(read())))  # type: ignore[arg-type]
        now -= 3600
        self.assertIn(b":22:50:01 ", make(Ended(read())))  # type: ignore[arg-type]

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


class JSONTests(SynchronousTestCase):
    """The JSON format."""

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
        self.assertEqual(parsed(Ended(read(start=b"GET /a?b=c HTTP/1.0"))), {**ordinary, "protocol": "HTTP/1.0"})
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
        make = formatter("json", lambda: NOW)
        for name in ("web1", 'b"\\', "web2", "é", "web1"):
            exchange = Ended(read(), backend=Named(name))
            self.assertEqual(json.loads(make(exchange))["backend"], name)  # type: ignore[arg-type]

    def test_many_places(self) -> None:
        """However many names come along, what is kept of them is bounded."""
        make = formatter("json", lambda: NOW)
        head = read()
        for number in range(5000):
            exchange = Ended(head, backend=Named(f"b{number}"))
            self.assertIn(b'"backend":"b%d"' % number, make(exchange))  # type: ignore[arg-type]
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


class BothTests(SynchronousTestCase):
    """What holds for each format."""

    def test_unknown(self) -> None:
        """A format that there is not is refused with the names of those that there are."""
        for make in (formatter, rejection_formatter):
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
        text = formatter("json", lambda: NOW)(exchange)  # type: ignore[arg-type]
        self.assertEqual(text.count(b"\n"), 1)
        members = json.loads(text.decode("ascii"))
        self.assertEqual(list(members), [name for name in (*MEMBERS[:19], "why", *MEMBERS[19:])
                                         if name != "why" or termination != "ok"])  # fmt: skip
        self.assertEqual(members["target"], target.decode("utf-8", "backslashreplace"))
        self.assertEqual(members["host"], host.decode("utf-8", "backslashreplace") or None)
        text = formatter("combined", lambda: NOW)(exchange)  # type: ignore[arg-type]
        found = COMBINED.fullmatch(text.decode("ascii"))
        assert found is not None, text
        restored = re.sub(rb"\\x(..)", lambda code: bytes([int(code[1], 16)]), found["request"].encode())
        self.assertEqual(restored, b"GET %b HTTP/1.1" % target)
