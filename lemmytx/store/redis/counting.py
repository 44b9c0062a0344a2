"""
Who has how many requests in flight: what this process has goes to Redis in batches, and what others have comes back.

What goes out is what has changed since the last time. All of it goes when that is not known to have arrived, when Redis
did not know us (it was restarted, or our lease was over), and once in each lease.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from lemmytx.store.redis.link import Link
from lemmytx.store.redis.said import Refusal
from lemmytx.store.redis.scripts import INSTANCES, LEAVE, PUBLISH, STATISTICS
from lemmytx.table import Record, Report

#: Vhosts with changes, and vhosts that are asked about, in one call.
CHANGED = 100
ASKED = 200

#: Vhosts whose statistics are written in one call.
TOLD = 50

#: Seconds for which statistics stay that nobody has written again; those of a vhost are only written when they change.
STATS_LAST = 60
VHOST_STATS_LAST = 86400

_Counts = dict[bytes, dict[bytes, int]]


class Counting:
    """What this process says of itself."""

    def __init__(self, reactor: Any, link: Link, prefix: bytes, identity: str, lease: float) -> None:
        """
        @param lease: seconds.
        """
        self._reactor = reactor
        self._link = link
        self._prefix = prefix
        self._identity = identity.encode()
        self._lease = lease
        #: What may stand in Redis of us, by vhost and member.
        self._said: _Counts = {}
        #: Whether it does.
        self._sure = False
        self._epoch = 0
        self._all_at = float("-inf")

    async def publish(self, report: Report) -> dict[tuple[str, str], int]:
        """
        See L{lemmytx.interfaces.IBackendStore.publish}. Never two at once.

        @raise Lost: no answer.
        @raise Refusal: Redis refuses.
        """
        now = self._reactor.seconds()
        epoch = self._link.epoch
        everything = not self._sure or epoch != self._epoch or now - self._all_at >= self._lease
        self._epoch = epoch
        others, known = await self._publish(report, everything)
        if not known and not everything:
            everything = True
            others, _ = await self._publish(report, True)
        if everything:
            self._all_at = now
        await self._write_stats(report)
        return others

    async def _publish(self, report: Report, everything: bool) -> tuple[dict[tuple[str, str], int], bool]:
        active: _Counts = {}
        for (name, text), requests in report.active.items():
            if requests > 0:
                active.setdefault(name.encode(), {})[text.encode()] = requests
        self._sure = False
        changes = _changes(active, self._said, everything)
        asked = sorted(name.encode() for name in report.asked)
        questions = [asked[at : at + ASKED] for at in range(0, len(asked), ASKED)]
        batches = [changes[at : at + CHANGED] for at in range(0, len(changes), CHANGED)]
        others: dict[tuple[str, str], int] = {}
        known = True
        head = (
            self._prefix,
            self._identity,
            b"%d" % (self._lease * 1000),
            json.dumps(dict(report.record), default=str).encode(),
        )
        for batch, question in list(zip_longest(batches, questions, fillvalue=())) or [((), ())]:
            words = [*head, b"%d" % len(batch)]
            for vhost, members in batch:
                words += (vhost, b"%d" % len(members), b"1" if vhost in active else b"0")
                # Until it has arrived both may be there.
                said = self._said.setdefault(vhost, {})
                for member, number in members.items():
                    words += (member, b"%d" % number)
                    said[member] = max(number, said.get(member, 0))
            answer = await self._link.run(PUBLISH, *words, *question)
            known = known and answer[0] == 1
            for vhost, _ in batch:
                if vhost in active:
                    self._said[vhost] = active[vhost]
                else:
                    del self._said[vhost]
            others.update(_sums(answer))
        self._sure = True
        return others, known

    async def _write_stats(self, report: Report) -> None:
        """
        @raise Lost: no answer.
        @raise Refusal: Redis refuses.
        """
        if report.hostname and report.stats:
            key = b"%b:stats:%b" % (self._prefix, report.hostname.encode())
            for reply in await self._link.ask(
                (b"HSET", key, *_fields(report.stats)), (b"EXPIRE", key, b"%d" % STATS_LAST)
            ):
                # A key of another type is the operator's, and hurts nobody else.
                if isinstance(reply, Refusal) and reply.code != "WRONGTYPE":
                    raise reply
        told = list(report.vhost_stats.items())
        for at in range(0, len(told), TOLD):
            words = [self._prefix, self._identity, b"%d" % VHOST_STATS_LAST]
            for name, stats in told[at : at + TOLD]:
                words += (name.encode(), b"%d" % (2 * len(stats)), *_fields(stats))
            await self._link.run(STATISTICS, *words)

    async def instances(self) -> list[Record]:
        """
        See L{lemmytx.interfaces.IBackendStore.instances}.

        @raise Lost: no answer.
        @raise Refusal: Redis refuses.
        """
        answer = await self._link.run(INSTANCES, self._prefix)
        found = []
        for at in range(0, len(answer), 3):
            identity, lease, about = answer[at : at + 3]
            try:
                record = json.loads(about)
            except ValueError:
                record = {}
            known = record if isinstance(record, dict) else {}
            found.append(Record(identity.decode("utf-8", "replace"), lease / 1000, known))
        return found

    async def leave(self) -> None:
        """
        Take back all that was said.

        @raise Lost: no answer.
        @raise Refusal: Redis refuses.
        """
        self._sure = False
        while await self._link.run(LEAVE, self._prefix, self._identity):
            pass


def _changes(active: _Counts, said: _Counts, everything: bool) -> list[tuple[bytes, dict[bytes, int]]]:
    """
    @return: by vhost what has to be said; 0 for what is no more.
    """
    changes: list[tuple[bytes, dict[bytes, int]]] = []
    for vhost, members in active.items():
        before = said.get(vhost, {})
        if everything or members != before:
            changed = members if everything else {m: n for m, n in members.items() if before.get(m) != n}
            changes.append((vhost, {**changed, **dict.fromkeys(before.keys() - members.keys(), 0)}))
    changes += [(vhost, dict.fromkeys(before, 0)) for vhost, before in said.items() if vhost not in active]
    return changes


def _sums(answer: list[Any]) -> Iterator[tuple[tuple[str, str], int]]:
    """What the others have in flight."""
    at = 1
    while at < len(answer):
        vhost, members = answer[at].decode("utf-8", "replace"), answer[at + 1]
        at += 2
        for _ in range(members):
            yield (vhost, answer[at].decode("utf-8", "replace")), answer[at + 1]
            at += 2


def _fields(stats: Mapping[str, str | int | float]) -> Iterator[bytes]:
    for name, value in stats.items():
        yield name.encode()
        yield (repr(value) if isinstance(value, float) else str(value)).encode()
