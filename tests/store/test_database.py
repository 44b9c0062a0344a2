"""The SQLite database of a store, on a clock of the test's own."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from lemmytx.store.database import HINTS, Database
from lemmytx.store.schema import VERSION
from lemmytx.store.shared import Unusable
from lemmytx.table import (
    DropVhost,
    Entry,
    Hint,
    Member,
    PutMember,
    PutState,
    PutVhost,
    Report,
    State,
    StoreUnavailable,
    Table,
)

#: A user to whom nothing belongs.
NOBODY = 65534

KEY = ("a.example", "10.0.0.1")


class DatabaseCase(SynchronousTestCase):
    """A file, and time that passes when the test says so."""

    def setUp(self) -> None:
        """A folder."""
        self.now = 1000.0
        self.folder = os.path.abspath(self.mktemp())
        os.makedirs(self.folder)
        self.path = os.path.join(self.folder, "table.db")

    def database(self, identity: str = "one", lease: float = 9.0) -> Database:
        """One that is connected until the test ends."""
        made = Database(self.path, identity, lease, lambda: self.now, patience=0.05)
        self.addCleanup(made.disconnect)
        return made

    @contextmanager
    def by_hand(self) -> Iterator[sqlite3.Connection]:
        """The file as the C{sqlite3} command has it."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            yield connection

    def refused(self, database: Database) -> str:
        """Why it cannot be used."""
        return str(self.assertRaises(StoreUnavailable, database.load, Table()))


class HandTests(DatabaseCase):
    """What is changed with the C{sqlite3} command."""

    def test_everyKind(self) -> None:
        """Every change by hand is noticed, and the table is as it says."""
        database = self.database()
        table = database.load(Table())
        database.look()
        one, two = Member("10.0.0.1:80"), Member("10.0.0.2")
        for statement, expected in (
            ("INSERT INTO members (vhost, text) VALUES ('a.example', '10.0.0.1:80')", {"a.example": (one,)}),
            ("INSERT INTO members (vhost, text) VALUES ('a.example', '10.0.0.2')", {"a.example": (one, two)}),
            ("UPDATE members SET weight = 3 WHERE text = '10.0.0.2'", {"a.example": (one, two._replace(weight=3))}),
            ("UPDATE members SET vhost = 'b.example' WHERE text = '10.0.0.1:80'",
             {"a.example": (two._replace(weight=3),), "b.example": (one,)}),
            ("UPDATE vhosts SET name = 'c.example' WHERE name = 'a.example'",
             {"c.example": (two._replace(weight=3),), "b.example": (one,)}),
            ("DELETE FROM members WHERE text = '10.0.0.2'", {"c.example": (), "b.example": (one,)}),
            ("DELETE FROM vhosts WHERE name = 'b.example'", {"c.example": ()}),
        ):  # fmt: skip
            with self.by_hand() as connection:
                connection.execute(statement)
            self.assertEqual(database.look(), (True, []), statement)
            table = database.load(table)
            self.assertEqual({name: entry.members for name, entry in table.vhosts.items()}, expected, statement)
            self.assertEqual(database.load(Table()), table, statement)
        with self.by_hand() as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM members").fetchone(), (0,))

    def test_replace(self) -> None:
        """INSERT OR REPLACE of a member leaves its vhost alone."""
        database = self.database()
        database.change([PutVhost("a.example", '{"max_fails": 1}'), PutMember("a.example", Member("10.0.0.1"))])
        with self.by_hand() as connection:
            connection.execute("INSERT OR REPLACE INTO members (vhost, text, weight) VALUES ('a.example','10.0.0.1',5)")
        self.assertEqual(
            database.load(Table()).vhosts,
            {"a.example": Entry("a.example", (Member("10.0.0.1", weight=5),), '{"max_fails": 1}')},
        )

    def test_states(self) -> None:
        """States that are changed by hand are noticed too."""
        database = self.database()
        table = database.load(Table())
        for statement, expected in (
            ("INSERT INTO states (cluster, backend, state) VALUES ('web', 'one', 'drain')", State("drain")),
            ("UPDATE states SET state = 'disabled', who = 'me'", State("disabled", by="me")),
            ("DELETE FROM states", None),
        ):
            with self.by_hand() as connection:
                connection.execute(statement)
            self.assertTrue(database.look()[0], statement)
            table = database.load(table)
            self.assertEqual(table.states.get(("web", "one")), expected, statement)

    def test_noText(self) -> None:
        """Bytes that are no UTF-8 are a fault, and hurt nothing else."""
        database = self.database()
        good = {"a.example": Entry("a.example", (Member("10.0.0.1"),))}
        database.change([PutMember("a.example", Member("10.0.0.1"))])
        with self.by_hand() as connection:
            connection.execute("INSERT INTO members (vhost, text) VALUES ('a.example', CAST(x'ff3a' AS TEXT))")
            connection.execute("INSERT INTO vhosts (name) VALUES (CAST(x'fffe' AS TEXT))")
        table = database.load(Table())
        self.assertEqual((table.vhosts, len(table.faults)), (good, 2))
        self.assertIs(database.load(table), table)

    def test_wrongTypes(self) -> None:
        """What has a wrong type does not get in by hand either."""
        self.database().connect()
        with self.by_hand() as connection:
            for statement in (
                "INSERT INTO members (vhost, text, weight) VALUES ('a.example', '10.0.0.1', 'much')",
                "INSERT INTO members (vhost, text, weight) VALUES ('a.example', '10.0.0.1', 1.5)",
                "INSERT INTO members (vhost, text) VALUES ('a.example', x'ff')",
                "INSERT INTO vhosts (name) VALUES (NULL)",
                "INSERT INTO states (cluster, backend, state) VALUES ('web', 'one', x'00')",
            ):
                self.assertRaises(sqlite3.IntegrityError, connection.execute, statement)

    def test_otherWritesAreNoNews(self) -> None:
        """What processes say of themselves is no reason to load the table."""
        one, two = self.database("one"), self.database("two")
        one.look()
        two.publish(Report(active={KEY: 1}))
        two.hint(Hint("web", "one", "up"))
        self.assertEqual(one.look(), (False, [Hint("web", "one", "up")]))


