"""The store C{redis}."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from zope.interface import implementer

from lemmytx.interfaces import IBackendStore, IStorePlace
from lemmytx.store import reading
from lemmytx.store.redis.address import parse_address
from lemmytx.store.redis.counting import Counting
from lemmytx.store.redis.dialling import Dialler, Tls
from lemmytx.store.redis.entries import LONGEST, attributes_of, field_of, said, state_text
from lemmytx.store.redis.link import Link
from lemmytx.store.redis.loading import MOST_NAMED, Loading
from lemmytx.store.redis.said import Lost, Refusal, Unsent
from lemmytx.store.redis.scripts import ALL, CHANGE
from lemmytx.store.telling import Telling
from lemmytx.table import (
    Change,
    DropMember,
    DropState,
    DropVhost,
    Hint,
    PutMember,
    PutState,
    PutVhost,
    Record,
    Report,
    StoreUnavailable,
    Table,
)
from lemmytx.units import duration, shown

#: Seconds that leaving may take, of the two that closing may.
LEAVING = 1.5

# None of them means anything in a pattern of PSUBSCRIBE.
_PREFIX = re.compile(r"[A-Za-z0-9_.:{}@/-]{1,100}\Z")
_KEYSPACE = re.compile(rb"__keyspace@\d+__:")

_Result = TypeVar("_Result")


@implementer(IBackendStore)
class RedisStore:
    """
    The table in Redis. See docs/redis.md for the keys.

    @ivar problem: see L{IBackendStore}; and so for C{shared} and C{refresh}.
    """

    shared = True

    def __init__(
        self,
        place: IStorePlace,
        url: str = "redis://127.0.0.1:6379/0",
        prefix: str = "lemmy",
        vhost_refresh_rate: Annotated[float, duration(0.1, 3600)] = 5.0,
        timeout: Annotated[float, duration(0.05, 60)] = 2.0,
    ) -> None:
        """
        @param url: see L{lemmytx.store.redis.address}.
        @param prefix: how the names of all keys begin; a colon comes after it.
        @param vhost_refresh_rate: seconds between two looks at the table where nothing is announced.
        @param timeout: seconds that Redis has for an answer.
        @raise ValueError: with a text for the user, which does not repeat the URL.
        """
        try:
            self._address = parse_address(url)
        except ValueError as error:
            raise ValueError(f"url: {error}") from None
        if not _PREFIX.match(prefix):
            raise ValueError(
                f"prefix: found {shown(prefix)}; write up to 100 letters, digits and _ . : {{ }} @ / -, as in 'lemmy'"
            )
        self.refresh = vhost_refresh_rate
        self._place = place
        self._timeout = timeout
        self._prefix = prefix.encode()
        self._link: Link | None = None
        self._telling: Telling | None = None
        self._hinted: Callable[[Hint], None] = _unheard
        self._load_trouble = ""
        self._publish_trouble = ""
        self._loads = DeferredLock()
        self._publishes = DeferredLock()

    @property
    def problem(self) -> str:
        """See L{IBackendStore}."""
        if self._link is None:
            return "not open"
        return self._link.problem or self._load_trouble or self._publish_trouble

    def open(self, told: Callable[[], None], hinted: Callable[[Hint], None]) -> Deferred[None]:
        """See L{IBackendStore}."""
        return Deferred.fromCoroutine(self._open(told, hinted))

    async def _open(self, told: Callable[[], None], hinted: Callable[[Hint], None]) -> None:
        reactor = self._place.reactor
        tls = None if self._address.tls is None else Tls(self._address.tls, self._place.folder)
        dialler = Dialler(reactor, self._address, tls, self._timeout)
        self._hinted = hinted
        self._telling = Telling(reactor, told)
        self._changes, self._hints = self._prefix + b":changes", self._prefix + b":hints"
        keyspace = b"__keyspace@%d__:" % self._address.database
        self._link = link = Link(
            reactor,
            dialler,
            self._address,
            self._timeout,
            ALL,
            (self._changes, self._hints),
            tuple(
                keyspace + self._prefix + key
                for key in (b":vhosts", b":states", b":backends:*", b":attributes:*", b":settings:*")
            ),
            self._tell,
            self._hear,
            self._heard,
        )
        self._loading = Loading(reactor, link, self._prefix, self.refresh, self._place.identity)
        self._counting = Counting(reactor, link, self._prefix, self._place.identity, self._place.lease)
        await link.start()

    def close(self) -> Deferred[None]:
        """See L{IBackendStore}."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        link, telling = self._link, self._telling
        if link is None or telling is None:
            return
        telling.stop()
        self._telling = None
        self._hinted = _unheard
        leaving = Deferred.fromCoroutine(self._counting.leave())
        leaving.addTimeout(LEAVING, self._place.reactor)
        # Whatever it was: our lease ends without us.
        leaving.addErrback(lambda _: None)
        await leaving
        self._link = None
        link.stop()

    def load(self, known: Table) -> Deferred[Table]:
        """See L{IBackendStore}."""
        return self._one_at_a_time(self._loads, lambda: self._load(known))

    async def _load(self, known: Table) -> Table:
        self._opened()
        try:
            table = await self._loading.load(known)
        except (StoreUnavailable, Refusal) as error:
            trouble = self._of_redis(error)
            if trouble != self._load_trouble:
                self._load_trouble = trouble
                self._tell()
            raise StoreUnavailable(trouble) from None
        except Lost as error:
            raise StoreUnavailable(self._of_redis(error)) from None
        if self._load_trouble:
            self._load_trouble = ""
            self._tell()
        return table

    def change(self, changes: Sequence[Change]) -> Deferred[None]:
        """See L{IBackendStore}."""
        return Deferred.fromCoroutine(self._change(changes))

    async def _change(self, changes: Sequence[Change]) -> None:
        link = self._opened()
        if not changes:
            return
        words: list[bytes] = []
        named: dict[bytes, None] = {}
        for change in changes:
            asked = _words(change)
            words += asked
            if not isinstance(change, PutState | DropState):
                named[asked[1]] = None
        if named and self._loading.lost:
            raise StoreUnavailable(f"nothing was changed: {self._of_redis(self._loading.lost)}")
        names = b" ".join(named) if len(named) <= MOST_NAMED else b""
        announced = names if named else b"/states"
        try:
            number = await link.run(CHANGE, self._prefix, announced, *words)
        except Refusal as error:
            text = str(error.args[0]).partition("TABLE ")[2] if error.code == "TABLE" else str(error)
            if error.code == "READONLY" and self._address.kind == "sentinel":
                link.drop(str(error))
            raise StoreUnavailable(f"nothing was changed: {self._of_redis(text)}") from None
        except Unsent as error:
            raise StoreUnavailable(f"nothing was changed: {self._of_redis(error)}") from None
        except Lost as error:
            raise StoreUnavailable(f"it is not known whether it was changed: {self._of_redis(error)}") from None
        if self._loading.announced(b"%d %b" % (number, announced)):
            self._tell()

    def publish(self, report: Report) -> Deferred[dict[tuple[str, str], int]]:
        """See L{IBackendStore}."""
        return self._one_at_a_time(self._publishes, lambda: self._publish(report))

    async def _publish(self, report: Report) -> dict[tuple[str, str], int]:
        link = self._opened()
        try:
            others = await self._counting.publish(report)
        except Refusal as error:
            if error.code == "READONLY" and self._address.kind == "sentinel":
                # It was the master, and the Sentinels have another one by now.
                link.drop(str(error))
            trouble = self._of_redis(error)
            if trouble != self._publish_trouble:
                self._publish_trouble = trouble
                self._tell()
            raise StoreUnavailable(trouble) from None
        except Lost as error:
            raise StoreUnavailable(self._of_redis(error)) from None
        if self._publish_trouble:
            self._publish_trouble = ""
            self._tell()
        return others

    def instances(self) -> Deferred[list[Record]]:
        """See L{IBackendStore}."""
        return Deferred.fromCoroutine(self._instances())

    async def _instances(self) -> list[Record]:
        self._opened()
        try:
            return await self._counting.instances()
        except (Lost, Refusal) as error:
            raise StoreUnavailable(self._of_redis(error)) from None

    def hint(self, hint: Hint) -> Deferred[None]:
        """See L{IBackendStore}."""
        return Deferred.fromCoroutine(self._hint(hint))

    async def _hint(self, hint: Hint) -> None:
        if self._link is None:
            return
        told = {**hint._asdict(), "why": hint.why[:LONGEST], "from": self._place.identity}
        try:
            await self._link.ask((b"PUBLISH", self._hints, json.dumps(told).encode()))
        except Lost:
            pass  # it was a hint

    def _hear(self, channel: bytes, text: bytes) -> None:
        """Called for all that is published on our channels."""
        if channel == self._hints:
            hint = _hint_of(text, self._place.identity)
            if hint is not None:
                self._hinted(hint)
        elif channel == self._changes:
            if self._loading.announced(text):
                self._tell()
        elif text != b"zincr":  # which is a score, and nothing that was changed
            key = _KEYSPACE.sub(b"", channel, 1)[len(self._prefix) + 1 :]
            _, colon, name = key.partition(b":")
            self._loading.touched(name if colon else None)
            self._tell()

    def _heard(self) -> None:
        """Called when announcements arrive again."""
        if self._loading.miss():
            self._tell()

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.tell()

    def _opened(self) -> Link:
        if self._link is None:
            raise StoreUnavailable("the store is not open")
        return self._link

    def _of_redis(self, why: object) -> str:
        text = str(why)
        return text if text.startswith("Redis ") else f"Redis {self._address}: {text}"

    def _one_at_a_time(
        self, lock: DeferredLock, begin: Callable[[], Coroutine[Deferred[Any], Any, _Result]]
    ) -> Deferred[_Result]:
        return lock.run(lambda: Deferred.fromCoroutine(begin()))

    def __repr__(self) -> str:
        return f"<RedisStore {self._address} {self.problem or 'connected'}>"


