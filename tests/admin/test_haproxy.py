"""HAProxy's statistics: L{lemmytx.admin.haproxy}, and what rows, fields and checks are made of."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import lemmytx.checks
from lemmytx.admin.haproxy import PATIENCE, ROWS
from lemmytx.admin.haproxy_checks import DESCRIPTIONS, Downtimes, verdict
from lemmytx.admin.haproxy_fields import FIELDS, to_csv
from lemmytx.admin.haproxy_rows import LISTENERS, Rows, status_of
from lemmytx.cluster.health import Checkup
from lemmytx.proxy.figures import BackendFigures, ClusterFigures, Figures, Snapshot
from lemmytx.table import State
from tests.admin.rig import Answer, Rig, token

#: The time of day in these tests.
NOW = 1_000_000.0


def unchunked(answer: Answer) -> str:
    """The body, without the marks of its chunks."""
    text, rest = b"", answer.body
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            return text.decode("utf-8")
        text, rest = text + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def read(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """CSV as its readers read it."""
    return {(row["pxname"], row["svname"]): row for row in csv.DictReader(text.removeprefix("# ").splitlines())}


def backend(**facts: Any) -> BackendFigures:
    """One that is up, with these facts beside."""
    figures = BackendFigures("http://10.0.0.1:8080")
    for name, value in facts.items():
        setattr(figures, name, value)
    return figures


def cluster(**backends: BackendFigures) -> ClusterFigures:
    """One of these."""
    figures = ClusterFigures()
    figures.backends.update(backends)
    return figures


def snapshot(figures: ClusterFigures) -> Snapshot:
    """With the one cluster C{web}, two hours after the start."""
    whole = Snapshot()
    whole.clusters["web"] = figures
    whole.uptime = 7200.5
    return whole


def row(whole: Snapshot, name: str = "BACKEND", rows: Rows | None = None, now: float = NOW) -> dict[str, int | str]:
    """The row of that name, of the cluster C{web}."""
    found = list((rows or Rows()).of(whole, now))
    return next(each for each in found if (each["pxname"], each["svname"]) == ("web", name))


CHECKS = {"passed": 5, "failed": 0, "up": 1}


class ServerTests(SynchronousTestCase):
    """A backend's row."""

    def test_status(self) -> None:
        """An operator's word comes before what checks say, and a server that nobody checks is called so."""
        for wanted, facts in (
            ("no check", {}),
            ("UP", {"checks": CHECKS}),
            ("UP", {"checks": CHECKS, "health": "going_down"}),
            ("DOWN", {"checks": CHECKS, "health": "down"}),
            ("DOWN", {"checks": CHECKS, "health": "going_up"}),
            ("DOWN", {"health": "ejected"}),
            ("DRAIN", {"checks": CHECKS, "state": "drain"}),
            ("DOWN", {"checks": CHECKS, "state": "drain", "health": "down"}),
            ("MAINT", {"state": "disabled", "health": "down"}),
            ("MAINT (resolution)", {"health": "unknown"}),
        ):
            self.assertEqual(wanted, status_of(backend(**facts)), facts)

    def test_numbers(self) -> None:
        """Sessions, bytes, statuses, errors and times have the names that HAProxy has for them."""
        figures = backend(active=2, idle=3, connects=4, reused=5, capacity=50, weight=3, warmth=0.5, role="backup")
        figures.failures = {"refused": 1, "tls": 2, "timeout": 4, "gone": 8, "malformed": 16, "status": 32}
        for status in (101, 200, 204, 302, 404, 499, 503, 0):
            figures.traffic.ended(status, 0.25, 10, 1000)
        figures.lately.rates[0] = 12.6
        figures.lately.times = {0: 1}
        found = row(snapshot(cluster(one=figures)), "one")
        wanted = {
            "stot": 10, "scur": 2, "slim": 50, "bin": 80, "bout": 8000, "hrsp_1xx": 1, "hrsp_2xx": 2, "hrsp_3xx": 1,
            "hrsp_4xx": 1, "hrsp_5xx": 1, "hrsp_other": 2, "cli_abrt": 1, "srv_abrt": 8, "econ": 3, "eresp": 28,
            "connect": 4, "reuse": 5, "srv_icur": 3, "act": 0, "bck": 1, "weight": 2, "uweight": 3, "throttle": 50,
            "rate": 13, "ttime": 250, "rtime": 0, "lastchg": 7200, "downtime": 0, "addr": "10.0.0.1:8080", "type": 2,
        }  # fmt: skip
        self.assertEqual(wanted, {name: found[name] for name in wanted})
        self.assertEqual(set(), set(found) - set(FIELDS))
        self.assertFalse({"check_status", "chkfail", "last_chk", "smax", "qtime", "ctime", "lastsess"} & set(found))

    def test_address(self) -> None:
        """IPv6 addresses have brackets, a unix socket is called unix, and a port that goes without saying is there."""
        for url, wanted in (
            ("http://[::1]:81", "[::1]:81"),
            ("https://app.example", "app.example:443"),
            ("http+unix:///run/app", "unix"),
        ):
            self.assertEqual(wanted, row(snapshot(cluster(one=BackendFigures(url))), "one")["addr"])

    def test_last_change(self) -> None:
        """It counts from the change of state or health that came last."""
        figures = backend(checks=CHECKS, since=NOW - 500, wanted=[NOW - 20, "ops", ""])
        self.assertEqual(20, row(snapshot(cluster(one=figures)), "one")["lastchg"])

    def test_failing_counts_of_checks(self) -> None:
        """Failed checks and ways down are there for one that is checked."""
        figures = backend(checks={"passed": 1, "failed": 7, "down": 2, "up": 1}, reason="it answered 200")
        found = row(snapshot(cluster(one=figures)), "one")
        self.assertEqual(
            (7, 2, "L7OK", 200), tuple(found[name] for name in ("chkfail", "chkdown", "check_status", "check_code"))
        )


