"""
The table out of Redis, of which only what has changed is read.

Each load asks for the names of the vhosts and for the states. What has changed in the vhosts is then found in one of
two ways.

  - All of them, at least once in a refresh: a script in Redis makes a digest of each vhost, for a slice of them at a
    time. It costs us next to nothing, and Redis some 20 µs for each. Those with another digest than before are read.
  - What was announced, between two refreshes: digests are made of those vhosts that were named, and of new ones. It is
    enough only if nothing was missed. So changes of ours have numbers, which the announcements tell; if the number in
    Redis is another one than that of the last announcement, all are looked at.

Of those who share a table one is enough to look at all of it: whoever's timer is due first takes the turn for most of a
refresh, and announces what it finds. The others do the same only now and then, and when they hear nothing.

Slices go by a checksum of the name and not by order, so that one vhost more or less changes one slice.

An I{empty} list of vhosts, where there were some before, is believed only if Redis says so without an error and is in
a condition to know; see L{Loading._believe}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred

from lemmytx.net.slices import Slices
from lemmytx.store.reading import again
from lemmytx.store.redis.entries import entry_of, pairs, state_of, text_of
from lemmytx.store.redis.link import Link
from lemmytx.store.redis.parts import one_by_one, parts_of
from lemmytx.store.redis.said import Refusal, command
from lemmytx.store.redis.scripts import DIGEST
from lemmytx.table import Entry, Fault, State, StoreUnavailable, Table

#: Vhosts in a slice, at most, on the average. Redis is held for 2 ms with 10 backends each.
SLICE = 100

#: Characters that the script gives for each vhost.
DIGEST_LENGTH = 16

#: Vhosts that are read at a time: 50 with 10 backends take 1 ms.
READ = 50

#: More faults than these are counted, and not named.
MOST_FAULTS = 1000

#: From how many vhosts on their sudden disappearance is taken for a mistake, if their backends are still there.
MANY = 10

#: For how much of a refresh the turn is taken: less than one, so that who is alone always has it.
TURN = 0.9

#: After so many refreshes everyone looks at all of it in any case.
MOST_TURNS = 12

#: More vhosts than these are not announced by their names: others look at all of them.
MOST_NAMED = 200

_Changed = tuple[bytes, bytes]

_NUMBERED = re.compile(rb"([0-9]{1,18})(?: |\Z)")


class Loading:
    """
    What is known of the table in Redis.

    @ivar lost: why the emptiness of the table is not believed; empty: it is not in question.
    """

    def __init__(self, reactor: Any, link: Link, prefix: bytes, refresh: float, identity: str) -> None:
        self.lost = ""
        self._ours = b"=" + identity.encode()
        self._reactor = reactor
        self._link = link
        self._prefix = prefix
        self._refresh = refresh
        # What there is to do.
        self._whole = True
        self._whole_at = float("-inf")
        self._news = False
        self._named: set[bytes] = set()
        self._number = -1
        # What was found.
        self._listed: list[bytes] | None = None
        self._there: set[bytes] = set()
        self._slices: list[list[bytes]] = []
        self._joined: dict[int, bytes] = {}
        self._digests: dict[bytes, bytes] = {}
        self._known: Mapping[str, Entry] = {}
        self._vhosts: dict[str, Entry] = {}
        self._faults: dict[bytes, tuple[Fault, ...]] = {}
        self._states_said: Any = []
        self._states: dict[tuple[str, str], State] = {}
        self._state_faults: tuple[Fault, ...] = ()

    def miss(self) -> bool:
        """
        Something may have been announced that was not heard.

        @return: whether anything was loaded before that.
        """
        self._whole = True
        return self._listed is not None

    def announced(self, said: bytes) -> bool:
        """
        @param said: the number of the change, or C{=} and who has found it, or nothing if an operator says so; and the
            names of vhosts, with spaces between; no names: any.
        @return: whether it is news.
        """
        match = _NUMBERED.match(said)
        if match is None:
            names = said.split()
            if names and names[0].startswith(b"="):
                if names[0] == self._ours:
                    return False
                del names[0]
            self._whole |= not names
        else:
            number = int(match[1])
            if number <= self._number:
                return False  # it is loaded already
            names = said[match.end() :].split()
            # A state is named by no vhost, and states are read in any case.
            self._whole |= number != self._number + 1 or not names
            self._number = number
        self._named.update(name for name in names if name != b"/states")
        self._news = True
        return True

    def touched(self, name: bytes | None) -> None:
        """
        Somebody has written to a key.

        @param name: of the vhost to which it belongs; L{None}: to none.
        """
        if name is not None:
            self._named.add(name)
        self._news = True

    async def load(self, known: Table) -> Table:
        """
        See L{lemmytx.interfaces.IBackendStore.load}. Never two at once.

        @raise Lost: no answer.
        @raise Refusal: Redis refuses.
        @raise StoreUnavailable: the table is not to be believed.
        """
        now = self._reactor.seconds()
        since = now - self._whole_at
        # In between it is somebody who wants to know. What was announced is enough unless the timer is due.
        whole = self._whole or (not self._news and since < TURN * self._refresh)
        due = since >= TURN * self._refresh
        self._known = known.vhosts
        named, self._named = self._named, set()
        self._whole = self._news = False
        try:
            version, number, empty, listed = await self._look()
            whole = whole or number != self._number
            self._number = number
            if not listed and known.vhosts:
                await self._believe(known, version, empty)
            elif listed and (version is None or empty):
                await self._mark(bool(empty))
            self.lost = ""
            turns = Slices(self._reactor)
            added = await self._list(listed, turns)
            named = named & self._there | added
            if whole or (due and await self._our_turn(since)):
                await self._compare_all(named, turns)
                self._whole_at = now
            else:
                await self._compare(named, turns)
        except BaseException:
            self._whole = True
            raise
        return again(known, self._vhosts, self._states, self._all_faults())

    async def _our_turn(self, since: float) -> bool:
        """
        @param since: when we had it last, in seconds.
        @return: whether it is for us to look at all vhosts.
        """
        if not self._link.hearing or since > MOST_TURNS * self._refresh:
            return True
        lasts = b"%d" % (1000 * TURN * self._refresh)
        (reply,) = await self._link.ask((b"SET", self._key(b"turn"), self._ours[1:], b"NX", b"PX", lasts))
        # A replica, for one, does not take it.
        return reply is not None

    def _key(self, *parts: bytes) -> bytes:
        return b":".join((self._prefix, *parts))

    async def _look(self) -> tuple[bytes | None, int, bytes | None, list[bytes]]:
        """
        @return: what says that there is a table, the number of the last change, what says that it may be empty, and
            the names of the vhosts.
        """
        about, listed, states = await self._link.ask(
            (b"HMGET", self._key(b"table"), b"version", b"changes", b"empty"),
            (b"SMEMBERS", self._key(b"vhosts")),
            (b"HGETALL", self._key(b"states")),
        )
        if isinstance(listed, Refusal):
            if listed.code == "WRONGTYPE":
                raise StoreUnavailable(f"the key {text_of(self._key(b'vhosts'))} is of another type than a set")
            raise listed
        if isinstance(about, Refusal):
            if about.code != "WRONGTYPE":
                raise about
            raise StoreUnavailable(f"the key {text_of(self._key(b'table'))} is of another type than a hash")
        if isinstance(states, Refusal) and states.code != "WRONGTYPE":
            raise states
        self._read_states(states)
        version, number, empty = about
        return version, int(number) if number and number.isdigit() else 0, empty, listed

    def _read_states(self, said: Any) -> None:
        if isinstance(said, Refusal):
            why = f"states cannot be read: the key {text_of(self._key(b'states'))} is of another type than a hash"
            self._state_faults = (Fault("", "", why),)
            self._states_said = None
            return  # what was wanted last goes on
        if said == self._states_said:
            return
        states: dict[tuple[str, str], State] = {}
        faults: list[Fault] = []
        for field, value in pairs(said):
            try:
                key, state = state_of(field, value)
                states[key] = state
            except ValueError as error:
                faults.append(Fault("", text_of(field), f"this state cannot be used: {error}"))
        self._states_said, self._states, self._state_faults = said, states, tuple(faults)

    async def _believe(self, known: Table, version: bytes | None, empty: bytes | None) -> None:
        """
        Whether there are really no vhosts any more.

        @raise StoreUnavailable: rather not.
        """
        sample = [self._key(b"backends", name.encode()) for name in islice(known.vhosts, 100)]
        info, loading, left = await self._link.ask(
            (b"INFO", b"replication"), (b"INFO", b"persistence"), (b"EXISTS", *sample)
        )
        # A user who may not ask for these (ACL) has to live without.
        for said, signs, why in (
            (loading, (b"\nloading:1", b"\nasync_loading:1"), "is loading its data"),
            (info, (b"\nmaster_link_status:down", b"\nmaster_sync_in_progress:1"), "is a replica out of step"),
        ):
            if isinstance(said, bytes) and any(sign in said for sign in signs):
                self._doubt(f"it {why} and shows no vhosts")
        if empty:
            return
        way_out = f"if there are to be none: HSET {text_of(self._key(b'table'))} empty 1"
        if version is None:
            self._doubt(f"it has lost the table, with {len(known.vhosts)} vhosts; {way_out}")
        if len(known.vhosts) >= MANY and isinstance(left, int) and 2 * left > len(sample):
            vhosts = text_of(self._key(b"vhosts"))
            self._doubt(f"the set {vhosts} with {len(known.vhosts)} vhosts is gone, their backends are not; {way_out}")

    def _doubt(self, why: str) -> None:
        self.lost = f"{why}. The table from before goes on"
        raise StoreUnavailable(self.lost)

    async def _mark(self, emptied: bool) -> None:
        """There is a table now: if that is not so any more, it was lost. A replica need not take it."""
        table = self._key(b"table")
        await self._link.ask(
            (b"HSET", table, b"version", b"1"), (b"HDEL", table, b"empty") if emptied else (b"HLEN", table)
        )

    async def _list(self, listed: list[bytes], turns: Slices) -> set[bytes]:
        """
        Note which vhosts there are.

        @return: those that are new.
        """
        if listed == self._listed:
            return set()
        there = set(listed)
        added = there - self._there
        for gone in self._there - there:
            self._digests.pop(gone, None)
            self._faults.pop(gone, None)
            self._vhosts.pop(gone.decode("utf-8", "replace"), None)
            await turns.rest()
        self._there = there
        number = 1
        while number * SLICE < len(listed):
            number *= 2
        slices: list[list[bytes]] = [[] for _ in range(number)]
        for part in parts_of(listed, 2000):
            for name in part:
                slices[crc32(name) & (number - 1)].append(name)
            await turns.rest()
        for one in slices:
            one.sort()
        if len(slices) == len(self._slices):
            for at, (new, old) in enumerate(zip(slices, self._slices, strict=True)):
                if new != old:
                    self._joined.pop(at, None)
        else:
            self._joined.clear()
        self._slices = slices
        self._listed = listed
        return added

    async def _compare_all(self, named: set[bytes], turns: Slices) -> None:
        """
        @param named: what others know as well.
        """
        slices = self._slices
        first = not self._digests
        changed: list[_Changed] = []

        def ask(at: int) -> Deferred[bytes]:
            return Deferred.fromCoroutine(self._link.run_sent(DIGEST, DIGEST.call(self._prefix, *slices[at])))

        async def look(at: int, joined: bytes) -> None:
            if self._joined.get(at) != joined:
                fresh = self._others(slices[at], joined)
                changed.extend(fresh)
                if not fresh:
                    self._joined[at] = joined
            await turns.rest()

        await one_by_one([at for at, names in enumerate(slices) if names], ask, look)
        await self._read(changed, turns)
        found = [name for name, _ in changed if name not in named]
        if found and not first:
            words = [self._ours, *(found if len(found) <= MOST_NAMED else ())]
            await self._link.ask((b"PUBLISH", self._key(b"changes"), b" ".join(words)))

    async def _compare(self, names: set[bytes], turns: Slices) -> None:
        changed: list[_Changed] = []
        for part in parts_of(sorted(names), SLICE):
            joined = await self._link.run(DIGEST, self._prefix, *part)
            changed += self._others(part, joined)
            await turns.rest()
        await self._read(changed, turns)

    def _others(self, names: Sequence[bytes], joined: bytes) -> list[_Changed]:
        """
        @return: those with other digests than before, and these.
        """
        fresh = []
        for place, name in enumerate(names):
            digest = joined[place * DIGEST_LENGTH : (place + 1) * DIGEST_LENGTH]
            if self._digests.get(name) != digest:
                fresh.append((name, digest))
        return fresh

    async def _read(self, changed: Sequence[_Changed], turns: Slices) -> None:
        parts = list(parts_of(changed, READ))

        def ask(at: int) -> Deferred[list[Any]]:
            asked = []
            for name, _ in parts[at]:
                asked.append(command(b"ZRANGEBYSCORE", self._key(b"backends", name), b"-inf", b"+inf"))
                asked.append(command(b"HGETALL", self._key(b"attributes", name)))
                asked.append(command(b"GET", self._key(b"settings", name)))
            return self._link.send(b"".join(asked), len(asked))

        async def look(at: int, replies: list[Any]) -> None:
            for place, (name, digest) in enumerate(parts[at]):
                self._found(name, replies[3 * place : 3 * place + 3])
                self._digests[name] = digest
                await turns.rest()

        await one_by_one(range(len(parts)), ask, look)

    def _found(self, raw: bytes, replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, Refusal) and reply.code != "WRONGTYPE":
                raise reply
        name = raw.decode("utf-8", "replace")
        before = self._vhosts.get(name) or self._known.get(name)
        members, attributes, settings = replies
        entry, faults = entry_of(raw, members, attributes, settings, before)
        if entry is None:
            self._vhosts.pop(name, None)
        else:
            self._vhosts[name] = before if entry == before and before is not None else entry
        if faults:
            self._faults[raw] = faults
        else:
            self._faults.pop(raw, None)

    def _all_faults(self) -> tuple[Fault, ...]:
        if not self._faults:
            return self._state_faults[:MOST_FAULTS]
        found = [fault for name in sorted(self._faults) for fault in self._faults[name]]
        found += self._state_faults
        more = len(found) - MOST_FAULTS
        if more > 0:
            found[MOST_FAULTS:] = [Fault("", "", f"there are {more} more of these")]
        return tuple(found)
