"""The store of a process: L{lemmytx.live.keeper}, L{lemmytx.live.spare} and L{lemmytx.live.desk}."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from lemmytx.config import read
from lemmytx.interfaces import IBackendStore
from lemmytx.live import desk as desks
from lemmytx.live import spare as spares
from lemmytx.live.desk import Desk
from lemmytx.live.keeper import Keeper
from lemmytx.live.spare import Spare
from lemmytx.table import Change, Entry, Hint, Member, Record, Report, State, StoreUnavailable, Table

ONE = Table({"a": Entry("a", (Member("10.0.0.1"),))})
TWO = Table({"a": Entry("a", (Member("10.0.0.2", "x", 2, 3, "backup"),), '{"max_fails": 2}')},
            {("a", "x"): State("drain", "why", "who", 5.0)})  # fmt: skip


class AtOnce:
    """A thread pool that has no threads."""

    def callInThreadWithCallback(self, done: Callable[[bool, Any], None], work: Callable[..., Any], *args: Any) -> None:
        """Twisted's."""
        try:
            result = work(*args)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)


class Reactor(Clock):
    """As far as it is needed."""

    def getThreadPool(self) -> AtOnce:
        """Twisted's."""
        return AtOnce()

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        """Twisted's."""
        call(*args)


@implementer(IBackendStore)
class Scripted:
    """
    A store that does what the test says.

    @ivar loads: answers of C{load}: tables, failures, or Deferreds; the last one stays.
    """

    shared = True
    refresh = 5.0

    def __init__(self, *loads: Any) -> None:
        self.problem = ""
        self.loads = list(loads)
        self.asked: list[Table] = []
        self.opening: Deferred[None] = succeed(None)
        self.reports: list[Report] = []
        self.hints: list[Hint] = []
        self.publishing: Any = {}
        self.closed = 0
        self.told: Callable[[], None] = list
        self.hinted: Callable[[Hint], None] = list.append  # type: ignore[assignment]  # replaced by open

    def open(self, told: Callable[[], None], hinted: Callable[[Hint], None]) -> Awaitable[Any]:
        """See L{IBackendStore}."""
        self.told, self.hinted = told, hinted
        return self.opening

    def close(self) -> Awaitable[Any]:
        """See L{IBackendStore}."""
        self.closed += 1
        return succeed(None)

    async def load(self, known: Table) -> Table:
        """See L{IBackendStore}."""
        self.asked.append(known)
        found = self.loads.pop(0) if len(self.loads) > 1 else self.loads[0]
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]  # a table

    async def change(self, changes: Sequence[Change]) -> None:
        """See L{IBackendStore}."""

    async def publish(self, report: Report) -> Mapping[tuple[str, str], int]:
        """See L{IBackendStore}."""
        self.reports.append(report)
        if isinstance(self.publishing, Exception):
            raise self.publishing
        if isinstance(self.publishing, Deferred):
            return await self.publishing  # type: ignore[no-any-return]  # a mapping
        return self.publishing  # type: ignore[no-any-return]  # as above

    async def instances(self) -> Sequence[Record]:
        """See L{IBackendStore}."""
        return [Record("me", 10.0, {"pid": 1})]

    async def hint(self, hint: Hint) -> None:
        """See L{IBackendStore}."""
        self.hints.append(hint)


class StoreCase(SynchronousTestCase):
    """With a clock of its own, and an ear on the log."""

    def setUp(self) -> None:
        self.reactor: Any = Reactor()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        """What the log of the store says."""
        if event.get("log_namespace") == "lemmytx.store":
            self.said.append(event["log_format"].format(**event))

    def done(self, waited: Any) -> Any:
        """The outcome of what takes turns."""
        deferred = Deferred.fromCoroutine(waited)
        for _ in range(100):
            if deferred.called:
                break
            self.reactor.advance(0)
        return self.successResultOf(deferred)