class ClusterTests(SynchronousTestCase):
    """A cluster's row."""

    def test_sums(self) -> None:
        """It has the sums of its servers, what waits, and what none of them took."""
        one, two = backend(active=1, weight=3), backend(health="down", checks=CHECKS, weight=5)
        spare = backend(role="backup", weight=7)
        one.traffic.ended(200, 0.1, 5, 7)
        two.traffic.ended(502, 0.3, 5, 7)
        two.failures = {"refused": 4}
        figures = cluster(one=one, two=two, spare=spare)
        figures.queued, figures.turned_away = 6, {"no_backend": 2, "queue_full": 1}
        figures.counts = {"retries": 9, "hedges": 1}
        found = row(snapshot(figures))
        wanted = {
            "qcur": 6, "scur": 7, "stot": 12, "req_tot": 12, "lbtot": 3, "bin": 10, "bout": 14, "hrsp_2xx": 1,
            "hrsp_5xx": 1, "econ": 7, "wretr": 0, "wredis": 9, "status": "UP", "weight": 3, "uweight": 3, "act": 1,
            "bck": 1, "ttime": 200, "type": 1, "sid": 0,
        }  # fmt: skip
        self.assertEqual(wanted, {name: found[name] for name in wanted})

    def test_alone(self) -> None:
        """Where there is one server, what is tried again is tried at it."""
        figures = cluster(one=backend())
        figures.counts = {"retries": 9}
        found = row(snapshot(figures))
        self.assertEqual((9, 0), (found["wretr"], found["wredis"]))

    def test_spares(self) -> None:
        """With no active server left the weight is that of the spare ones."""
        spares = {"one": backend(role="backup", weight=7), "two": backend(role="standby", weight=2)}
        found = row(snapshot(cluster(main=backend(state="disabled"), **spares)))
        self.assertEqual(("UP", 9, 0, 2), tuple(found[name] for name in ("status", "weight", "act", "bck")))

    def test_down(self) -> None:
        """It is down with the last of its servers, and since then."""
        servers = {"one": backend(health="down", checks=CHECKS, since=NOW - 90), "two": backend(state="disabled")}
        servers["two"].wanted = [NOW - 30, "ops", ""]
        found = row(snapshot(cluster(**servers)))
        self.assertEqual(
            ("DOWN", 30, 0, 30), tuple(found[name] for name in ("status", "lastchg", "weight", "downtime"))
        )

    def test_numbers_of_objects(self) -> None:
        """Each proxy has a number of its own, and servers count from one within theirs."""
        whole = snapshot(cluster(one=backend(), two=backend()))
        whole.vhosts["web"] = Figures()
        found = [(each["pxname"], each["svname"], each["iid"], each["sid"]) for each in Rows().of(whole, NOW)]
        self.assertEqual([
            (LISTENERS, "FRONTEND", 1, 0), ("web", "FRONTEND", 2, 0), ("web", "one", 3, 1), ("web", "two", 3, 2),
            ("web", "BACKEND", 3, 0),
        ], found)  # fmt: skip


