"""What C{/metrics} answers: L{lemmytx.admin.metrics}, L{lemmytx.admin.families}, L{lemmytx.admin.lag}."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.admin.families import GROUPS
from lemmytx.admin.lag import BEAT, ENOUGH, Lag
from lemmytx.admin.metrics import AT_ONCE, OPENMETRICS, PATIENCE, TEXT, Metrics, negotiate
from lemmytx.admin.readings import BOUNDS, Row
from lemmytx.cluster.breaker import Breaker, BreakerRules
from lemmytx.cluster.histogram import VALUES
from lemmytx.proxy.figures import BackendFigures, BucketFigures, ClusterFigures, Figures, Snapshot
from tests.admin.rig import Answer, Rig, token

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "metrics.md"
DASHBOARD = ROOT / "conf" / "grafana" / "lemmytx.json"

ASK_OPENMETRICS = (
    "Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
)  # fmt: skip


def body(answer: Answer) -> str:
    """The body, which comes in chunks."""
    rest, whole = answer.body, b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        whole += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return whole.decode("utf-8")


def rows() -> Iterable[tuple[tuple[str, ...], Row]]:
    """All metrics, with their labels."""
    for group in GROUPS:
        for row in group.rows:
            yield (*group.labels, *row.more), row


def values(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All series, each of which may be there once."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


class Scraped:
    """What came of a scrape, to be asked."""

    def __init__(self, text: str, openmetrics: bool = False) -> None:
        self.text = text
        self.families = list((read_openmetrics if openmetrics else read_text)(text))
        self.series = values(self.families)

    def of(self, name: str, /, **labels: str) -> float | None:
        """A series; L{None}: it is not there."""
        return self.series.get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        """Of all series."""
        return {name for name, _ in self.series}


class ScrapeCase(SynchronousTestCase):
    """A rig that is scraped."""

    def setUp(self) -> None:
        self.rig = Rig()

    def has(
        self, vhosts: dict[str, Figures] | None = None, clusters: dict[str, ClusterFigures] | None = None
    ) -> Snapshot:
        """Has the rig's instance show these."""
        whole = Snapshot()
        whole.vhosts.update(vhosts or {})
        whole.clusters.update(clusters or {})

        async def snapshot() -> Snapshot:
            return whole

        self.rig.instance.snapshot = snapshot  # type: ignore[method-assign]  # a test's own
        return whole

    def scrape(self) -> Scraped:
        """In the text format."""
        answer = self.rig.ask("/metrics")
        self.assertEqual((answer.status, answer.fields["content-type"]), (200, TEXT))
        return Scraped(body(answer))