class KeeperTests(StoreCase):
    """The newest table."""

    def keeper(self, store: Scripted, spare: Spare | None = None) -> Keeper:
        """One that has been opened, and what it is told to serve."""
        verifyObject(IBackendStore, store)
        self.taken: list[Table] = []
        keeper = Keeper("redis", store, self.reactor, spare, now=lambda: 1000.0 + self.reactor.seconds())
        opening = Deferred.fromCoroutine(keeper.open())
        self.reactor.pump([0.1] * 30)
        self.successResultOf(opening)
        keeper.follow(self.taken.append, list)
        self.addCleanup(keeper.close)
        return keeper

    def test_first(self) -> None:
        """It is opened, and has a table."""
        keeper = self.keeper(Scripted(ONE))
        self.assertEqual((ONE, "", "store"), (keeper.table, keeper.problem, keeper.source))
        self.assertEqual({"type": "redis", "status": "OK"}, keeper.facts())

    def test_refresh(self) -> None:
        """It is asked every so many seconds, and when it says that something may have changed."""
        store = Scripted(ONE, TWO)
        keeper = self.keeper(store)
        self.reactor.advance(4.9)
        self.assertEqual((TWO, [TWO], 2), (keeper.table, self.taken, len(store.asked)))
        self.assertIs(ONE, store.asked[1])
        store.told()
        self.assertEqual(3, len(store.asked))

    def test_one_at_a_time(self) -> None:
        """What comes while it is being asked makes it be asked once more after that."""
        slow: Deferred[Table] = Deferred()
        store = Scripted(ONE, slow, TWO)
        keeper = self.keeper(store)
        for _ in range(3):
            store.told()
        self.assertEqual(2, len(store.asked))
        slow.callback(ONE)
        self.assertEqual((3, TWO), (len(store.asked), keeper.table))

    def test_taking(self) -> None:
        """The next one is asked for when the last has been taken."""
        store = Scripted(ONE, TWO)
        keeper = self.keeper(store)
        taking: Deferred[None] = Deferred()
        keeper.follow(lambda table: taking, list)
        store.told()
        store.told()
        self.assertEqual(2, len(store.asked))
        taking.callback(None)
        self.assertEqual(3, len(store.asked))

    def test_outage(self) -> None:
        """While it is away the last table stays; a line when that begins, for another reason, and when it ends."""
        store = Scripted(ONE, StoreUnavailable("no answer"), StoreUnavailable("no answer"), TWO)
        keeper = self.keeper(store)
        store.told()
        store.told()
        self.assertEqual((ONE, "no answer", []), (keeper.table, keeper.problem, self.taken))
        self.assertEqual("the last one", keeper.facts()["table"])
        store.problem = "connection refused"
        store.told()
        self.assertEqual("connection refused", keeper.problem)
        store.problem = ""
        store.told()
        self.assertEqual((TWO, ""), (keeper.table, keeper.problem))
        self.assertEqual(3, len(self.said), self.said)
        self.assertIn("available again", self.said[-1])

    def test_late(self) -> None:
        """A start waits two seconds, and no longer; what comes later is heard all the same."""
        answer: Deferred[Table] = Deferred()
        store = Scripted(answer)
        store.opening = Deferred()
        keeper = Keeper("redis", store, self.reactor)
        self.addCleanup(keeper.close)
        opening = Deferred.fromCoroutine(keeper.open())
        self.reactor.advance(1.9)
        self.assertNoResult(opening)
        self.reactor.advance(0.2)
        self.successResultOf(opening)
        self.assertEqual(Table(), keeper.table)
        store.opening.callback(None)
        answer.callback(ONE)
        self.assertEqual(ONE, keeper.table)

    def test_unusable(self) -> None:
        """One that can never be used is a failure of the start."""
        store = Scripted(ONE)
        store.opening = Deferred()
        store.opening.errback(ValueError("not a database"))
        keeper = Keeper("file", store, self.reactor)
        failure = self.failureResultOf(Deferred.fromCoroutine(keeper.open()), ValueError)
        self.assertEqual("not a database", str(failure.value))

    def test_error(self) -> None:
        """An error of a plugin's is in the log, and the next look comes all the same."""
        store = Scripted(ONE, RuntimeError("oops"), TWO)
        keeper = self.keeper(store)
        store.told()
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        store.told()
        self.assertEqual(TWO, keeper.table)

    def test_closed(self) -> None:
        """After the end nothing is asked and nothing is told."""
        store = Scripted(ONE)
        keeper = self.keeper(store)
        asked = len(store.asked)
        self.successResultOf(keeper.close())
        store.told()
        self.reactor.advance(100)
        self.assertEqual((asked, 1), (len(store.asked), store.closed))

    def test_restart(self) -> None:
        """A restart during an outage serves the last good table."""
        path = os.path.join(self.mktemp(), "state", "table")
        self.keeper(Scripted(TWO), Spare(path, "redis", self.reactor)).close()
        away = Scripted(StoreUnavailable("no answer"), StoreUnavailable("no answer"), ONE)
        keeper = self.keeper(away, Spare(path, "redis", self.reactor))
        self.assertEqual((TWO, "copy", "no answer"), (keeper.table, keeper.source, keeper.problem))
        self.assertEqual("the last one before the start", keeper.facts()["table"])
        away.told()
        away.told()
        self.assertEqual((ONE, "store"), (keeper.table, keeper.source))

    def test_believed(self) -> None:
        """A store is told what was known before the start: whether to believe that it is empty is for it to say."""
        path = os.path.join(self.mktemp(), "state", "table")
        self.keeper(Scripted(TWO), Spare(path, "redis", self.reactor)).close()
        lost = Scripted(StoreUnavailable("it has lost the table"))
        keeper = self.keeper(lost, Spare(path, "redis", self.reactor))
        self.assertEqual(TWO, lost.asked[0])
        self.assertEqual((TWO, "copy", "it has lost the table"), (keeper.table, keeper.source, keeper.problem))