class LifeTests(DatabaseCase):
    """Who lives, and what they do."""

    def test_idle(self) -> None:
        """Who has nothing new to say writes every third of its lease, and no more often."""
        one, two = self.database("one"), self.database("two")
        two.connect()

        def writes(report: Report) -> bool:
            with self.by_hand() as connection:
                before = connection.execute("PRAGMA data_version").fetchone()
                one.publish(report)
                return bool(connection.execute("PRAGMA data_version").fetchone() != before)

        busy = Report(active={KEY: 1}, record={"load": 1})
        self.assertTrue(writes(busy))
        for _ in range(3):
            self.now += 0.9
            self.assertFalse(writes(busy))
        self.now += 0.4
        self.assertTrue(writes(busy))
        self.assertTrue(writes(Report(active={KEY: 2}, record={"load": 1})))
        self.assertTrue(writes(Report(active={KEY: 2}, record={"load": 2})))
        self.assertFalse(writes(Report(active={KEY: 2, ("b.example", "x"): 0}, record={"load": 2}, stats={"a": 1})))

    def test_lease(self) -> None:
        """A process is dead when its beat has not changed for a lease; then its rows go, too."""
        one, two = self.database("one"), self.database("two")
        one.publish(Report(active={KEY: 3}))
        asking = Report(asked=frozenset({"a.example"}))
        self.assertEqual(two.publish(asking), {KEY: 3})
        self.now += 8.9
        self.assertEqual(two.publish(asking), {KEY: 3})
        self.assertEqual(
            [(each.identity, round(each.lease, 1)) for each in two.instances()], [("one", 0.1), ("two", 9)]
        )
        self.now += 0.2
        self.assertEqual(two.publish(asking), {})
        self.assertEqual([each.identity for each in two.instances()], ["two"])
        self.now += 3
        two.publish(asking)
        with self.by_hand() as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM active").fetchone(), (0,))
            self.assertEqual(connection.execute("SELECT identity FROM processes").fetchall(), [("two",)])
        one.publish(Report(active={KEY: 3}))
        self.assertEqual(two.publish(asking), {KEY: 3}, "it was only slow")

    def test_stopped(self) -> None:
        """Who has slept for hours takes nobody for dead that has lived on meanwhile."""
        one, two = self.database("one"), self.database("two")
        asking = Report(asked=frozenset({"a.example"}))
        one.publish(Report(active={KEY: 3}))
        two.publish(asking)
        self.now += 7200
        one.publish(Report(active={KEY: 4}))
        self.assertEqual(two.publish(asking), {KEY: 4})

    def test_longDead(self) -> None:
        """Who died long ago is dead at the first sight, and a clock that was set makes nobody live for ever."""
        self.database("one").publish(Report(active={KEY: 3}))
        asking = Report(asked=frozenset({"a.example"}))
        for at, alive in (("at - 3600", {}), ("at + 7200", {KEY: 3})):
            with self.by_hand() as connection:
                connection.execute(f"UPDATE processes SET at = {at} WHERE identity = 'one'")
            reader = self.database("reader")
            self.assertEqual({each.identity for each in reader.instances()} == {"one"}, bool(alive))
            self.now += 9.1
            self.assertEqual(reader.instances(), [])
            self.assertEqual(reader.publish(asking), {})
            reader.leave()
            self.now += 1
            self.database("one").publish(Report(active={KEY: 3}))

    def test_hintsAreBounded(self) -> None:
        """Old hints go, and who has missed some hears the last ones in their order."""
        one, two = self.database("one"), self.database("two")
        two.look()
        for number in range(HINTS + 5):
            one.hint(Hint("web", str(number), "down"))
        with self.by_hand() as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM hints").fetchone(), (HINTS,))
        self.assertEqual([each.backend for each in two.look()[1]], [str(number) for number in range(5, HINTS + 5)])
        self.assertEqual(two.look(), (False, []))


