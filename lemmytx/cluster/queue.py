"""
Where requests wait for a backend.

One queue per cluster, with a line for each leaf of its buckets (L{lemmytx.balance.buckets}). A cluster without buckets
has the root's line alone and counts no tokens: the capacities of its backends are the only bound, and nothing here is
called until a request finds nobody to go to.

C{Cluster.gate} is this object while it has to be asked first: with buckets always, without them while somebody waits,
since nobody may overtake those. Who waits is served in another turn of the reactor than the one that made room
(L{wake}), all of them in one go: an exchange that ends is not in the middle of its end then, and a hundred that end at
once wake it once. Until then whoever comes gets in line, so the room goes to the one whose turn it is.

A retry whose other backends are full waits too (L{Queue.wait_again}), but out of line and ahead of it: it has had its
turn, and must not stand in the way of others, who may have room where it has been already. It keeps its token, which no
other class can take from it then; so where all tokens are out, that much of the capacity lies idle. The budget of
retries bounds how many these are.

Where routes ask for labels (L{lemmytx.cluster.subsets}) those in a line want different backends. Who can go nowhere
stands in nobody's way then: the first goes on for whom there is a backend, and so does whoever comes, since nobody in
line could have gone there.

What can make room, and so wakes it: a backend is done with an exchange (C{Backend.freed}, set while somebody waits), a
token is given back, the state or the room of a backend is another (C{Cluster.changed}), or the time is over for which
one was out.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall

from lemmytx.balance.buckets import UNBOUNDED, Bucket, Root
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.place import Place
from lemmytx.cluster.rules import USUAL, QueueRules
from lemmytx.cluster.subsets import Turns, subset_of
from lemmytx.cluster.traffic import FULL, Traffic
from lemmytx.net.ticker import Ticker

if TYPE_CHECKING:
    from lemmytx.cluster.cluster import Cluster


class Queue:
    """
    The queue of a cluster.

    @ivar root: the buckets.
    @ivar counted: whether there are tokens.
    @ivar waiting: how many exchanges wait.
    @ivar traffics: what was served with tokens, by the names of buckets.
    """

    __slots__ = (
        "_again", "_alarm", "_cluster", "_dissolved", "_lines", "_listening", "_serving", "_stirred", "_ticker",
        "_usual", "counted", "root", "rules", "traffics", "waiting",
    )  # fmt: skip

    def __init__(self, cluster: Cluster, rules: QueueRules) -> None:
        self._cluster = cluster
        self._lines: dict[Bucket, OrderedDict[Place, None]] = {}
        self._again: dict[Place, None] = {}  # those of retries
        self._ticker: Ticker | None = None
        self._alarm: IDelayedCall | None = None
        self._listening = False
        self._serving = False  # or about to
        self._stirred = False  # something happened since it began
        self._dissolved = False
        self.waiting = 0
        self.traffics: dict[str, Traffic] = {}
        self.root = Root()
        self.configure(rules)

    def configure(self, rules: QueueRules) -> None:
        """Other rules, for those who wait already too, but for their timeout. The cluster calls L{changed} next."""
        self.rules = rules
        root = self.root
        self.counted = bool(rules.buckets)
        if not self.counted:
            root.resize(UNBOUNDED)
        gone = root.configure(rules.buckets)
        self.traffics = {name: traffic for name, traffic in self.traffics.items() if name in root.buckets}
        usual = root.buckets.get(USUAL if rules.usual is None else rules.usual)
        self._usual = root.leaf if usual is None else usual.leaf
        moved = [place for leaf in gone for place in self._lines.pop(leaf, ())]
        for place in moved:
            place.bucket.wait(-1)
            place.bucket = self._usual
            place.bucket.wait(1)
        if moved:
            # They have the places that they would have, had they come here in the first place.
            line = self._line(self._usual)
            together = sorted([*line, *moved], key=lambda place: place.since)
            line.clear()
            line.update(dict.fromkeys(together))
        self._cluster.gate = self if self.counted or self.waiting else None

    @property
    def buckets(self) -> dict[str, Bucket]:
        """All buckets by name, the root by the empty one. Without buckets the root's tokens are not counted."""
        return self.root.buckets

    def bucket_of(self, exchange: Any) -> Bucket:
        """The leaf for an exchange: what its route says, else what the classifier says, else the usual one."""
        if not self.counted:
            return self.root.leaf
        name: object = exchange.route.bucket
        if name is None and self.rules.classify is not None:
            name = self.rules.classify(exchange)
        bucket = self.root.buckets.get(name) if name and isinstance(name, str) else None
        return self._usual if bucket is None else bucket.leaf

    # The way of a request

    def choose(self, exchange: Any) -> Backend | None:
        """
        C{Cluster.choose}, for those whose turn it is.

        @param exchange: one that has not had its turn here, or has a token.
        @return: a backend; where tokens are counted the exchange has one then. L{None}: there is none now, or others
            come first.
        """
        cluster = self._cluster
        if exchange.place is not None:
            return cluster.choose(exchange)
        bucket = self.bucket_of(exchange)
        before = bucket.queued and not cluster.labelled
        if before or (self._serving and self.waiting) or not bucket.may_take():
            return None
        backend = cluster.choose(exchange)
        if backend is not None:
            self.take(bucket, exchange)
        return backend

    def spare(self, exchange: Any) -> Bucket | None:
        """
        Whether a second request may be sent beside that of an exchange.

        @param exchange: one that has a backend.
        @return: the leaf that it would take a token of; L{None}: there is none, or others wait for what is free.
        """
        bucket = self.bucket_of(exchange) if exchange.place is None else exchange.place.bucket
        return bucket if not self.waiting and bucket.may_take() else None

    def take(self, bucket: Bucket, holder: Any) -> None:
        """
        Take a token, where tokens are counted.

        @param bucket: a leaf that has one.
        @param holder: an exchange, or what stands in for one. It has a place then, and is to leave that.
        """
        if self.counted:
            bucket.take()
            holder.place = Place(self, bucket, holder, True)

    def wait(self, exchange: Any) -> str:
        """
        Get in line: nobody can take the exchange now.

        @return: empty when it waits now. Then comes, once, C{exchange.admitted} or C{exchange.turned_away}, unless it
            leaves first. Else why it must not: C{queue_full}; C{overloaded}, where the queue has no places at all;
            C{no_backend}.
        """
        bucket = self.bucket_of(exchange)
        refusal = self.refusal(bucket, exchange)
        if refusal:
            if refusal != "no_backend":
                bucket.refuse()
            return refusal
        exchange.place = place = Place(self, bucket, exchange)
        self._line(bucket)[place] = None
        bucket.wait(1)
        self._begin(place, self.rules.timeout)
        if self._cluster.labelled and self._serving:
            self.wake()  # the lines may have been looked at already
        return ""

    def _begin(self, place: Place, seconds: float) -> None:
        """Somebody waits, for so long at the most."""
        self._ticker = ticker = place.exchange.resource.ticker
        place.waiting = True
        place.since = ticker.seconds()
        place.deadline = place.since + seconds
        ticker.watch(place)
        self.waiting += 1
        if not self._listening:
            self._listen()
        if self.waiting == 1:
            self._cluster.gate = self
            self._set_alarm()

    def may_wait_again(self, exchange: Any) -> bool:
        """
        Whether a retry may wait.

        @param exchange: one that all who have room have failed.
        @return: whether there are others, which are at capacity, and places to wait in.
        """
        if not self.rules.limit or exchange.queue_time >= self.rules.timeout:
            return False
        return any(backend.capacity and backend.active >= backend.room for backend in self._left_for(exchange))

    def wait_again(self, exchange: Any) -> None:
        """
        Wait for a backend that the exchange has not tried, as L{may_wait_again} has said that it may. It is told as by
        L{wait}, and does not wait for longer than C{timeout} in all.
        """
        place = exchange.place
        if place is None:
            exchange.place = place = Place(self, self.bucket_of(exchange), exchange)
        self._again[place] = None
        self._begin(place, self.rules.timeout - max(0.0, exchange.queue_time))

    def _left_for(self, exchange: Any) -> list[Backend]:
        """The backends that an exchange may go to, were it not for their capacity, and has not tried."""
        cluster = self._cluster
        others = [*cluster.candidates, *cluster.standing_in("standby")]
        if not cluster.candidates:
            others += cluster.standing_in("backup")
        subset = subset_of(cluster, exchange)
        if subset:
            active = any(subset <= backend.labels for backend in cluster.candidates)
            others = [*others, *(() if active or not cluster.candidates else cluster.standing_in("backup"))]
        return [backend for backend in others if backend not in exchange.tried and subset <= backend.labels]

    def refusal(self, bucket: Bucket, request: Any = None) -> str:
        """
        Why a request of this leaf must not wait now, as L{wait} returns it. Nothing changes by it.

        @param request: the request, where there are labels.
        """
        alone = bool(subset_of(self._cluster, request))
        if (alone or not bucket.queued) and not self._may_come(request if alone else None):
            return "no_backend"
        if bucket.queued >= self.rules.limit:
            return "queue_full" if self.rules.limit else "overloaded"
        return ""

    def _may_come(self, request: Any = None) -> bool:
        """
        Whether waiting makes sense: there is a backend that could take a request when it has less to do.

        @param request: one that asks for labels; L{None}: one that does not.
        """
        cluster = self._cluster
        if not cluster.backends:
            return False  # nothing can come back
        if cluster.failover is not None and not cluster.up(request):
            return False  # they need not wait for that: another cluster has them
        if self.rules.on_unavailable and not self._dissolved:
            return True
        if request is not None:
            return cluster.up(request) or cluster.full(request)
        return bool(self.root.ceil) if self.counted else cluster.full()

    def left(self, place: Place) -> None:
        """See L{Place.leave}."""
        place.exchange.place = None
        if place.waiting and self._take_out(place):
            place.bucket.wait(-1)
        if place.token:
            self._count(place)
            place.bucket.release()
            if self.waiting:
                self.wake()

    def _count(self, place: Place) -> None:
        """An exchange that had a token has ended, or goes elsewhere."""
        exchange = place.exchange
        if exchange.total < 0:
            return
        time = exchange.total if exchange.tunnel is None else exchange.first_byte
        name, node = "", place.bucket
        while node.parent is not None:
            # The leaf of a bucket that has others in it is called like the bucket.
            if node.name != name:
                name = node.name
                traffic = self.traffics.get(name)
                if traffic is None:
                    traffic = self.traffics[name] = Traffic()
                traffic.ended(exchange.status, time, exchange.received, exchange.sent)
                if not traffic.count & FULL:
                    traffic.fold(exchange.started + exchange.total)
            node = node.parent

    def _line(self, bucket: Bucket) -> OrderedDict[Place, None]:
        line = self._lines.get(bucket)
        if line is None:
            # An OrderedDict gives up its first as fast as any other; a dict walks over all that left before.
            line = self._lines[bucket] = OrderedDict()
        return line

    def _take_out(self, place: Place) -> bool:
        """It does not wait any more. The return value says whether it was in line."""
        in_line = place not in self._again
        if in_line:
            del self._lines[place.bucket][place]
        else:
            del self._again[place]
        place.waiting = False
        assert self._ticker is not None
        self._ticker.forget(place)
        self.waiting -= 1
        if not self.waiting:
            self._cluster.gate = self if self.counted else None
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None
        return in_line

    # Who is next

    def wake(self) -> None:
        """There may be room: serve who waits, in the next turn of the reactor. Also what C{Backend.freed} calls."""
        if not self.waiting:
            # Nobody has waited since the last time: from now on an exchange's end is as cheap again as it was.
            self._listening = False
            for backend in self._cluster.backends:
                backend.freed = None
            return
        self._stirred = True
        if not self._serving:
            self._serving = True
            assert self._ticker is not None
            self._ticker.soon(self._serve)

    def _serve(self) -> None:
        """Send on as many as there is room for."""
        root, cluster, counted = self.root, self._cluster, self.counted
        self._stirred = False
        passed: list[Bucket] = []
        turns = Turns(cluster, self._lines) if cluster.labelled else None
        try:
            for place in list(self._again):
                exchange = place.exchange
                backend = cluster.choose(exchange) if place.waiting else None
                if backend is not None:
                    self._take_out(place)
                    if not place.token:
                        exchange.place = None
                    exchange.admitted(backend, place.since)
            while (leaf := root.next(passed)) is not None:
                found: tuple[Place, Backend | None] | None
                if turns is None:
                    place = next(iter(self._lines[leaf]))
                    found = place, cluster.choose(place.exchange)
                else:
                    found = turns.next(leaf)
                if found is None or found[1] is None:
                    passed.append(leaf)
                    continue
                place, backend = found
                exchange = place.exchange
                self._take_out(place)
                if counted:
                    root.admit(leaf)
                    place.token = True
                else:
                    leaf.wait(-1)
                    exchange.place = None
                exchange.admitted(backend, place.since)
        finally:
            self._serving = False
            if self.waiting:
                self._set_alarm()
                if self._stirred:
                    self.wake()

    def timed_out(self, place: Place) -> None:
        """It has waited for too long."""
        place.bucket.expire()
        self._turn_away(place, "timeout_queue")

    def _turn_away(self, place: Place, termination: str) -> None:
        self.left(place)
        place.exchange.turned_away(termination, place.since)

    def turn_away(self, termination: str = "no_backend") -> None:
        """Nobody waits any longer."""
        for line in (*self._lines.values(), self._again):
            while line:
                self._turn_away(next(iter(line)), termination)

    # What happens to the backends

    def changed(self) -> None:
        """States, members, rooms or rules of the cluster are others."""
        if self.counted:
            self._resize()
        if self._listening:
            self._listen()  # to new ones too
        for place in list(self._again):
            if place.waiting and not self._left_for(place.exchange):
                self._turn_away(place, "no_backend")
        if self.waiting and self._cluster.labelled:
            self._part()
        if self.waiting:
            if self._may_come():
                self.wake()
            else:
                self.turn_away()

    def _part(self) -> None:
        """Turn those away, and only those, that wait for labels which nobody is going to have."""
        for place in [place for line in self._lines.values() for place in line]:
            exchange = place.exchange
            if place.waiting and subset_of(self._cluster, exchange) and not self._may_come(exchange):
                self._turn_away(place, "no_backend")

    def uncovered(self, backend: Backend) -> list[str]:
        """
        What speaks against taking a backend out: shares that are ensured, in use, and more than the others can take.

        @return: one sentence each; empty when nothing does.
        """
        if not self.counted or backend not in self._cluster.candidates:
            return []
        return self.root.uncovered(self.root.size - backend.room)

    def dissolve(self) -> None:
        """The cluster is not wanted any more. Those who wait are still served, unless there is nobody to do it."""
        self._dissolved = True
        self.changed()

    def _resize(self) -> None:
        """
        The tokens are what the available active backends can take; those on standby may be used beyond that. When there
        is no active one, whoever stands in takes their place.
        """
        cluster = self._cluster
        size = sum(backend.room for backend in cluster.candidates)
        standby, backup = cluster.standing_in("standby"), cluster.standing_in("backup")
        usual = sum(backend.room for backend in cluster.backends if backend.role == "active")
        # One without a capacity takes as much as those it stands in for.
        extra = sum(backend.room if backend.capacity else usual for backend in standby)
        if not cluster.candidates:
            size, extra = extra + sum(backend.room if backend.capacity else usual for backend in backup), 0
        if (size, extra) != (self.root.size, self.root.extra):
            self.root.resize(size, extra)

    def _listen(self) -> None:
        """Hear of every exchange that ends."""
        self._listening = True
        for backend in self._cluster.backends:
            backend.freed = self.wake

    def _set_alarm(self) -> None:
        """A backend that is out for a time says nothing when that is over."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        ticker = self._ticker
        assert ticker is not None
        until = self._cluster.back_at()
        if until != inf:
            self._alarm = ticker.later(max(0.0, until - ticker.seconds()), self._alarmed)

    def _alarmed(self) -> None:
        self._alarm = None
        self._cluster.changed()

    def __repr__(self) -> str:
        return f"<Queue of {self._cluster.name} waiting={self.waiting} {self.root!r}>"