class SpareTests(StoreCase):
    """The last good table in a file."""

    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.abspath(os.path.join(self.mktemp(), "table"))

    def spare(self, **more: Any) -> Spare:
        """One."""
        made = Spare(self.path, "redis", self.reactor, **more)
        self.addCleanup(made.close)
        return made

    def test_round(self) -> None:
        """What was kept is what is read, for its owner alone; faults are not in it."""
        spare = self.spare()
        spare.keep(TWO)
        self.reactor.pump([0.1] * 20)
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))
        self.assertEqual(TWO, self.done(self.spare().read()))
        self.assertEqual(["table"], os.listdir(os.path.dirname(self.path)))

    def test_often(self) -> None:
        """However often it changes, it is written once in a while: the last one."""
        spare = self.spare()
        written: list[int] = []
        self.patch(spares, "write", lambda path, lines: written.append(len(lines)))
        for _ in range(10):
            spare.keep(ONE)
            spare.keep(TWO)
            self.reactor.advance(0.05)
        self.reactor.pump([0.1] * 30)
        self.assertEqual([4], written)

    def test_none(self) -> None:
        """No file is no trouble."""
        self.assertIsNone(self.done(self.spare().read()))
        self.assertEqual([], self.said)

    def test_unusable(self) -> None:
        """What is not whole, of another store, or no copy at all, is not used, and the log says so."""
        self.spare().keep(TWO)
        self.reactor.pump([0.1] * 20)
        with open(self.path, "rb") as file:
            whole = file.read()
        for content in (b"", whole[:-20], b"[]\n[]\n", whole.replace(b"redis", b"other"), b"\xff\n{}\n",
                        whole.replace(b'"vhost", "a"', b'"vhost"')):  # fmt: skip
            with open(self.path, "wb") as file:
                file.write(content)
            self.said.clear()
            self.assertIsNone(self.done(self.spare().read()), content)
            self.assertEqual(1, len(self.said), content)

    def test_unwritable(self) -> None:
        """A folder that cannot be written to is told once, and what was there stays."""
        os.makedirs(os.path.dirname(self.path))
        os.mkdir(self.path)
        spare = self.spare()
        for _ in range(3):
            spare.keep(TWO)
            self.reactor.pump([0.1] * 20)
        self.assertEqual(1, len(self.said), self.said)
        self.assertEqual(["table"], os.listdir(os.path.dirname(self.path)))

    def test_reader(self) -> None:
        """Of several workers one writes."""
        self.spare(writes=False).keep(TWO)
        self.reactor.pump([0.1] * 20)
        self.assertFalse(os.path.exists(self.path))

    def test_place(self) -> None:
        """It is where systemd says, or where users keep such things; each store has its own."""
        systemd = spares.place("", "one", {"STATE_DIRECTORY": "/var/lib/lemmytx:/x"})
        self.assertTrue(systemd.startswith("/var/lib/lemmytx/table-"), systemd)
        self.assertNotEqual(systemd, spares.place("", "two", {"STATE_DIRECTORY": "/var/lib/lemmytx"}))
        self.assertTrue(spares.place("", "one", {"XDG_STATE_HOME": "/x"}).startswith("/x/lemmytx/table-"))
        self.assertEqual("/a/b", spares.place("/a/b", "one", {}))