class DowntimeTests(SynchronousTestCase):
    """For how long something was down."""

    def test_counts(self) -> None:
        """What was down counts to the second at which it came back, whenever that is looked at; then it stays."""
        known, key = Downtimes(), ("web", "one")
        self.assertEqual(0, known.seen(key, False, NOW, NOW))
        self.assertEqual(5, known.seen(key, True, NOW, NOW + 5))
        # Going up: its last change is newer, and it is down all the same.
        self.assertEqual(15, known.seen(key, True, NOW + 10, NOW + 15))
        self.assertEqual(20, known.seen(key, False, NOW + 20, NOW + 100))
        self.assertEqual(20, known.seen(key, False, NOW + 20, NOW + 200))
        self.assertEqual(50, known.seen(key, True, NOW + 300, NOW + 330))

    def test_ejection(self) -> None:
        """After an ejection the last change is older than that: it ends when it is seen to have ended."""
        known, key = Downtimes(), ("web", "one")
        known.seen(key, True, NOW, NOW + 1)
        self.assertEqual(7, known.seen(key, False, NOW - 100, NOW + 7))

    def test_forgotten(self) -> None:
        """Of what is gone nothing is kept."""
        rows, down = Rows(), backend(health="down", checks=CHECKS, since=NOW)
        row(snapshot(cluster(one=down)), "one", rows, NOW + 9)
        list(rows.of(snapshot(cluster(two=backend())), NOW + 10))
        self.assertEqual(0, row(snapshot(cluster(one=backend())), "one", rows, NOW + 20)["downtime"])


class CheckTests(SynchronousTestCase):
    """What a check said."""

    def test_sentences(self) -> None:
        """Each sentence of a check has HAProxy's code, and its status where it has one."""
        for health, sentence, code, status in (
            ("up", "it answered 204", "L7OK", 204),
            ("going_up", "it takes connections", "L4OK", None),
            ("up", "it says what it should", "L7OK", None),
            ("up", "it is SERVING", "L7OK", None),
            ("up", "the program ended with 0", "PROCOK", None),
            ("going_down", "it answered 503", "L7STS", 503),
            ("down", "no connection: Connection refused", "L4CON", None),
            ("down", "connecting: Connection refused", "L4CON", None),
            ("down", "TLS: certificate has expired", "L6RSP", None),
            ("down", "no outcome within 1 s", "L7TOUT", None),
            ("down", "its answer is malformed: no status line", "L7RSP", None),
            ("down", "check.sh ended with 2: no disk", "PROCERR", None),
            ("down", "check.sh was killed by SIGTERM", "PROCERR", None),
        ):
            found = verdict(backend(health=health, reason=sentence, checks={"passed": 1, "failed": 1, health: 1}))
            self.assertEqual((code, status, sentence), found)
            self.assertIn(code, DESCRIPTIONS)

    def test_sentences_are_said(self) -> None:
        """The checks still say so."""
        folder = Path(lemmytx.checks.__file__).parent
        source = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
        for text in (
            "it answered {status}", '"it takes connections"', '"the program ended with 0"', "no connection: {",
            "no address of it is known", "TLS: {", "no outcome within {", "its last check still hangs",
            "ended with {status}", "was killed by {signal.Signals",
        ):  # fmt: skip
            self.assertIn(text, source)

    def test_without_sentence(self) -> None:
        """No check, none yet, and one that changed nothing are told apart."""
        for checks, health, code in (
            ({}, "up", ""),
            ({"passed": 0, "failed": 0}, "up", "INI"),
            ({"passed": 3, "failed": 0}, "up", "CHECKED"),
            (CHECKS, "ejected", "CHECKED"),
        ):
            self.assertEqual((code, None, ""), verdict(backend(checks=checks, health=health, reason="not checked yet")))