class TroubleTests(DatabaseCase):
    """Bad days of a file."""

    def test_mode(self) -> None:
        """Nobody else may read it."""
        database = self.database()
        database.change([PutVhost("a.example")])
        modes = {name: os.stat(os.path.join(self.folder, name)).st_mode & 0o777 for name in os.listdir(self.folder)}
        self.assertEqual(modes, {"table.db": 0o600, "table.db-wal": 0o600, "table.db-shm": 0o600})

    def test_durability(self) -> None:
        """What operators want is synced to the disk, each time; what processes tell each other does not change that."""
        database = self.database()
        database.publish(Report(active={KEY: 1}))
        database.hint(Hint("web", "one", "up"))
        connection = database.connect()
        self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))

    def test_folderMissing(self) -> None:
        """Without its folder it cannot be used; when that comes, it can."""
        os.rmdir(self.folder)
        database = self.database()
        self.assertEqual(self.refused(database), f"{self.path} cannot be made: No such file or directory")
        os.mkdir(self.folder)
        self.assertEqual(database.load(Table()), Table())

    def test_folderInItsPlace(self) -> None:
        """A folder is no file."""
        os.mkdir(self.path)
        self.assertIn(self.path, self.refused(self.database()))

    def test_noDatabase(self) -> None:
        """A file of another kind is left as it is."""
        with open(self.path, "w") as file:
            file.write("important: notes\n" * 100)
        self.assertEqual(self.refused(self.database()), f"{self.path}: it is no SQLite database, or damaged")
        with open(self.path) as file:
            self.assertEqual(file.read(), "important: notes\n" * 100)

    def test_damaged(self) -> None:
        """A damaged file is said to be one; when a whole one takes its place, that is used."""
        database = self.database()
        database.change([PutMember(f"{number}.example", Member("10.0.0.1")) for number in range(2000)])
        before = database.load(Table())
        database.disconnect()
        with open(self.path, "rb") as file:
            whole = file.read()
        with open(self.path, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(len(whole) - 4096))
        again = self.database()
        self.assertEqual(self.refused(again), f"{self.path}: it is damaged")
        with open(f"{self.path}.new", "wb") as file:
            file.write(whole)
        os.rename(f"{self.path}.new", self.path)
        self.assertEqual(again.load(Table()), before)

    def test_gone(self) -> None:
        """A file that is taken away while it is used is not made anew; when it is put back, it is used again."""
        database = self.database()
        database.change([PutVhost("a.example")])
        before = database.load(Table())
        kept = os.path.join(self.folder, "kept.db")
        with self.by_hand() as connection:
            connection.execute("VACUUM INTO ?", (kept,))
        for name in ("table.db", "table.db-wal", "table.db-shm"):
            os.unlink(os.path.join(self.folder, name))
        for _ in range(2):
            wrong = self.refused(database)
            self.assertEqual(wrong, f"{self.path} is gone; put it back, or restart to begin with an empty one")
        self.assertRaises(StoreUnavailable, database.look)
        self.assertRaises(StoreUnavailable, database.change, [PutVhost("b.example")])
        self.assertFalse(os.path.exists(self.path))
        os.rename(kept, self.path)
        self.assertEqual(database.load(before), before)
        self.assertTrue(database.look()[0], "it may be another one")

    def test_replaced(self) -> None:
        """Another file in its place is used from then on."""
        first, other = self.database(), self.path + ".other"
        first.change([PutVhost("a.example")])
        table = first.load(Table())
        self.path, path = other, self.path
        second = self.database()
        second.change([PutVhost("b.example")])
        second.disconnect()
        os.rename(other, path)
        self.assertTrue(first.look()[0])
        self.assertEqual(set(first.load(table).vhosts), {"b.example"})

    def test_restored(self) -> None:
        """A backup that is put back into the file in use (.restore) is the table, whatever has been counted since."""
        database = self.database()
        database.change([PutMember("a.example", Member("x:1")), PutState("web", "x:1", State("drain"))])
        with self.by_hand() as connection, closing(sqlite3.connect(":memory:")) as kept:
            connection.backup(kept)
            before = database.load(Table())
            for changes in (
                [PutMember("b.example", Member("y:1"))],
                [DropVhost("a.example")],
                [PutState("web", "x:1", State("ready"))],
            ):
                database.change(changes)
                table = database.load(before)
                self.assertNotEqual(table, before)
                database.look()
                kept.backup(connection)
                self.assertTrue(database.look()[0])
                self.assertEqual(database.load(table), before)

    def test_newer(self) -> None:
        """The file of a newer program is refused, and left as it is."""
        self.database().change([PutVhost("a.example")])
        with self.by_hand() as connection:
            connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        database = self.database()
        wrong = str(self.assertRaises(Unusable, database.connect))
        self.assertIn(f"newer lemmytx (its tables have version {VERSION + 1}, this one knows {VERSION})", wrong)
        with self.by_hand() as connection:
            self.assertEqual(connection.execute("SELECT name FROM vhosts").fetchall(), [("a.example",)])

    def test_anotherProgram(self) -> None:
        """The database of another program is refused, and left as it is."""
        with self.by_hand() as connection:
            connection.execute("CREATE TABLE bookmarks (url)")
        self.assertIn("of another program", str(self.assertRaises(Unusable, self.database().connect)))
        with self.by_hand() as connection:
            self.assertEqual(connection.execute("SELECT name FROM sqlite_schema").fetchall(), [("bookmarks",)])
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("delete",))

    def test_locked(self) -> None:
        """Who has to wait too long for another program gives up, and nothing has changed."""
        database = self.database()
        database.change([PutVhost("a.example")])
        with self.by_hand() as connection:
            connection.execute("BEGIN IMMEDIATE")
            wrong = str(self.assertRaises(StoreUnavailable, database.change, [PutVhost("b.example")]))
            self.assertIn("another program has held its lock", wrong)
            self.assertEqual(set(database.load(Table()).vhosts), {"a.example"}, "who reads waits for nobody")
        database.change([PutVhost("c.example")])
        self.assertEqual(set(database.load(Table()).vhosts), {"a.example", "c.example"})

    def test_full(self) -> None:
        """When the disk is full a change is refused as a whole, and what is there can be read."""
        database = self.database()
        database.change([PutVhost("a.example")])
        connection = database.connect()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        changes = [PutMember("b.example", Member(f"10.0.0.{number}", f"{number:090}")) for number in range(250)]
        wrong = str(self.assertRaises(StoreUnavailable, database.change, changes))
        self.assertEqual(wrong, f"{self.path}: the disk is full")
        self.assertEqual(set(database.load(Table()).vhosts), {"a.example"})
        connection.execute("PRAGMA max_page_count = 100000")
        database.change(changes)
        self.assertEqual(len(database.load(Table()).vhosts["b.example"].members), 250)

    def test_readOnly(self) -> None:
        """What may not be written can still be read."""
        database = self.database()
        database.change([PutVhost("a.example")])
        database.connect().execute("PRAGMA query_only = 1")
        wrong = str(self.assertRaises(StoreUnavailable, database.change, [PutVhost("b.example")]))
        self.assertEqual(wrong, f"{self.path}: it may not be written")
        self.assertEqual(set(database.load(Table()).vhosts), {"a.example"})

    def test_notOurs(self) -> None:
        """A file of another user can be read where that is allowed, and what is not allowed is said."""
        if os.geteuid():
            raise SkipTest("it takes root to be somebody else")
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "table.db")
        database = self.database()
        database.change([PutVhost("a.example")])
        database.disconnect()
        for modes, readable, why in (
            ((0o777, 0o644), True, "it may not be written"),
            ((0o777, 0o600), False, "it cannot be opened, or the files beside it; they and their folder have to be"),
            ((0o700, 0o644), False, "Permission denied"),
        ):
            for path, mode in zip((self.folder, self.path), modes, strict=True):
                os.chmod(path, mode)
            os.seteuid(NOBODY)
            try:
                reader = self.database("reader")
                if readable:
                    self.assertEqual(set(reader.load(Table()).vhosts), {"a.example"})
                else:
                    self.assertIn(why, self.refused(reader))
                self.assertIn(why, str(self.assertRaises(StoreUnavailable, reader.change, [PutVhost("b.example")])))
                reader.disconnect()
            finally:
                os.seteuid(0)

    def test_disk(self) -> None:
        """When writing fails in the middle nothing has changed, and it goes on when the disk is well again."""
        database = self.database()
        database.change([PutVhost("a.example")])
        changes = [PutMember("b.example", Member(f"{number}.example")) for number in range(5000)]
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(f"{self.path}-wal") + 8192, before[1]))
        try:
            wrong = str(self.assertRaises(StoreUnavailable, database.change, changes))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.assertEqual(wrong, f"{self.path}: the disk could not be read or written")
        self.assertEqual(set(database.load(Table()).vhosts), {"a.example"})
        database.change(changes)
        self.assertEqual(len(database.load(Table()).vhosts["b.example"].members), 5000)

    def test_wrongTypes(self) -> None:
        """Values that cannot be stored are an error of who brings them, not of the file."""
        database = self.database()
        for change in (
            PutMember("a.example", Member("10.0.0.1", weight="much")),  # type: ignore[arg-type]  # what is tested
            PutMember("a.example", Member("10.0.0.1", capacity=2**70)),
            PutState("web", "one", State("drain", at=float("nan"))),
            PutVhost("a.example", None),  # type: ignore[arg-type]  # what is tested
            PutVhost("\ud800"),
        ):
            self.assertRaises(ValueError, database.change, [PutVhost("b.example"), change])
        self.assertEqual(database.load(Table()), Table())


