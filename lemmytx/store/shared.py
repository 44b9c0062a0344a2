"""
A SQLite database that others may change, take away or replace while it is used. Everything here blocks, and is called
in one thread alone.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lemmytx.store.schema import APPLICATION, STATEMENTS, VERSION
from lemmytx.table import StoreUnavailable

#: Seconds that others may hold the lock.
PATIENCE = 5.0

_WHY = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it may not be written",
    sqlite3.SQLITE_PERM: "it may not be used",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database, or damaged",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened, or the files beside it; they and their folder have to be writable",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written",
    sqlite3.SQLITE_BUSY: f"another program has held its lock for {PATIENCE:g} s",
    sqlite3.SQLITE_LOCKED: f"another program has held its lock for {PATIENCE:g} s",
}

#: After these the connection is of no use any more.
_LOST = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)

#: Seconds between two tries of what SQLite does not wait for itself.
_PAUSE = 0.02

#: Where there is no file: the device and the inode of none.
_NOTHING = (0, 0)


class Unusable(ValueError):
    """What is in the file is not ours, or of a newer program."""


class Shared:
    """
    @ivar path: of the file.
    @ivar seconds: a clock that is never set.
    """

    def __init__(self, path: str, seconds: Callable[[], float], patience: float) -> None:
        self.path = path
        self.seconds = seconds
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        # Those that were there when it was connected: the database and its WAL.
        self._files: list[tuple[int, int]] = []

    @property
    def connected(self) -> bool:
        """Whether there is a connection, good or not."""
        return self._connection is not None

    def new_connection(self) -> None:
        """For subclasses: what was known of the file need not hold any more."""

    def connect(self) -> sqlite3.Connection:
        """
        Have a connection to the file that is there now. One that is missing is made, but only if it never was there:
        else an empty table would take the place of one that somebody has moved away.

        @raise StoreUnavailable: it cannot be had.
        @raise Unusable: see there.
        """
        if self._connection is not None:
            if self._files == self._at_path():
                return self._connection
            self.disconnect()
        self._clear_up()
        if self._files and not os.path.exists(self.path):
            raise StoreUnavailable(f"{self.path} is gone; put it back, or restart to begin with an empty one")
        with self.explained():
            self._make()
            connection = sqlite3.connect(self.path, timeout=self._patience, isolation_level=None)
            self._connection = connection
            try:
                self._prepare(connection)
            except BaseException:
                self.disconnect()
                raise
        self._files = self._at_path()
        self.new_connection()
        return connection

    def _clear_up(self) -> None:
        """
        Remove what belongs to a file that is not there any more. SQLite would write it into the one in its place.
        """
        if self._files:
            (former, former_wal), (now, wal) = self._files, self._at_path()
            if now not in (former, _NOTHING) and wal == former_wal != _NOTHING:
                for suffix in ("-wal", "-shm"):
                    try:
                        os.unlink(self.path + suffix)
                    except FileNotFoundError:
                        pass

    def _make(self) -> None:
        """The file, for nobody else to read: states and hosts are not for everybody."""
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreUnavailable(f"{self.path} cannot be made: {error.strerror}") from None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._check_kind(connection)
        # Others may be at the same: SQLite does not wait for them here.
        mode = ""
        for again in range(int(self._patience / _PAUSE), -1, -1):
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not again:
                    raise
                time.sleep(_PAUSE)
        if mode != "wal":
            raise StoreUnavailable(f"{self.path}: its file system does not allow for it to be shared (WAL)")
        connection.execute("PRAGMA synchronous = FULL")
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            with self.writing(connection):
                if self._check_kind(connection) == 0:
                    for statement in STATEMENTS:
                        connection.execute(statement)

    def _check_kind(self, connection: sqlite3.Connection) -> int:
        """
        @return: the version of its tables; 0: it has none.
        @raise Unusable: see there.
        """
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            raise Unusable(f"{self.path} is a database of another program; choose another path")
        if version > VERSION:
            raise Unusable(
                f"{self.path} is from a newer lemmytx (its tables have version {version}, this one knows {VERSION});"
                " use that one, or another path"
            )
        return int(version)

    def _at_path(self) -> list[tuple[int, int]]:
        """Which files are there now."""
        found = []
        for path in (self.path, f"{self.path}-wal"):
            try:
                status = os.stat(path)
            except OSError:
                found.append(_NOTHING)
            else:
                found.append((status.st_dev, status.st_ino))
        return found

    def disconnect(self) -> None:
        """Have no connection any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                pass  # it is given up because it is broken

    @contextmanager
    def explained(self) -> Iterator[None]:
        """
        @raise StoreUnavailable: in the place of SQLite's own.
        """
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _LOST:
                self.disconnect()
            raise StoreUnavailable(f"{self.path}: {_WHY.get(code) or error}") from error

    @contextmanager
    def reading(self, connection: sqlite3.Connection) -> Iterator[None]:
        """All that is read is of one moment."""
        connection.execute("BEGIN")
        try:
            yield
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        """All that is written, or nothing."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def not_waiting(self, connection: sqlite3.Connection) -> Iterator[None]:
        """What is written need not be on the disk at once."""
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            connection.execute("PRAGMA synchronous = FULL")