class AnswerTests(SynchronousTestCase):
    """What is answered to whom."""

    def setUp(self) -> None:
        self.rig = Rig(vhosts=('a.example, "b"', "*"))
        for each in self.rig.backends:
            each.moved(("10.0.0.1",))

    def test_csv(self) -> None:
        """It begins with a mark and the names, and readers of CSV read it, also names with commas and quotes."""
        self.rig.vhosts[0].traffic.ended(200, 0.1, 3, 4)
        answer = self.rig.ask("/haproxy;csv")
        self.assertEqual((200, "text/plain; charset=utf-8"), (answer.status, answer.fields["content-type"]))
        text = unchunked(answer)
        self.assertTrue(text.startswith("# pxname,svname,qcur,"), text[:40])
        found = read(text)
        self.assertEqual({(LISTENERS, "FRONTEND"), ('a.example, "b"', "FRONTEND"), ("*", "FRONTEND"),
            ("web", "web1"), ("web", "web2"), ("web", "BACKEND")}, set(found))  # fmt: skip
        self.assertEqual("1", found['a.example, "b"', "FRONTEND"]["req_tot"])
        self.assertEqual([*FIELDS, "-", ""], list(found["web", "web1"]))
        self.assertEqual({"-"}, {each["-"] for each in found.values()})

    def test_frontends_are_the_whole(self) -> None:
        """What came to no vhost, and the connections, are in a row of their own, so that sums are right."""
        self.rig.vhosts[0].traffic.ended(200, 0.1, 3, 4)
        for status in (404, 400, 431, 0):
            self.rig.resource.unrouted.ended(status, 0.0, 0, 0)
        self.rig.connections.count = 17
        found = [
            each for each in read(unchunked(self.rig.ask("/haproxy;csv"))).values() if each["svname"] == "FRONTEND"
        ]
        self.assertEqual(5, sum(int(each["req_tot"]) for each in found))
        (doors,) = [each for each in found if each["pxname"] == LISTENERS]
        self.assertEqual(("17", "3", "4"), (doors["scur"], doors["ereq"], doors["req_tot"]))

    def test_one_line(self) -> None:
        """What a backend has said cannot begin another row."""
        found = to_csv({"last_chk": 'a\r\nb,"c" ', "pxname": "x"})
        self.assertEqual(1, found.count("\n"))
        self.assertIn(',"a b,""c""",', found)

    def test_json(self) -> None:
        """It has the shape of "show stat json": for each row a list with an object for each field."""
        answer = self.rig.ask("/haproxy;json")
        self.assertEqual("application/json", answer.fields["content-type"])
        found = json.loads(unchunked(answer))
        self.assertEqual(6, len(found))
        self.assertEqual({
            "objType": "Frontend", "proxyId": 2, "id": 0, "field": {"pos": 0, "name": "pxname"}, "processNum": 1,
            "tags": {"origin": "Key", "nature": "Name", "scope": "Service"},
            "value": {"type": "str", "value": 'a.example, "b"'},
        }, found[1][0])  # fmt: skip
        for each in found:
            for field in each:
                self.assertEqual(FIELDS[field["field"]["pos"]], field["field"]["name"])
                self.assertIs(str if field["value"]["type"] == "str" else int, type(field["value"]["value"]), field)

    def test_options(self) -> None:
        """Options may come in any order, those that mean nothing here mean nothing, and the last word on a form is
        JSON's, as at HAProxy."""
        for path, start in (
            ("/haproxy;csv;norefresh", "# "),
            ("/haproxy;norefresh;csv", "# "),
            ("/haproxy;csv;st=x;whatever", "# "),
            ("/haproxy;csv?x=y", "# "),
            ("/haproxy;csv;json", "[["),
        ):
            self.assertTrue(unchunked(self.rig.ask(path)).startswith(start), path)

    def test_servers_left_out(self) -> None:
        """Whoever asks for those that are up does not get the others; the cluster is shown all the same."""
        first, second = self.rig.backends
        first.state, first.wanted = "disabled", State("disabled", "", "ops", NOW)
        second.check_by(Checkup(None, up=False))
        for path, left in (
            ("/haproxy;csv", {"web1", "web2", "BACKEND"}),
            ("/haproxy;csv;no-maint", {"web2", "BACKEND"}),
            ("/haproxy;csv;up", {"BACKEND"}),
        ):
            found = read(unchunked(self.rig.ask(path)))
            self.assertEqual(left, {name for proxy, name in found if proxy == "web"}, path)
            self.assertEqual("DOWN", found["web", "BACKEND"]["status"])

    def test_no_page(self) -> None:
        """There is no page for people, and who asks for it is told what there is."""
        for path in ("/haproxy", "/haproxy;up", "/haproxy;typed", "/haproxy;json-schema"):
            answer = self.rig.ask(path)
            self.assertEqual(404, answer.status, path)
            self.assertIn("/haproxy;csv", answer.json["detail"])
        self.assertEqual(405, self.rig.ask("/haproxy;csv", "PUT").status)

    def test_access(self) -> None:
        """It takes a token where there are any; the role that reads is enough."""
        rig = Rig([token("secret")])
        for path in ("/haproxy;csv", "/haproxy;json", "/haproxy/monitor"):
            self.assertEqual(401, rig.ask(path).status)
            self.assertEqual(200, rig.ask(path, fields=["Authorization: Bearer secret"]).status)

    def test_head(self) -> None:
        """HEAD gets the head."""
        answer = self.rig.ask("/haproxy;csv", "HEAD")
        self.assertEqual((200, b""), (answer.status, answer.body))


