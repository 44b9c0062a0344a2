"""One backend: where it is, what it counts, and its idle upstreams."""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from lemmytx.addresses import parse_url
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.passive import Passive
from lemmytx.interfaces import ICandidate
from lemmytx.net.ticker import Ticker

TICKER = Ticker(Clock(), lambda: 100.0)


class Upstream:
    """As much of one as a pool knows."""

    def __init__(self, served: int = 1) -> None:
        self.served = served
        self.deadline = self.check_at = inf
        self.ticker = TICKER
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Network:
    """Notes what is to be connected to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def connectTCP(self, *arguments: Any) -> None:
        self.asked.append(("tcp", *arguments))

    def connectUNIX(self, *arguments: Any) -> None:
        self.asked.append(("unix", *arguments))


def backend(url: str = "http://10.0.0.1:8000", pool: Pool | None = None) -> Backend:
    """A backend of its own."""
    location = parse_url(url)
    made = Backend("b", location.url, location, Network(), Passive(), pool or Pool())  # type: ignore[arg-type]
    made.addresses = (location.host,) if location.host else ()
    return made


class PoolTests(SynchronousTestCase):
    """Idle upstreams."""

    def test_newestFirst(self) -> None:
        """The one used last is the one used next; each exchange counts as active."""
        one = backend()
        first, second = Upstream(), Upstream()
        for _ in (first, second):
            self.assertIsNone(one.acquire())
        self.assertEqual(one.active, 2)
        one.release(first, 100.0)
        one.release(second, 100.0)
        self.assertEqual((one.active, len(one.idle), one.reused), (0, 2, 0))
        self.assertIs(one.acquire(), second)
        self.assertEqual((one.active, len(one.idle), one.reused), (1, 1, 1))

    def test_waits(self) -> None:
        """One that goes into the pool is told for how long; one that does not fit in is closed."""
        one = backend(pool=Pool(limit=1, idle_time=7.0))
        kept, closed = Upstream(), Upstream()
        for _ in (kept, closed):
            one.acquire()
        one.release(kept, 100.0)
        one.release(closed, 100.0)
        self.assertEqual((kept.deadline, kept.closed, closed.deadline, closed.closed), (107.0, False, inf, True))
        self.assertEqual(one.active, 0)

    def test_requests(self) -> None:
        """One that has carried all it may is closed."""
        one = backend(pool=Pool(requests=3))
        for served, closed in ((2, False), (3, True)):
            one.acquire()
            one.idle.clear()
            upstream = Upstream(served)
            one.release(upstream, 100.0)
            self.assertEqual(upstream.closed, closed)

    def test_lost(self) -> None:
        """One that is lost leaves the pool; one that was never in it changes nothing."""
        one = backend()
        idle = Upstream()
        one.acquire()
        one.release(idle, 100.0)
        one.lost(Upstream())
        self.assertEqual(len(one.idle), 1)
        one.lost(idle)
        one.lost(idle)
        self.assertEqual(len(one.idle), 0)

    def test_leave(self) -> None:
        """An exchange that leaves no upstream behind counts down all the same."""
        one = backend()
        one.acquire()
        one.leave()
        self.assertEqual((one.active, len(one.idle)), (0, 0))


class PlaceTests(SynchronousTestCase):
    """Where a backend is."""

    def test_connect(self) -> None:
        """TCP goes to one of its addresses, a unix socket to its path; both are counted."""
        factory: Any = object()
        for url, expected in (
            ("http://10.0.0.1:8000", ("tcp", "10.0.0.9", 8000, factory, 4.0)),
            ("http://[2001:db8::1]", ("tcp", "10.0.0.9", 80, factory, 4.0)),
            ("http+unix:///run/app.sock", ("unix", "/run/app.sock", factory, 4.0)),
        ):
            one = backend(url)
            one.connect(factory, "10.0.0.9", 4.0)
            self.assertEqual((one.network.asked, one.connects), ([expected], 1))  # type: ignore[attr-defined]

    def test_authority(self) -> None:
        """As a Host: without the port where it is the usual one; a unix socket has no name of its own."""
        for url, authority in (
            ("http://app.example", b"app.example"),
            ("http://app.example:8080", b"app.example:8080"),
            ("http://[2001:db8::1]", b"[2001:db8::1]"),
            ("http+unix:///run/app.sock", b"localhost"),
        ):
            self.assertEqual(backend(url).authority, authority)

    def test_located(self) -> None:
        """A name has to be looked up first, a unix socket never."""
        one = backend("http://app.example")
        one.addresses = ()
        self.assertEqual((one.located, one.health), (False, "unknown"))
        self.assertTrue(backend("http+unix:///run/app.sock").located)

    def test_moved(self) -> None:
        """When an address goes, idle upstreams do; when one is added they stay. The cluster hears of both."""
        one = backend()
        heard: list[int] = []
        one.changed = lambda: heard.append(1)
        idle = Upstream()
        one.acquire()
        one.release(idle, 100.0)
        one.moved((*one.addresses, "10.0.0.2"))
        self.assertEqual((idle.closed, len(heard)), (False, 1))
        one.moved(("10.0.0.3",))
        self.assertEqual((idle.closed, len(one.idle), len(heard)), (True, 0, 2))
        self.assertEqual(one.addresses, ("10.0.0.3",))

    def test_prefer(self) -> None:
        """The address that worked is tried first from then on; one that is gone is not brought back."""
        one = backend()
        one.addresses = ("a", "b", "c")
        one.prefer("c")
        self.assertEqual(one.addresses, ("c", "a", "b"))
        one.prefer("gone")
        one.prefer("")
        self.assertEqual(one.addresses, ("c", "a", "b"))

    def test_candidate(self) -> None:
        """It is what schedulers are promised, and says what it is."""
        one = backend()
        self.assertTrue(verifyObject(ICandidate, one))
        self.assertEqual(repr(one), "<Backend b ready up active=0 idle=0>")
