"""The state of what serves, taken, sent and added up: L{lemmytx.proxy.snapshot}."""

from __future__ import annotations

import json
import os
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.histogram import VALUES, tally
from lemmytx.cluster.traffic import PERIODS, Traffic
from lemmytx.proxy.figures import Lately
from lemmytx.proxy.pieces import from_bytes, from_pieces, pieces, to_bytes
from lemmytx.proxy.snapshot import (
    SLICE,
    BackendFigures,
    BucketFigures,
    ClusterFigures,
    Figures,
    Snapshot,
    Totals,
    merge,
    take,
)
from tests.admin.rig import Rig

T = TypeVar("T")

AMP = 65535


def traffic(count: int = 0, status: int = 200) -> Traffic:
    """So many exchanges of one kind."""
    found = Traffic()
    for _ in range(count):
        found.ended(status, 0.25, 10, 100)
    return found


def figures(count: int = 0, lately: int = 0) -> Figures:
    """So many, of which some came in the last minute."""
    found = Figures()
    found.traffic.add(traffic(count))
    found.count = lately
    found.statuses = {200: lately} if lately else {}
    return found


def backend(count: int = 0, state: str = "ready", health: str = "up", capacity: int = 0) -> BackendFigures:
    """One with so many exchanges behind it and one at work."""
    found = BackendFigures("http://web1.example", "active", state, health)
    found.capacity = capacity
    found.active, found.idle, found.connects, found.reused = 1, 2, count, count * 2
    found.failures = {"refused": count} if count else {}
    found.traffic.add(traffic(count))
    return found


def snapshot(vhosts: dict[str, Figures], backends: dict[str, BackendFigures] | None = None) -> Snapshot:
    """Of one worker with one cluster."""
    found = Snapshot(77)
    found.uptime, found.downstreams, found.exchanges = 5.5, 3, 2
    found.vhosts = vhosts
    found.clusters = {"web": ClusterFigures(1, 4)}
    found.clusters["web"].backends = backends or {}
    return found