class PageTests(SynchronousTestCase):
    """docs/haproxy.md."""

    def test_fields(self) -> None:
        """Its table has every field that any row has, and no other."""
        server = backend(checks=CHECKS, reason="it answered 200", capacity=1, warmth=0.5, health="up")
        found = {name for each in Rows().of(snapshot(cluster(one=server)), NOW) for name in each}
        page = (Path(lemmytx.__file__).parent.parent / "docs" / "haproxy.md").read_text(encoding="utf-8")
        table = page.partition("\n## Fields")[2].partition("|---")[2]
        told = {
            name
            for line in table.splitlines()
            if line[:2] == "| "
            for name in re.findall("`(.*?)`", line.split("|")[1])
        }
        told |= {f"hrsp_{digit}xx" for digit in range(1, 6)}
        self.assertEqual(sorted(found), sorted(told))


class MonitorTests(SynchronousTestCase):
    """What another balancer asks."""

    def setUp(self) -> None:
        self.rig = Rig()
        for each in self.rig.backends:
            each.moved(("10.0.0.1",))

    def test_ready(self) -> None:
        """It says in HAProxy's words that it can serve."""
        answer = self.rig.ask("/haproxy/monitor")
        self.assertEqual(
            (200, b"<html><body><h1>200 OK</h1>\nService ready.\n</body></html>\n"), (answer.status, answer.body)
        )

    def test_not_ready(self) -> None:
        """It fails as long as /ready does, and says why."""
        self.rig.instance.reason = "port <80> is taken"
        answer = self.rig.ask("/haproxy/monitor?cluster=web")
        self.assertEqual(503, answer.status)
        self.assertIn(b"port &lt;80&gt; is taken", answer.body)

    def test_condition(self) -> None:
        """With a cluster it fails when fewer of its servers can be used than are wanted; one, if nothing is said."""
        self.rig.backends[0].state = "drain"
        for query, status in (
            ("?cluster=web", 200),
            ("?cluster=web&servers=1", 200),
            ("?cluster=web&servers=2", 503),
            ("?cluster=none", 404),
            ("?cluster=web&servers=0x2", 400),
            ("?cluster=web&servers=", 400),
            ("?servers=2", 400),
            ("?cluster=web&cluster=web", 400),
            ("?cluster=web&more=1", 400),
        ):
            self.assertEqual(status, self.rig.ask(f"/haproxy/monitor{query}").status, query)


class Many:
    """An instance with a thousand clusters of ten backends."""

    def __init__(self) -> None:
        self.whole = Snapshot()
        for number in range(1000):
            backends = {f"b{index}": backend() for index in range(10)}
            self.whole.clusters[f"c{number}"] = cluster(**backends)

    async def snapshot(self) -> Snapshot:
        """All of it."""
        return self.whole


class ManyTests(SynchronousTestCase):
    """Ten thousand backends."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.rig.instance.snapshot = Many().snapshot  # type: ignore[method-assign]  # a test's own
        self.transport = StringTransport()
        self.channel = self.rig.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived(b"GET /haproxy;csv HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def turn(self) -> bytes:
        """The next call that the reactor owes, and no more: what is written by that."""
        before = len(self.transport.value())
        call = self.rig.clock.calls[0]
        self.rig.clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)
        written: bytes = self.transport.value()[before:]
        return written

    def test_slices(self) -> None:
        """They are written a few rows at a time, with the reactor's other work in between."""
        most = self.transport.value().count(b",-,\n")
        while not self.transport.value().endswith(b"\r\n0\r\n\r\n"):
            most = max(most, self.turn().count(b",-,\n"))
        self.assertLessEqual(most, ROWS)
        # Those of servers and clusters, the names, and what came to no vhost.
        self.assertEqual(11_000 + 1 + 1, self.transport.value().count(b",-,\n"))

    def test_slow_reader(self) -> None:
        """Nothing is made for a client that takes nothing, and after some time the connection is closed."""
        self.turn()
        self.transport.producer.pauseProducing()
        self.assertEqual(b"", self.turn())
        self.transport.producer.resumeProducing()
        self.assertNotEqual(b"", self.turn())
        self.transport.producer.pauseProducing()
        self.assertEqual(b"", self.turn())
        self.rig.clock.advance(PATIENCE)
        self.assertTrue(self.transport.disconnected)

    def test_left(self) -> None:
        """A client that leaves in the middle ends the work, and nothing of that is a failure."""
        self.turn()
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([], self.rig.clock.getDelayedCalls())
        self.assertEqual([], self.flushLoggedErrors())
