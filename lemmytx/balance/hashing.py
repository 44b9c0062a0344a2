"""
By hash: C{ip_hash} and C{hash}. Requests of one key go to one backend, in every process alike, and when the backends
change hardly any key moves that does not have to.

The table (L{lemmytx.balance.maglev}) is of all members, whatever their state, so it is made when those change and at
no other time. A key that falls on a backend that is not offered, is too busy or is still too cold for it is hashed once
more, until one fits. So only the keys of that backend move while it is away, over all others by their weights, and
afterwards they move back.

Bounded load (V. Mirrokni, M. Thorup, M. Zadimoghaddam, Consistent Hashing with Bounded Loads, 2016; HAProxy's
C{hash-balance-factor}): with a C{balance_factor} of 150 no backend gets more than one and a half times its share of the
requests that are in flight, and what is beyond that goes where the next hash says.

Slow start: a backend at 30 % of its weight takes 30 % of its keys, always the same ones, and more of them as it warms
up.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from math import log
from struct import Struct
from typing import Literal

from zope.interface import implementer

from lemmytx.balance import keys, maglev
from lemmytx.balance.maglev import SIZE
from lemmytx.balance.offered import Offered
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IPreviewingScheduler, IRequest

#: How many places of the table are looked at. When all were in vain almost nobody is offered, or a key is very hot.
_TRIES = 32

_MASK = (1 << 64) - 1

#: Eight bytes as a number.
_number = Struct(">Q").unpack

#: RFC 9110 §5.6.2; cookies are named alike (RFC 6265 §4.1.1).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _again(number: int) -> int:
    """The next number out of a number (splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


@implementer(IFollowingScheduler, IPreviewingScheduler)
class ByKey(Offered):
    """What both share."""

    __slots__ = ("_active", "_factor", "_in_flight", "_key", "_noted", "_owners", "_table", "_weights", "counts")

    def __init__(self, key: keys.Key, balance_factor: int = 0) -> None:
        """
        @raise ValueError: when the factor makes no sense.
        """
        super().__init__()
        if balance_factor and balance_factor <= 100:
            raise ValueError(
                f"balance_factor: found {balance_factor!r}; write a percentage above 100, as in 150, or 0 for no bound"
            )
        self._key = key
        self._factor = balance_factor / 100
        self._table: list[int] = []
        #: The names and weights that the table was made for.
        self._owners: list[tuple[str, int]] = []
        #: See L{lemmytx.interfaces.IFollowingScheduler}.
        self.counts = bool(balance_factor)
        #: Requests in flight on each that is offered and has a weight, as they were counted last, and in all.
        self._active: dict[ICandidate, int] = {}
        self._in_flight = 0
        #: The sum of the weights of these.
        self._weights = 0.0
        #: Those whose requests are to be counted anew.
        self._noted: set[ICandidate] = set()

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        super().update(backends)
        owners = [(backend.name, round(backend.weight / backend.warmth)) for backend in backends if backend.weight > 0]
        if owners != self._owners:
            self._owners = owners
            self._table = maglev.build(owners)
        # As the table counts them.
        self.members = tuple(backend for backend in backends if backend.weight > 0)
        self._active = {}
        self._in_flight = 0
        self._weights = 0.0
        self._noted = set()

    def admit(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.admit}."""
        super().admit(backend)
        if self.counts and backend.weight > 0:
            self._active[backend] = active = backend.active
            self._in_flight += active
            self._weights += backend.weight

    def withdraw(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.withdraw}."""
        super().withdraw(backend)
        if backend in self._active:
            self._in_flight -= self._active.pop(backend)
            self._weights -= backend.weight

    def moved(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.moved}."""
        self._noted.add(backend)

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IScheduler.choose}."""
        if len(candidates) == 1:
            return candidates[0]
        if candidates is not self._seen:
            self._offer(candidates)
        in_flight = 0
        if self.counts:
            for backend in self._active:
                in_flight += backend.active
        return self._find(request, self.usable, in_flight, self._weights)

    def pick(self, request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IFollowingScheduler.pick}."""
        if self._noted:
            active = self._active
            for backend in self._noted:
                if backend in active:
                    now = backend.active
                    self._in_flight += now - active[backend]
                    active[backend] = now
            self._noted.clear()
        return self._find(request, self.usable, self._in_flight, self._weights)

    def preview(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate | None:
        """See L{lemmytx.interfaces.IPreviewingScheduler.preview}."""
        weighty = dict.fromkeys(backend for backend in candidates if backend.weight > 0)
        usable = weighty or dict.fromkeys(candidates)
        in_flight = sum(backend.active for backend in weighty)
        return self._find(request, usable, in_flight, sum(backend.weight for backend in weighty))

    def _find(self, request: IRequest, usable: dict[ICandidate, None], in_flight: int, weights: float) -> ICandidate:
        """
        @param usable: whom to choose from.
        @param in_flight: on all of them, without this one; where there is a bound.
        @param weights: their sum; likewise.
        """
        key = self._key(request) or keys.client(request)
        number: int = _number(blake2b(key, digest_size=8).digest())[0]
        table, members = self._table, self.members
        bound = self._factor * (in_flight + 1) / weights if self._factor and weights else 0.0
        if table:
            # Nearly always the first one is it, so it has no loop. Below the bound is below the next whole number.
            backend = members[table[number % SIZE]]
            if backend in usable and backend.warmth >= 1 and (not bound or backend.active < bound * backend.weight):
                return backend
            for tries in range(2 * _TRIES if bound else _TRIES):
                if tries == _TRIES:
                    # A key that so many are busy with has no home any more: anywhere, by what is in flight now, as the
                    # way through all who are too busy would be longer each time.
                    number ^= in_flight
                backend = members[table[number % SIZE]]
                if (
                    backend in usable
                    and (backend.warmth >= 1 or (number >> 40) < backend.warmth * (1 << 24))
                    and (not bound or backend.active < bound * backend.weight)
                ):
                    return backend
                number = _again(number)
        # Few are left: a number for each, out of its name and the key, and the greatest for its weight wins.
        fitting = [b for b in usable if not bound or b.active < bound * b.weight] or list(usable)
        return max(fitting, key=lambda backend: _lot(backend, key))


def _lot(backend: ICandidate, key: bytes) -> float:
    """What one draws for a key, so that each has the greatest for as many keys as its weight says (C. Schindelhauer, G.
    Schomaker, Weighted Distributed Hash Tables, 2005)."""
    # 52 bits and a half fit into a float, so it is neither 0 nor 1.
    drawn = ((_number(blake2b(backend.name.encode() + b"\0" + key, digest_size=8).digest())[0] >> 12) + 0.5) / (1 << 52)
    return (backend.weight or 1) / -log(drawn)


class IpHash(ByKey):
    """A client's requests go to one backend."""

    __slots__ = ()

    def __init__(self, balance_factor: int = 0) -> None:
        """
        @param balance_factor: how much more than its share a backend may get, in per cent: above 100; 0 = no bound.
        @raise ValueError: when it is something else.
        """
        super().__init__(keys.client, balance_factor)


class Hash(ByKey):
    """Requests that have something in common go to one backend. Those without it go by their client's address."""

    __slots__ = ()

    def __init__(
        self,
        by: Literal["client", "path"] | None = None,
        header: str | None = None,
        cookie: str | None = None,
        query: str | None = None,
        balance_factor: int = 0,
    ) -> None:
        """
        One of C{by}, C{header}, C{cookie} and C{query} says what they have in common; without any, their client.

        @param by: C{client}: its address, of an IPv6 one the first 64 bits; C{path}: without the query.
        @param header: the name of a field.
        @param cookie: the name of a cookie.
        @param query: the name of a parameter.
        @param balance_factor: see L{IpHash}.
        @raise ValueError: when more than one is given, or something that is no name.
        """
        given = {"by": by, "header": header, "cookie": cookie, "query": query}
        asked = [name for name, value in given.items() if value is not None]
        if len(asked) > 1:
            raise ValueError(f"found {' and '.join(asked)}; write one of by, header, cookie and query")
        for name, value in (("header", header), ("cookie", cookie)):
            if value is not None and not _TOKEN.fullmatch(value):
                raise ValueError(f"{name}: found {value!r}; write a name, as in {name}: X-User")
        if by not in (None, "client", "path"):
            raise ValueError(f"by: found {by!r}; write client or path, or header, cookie or query with a name")
        if query == "":
            raise ValueError("query: found ''; write the name of a parameter")
        if header is not None:
            key = keys.header(header)
        elif cookie is not None:
            key = keys.cookie(cookie)
        elif query is not None:
            key = keys.query(query)
        else:
            key = keys.path if by == "path" else keys.client
        super().__init__(key, balance_factor)