class DeskTests(StoreCase):
    """The store that the configuration wants."""

    def setUp(self) -> None:
        super().setUp()
        self.made: list[tuple[str, Scripted]] = []
        self.patch(desks, "build_store", self.build)
        self.desk = Desk(self.reactor, "alone")
        self.desk.folder = os.path.abspath(self.mktemp())
        self.heard: list[Mapping[tuple[str, str], int]] = []
        self.hints: list[Hint] = []
        self.addCleanup(self.desk.close)

    def build(self, plugins: object, kind: str, options: dict[str, object], place: Any) -> Scripted:
        """In the place of L{lemmytx.plugin.build_store}."""
        made = Scripted(StoreUnavailable("connection refused") if options.get("away") else ONE)
        self.made.append((json.dumps([kind, options]), made))
        return made

    async def report(self, stats: bool) -> Report:
        """What this process does."""
        return Report(hostname="h" if stats else "")

    def open(self, text: str = "{type: memory}") -> Keeper | None:
        """A configuration with that store is put to work."""
        configuration = read(f"clusters: {{}}\nstore: {text}".encode(), "x.yaml")
        keeper: Keeper | None = self.done(self.desk.prepare(configuration, ()))
        self.desk.commit(keeper, lambda table: None, self.hints.append, self.report, self.heard.append)
        return keeper

    def test_same(self) -> None:
        """A reload with the same store leaves it alone; another one is opened before the old one is closed."""
        self.assertIsNotNone(self.open())
        self.assertIsNone(self.open())
        first = self.made[0][1]
        self.assertEqual((1, 0), (len(self.made), first.closed))
        self.open("{type: memory, lease: 20}")
        self.assertEqual((2, 1), (len(self.made), first.closed))
        self.assertIs(self.made[1][1], self.desk.store)

    def test_aborted(self) -> None:
        """One that was prepared in vain is closed, and the other goes on."""
        self.open()
        configuration = read(b"clusters: {}\nstore: {type: memory, lease: 20}", "x.yaml")
        self.desk.abort(self.done(self.desk.prepare(configuration, ())))
        self.assertEqual([0, 1], [store.closed for _, store in self.made])

    def test_away(self) -> None:
        """A reload does not give up a table for a store that nothing is known of; a start takes what there is."""
        self.open()
        configuration = read(b"clusters: {}\nstore: {type: memory, away: true}", "x.yaml")
        preparing = Deferred.fromCoroutine(self.desk.prepare(configuration, ()))
        self.reactor.pump([0.1] * 30)
        why = str(self.failureResultOf(preparing, ValueError).value)
        self.assertEqual("not available: connection refused; the present one goes on", why)
        self.assertEqual([0, 1], [store.closed for _, store in self.made])
        self.assertEqual(ONE, self.desk.table)
        self.desk.keeper = None
        self.open("{type: memory, away: true}")
        self.assertEqual(Table(), self.desk.table)

    def test_login(self) -> None:
        """Whoever has another password from now on finds the copy of the table all the same."""
        paths = []
        self.patch(desks, "Spare", lambda path, *_: paths.append(path))
        for login in ("", "lemmy:one@", ":two@"):
            self.open(f'{{type: redis, url: "redis://{login}10.0.0.1:6379/0"}}')
        self.open('{type: redis, url: "redis://10.0.0.2:6379/0"}')
        self.assertEqual(([1, 1, 1], 2), ([paths.count(path) // 3 for path in paths[:3]], len(set(paths))))

    def test_private(self) -> None:
        """In memory with several processes it is a file that they share."""
        self.desk.private = "/private"
        self.open()
        self.assertEqual('["file", {"path": "/private/table.db"}]', self.made[0][0])
        self.assertEqual("memory", self.desk.facts()["type"])

    def test_beats(self) -> None:
        """Once a second it is told what goes on, never twice at a time, with statistics when its refresh is due."""
        self.open()
        store = self.made[0][1]
        store.publishing = {("a", "10.0.0.1"): 3}
        self.reactor.pump([0.5] * 20)
        self.assertEqual([True, *[False] * 4, True, *[False] * 4], [bool(report.hostname) for report in store.reports])
        self.assertEqual(10, len(self.heard))
        self.assertEqual("me", self.desk.facts()["processes"][0]["identity"])
        store.publishing = Deferred()
        self.reactor.pump([1] * 5)
        self.assertEqual(11, len(store.reports))
        store.publishing.errback(StoreUnavailable("away"))
        store.publishing = {}
        self.reactor.advance(1)
        self.assertEqual(12, len(store.reports))

    def test_lonely(self) -> None:
        """A store that nobody shares is told only now and then."""
        self.open()
        store = self.made[0][1]
        store.shared = False
        self.reactor.pump([1] * 10)
        self.assertEqual(2, len(store.reports))

    def test_hints(self) -> None:
        """Hints go out, but no storm of them, and none while the store is away; those of others come in."""
        self.open()
        store = self.made[0][1]
        hint = Hint("a", "b", "down")
        for _ in range(50):
            self.desk.hint(hint)
        self.assertEqual(desks.MOST_HINTS, len(store.hints))
        self.reactor.advance(1)
        store.problem = "away"
        self.desk.hint(hint)
        self.assertEqual(desks.MOST_HINTS, len(store.hints))
        store.hinted(hint)
        self.assertEqual([hint], self.hints)

    def test_closed(self) -> None:
        """The end is final, also for what is asked then."""
        self.open()
        self.successResultOf(self.desk.close())
        self.reactor.advance(10)
        self.assertEqual((1, []), (self.made[0][1].closed, self.made[0][1].reports))
