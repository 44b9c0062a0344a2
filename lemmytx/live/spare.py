"""
The last good table, in a file: so that a restart in the middle of an outage serves.

One line of JSON for each vhost and each state, after a line that says what it is, and before one that says how many
there were. It is written beside the present one, synchronised and put in its place: whatever happens meanwhile, there
is a whole one. It can be read by its owner alone.

Lines are made in slices, in the reactor's thread: one that encodes megabytes in another would keep the reactor waiting
for the interpreter all the same. Files are written in another.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from lemmytx.net.slices import Slices
from lemmytx.table import Entry, Member, State, Table

log = Logger(namespace="lemmytx.store")

FORMAT = 1

#: Seconds after a change until it is written: others may follow. And so many times as long as the last writing took.
SOON = 1.0
REST = 20

#: Longest file that is read, in bytes: ten times as much as 10,000 vhosts with ten backends each.
LONGEST = 100 << 20


def place(wanted: str, key: str, environ: dict[str, str]) -> str:
    """
    Where the file of a store is.

    @param wanted: as configured, a file; empty: not said.
    @param key: which store it is of, so that the table of another one is never taken for its.
    @return: an absolute path: in systemd's C{StateDirectory=} where there is one, else where users keep such things.
    """
    if wanted:
        return os.path.abspath(wanted)
    name = f"table-{hashlib.sha256(key.encode()).hexdigest()[:16]}.jsonl"
    folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not folder:
        base = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        folder = os.path.join(base, "lemmytx")
    return os.path.join(os.path.abspath(folder), name)


class Spare:
    """
    @ivar path: of the file.
    """

    def __init__(self, path: str, kind: str, reactor: Any, writes: bool = True) -> None:
        """
        @param kind: the store's type.
        @param writes: whether this process is the one of its instance that writes it.
        """
        self.path = path
        self._kind = kind
        self._reactor = reactor
        self._writes = writes
        self._next: Table | None = None
        self._call: Any = None
        self._busy = False
        self._pause = SOON
        self._told = ""
        self._closed = False

    # Reading

    async def read(self) -> Table | None:
        """
        @return: the table; L{None}: there is none that could be read, and the log says why.
        """
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size > LONGEST:
                    raise ValueError("it is too long")
                lines = file.read().splitlines()
            return await self._parse(lines)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.error("the copy of the table, {path}, cannot be used: {why}", path=self.path, why=str(error))
            return None

    async def _parse(self, lines: list[bytes]) -> Table:
        if len(lines) < 2:
            raise ValueError("it is not complete")
        head, end = json.loads(lines[0]), json.loads(lines[-1])
        if not isinstance(head, dict) or head.get("format") != FORMAT or head.get("store") != self._kind:
            raise ValueError(f"it is not of format {FORMAT} and a {self._kind} store")
        if end != {"lines": len(lines) - 2}:
            raise ValueError("it is not complete")
        slices = Slices(self._reactor)
        vhosts: dict[str, Entry] = {}
        states: dict[tuple[str, str], State] = {}
        for line in lines[1:-1]:
            kind, *rest = json.loads(line)
            if kind == "vhost":
                name, settings, members = rest
                vhosts[name] = Entry(name, tuple(Member(*member) for member in members), settings)
            else:
                cluster, backend, *state = rest
                states[cluster, backend] = State(*state)
            if slices.full():
                await slices.turn()
        return Table(vhosts, states)

    # Writing

    def keep(self, table: Table) -> None:
        """This is the last good one. It is written soon."""
        if not self._writes or self._closed:
            return
        self._next = table
        if self._call is None and not self._busy:
            self._call = self._reactor.callLater(self._pause, self._write)

    def _write(self) -> None:
        self._call = None
        table, self._next = self._next, None
        if table is None:
            return
        self._busy = True
        Deferred.fromCoroutine(self._written(table)).addErrback(
            lambda failure: log.failure("the copy of the table could not be written", failure)
        ).addBoth(self._done)

    def _done(self, _: Any) -> None:
        self._busy = False
        if self._next is not None and not self._closed:
            self._call = self._reactor.callLater(self._pause, self._write)

    async def _written(self, table: Table) -> None:
        began = self._reactor.seconds()
        lines = [json.dumps({"lemmytx": "the live table", "format": FORMAT, "store": self._kind})]
        slices = Slices(self._reactor)
        for entry in table.vhosts.values():
            lines.append(json.dumps(["vhost", entry.name, entry.settings, entry.members]))
            if slices.full():
                await slices.turn()
        for (cluster, backend), state in table.states.items():
            lines.append(json.dumps(["state", cluster, backend, *state]))
            if slices.full():
                await slices.turn()
        lines.append(json.dumps({"lines": len(lines) - 1}))
        if self._closed:
            return
        try:
            await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), write, self.path, lines)
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._told:
                log.warn("the copy of the table, {path}, cannot be written: {why}", path=self.path, why=why)
            self._told = why
        else:
            self._told = ""
        self._pause = max(SOON, REST * (self._reactor.seconds() - began))

    def close(self) -> None:
        """Write no more."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()
            self._call = None


def write(path: str, lines: list[str]) -> None:
    """
    Replace a file by another one, or leave it as it is.

    @raise OSError: it is as it was.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(prefix=".table-", dir=folder)  # for nobody else
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(line)
                file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