def _words(change: Change) -> list[bytes]:
    """
    A change as the script takes it.

    @raise ValueError: it makes no sense; with a text for the user.
    """
    match change:
        case PutVhost(name, settings):
            return [b"+V", name.encode(), settings.encode()]
        case DropVhost(name):
            return [b"-V", name.encode()]
        case PutMember(vhost, member):
            reading.check(member)
            return [b"+M", vhost.encode(), member.text.encode(), attributes_of(member).encode()]
        case DropMember(vhost, text):
            return [b"-M", vhost.encode(), text.encode()]
        case PutState(cluster, backend, state):
            return [b"+S", field_of(cluster, backend).encode(), state_text(state).encode()]
        case DropState(cluster, backend):
            return [b"-S", field_of(cluster, backend).encode()]


def _hint_of(text: bytes, identity: str) -> Hint | None:
    """
    @return: L{None}: it is our own, or none.
    """
    try:
        found = json.loads(text)
        if found.pop("from", None) == identity:
            return None
        hint = Hint(**found)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    texts = (hint.cluster, hint.backend, hint.why)
    fitting = all(isinstance(text, str) for text in texts) and hint.outcome in ("up", "down")
    return hint._replace(why=said(hint.why)) if fitting else None


def _unheard(hint: Hint) -> None:
    """Nobody listens."""