WRITER = """
import os, random, signal, sys, time
from lemmytx.store.database import Database
from lemmytx.table import PutMember, PutVhost, DropMember, Member, Table

path, rounds = sys.argv[1], int(sys.argv[2])
chance = random.Random(7)
vhosts = [f"{number}.example" for number in range(12)]

def write():
    database = Database(path, str(os.getpid()), 10)
    number = int(next(iter(database.load(Table()).vhosts.values())).settings)
    while True:
        number += 1
        changes = []
        for vhost in vhosts:
            changes += [PutVhost(vhost, str(number)), PutMember(vhost, Member(f"h{number}")),
                        DropMember(vhost, f"h{number - 1}")]
        database.change(changes)
        os.write(said, b"%d\\n" % number)

first = Database(path, "first", 10)
first.change([PutVhost(vhost, "0") for vhost in vhosts])
first.disconnect()
for _ in range(rounds):
    hears, said = os.pipe()
    child = os.fork()
    if not child:
        write()
    os.close(said)
    answers = os.read(hears, 100)
    time.sleep(chance.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(hears, 100_000):
        answers += more
    os.close(hears)
    acknowledged = int(answers.split()[-1])
    after = Database(path, "after", 10)
    table = after.load(Table())
    found = {entry.settings for entry in table.vhosts.values()}
    members = {member.text for entry in table.vhosts.values() for member in entry.members}
    assert len(table.vhosts) == 12 and len(found) == 1, table
    number = int(found.pop())
    assert members == {f"h{number}"} and acknowledged <= number <= acknowledged + 1, (acknowledged, number, members)
    assert after.connect().execute("PRAGMA integrity_check").fetchone() == ("ok",)
    after.disconnect()
print("well", number)
"""


class KillTests(DatabaseCase):
    """A process that is killed while it writes."""

    def test_allOrNothing(self) -> None:
        """Whenever it is killed: of each change there is all or nothing, and all of what was acknowledged."""
        ended = subprocess.run(
            [sys.executable, "-c", WRITER, self.path, "20"], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        said, number = ended.stdout.split()
        self.assertEqual(said, "well")
        self.assertGreaterEqual(int(number), 20)

    def test_dropAfterRestart(self) -> None:
        """What was dropped stays so when the table is known from before the restart."""
        one = self.database()
        one.change([PutVhost("a.example"), PutVhost("b.example")])
        known = one.load(Table())
        one.change([DropVhost("b.example")])
        one.disconnect()
        self.assertEqual(set(self.database().load(known).vhosts), {"a.example"})