class MetricsTests(ScrapeCase):
    """Values."""

    def test_requests(self) -> None:
        """Each vhost and backend has its requests by class, times and bytes; the whole has the sums of the vhosts."""
        shop, rest = (vhost.traffic for vhost in self.rig.vhosts)
        shop.ended(200, 1.5, 10, 1000)
        shop.ended(204, 0.5, 0, 20)
        shop.ended(499, 0.5, 0, 0)
        rest.ended(503, 1.0, 0, 100)
        self.rig.resource.unrouted.ended(404, 0.0, 0, 40)
        self.rig.instance.removed.ended(200, 2.0, 0, 1)
        self.rig.backends[0].traffic.ended(200, 1.25, 10, 1000)
        scraped = self.scrape()
        of = scraped.of
        self.assertEqual(of("lemmytx_vhost_requests_total", vhost="shop.example", code="2xx"), 2)
        self.assertEqual(of("lemmytx_vhost_requests_total", vhost="shop.example", code="gone"), 1)
        self.assertEqual(of("lemmytx_vhost_requests_total", vhost="shop.example", code="5xx"), 0)
        self.assertEqual(of("lemmytx_vhost_requests_total", vhost="shop.example", code="4xx"), 0)
        self.assertEqual(of("lemmytx_vhost_exchange_seconds_total", vhost="shop.example"), 2.5)
        self.assertEqual(of("lemmytx_vhost_request_body_bytes_total", vhost="shop.example"), 10)
        self.assertEqual(of("lemmytx_vhost_response_body_bytes_total", vhost="shop.example"), 1020)
        self.assertEqual(of("lemmytx_unrouted_requests_total", code="4xx"), 1)
        self.assertEqual(
            [of("lemmytx_requests_total", code=code) for code in ("2xx", "4xx", "5xx", "gone")], [3, 1, 1, 1]
        )
        self.assertEqual(of("lemmytx_exchange_seconds_total"), 5.5)
        self.assertEqual(of("lemmytx_backend_requests_total", cluster="web", backend="web1", code="2xx"), 1)
        self.assertEqual(of("lemmytx_backend_requests_total", cluster="web", backend="web2", code="2xx"), 0)

    def test_backends(self) -> None:
        """A backend shows what is wanted of it, how it is, what is on it, and what became of it by kind."""
        web1, web2 = self.rig.backends
        web1.moved(("192.0.2.1",))
        web1.full_weight, web1.capacity, web1.active, web1.connects, web1.reused = 2, 50, 3, 4, 9
        web1.idle.append(object())
        web1.failures.update(refused=2, timeout=1)
        web1.ejections = 5
        web2.moved(("192.0.2.2",))
        web2.state = "drain"
        scraped = self.scrape()

        def of(name: str, backend: str, **labels: str) -> float | None:
            return scraped.of(f"lemmytx_backend_{name}", cluster="web", backend=backend, **labels)

        self.assertEqual([of("up", "web1"), of("up", "web2")], [1, 0])
        self.assertEqual([of("state", "web1", state="ready"), of("state", "web2", state="drain")], [1, 1])
        self.assertIs(of("state", "web2", state="ready"), None)
        self.assertEqual(of("health", "web1", health="up"), 1)
        told = [of(name, "web1") for name in ("weight", "capacity", "active", "idle_connections")]
        self.assertEqual(told, [2, 50, 3, 1])
        self.assertEqual([of("connects_total", "web1"), of("reused_total", "web1")], [4, 9])
        self.assertEqual(of("ejections_total", "web1"), 5)
        self.assertEqual(of("failures_total", "web1", kind="refused"), 2)
        self.assertIs(of("failures_total", "web2", kind="refused"), None)
        failures = [
            scraped.of("lemmytx_cluster_failures_total", cluster="web", kind=kind) for kind in ("timeout", "tls")
        ]
        self.assertEqual(failures, [1, 0])

    def test_cluster(self) -> None:
        """A cluster shows what it counts for itself, and its breaker only where it has one."""
        cluster = self.rig.cluster
        cluster.retrying, cluster.retries, cluster.hedges, cluster.failovers = 1, 7, 3, 2
        cluster.turned_away["queue_full"] = 4
        scraped = self.scrape()

        def of(name: str, **labels: str) -> float | None:
            return scraped.of(f"lemmytx_cluster_{name}", cluster="web", **labels)

        self.assertEqual([of("retrying"), of("retries_total"), of("hedges_total"), of("failovers_total")], [1, 7, 3, 2])
        self.assertEqual([of("turned_away_total", reason=why) for why in ("queue_full", "overloaded")], [4, 0])
        self.assertNotIn("lemmytx_cluster_breaker", scraped.names())
        cluster.breaker = Breaker(BreakerRules(), self.rig.clock.seconds)
        cluster.breaker.opened = 2
        scraped = self.scrape()
        self.assertEqual([of("breaker", state="closed"), of("breaker_opened_total")], [1, 2])

    def test_instance(self) -> None:
        """It tells whether it can serve, what is connected, and what the system says of the process."""
        self.rig.connections.count, self.rig.resource.exchanges = 3, 2
        scraped = self.scrape()
        of = scraped.of
        told = (of("lemmytx_ready"), of("lemmytx_connections"), of("lemmytx_exchanges"))
        self.assertEqual(told, (1, 3, 2))
        memory = of("lemmytx_process_resident_memory_bytes", process="main")
        assert memory is not None
        self.assertGreater(memory, 1_000_000)
        self.assertEqual(of("lemmytx_process_open_fds", process="main") is None, False)
        self.rig.instance.reason = "draining"
        self.assertEqual(self.scrape().of("lemmytx_ready"), 0)

    def test_store(self) -> None:
        """What a store does not say of itself is not there; before it is open it says next to nothing."""
        self.rig.instance.store = lambda: {"vhosts": 0}  # type: ignore[method-assign]  # a test's own
        self.assertFalse([name for name in self.scrape().names() if name.startswith("lemmytx_store")])
        self.rig.instance.store = lambda: {"type": "redis", "status": "OK", "vhosts": 3}  # type: ignore[method-assign]
        scraped = self.scrape()
        told = [scraped.of(f"lemmytx_store_{name}", type="redis") for name in ("up", "vhosts", "built", "processes")]
        self.assertEqual(told, [1, 3, None, None])

    def test_workers(self) -> None:
        """Each worker is shown by its name, with what the system says of it; one without a process is not asked for."""
        common = {"uptime_sec": 2.5, "downstreams": 1, "exchanges": 0}
        self.rig.instance.crew = [
            {"id": 1, "pid": os.getpid(), "restarts": 2, **common}, {"id": 2, "pid": None, "restarts": 0, **common},
        ]  # fmt: skip
        scraped = self.scrape()
        self.assertEqual(scraped.of("lemmytx_worker_restarts_total", worker="1"), 2)
        self.assertEqual(scraped.of("lemmytx_worker_uptime_seconds", worker="2"), 2.5)
        self.assertGreater(scraped.of("lemmytx_process_cpu_seconds_total", process="1") or 0, 0)
        self.assertIs(scraped.of("lemmytx_process_cpu_seconds_total", process="2"), None)

    def test_response_times(self) -> None:
        """Response times of late are in buckets that add up, and are gone when they are too old; none: no series."""
        name = "lemmytx_vhost_recent_response_seconds"
        self.assertFalse([each for each in self.scrape().names() if each.startswith(name)])
        traffic = self.rig.vhosts[0].traffic
        for seconds in (0.0004, 0.003, 0.003, 0.2, 100.0):
            traffic.ended(200, seconds, 0, 0)
        scraped = self.scrape()
        ends = [*map(str, BOUNDS), "+Inf"]
        counts = [scraped.of(f"{name}_bucket", vhost="shop.example", le=end) for end in ends]
        self.assertEqual(counts, [1, 1, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5])
        self.assertEqual(scraped.of(f"{name}_gcount", vhost="shop.example"), 5)
        total = scraped.of(f"{name}_gsum", vhost="shop.example")
        assert total is not None
        self.assertTrue(abs(total - 100.2064) < 0.026 * 100.2064, total)
        self.rig.clock.advance(400)
        self.assertNotIn(f"{name}_gcount", self.scrape().names())

    def test_removed(self) -> None:
        """The series of a backend that is gone go with it."""
        self.assertIn('backend="web2"', self.scrape().text)
        self.rig.cluster.backends = self.rig.cluster.backends[:1]
        self.assertNotIn('backend="web2"', self.scrape().text)

    def test_odd_names(self) -> None:
        """Names may hold whatever they like: quotes, backslashes, line ends, what is no UTF-8."""
        odd = 'a"b\\c\nd é '
        self.has(vhosts={odd + "\udcff": Figures()})
        self.assertEqual(self.scrape().of("lemmytx_vhost_requests_total", vhost=odd + "\\udcff", code="2xx"), 0)

    def test_all(self) -> None:
        """Of a snapshot that has everything, both formats have every metric, each once, with the same values."""
        whole = self.has()
        whole.vhosts["a"] = figures = Figures()
        figures.lately.times = {100: 1, len(VALUES) - 1: 2}
        backend = BackendFigures("http://a", health="down")
        backend.failures, backend.checks = {"odd": 1}, {"passed": 1, "failed": 2, "down": 1}
        backend.lately.times = {0: 1}
        bucket = BucketFigures()
        bucket.lately.times = {1: 1}
        cluster = ClusterFigures()
        cluster.backends["b"], cluster.buckets["k"], cluster.breaker = backend, bucket, "open"
        cluster.counts = {"breaker_opened": 1, "breaker_refused": 2}
        whole.clusters["c"] = cluster
        whole.refusals["tcp:80"] = {"handshake": 3}
        whole.certificates["/f.pem"] = {
            "file": "/f.pem", "names": ["a", "b"], "expires": "2027-01-01T00:00:00+00:00", "problem": "x",
        }  # fmt: skip

        self.rig.instance.store = lambda: {  # type: ignore[method-assign]  # as above
            "type": "file", "status": "unavailable", "vhosts": 5, "backends": 6, "built": 1, "faults": 2,
            "processes": [1],
        }  # fmt: skip
        self.rig.instance.crew = [
            {"id": 1, "pid": os.getpid(), "restarts": 0, "uptime_sec": 1, "downstreams": 0, "exchanges": 0}
        ]
        scraped = self.scrape()
        answer = self.rig.ask("/metrics", fields=ASK_OPENMETRICS)
        self.assertEqual(answer.fields["content-type"], OPENMETRICS)
        other = Scraped(body(answer), openmetrics=True)
        self.assertTrue(other.text.endswith("# EOF\n"))
        self.assertEqual(scraped.series.keys(), other.series.keys())
        for key, value in scraped.series.items():
            if "process" not in key[0]:
                self.assertEqual(value, other.series[key], key)
        found = {family.name for family in other.families}
        self.assertEqual({row.family().name for _, row in rows()} - found, set())
        self.assertEqual(found - {row.family().name for _, row in rows()}, set())
        self.assertEqual(
            scraped.of("lemmytx_certificate_expiry_timestamp_seconds", file="/f.pem", name="a"), 1798761600
        )
        self.assertEqual(scraped.of("lemmytx_store_up", type="file"), 0)
        self.assertEqual(scraped.of("lemmytx_listener_refusals_total", listener="tcp:80", reason="handshake"), 3)
        headers = re.findall(r"^# (?:TYPE|HELP) \S+", scraped.text, re.MULTILINE)
        self.assertEqual(len(headers), len(set(headers)))


