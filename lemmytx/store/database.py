"""
A table in a SQLite database, as one thread sees it. Everything here blocks, and is called in one thread alone.

The database is in WAL mode: who reads waits for nobody, and of those who write one after the other does. What is
wanted of vhosts and backends is on the disk when a change returns (C{synchronous=FULL}); what processes tell each other
need not be there after a power failure, and is written without waiting for the disk.

Which processes live is found without comparing clocks: each raises a number of its own, its beat, in every third of its
lease at the latest; it is dead to whom has not seen that number change for a lease. Only at the first sight of one is
the time of day asked for the age of its last beat, and what it says is bounded by the lease.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lemmytx.store import reading
from lemmytx.store.shared import PATIENCE, Shared
from lemmytx.table import (
    Change,
    DropMember,
    DropState,
    DropVhost,
    Entry,
    Fault,
    Hint,
    Member,
    PutMember,
    PutState,
    PutVhost,
    Record,
    Report,
    State,
    Table,
)

#: Hints that are kept. Who sleeps longer than it takes to make so many will find out without them.
HINTS = 1000

#: The columns of the table C{revision}, and a number that is another one when all of the file has been replaced from
#: within (C{.restore}): the others may be lower than they were, or mean something else.
_Revision = tuple[int, int, int, int]

_CHANGES: Mapping[type[Any], str] = {
    # An update that changes nothing is none: it would be news to everybody.
    PutVhost: "INSERT INTO vhosts (name, settings) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET settings = excluded.settings WHERE settings != excluded.settings",
    DropVhost: "DELETE FROM vhosts WHERE name = ?",
    PutMember: "INSERT INTO members (vhost, text, name, weight, capacity, role) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (vhost, text) DO UPDATE SET name = excluded.name, weight = excluded.weight,"
    " capacity = excluded.capacity, role = excluded.role WHERE (name, weight, capacity, role)"
    " != (excluded.name, excluded.weight, excluded.capacity, excluded.role)",
    DropMember: "DELETE FROM members WHERE vhost = ? AND text = ?",
    PutState: "INSERT INTO states (cluster, backend, state, why, who, at) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (cluster, backend) DO UPDATE SET state = excluded.state, why = excluded.why,"
    " who = excluded.who, at = excluded.at",
    DropState: "DELETE FROM states WHERE cluster = ? AND backend = ?",
}


def _values(change: Change) -> tuple[Any, ...]:
    """What of a change goes into its statement."""
    match change:
        case PutMember(vhost, member):
            return (vhost, *member)
        case PutState(cluster, backend, state):
            return (cluster, backend, *state)
        case _:
            return tuple(change)


def _lenient(text: bytes) -> str:
    """What is no UTF-8 is to be seen as such, and named as a fault."""
    return text.decode("utf-8", "replace")


class _Other:
    """Another process: its beat, and until when it lives unless that changes."""

    __slots__ = ("beat", "until")

    def __init__(self, beat: int, until: float) -> None:
        self.beat = beat
        self.until = until


class Database(Shared):
    """
    The table, and what processes tell each other.
    """

    def __init__(
        self,
        path: str,
        identity: str,
        lease: float,
        seconds: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(path, seconds, patience)
        self._identity = identity
        self._lease = lease
        self._data_version = -1
        # Of the table that was given out last, which the next one may build upon.
        self._given = Table()
        self._revision: _Revision | None = None
        self._faults: dict[str, tuple[Fault, ...]] = {}
        self._state_faults: tuple[Fault, ...] = ()
        # What was seen last by L{look}.
        self._seen: _Revision | None = None
        self._last_hint = -1
        # What this process said last; and what it saw of others.
        self._active: dict[tuple[str, str], int] | None = None
        self._about = ""
        self._beat_at = float("-inf")
        self._others: dict[str, _Other] = {}

    def new_connection(self) -> None:
        """See L{Shared}."""
        self._data_version = -1
        self._revision = self._seen = None
        self._last_hint = -1
        self._active = None

    # The table

    def look(self) -> tuple[bool, list[Hint]]:
        """
        Called several times a second: costs next to nothing while nobody has written anything.

        @return: whether the table has changed since the last time; and hints of others.
        @raise StoreUnavailable: see there.
        """
        connection = self.connect()
        with self.explained():
            (data_version,) = connection.execute("PRAGMA data_version").fetchone()
            if data_version == self._data_version:
                return False, []
            with self.reading(connection):
                revision = self._read_revision(connection)
                if self._seen is not None and revision[3] != self._seen[3]:
                    self._last_hint, self._active = -1, None
                self._note_others(connection)
                hints = self._read_hints(connection)
        self._data_version = data_version
        changed, self._seen = revision != self._seen, revision
        return changed, hints

    def _read_revision(self, connection: sqlite3.Connection) -> _Revision:
        vhosts, dropped, states = connection.execute("SELECT vhosts, dropped, states FROM revision").fetchone()
        (whole,) = connection.execute("PRAGMA schema_version").fetchone()
        return vhosts, dropped, states, whole

    def load(self, known: Table) -> Table:
        """
        See L{lemmytx.interfaces.IBackendStore}.

        @raise StoreUnavailable: see there.
        """
        connection = self.connect()
        with self.explained():
            try:
                return self._load(connection, known)
            except sqlite3.OperationalError as error:
                # SQLite takes any bytes for text. Reading them all this way would cost a tenth more.
                if connection.text_factory is not str or "decode" not in str(error):
                    raise
                connection.text_factory = _lenient
                return self._load(connection, known)

    def _load(self, connection: sqlite3.Connection, known: Table) -> Table:
        with self.reading(connection):
            revision = self._read_revision(connection)
            before = self._revision if known is self._given else None
            if revision == before:
                return known
            if before is not None and revision[3] != before[3]:
                before = None
            vhosts, faults = self._read_vhosts(connection, known, before, revision)
            if before is not None and before[2] == revision[2]:
                states, state_faults = known.states, self._state_faults
            else:
                states, state_faults = reading.states(
                    ((cluster, backend), State(*values))
                    for cluster, backend, *values in connection.execute(
                        "SELECT cluster, backend, state, why, who, at FROM states"
                    )
                )
        every = (*(fault for some in faults.values() for fault in some), *state_faults)
        self._given = reading.again(known, vhosts, states, every)
        self._revision, self._faults, self._state_faults = revision, faults, state_faults
        return self._given

    def _read_vhosts(
        self,
        connection: sqlite3.Connection,
        known: Table,
        before: _Revision | None,
        now: _Revision,
    ) -> tuple[Mapping[str, Entry], dict[str, tuple[Fault, ...]]]:
        """Those that have changed since a revision, and the others as they are known."""
        if before is not None and before[0] == now[0]:
            return known.vhosts, self._faults
        since = -1
        vhosts: dict[str, Entry] = {}
        faults: dict[str, tuple[Fault, ...]] = {}
        if before is not None:
            since = before[0]
            vhosts.update(known.vhosts)
            faults.update(self._faults)
            if now[1] > since:
                names = {name for (name,) in connection.execute("SELECT name FROM vhosts")}
                for name in (vhosts.keys() | faults.keys()) - names:
                    vhosts.pop(name, None)
                    faults.pop(name, None)
        changed = connection.execute("SELECT name, settings FROM vhosts WHERE revision > ?", (since,)).fetchall()
        members: dict[str, list[Member]] = {name: [] for name, _ in changed}
        for vhost, *values in connection.execute(
            "SELECT vhost, text, members.name, weight, capacity, role FROM vhosts JOIN members ON vhost = vhosts.name"
            " WHERE revision > ?",
            (since,),
        ):
            members[vhost].append(Member(*values))
        for name, settings in changed:
            entry, wrong = reading.entry(name, settings, members[name])
            vhosts.pop(name, None)
            faults.pop(name, None)
            if entry is not None:
                vhosts[name] = entry
            if wrong:
                faults[name] = wrong
        return vhosts, faults

    def change(self, changes: Sequence[Change]) -> None:
        """
        See L{lemmytx.interfaces.IBackendStore}.

        @raise StoreUnavailable: none of them.
        @raise ValueError: none of them, for one has values of a wrong type.
        """
        statements = [(_CHANGES.get(type(change), ""), change) for change in changes]
        for statement, change in statements:
            if not statement:
                raise TypeError(f"{change!r} is no change of the table")
        connection = self.connect()
        with self.explained(), self.writing(connection):
            for statement, change in statements:
                try:
                    connection.execute(statement, _values(change))
                except (sqlite3.IntegrityError, sqlite3.ProgrammingError, OverflowError) as error:
                    raise ValueError(f"{change!r} cannot be stored: {error}") from error
            self._seen = self._read_revision(connection)

    # What processes tell each other

    def publish(self, report: Report) -> Mapping[tuple[str, str], int]:
        """
        See L{lemmytx.interfaces.IBackendStore}.

        @raise StoreUnavailable: see there.
        """
        active = {key: requests for key, requests in report.active.items() if requests}
        about = json.dumps(dict(report.record), sort_keys=True)
        connection = self.connect()
        with self.explained():
            with self.reading(connection):
                self._note_others(connection)
            now = self.seconds()
            if active != self._active or about != self._about or now - self._beat_at >= self._lease / 3:
                self._say(connection, active, about)
                self._active, self._about, self._beat_at = active, about, now
            total: dict[tuple[str, str], int] = {}
            if not report.asked or not self._others:
                return total
            living = self._living()
            for identity, vhost, text, requests in connection.execute(
                "SELECT identity, vhost, text, requests FROM active WHERE identity != ?", (self._identity,)
            ):
                if vhost in report.asked and identity in living:
                    total[vhost, text] = total.get((vhost, text), 0) + requests
            return total

    def _say(self, connection: sqlite3.Connection, active: dict[tuple[str, str], int], about: str) -> None:
        """Write what this process does, and that it lives; and strike out who does not."""
        before, self._active = self._active, None
        dead = self._others.keys() - self._living()
        with self.not_waiting(connection), self.writing(connection):
            beaten = connection.execute(
                "UPDATE processes SET beat = beat + 1, at = ?, about = ? WHERE identity = ?",
                (time.time(), about, self._identity),
            )
            if beaten.rowcount == 0:
                # The first time, or others took us for dead, as after a SIGSTOP.
                connection.execute(
                    "INSERT INTO processes (identity, beat, at, about) VALUES (?, 1, ?, ?)",
                    (self._identity, time.time(), about),
                )
                before = None
            if before is None:
                connection.execute("DELETE FROM active WHERE identity = ?", (self._identity,))
                before = {}
            connection.executemany(
                "DELETE FROM active WHERE identity = ? AND vhost = ? AND text = ?",
                [(self._identity, *key) for key in before.keys() - active.keys()],
            )
            connection.executemany(
                "INSERT INTO active (identity, vhost, text, requests) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (identity, vhost, text) DO UPDATE SET requests = excluded.requests",
                [(self._identity, *key, requests) for key, requests in active.items() if before.get(key) != requests],
            )
            for identity in dead:
                self._strike_out(connection, identity)
        for identity in dead:
            del self._others[identity]

    def _strike_out(self, connection: sqlite3.Connection, identity: str) -> None:
        connection.execute("DELETE FROM processes WHERE identity = ?", (identity,))
        connection.execute("DELETE FROM active WHERE identity = ?", (identity,))

    def _note_others(self, connection: sqlite3.Connection) -> None:
        """See who has lived on."""
        now = self.seconds()
        present = set()
        for identity, beat, at in connection.execute(
            "SELECT identity, beat, at FROM processes WHERE identity != ?", (self._identity,)
        ):
            present.add(identity)
            other = self._others.get(identity)
            if other is None:
                age = min(self._lease, max(0.0, time.time() - at))
                self._others[identity] = _Other(beat, now + self._lease - age)
            elif other.beat != beat:
                other.beat, other.until = beat, now + self._lease
        for identity in self._others.keys() - present:
            del self._others[identity]

    def _living(self) -> set[str]:
        now = self.seconds()
        return {identity for identity, other in self._others.items() if other.until > now}

    def instances(self) -> list[Record]:
        """
        See L{lemmytx.interfaces.IBackendStore}.

        @raise StoreUnavailable: see there.
        """
        connection = self.connect()
        with self.explained(), self.reading(connection):
            self._note_others(connection)
            rows = connection.execute("SELECT identity, about FROM processes ORDER BY identity").fetchall()
        now = self.seconds()
        found = []
        for identity, about in rows:
            other = self._others.get(identity)
            until = self._beat_at + self._lease if other is None else other.until
            if until > now:
                found.append(Record(identity, until - now, json.loads(about)))
        return found

    def hint(self, hint: Hint) -> None:
        """
        See L{lemmytx.interfaces.IBackendStore}.

        @raise StoreUnavailable: it does not get there.
        """
        connection = self.connect()
        with self.explained(), self.not_waiting(connection), self.writing(connection):
            number = connection.execute(
                "INSERT INTO hints (identity, cluster, backend, outcome, why) VALUES (?, ?, ?, ?, ?)",
                (self._identity, *hint),
            ).lastrowid
            connection.execute("DELETE FROM hints WHERE number <= ?", ((number or 0) - HINTS,))

    def _read_hints(self, connection: sqlite3.Connection) -> list[Hint]:
        """Those of others since the last time; the first time there are none."""
        if self._last_hint < 0:
            (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM hints").fetchone()
            self._last_hint = last
            return []
        hints = []
        for number, identity, *said in connection.execute(
            "SELECT number, identity, cluster, backend, outcome, why FROM hints WHERE number > ? ORDER BY number",
            (self._last_hint,),
        ):
            self._last_hint = number
            if identity != self._identity:
                hints.append(Hint(*said))
        return hints

    def leave(self) -> None:
        """Take back what this process has said of itself, and have no connection any more."""
        if not self.connected:
            return
        try:
            connection = self.connect()
            with self.explained(), self.not_waiting(connection), self.writing(connection):
                self._strike_out(connection, self._identity)
        finally:
            self.disconnect()