def plain(value: Any) -> Any:
    """Everything that there is to compare."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    slots = getattr(type(value), "__slots__", None)
    return {name: plain(getattr(value, name)) for name in slots} if slots else value


class SnapshotCase(SynchronousTestCase):
    """With a proxy that serves nobody."""

    def setUp(self) -> None:
        self.rig = Rig()

    def run_through(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """A coroutine to its end, with all the turns that it takes for others."""
        self.turns = 0
        done = Deferred.fromCoroutine(coroutine)

        def turn() -> None:
            self.turns += 1
            if not done.called:
                self.rig.clock.callLater(0, turn)

        if not done.called:
            self.rig.clock.callLater(0, turn)
            self.rig.clock.advance(0)
        return self.successResultOf(done)

    def take(self) -> Snapshot:
        """Of the rig's proxy."""
        rig = self.rig
        return self.run_through(take(rig.resource, rig.connections, rig.recent, rig.clock, rig.instance.removed))

    def merge(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """Their sum."""
        return self.run_through(merge(snapshots, self.rig.clock))


class TakeTests(SnapshotCase):
    """Of one process."""

    def test_taken(self) -> None:
        """It has all that is counted, and is not touched by what comes later."""
        rig = self.rig
        rig.vhosts[0].traffic.ended(200, 0.5, 10, 100)
        rig.resource.unrouted.ended(404, 0.1, 0, 5)
        rig.instance.removed.ended(503, 0.1, 0, 6)
        rig.connections.count, rig.resource.exchanges = 4, 3
        rig.cluster.failed(rig.backends[0], "refused", "x")
        rig.backends[0].active = 2
        rig.clock.advance(9)
        taken = self.take()
        before = plain(taken)
        for counted in (rig.vhosts[0].traffic, rig.resource.unrouted, rig.instance.removed, rig.backends[0].traffic):
            counted.ended(200, 1.0, 1, 1)
        rig.cluster.failed(rig.backends[0], "refused", "x")
        self.assertEqual(plain(taken), before)
        self.assertEqual(
            (taken.pid, taken.uptime, taken.downstreams, taken.exchanges, list(taken.vhosts)),
            (os.getpid(), 9.0, 4, 3, ["shop.example", "*"]),
        )
        self.assertEqual((taken.vhosts["shop.example"].count, taken.vhosts["shop.example"].traffic.sent), (1, 100))
        self.assertEqual((taken.unrouted.traffic.statuses, taken.removed.statuses), ({404: 1}, {503: 1}))
        web1 = taken.clusters["web"].backends["web1"]
        self.assertEqual((web1.failures, web1.active, web1.health), ({"refused": 1}, 2, "unknown"))

    def test_slices(self) -> None:
        """With many vhosts and backends there are turns for others in between, here and in a sum."""
        self.rig = Rig(vhosts=[f"v{number}.example" for number in range(SLICE * 5)])
        taken = self.take()
        self.assertEqual((len(taken.vhosts), self.turns), (SLICE * 5, 5))
        self.merge([taken, taken])
        self.assertEqual(self.turns, 10)


class MergeTests(SnapshotCase):
    """Several processes added up."""

    def test_sums(self) -> None:
        """Counts and what is under way are added; the processes' own are left as they are."""
        one = snapshot({"a": figures(2, 1), "b": figures(1)}, {"web1": backend(3)})
        two = snapshot({"a": figures(5, 2), "c": figures(1)}, {"web1": backend(4), "web2": backend()})
        two.uptime = 99.0
        one.removed.add(traffic(1))
        two.unrouted.add(figures(6, 6))
        before = plain(one), plain(two)
        whole = self.merge([one, two])
        self.assertEqual((plain(one), plain(two)), before)
        self.assertEqual((whole.pid, whole.uptime, whole.downstreams, whole.exchanges), (0, 99.0, 6, 4))
        self.assertEqual(plain(whole.vhosts["a"]), plain(figures(7, 3)))
        self.assertEqual(list(whole.vhosts), ["a", "b", "c"])
        self.assertEqual((whole.removed.count, whole.unrouted.count, whole.unrouted.traffic.count), (1, 6, 6))
        cluster = whole.clusters["web"]
        self.assertEqual((cluster.retrying, cluster.scheduler_failures), (2, 8))
        web1 = cluster.backends["web1"]
        self.assertEqual(
            (web1.active, web1.idle, web1.connects, web1.reused, web1.failures, web1.traffic.count),
            (2, 4, 7, 14, {"refused": 7}, 7),
        )

    def test_lately(self) -> None:
        """Response times and rates of several processes add up, as if one had served all."""
        rates, times = [8.0, 4.0, 1.5], ([0.1] * 90, [3.0] * 10)
        parts = []
        for some in times:
            part = snapshot({"a": figures(1)}, {"web1": backend(1)})
            for lately in (part.vhosts["a"].lately, part.clusters["web"].backends["web1"].lately):
                lately.times, lately.rates = tally(list(some)), list(rates)
            parts.append(part)
        whole = self.merge(parts)
        for lately in (whole.vhosts["a"].lately, whole.clusters["web"].backends["web1"].lately):
            self.assertEqual(lately.times, tally([time for some in times for time in some]))
            self.assertEqual(lately.rates, [16.0, 8.0, 3.0])
        self.assertEqual(parts[0].vhosts["a"].lately.times, tally([0.1] * 90))

    def test_buckets(self) -> None:
        """A bucket's tokens are those of all workers; what one that is gone has counted stays, its tokens do not."""
        totals = Totals()
        for worker in (1, 2):
            part = snapshot({}, {"web1": backend(1)})
            part.clusters["web"].queued, part.clusters["web"].turned_away = 2, {"queue_full": 1}
            part.clusters["web"].buckets["vip"] = bucket = BucketFigures()
            bucket.rate, bucket.ceil, bucket.active, bucket.queued, bucket.total = 2, 4, 1, 2, 50
            bucket.traffic.add(traffic(50))
            totals.heard(worker, part)
        clock = self.rig.clock
        for rate, queued, total in ((4, 4, 100), (2, 2, 100)):
            cluster = self.run_through(totals.merged(clock)).clusters["web"]
            vip = cluster.buckets["vip"]
            self.assertEqual((vip.rate, vip.ceil, vip.queued, cluster.queued), (rate, 2 * rate, queued, queued))
            self.assertEqual((vip.total, vip.traffic.count, cluster.turned_away), (total, 100, {"queue_full": 2}))
            totals.gone(1)
        totals.keep([], {"web": ["web1"]}, {"web": []})
        totals.gone(2)
        self.assertEqual(list(self.run_through(totals.merged(clock)).clusters["web"].buckets), ["vip"])
        totals.keep([], {"web": ["web1"]}, {"web": []})
        self.assertEqual(list(self.run_through(totals.merged(clock)).clusters["web"].buckets), [])

    def test_breaker(self) -> None:
        """The worst state of a circuit breaker that any worker has is told."""
        parts = [snapshot({}) for _ in range(3)]
        for part, state in zip(parts, ("closed", "open", "half_open"), strict=True):
            part.clusters["web"].breaker = state
        self.assertEqual(self.merge(parts).clusters["web"].breaker, "open")

    def test_worst(self) -> None:
        """A backend shows the worst that any worker sees, whatever the order, and how many see what."""
        seen = [backend(health="up"), backend(health="ejected", state="drain"), backend(health="unknown")]
        for order in (seen, seen[::-1]):
            whole = self.merge([snapshot({}, {"web1": each}) for each in order])
            web1 = whole.clusters["web"].backends["web1"]
            self.assertEqual((web1.health, web1.state), ("ejected", "drain"))
            self.assertEqual(web1.healths, {"up": 1, "ejected": 1, "unknown": 1})

    def test_capacity(self) -> None:
        """A backend's capacity is that of the whole, however many workers there are."""
        merged = self.merge([snapshot({}, {"web1": backend(capacity=20)}) for _ in range(3)])
        self.assertEqual(merged.clusters["web"].backends["web1"].capacity, 20)

    def test_none(self) -> None:
        """The sum of nothing is nothing."""
        self.assertEqual(plain(self.merge([])), plain(Snapshot()))


class TotalsTests(SnapshotCase):
    """What workers have counted, also those that are gone."""

    def setUp(self) -> None:
        super().setUp()
        self.totals = Totals()

    def merged(self) -> Snapshot:
        """The sum now."""
        return self.run_through(self.totals.merged(self.rig.clock))

    def test_newest(self) -> None:
        """Of each worker the newest counts."""
        self.assertIsNone(self.totals.of(1))
        self.totals.heard(1, snapshot({"a": figures(2)}))
        newest = snapshot({"a": figures(5)})
        self.totals.heard(1, newest)
        self.totals.heard(2, snapshot({"a": figures(1)}))
        self.assertIs(self.totals.of(1), newest)
        self.assertEqual(self.merged().vhosts["a"].traffic.count, 6)

    def test_gone(self) -> None:
        """What a worker has counted stays when it is gone, and what it had at work does not."""
        self.totals.heard(1, snapshot({"a": figures(2, 2)}, {"web1": backend(3, health="ejected", capacity=5)}))
        self.totals.heard(2, snapshot({"a": figures(1, 1)}, {"web1": backend(1, capacity=5)}))
        self.totals.gone(1)
        self.totals.gone(1)
        self.assertIsNone(self.totals.of(1))
        whole = self.merged()
        self.assertEqual((whole.vhosts["a"].traffic.count, whole.vhosts["a"].count, whole.downstreams), (3, 1, 3))
        web1 = whole.clusters["web"].backends["web1"]
        self.assertEqual((web1.connects, web1.failures, web1.traffic.count), (4, {"refused": 4}, 4))
        self.assertEqual((web1.active, web1.idle, web1.capacity, web1.health), (1, 2, 5, "up"))
        self.assertEqual((whole.clusters["web"].retrying, whole.clusters["web"].scheduler_failures), (1, 8))

    def test_comes_again(self) -> None:
        """A worker that was started again counts from zero, beside what was counted before."""
        for run in range(1, 6):
            self.totals.heard(1, snapshot({"a": figures(10)}, {"web1": backend(1)}))
            self.assertEqual(self.merged().vhosts["a"].traffic.count, run * 10)
            self.totals.gone(1)
            self.assertEqual(self.merged().vhosts["a"].traffic.count, run * 10)

    def test_nobody_lives(self) -> None:
        """While no worker lives, there is what they have counted, and the health of nothing is known."""
        self.totals.heard(1, snapshot({"a": figures(2, 2), "idle": figures()}, {"web1": backend(3)}))
        self.totals.gone(1)
        whole = self.merged()
        self.assertEqual((whole.vhosts["a"].traffic.count, whole.vhosts["a"].count), (2, 0))
        web1 = whole.clusters["web"].backends["web1"]
        self.assertEqual((web1.traffic.count, web1.active, web1.health, web1.healths), (3, 0, "unknown", {}))

    def test_keep(self) -> None:
        """After a reload what is gone for good is not kept by name, and is still in the whole."""
        self.totals.heard(1, snapshot({"a": figures(2), "b": figures(3)}, {"web1": backend(1), "web2": backend(1)}))
        self.totals.heard(2, snapshot({"a": figures(1)}, {"web1": backend(1)}))
        self.totals.gone(1)
        self.totals.keep(["a"], {"web": ["web1"]})
        whole = self.merged()
        self.assertEqual((list(whole.vhosts), whole.vhosts["a"].traffic.count, whole.removed.count), (["a"], 3, 3))
        self.assertEqual(list(whole.clusters["web"].backends), ["web1"])
        self.totals.keep([], {})
        self.totals.gone(2)
        self.totals.keep([], {})
        whole = self.merged()
        self.assertEqual((whole.vhosts, whole.clusters, whole.removed.count), ({}, {}, 6))

    def test_meanwhile(self) -> None:
        """A worker that goes while a sum is in the making is in that sum once."""
        many = {f"v{number}": figures(1) for number in range(SLICE * 3)}
        self.totals.heard(1, snapshot(many))
        self.totals.heard(2, snapshot(many))
        done = Deferred.fromCoroutine(self.totals.merged(self.rig.clock))
        self.rig.clock.callLater(0, self.totals.gone, 1)
        self.rig.clock.callLater(0, self.totals.keep, [], {})
        self.rig.clock.callLater(0, lambda: self.assertNoResult(done))
        self.rig.clock.advance(0)
        whole = self.successResultOf(done)
        self.assertEqual(sum(each.traffic.count for each in whole.vhosts.values()), SLICE * 6)
        self.assertEqual(whole.removed.count, 0)


COUNTS = st.integers(0, 2**53)
NAMES = st.text(max_size=20)


@st.composite
def traffics(draw: st.DrawFn) -> Traffic:
    """What was counted."""
    found = Traffic()
    found.count = draw(COUNTS)
    if found.count:
        found.statuses = draw(st.dictionaries(st.integers(0, 999), COUNTS, max_size=4))
        found.time = draw(st.integers(0, 10**6)) / 4
        found.received, found.sent = draw(COUNTS), draw(COUNTS)
    return found


@st.composite
def latelies(draw: st.DrawFn) -> Lately:
    """What was of late."""
    found = Lately()
    found.times = draw(st.dictionaries(st.integers(0, len(VALUES) - 1), COUNTS, max_size=4))
    found.rates = [draw(st.integers(0, 10**6)) / 8 for _ in PERIODS]
    return found


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Of some worker."""
    found = Snapshot(draw(st.integers(1, 2**22)))
    found.uptime, found.downstreams, found.exchanges = draw(st.integers(0, 1000)) / 8, draw(COUNTS), draw(COUNTS)
    found.removed = draw(traffics())
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        found.vhosts[name] = Figures()
        found.vhosts[name].traffic = draw(traffics())
        if found.vhosts[name].traffic.count:
            found.vhosts[name].count = draw(COUNTS)
            found.vhosts[name].statuses = draw(st.dictionaries(st.integers(0, 999), COUNTS, max_size=2))
            found.vhosts[name].lately = draw(latelies())
    for name in draw(st.lists(NAMES, unique=True, max_size=2)):
        found.clusters[name] = cluster = ClusterFigures(draw(COUNTS), draw(COUNTS), draw(st.booleans()))
        cluster.queued, cluster.breaker = draw(COUNTS), draw(NAMES)
        cluster.turned_away = draw(st.dictionaries(NAMES, COUNTS, max_size=2))
        cluster.counts = draw(st.dictionaries(NAMES, COUNTS, max_size=2))
        for each in draw(st.lists(NAMES, unique=True, max_size=2)):
            cluster.buckets[each] = bucket = BucketFigures()
            bucket.rate, bucket.ceil, bucket.active, bucket.queued = (draw(COUNTS) for _ in range(4))
            bucket.total, bucket.full, bucket.timeouts = (draw(COUNTS) for _ in range(3))
            bucket.traffic, bucket.lately = draw(traffics()), draw(latelies())
        for each in draw(st.lists(NAMES, unique=True, max_size=3)):
            seen = BackendFigures(draw(NAMES), draw(NAMES), draw(NAMES), draw(NAMES))
            seen.weight, seen.capacity, seen.active, seen.idle = (draw(COUNTS) for _ in range(4))
            seen.connects, seen.reused, seen.traffic = draw(COUNTS), draw(COUNTS), draw(traffics())
            seen.failures = draw(st.dictionaries(NAMES, COUNTS, max_size=2))
            seen.ejections, seen.lately = draw(COUNTS), draw(latelies())
            seen.wanted = draw(st.sampled_from([[], [1.5, "ops", "why"]]))
            found.clusters[name].backends[each] = seen
    return found


class BytesTests(SnapshotCase):
    """Between processes."""

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(snapshots())
    def test_there_and_back(self, sent: Snapshot) -> None:
        """What arrives is what was sent, in its order, as a whole and in pieces."""
        arrived = from_bytes(to_bytes(sent))
        self.assertEqual(plain(arrived), plain(sent))
        self.assertEqual(list(arrived.vhosts), list(sent.vhosts))
        self.assertEqual(plain(from_pieces(pieces(sent))), plain(sent))

    def test_of_a_process(self) -> None:
        """What was taken of a process arrives as it was."""
        self.rig.vhosts[0].traffic.ended(200, 0.125, 10, 100)
        self.rig.resource.unrouted.ended(0, 0.5, 0, 0)
        taken = self.take()
        self.assertEqual(plain(from_bytes(to_bytes(taken))), plain(taken))

    def test_pieces(self) -> None:
        """However much there is, each piece fits into a value of AMP, and there are about as few as that takes."""
        worst = Figures()
        for status in range(1000):
            worst.traffic.statuses[status] = worst.statuses[status] = 2**40
        worst.traffic.count = worst.count = 2**50
        worst.lately.times = dict.fromkeys(range(len(VALUES)), 2**40)
        worst.lately.rates = [123456.789] * len(PERIODS)
        sent = snapshot({f"{number}.{'x' * 240}": worst for number in range(20)})
        self.assertLess(max(map(len, pieces(sent))), AMP)
        sent = snapshot({}, {f"{number}.{'x' * 240}": backend(9) for number in range(2000)})
        sizes = [len(piece) for piece in pieces(sent)]
        self.assertLess(max(sizes), AMP)
        self.assertLess(len(sizes), sum(sizes) // 15000)

    def test_compact(self) -> None:
        """A vhost without traffic costs little more than its name."""
        sent = snapshot({f"v{number}.example": Figures() for number in range(1000)})
        self.assertLess(len(to_bytes(sent)), 1000 * 24)

    def test_many_clusters(self) -> None:
        """Small clusters share a piece."""
        sent = snapshot({})
        sent.clusters = {f"c{number}": ClusterFigures(number, 1) for number in range(500)}
        for cluster in sent.clusters.values():
            cluster.backends["web1"] = backend(1)
        found = list(pieces(sent))
        self.assertLess(len(found), 10)
        self.assertEqual(plain(from_pieces(found)), plain(sent))

    def test_incomplete(self) -> None:
        """Pieces that are missing, doubled or of nothing are no snapshot: totals would fall for a moment."""
        sent = list(pieces(snapshot({}, {f"{number}.{'x' * 240}": backend(9) for number in range(400)})))
        self.assertGreater(len(sent), 2)
        for found in (sent[:-1], sent[1:], [sent[0], *sent[2:]], [*sent, sent[1]], [sent[0], *sent], sent[::-1], []):
            with self.assertRaises(ValueError):
                from_pieces(found)

    def test_wrong(self) -> None:
        """What is no snapshot is not taken for one."""
        for data in (b"", b"{", b"[]", b"{}", b'{"piece":0,"last":true,"of":[["v"]]}',
                     b'{"piece":0,"last":true,"of":[["f",{}]]}', b'{"piece":0,"last":true,"of":[[]]}'):  # fmt: skip
            with self.assertRaises((ValueError, TypeError, LookupError), msg=data):
                from_bytes(data)

    def test_lines(self) -> None:
        """As a whole it is a line of JSON for each piece."""
        for line in to_bytes(snapshot({"a": figures(1)}, {"web1": backend(1)})).split(b"\n"):
            self.assertIsInstance(json.loads(line), dict)