class AnswerTests(ScrapeCase):
    """How it is answered."""

    def test_formats(self) -> None:
        """OpenMetrics for whoever names it, and else the text format."""
        for accept, expected in (
            ("", TEXT), ("*/*", TEXT), ("text/plain;version=0.0.4", TEXT), (";;,,=", TEXT),
            ("application/openmetrics-text", OPENMETRICS), ("application/openmetrics-text;version=x\r", OPENMETRICS),
            ("text/plain, Application/OpenMetrics-Text; version=1.0.0; q=0.5", OPENMETRICS),
            ("application/openmetrics-text; q=0.0, text/plain", TEXT),
        ):  # fmt: skip
            self.assertEqual(negotiate(accept), expected, accept)

    def test_head(self) -> None:
        """HEAD has the type and no body."""
        answer = self.rig.ask("/metrics", "HEAD")
        self.assertEqual((answer.status, answer.fields["content-type"], answer.body), (200, TEXT, b""))

    def test_tokens(self) -> None:
        """Where there are tokens it takes one, of any role; other methods are refused."""
        rig = Rig([token("secret")])
        self.assertEqual(rig.ask("/metrics").status, 401)
        self.assertEqual(rig.ask("/metrics", fields=("Authorization: Bearer secret",)).status, 200)
        self.assertEqual(self.rig.ask("/metrics", "DELETE").status, 405)

    def test_in_parts(self) -> None:
        """Many backends come in parts of a bounded size, between which others have their turn."""
        rig, whole = self.rig, self.has()
        for number in range(40):
            whole.clusters[f"c{number}"] = cluster = ClusterFigures()
            for name in range(10):
                cluster.backends[f"b{name}"] = backend = BackendFigures("http://a")
                backend.lately.times = {100: 1}

        metrics = Metrics(rig.instance, rig.clock, rig.clock.seconds)
        parts: list[bytes] = []

        async def collect() -> None:
            async for part in metrics.parts(TEXT):
                parts.append(part)

        done = ensureDeferred(collect())
        self.assertNoResult(done)
        rig.clock.advance(0)
        self.successResultOf(done)
        # What is kept to the end of a histogram is ten times as much: it is only to be sent.
        sizes = sorted(len(re.findall(rb"^[^#]", part, re.MULTILINE)) for part in parts)
        self.assertLess(sizes[-1], 12 * AT_ONCE)
        self.assertLess(sizes[len(sizes) * 9 // 10], 3 * AT_ONCE)
        scraped = Scraped(b"".join(parts).decode())
        self.assertGreater(len(parts), len(scraped.series) // (3 * AT_ONCE))
        self.assertEqual(scraped.of("lemmytx_backend_recent_response_seconds_gcount", cluster="c39", backend="b9"), 1)
        headers = re.findall(r"^# TYPE \S+", scraped.text, re.MULTILINE)
        self.assertEqual(len(headers), len(set(headers)))

    def test_fault(self) -> None:
        """A fault before the first part is told as one; one after it cuts the connection: it was not the whole."""
        rig = self.rig
        rig.cluster.queue = object()  # type: ignore[assignment]  # it is the fault
        self.assertEqual(rig.ask("/metrics").status, 500)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        rig.cluster.queue = None
        whole = self.has({f"v{number}": Figures() for number in range(200)})
        whole.clusters["c"] = None  # type: ignore[assignment]  # it is the fault

        answer = rig.ask("/metrics")
        for _ in range(50):
            rig.clock.advance(0)
        self.assertEqual(answer.status, 200)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.assertTrue(rig.transport.disconnecting)
        self.assertFalse(rig.transport.value().endswith(b"0\r\n\r\n"))


class SlowTests(ScrapeCase):
    """A scraper that does not read."""

    def setUp(self) -> None:
        super().setUp()
        self.has({f"v{number}": Figures() for number in range(300)})

        self.transport = StringTransport()
        self.channel = self.rig.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.transport.producer.pauseProducing()
        self.turns()

    def turns(self) -> None:
        """Of the reactor."""
        self.rig.clock.pump([0] * 100)

    def test_waits(self) -> None:
        """What it does not take is not made; it goes on when it reads again, to the end."""
        before = len(self.transport.value())
        self.turns()
        self.assertEqual(len(self.transport.value()), before)
        self.rig.clock.advance(PATIENCE - 1)
        self.transport.producer.resumeProducing()
        self.turns()
        self.assertTrue(self.transport.value().endswith(b"0\r\n\r\n"))
        self.rig.clock.advance(2)
        self.assertFalse(self.transport.disconnecting)

    def test_patience(self) -> None:
        """One that takes nothing for too long is cut off."""
        self.rig.clock.advance(PATIENCE - 0.1)
        self.assertFalse(self.transport.disconnecting)
        self.rig.clock.advance(0.1)
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.value().endswith(b"0\r\n\r\n"))

    def test_gone(self) -> None:
        """One that hangs up leaves nothing behind, neither a timer nor an error."""
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.turns()
        left = [call for call in self.rig.clock.getDelayedCalls() if call.getTime() - self.rig.clock.seconds() > BEAT]
        self.assertEqual(left, [])
        self.assertEqual(self.flushLoggedErrors(), [])


class LagTests(SynchronousTestCase):
    """How late the event loop is."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now = 0.0
        self.lag = Lag(self.clock, lambda: self.now)

    def passes(self, seconds: float) -> None:
        """On both clocks, but for what the loop is late."""
        self.now += seconds
        self.clock.advance(BEAT)

    def test_late(self) -> None:
        """Each second counts how late it was; one that came too early counts as in time."""
        self.lag.want()
        for seconds in (1.0, 1.02, 4.0, 0.9):
            self.passes(seconds)
        reached = dict(self.lag.reached())
        self.assertEqual((reached["0.001"], reached["0.025"], reached["2.5"], reached["+Inf"]), (2, 3, 3, 4))
        self.assertAlmostEqual(self.lag.total, 3.02)

    def test_rests(self) -> None:
        """It is not measured before somebody asks, once however many ask, and no more when nobody does any more."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.lag.want()
        self.lag.want()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for _ in range(int(ENOUGH)):
            self.passes(BEAT)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.lag.want()
        self.passes(BEAT)
        self.assertEqual(dict(self.lag.reached())["+Inf"], ENOUGH + 1)


class DocumentTests(SynchronousTestCase):
    """What is written about them."""

    def test_page(self) -> None:
        """docs/metrics.md has every metric with its type, labels and meaning, and no other."""
        written = re.findall(
            r"^\| `(lemmytx_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE
        )
        expected = [
            (row.name, row.kind, ", ".join(f"`{label}`" for label in labels if label != "le"), row.help)
            for labels, row in rows()
        ]
        self.assertEqual(sorted(written), sorted(expected))

    def test_conventions(self) -> None:
        """Counters end in _total and nothing else does; each name and each meaning is there once."""
        for _, row in rows():
            self.assertEqual(row.name.endswith("_total"), row.kind == "counter", row.name)
            self.assertRegex(row.name, r"\Alemmytx_[a-z_]+\Z")
            self.assertTrue(row.help.endswith("."), row.name)
        names = [row.name for _, row in rows()]
        self.assertEqual(len(names), len(set(names)))

    def test_dashboard(self) -> None:
        """Whatever the dashboard asks for is there, by name and label; its panels have ids and places of their own."""
        board = json.loads(DASHBOARD.read_text("utf-8"))
        known = {row.name: set(labels) for labels, row in rows()}
        expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
        self.assertGreater(len(expressions), 8)
        for expression in [
            *expressions,
            *(each["query"] for each in board["templating"]["list"] if each["type"] == "query"),
        ]:
            names = re.findall(r"lemmytx_\w+", expression)
            self.assertTrue(names, expression)
            for name in names:
                self.assertIn(
                    re.sub(r"_(bucket|gcount|gsum|count|sum)\Z", "", name) if name not in known else name, known
                )
        ids = [panel["id"] for panel in board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        self.assertEqual(len(places), len(set(places)))
