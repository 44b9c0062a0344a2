"""A real redis-server, and the stores under test on it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from lemmytx.store.place import Place
from lemmytx.store.redis.said import command
from lemmytx.store.redis.store import RedisStore
from lemmytx.table import Hint, StoreUnavailable
from tests.wire.rig import free_port

#: Seconds until something that has to come is missed.
PATIENCE = 10.0


def redis_server() -> str:
    """Where it is; without it the test is skipped."""
    found = shutil.which("redis-server")
    if found is None:
        raise SkipTest("there is no redis-server on the PATH")
    return found


class Server:
    """
    A redis-server with an empty table.

    @ivar port: on loopback; the same over restarts.
    @ivar password: with which L{ask} logs in.
    @ivar folder: its own.
    """

    def __init__(self, *options: str, sentinel: bool = False) -> None:
        """
        @param options: more of the command line.
        """
        self._program = redis_server()
        self.folder = tempfile.mkdtemp(prefix="redis")
        self.port = free_port()
        self.password = ""
        self._options = options
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *more: str) -> None:
        """
        Returns when it takes connections.

        @param more: of the command line.
        """
        arguments = [self._program]
        if self._sentinel:
            path = os.path.join(self.folder, "sentinel.conf")
            with open(path, "a"):
                pass  # it writes there what it finds out
            arguments += [path, "--sentinel"]
        else:
            arguments += ["--save", "", "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"]
        arguments += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, *self._options, *more]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), PATIENCE):
                    return
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.01)

    @staticmethod
    def free() -> int:
        """@return: a port for another listener."""
        return free_port()

    @property
    def url(self) -> str:
        """Of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        """End it, and leave nothing."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *words: str | bytes | int | float) -> Any:
        """
        As an operator does with redis-cli.

        @return: the reply, texts as text.
        """
        with self.begin(*words) as connection, connection.makefile("rb") as said:
            if self.password:
                _read(said)
            return _read(said)

    def begin(self, *words: str | bytes | int | float) -> socket.socket:
        """
        As L{ask}, without waiting.

        @return: the connection, to be closed.
        """
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        if self.password:
            connection.sendall(command(b"AUTH", self.password.encode()))
        connection.sendall(command(*(word if isinstance(word, bytes) else str(word).encode() for word in words)))
        return connection


def _read(said: Any) -> Any:
    line = said.readline()
    kind, rest = line[:1], line[1:].strip()
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise AssertionError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else said.read(int(rest) + 2)[:-2].decode("utf-8", "backslashreplace")
    if kind == b"*":
        return [_read(said) for _ in range(int(rest))]
    raise AssertionError(f"no reply: {line!r}")


class Opened:
    """
    An open store, and what it told.

    @ivar told: how often.
    """

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.told = 0
        self.hints: list[Hint] = []
        #: What C{problem} said, whenever it was another one.
        self.problems: list[str] = []

    def count(self) -> None:
        """Called by the store."""
        self.told += 1
        if self.store.problem != (self.problems or [""])[-1]:
            self.problems.append(self.store.problem)

    def vanish(self) -> None:
        """As its process would with kill -9."""
        assert self.store._link is not None
        self.store._link.stop()
        self.store._link = None


class RedisCase(TestCase):
    """
    Tests on a redis-server, an empty one for each: it takes 20 ms to start.

    @cvar options: more of its command line.
    """

    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.server = self.another(*self.options)

    def another(self, *options: str, sentinel: bool = False) -> Server:
        """@return: a server that is removed after the test."""
        server = Server(*options, sentinel=sentinel)
        self.addCleanup(server.remove)
        return server

    async def open(self, url: str = "", lease: float = 10.0, **options: Any) -> Opened:
        """
        @return: a store that has been opened; it is closed after the test.
        """
        folder = self.server.folder
        opened = Opened(RedisStore(Place(reactor, folder, lease), url or self.server.url, **options))
        await opened.store.open(opened.count, opened.hints.append)
        self.addCleanup(opened.store.close)
        return opened

    async def until(self, holds: Callable[[], Any], why: str = "") -> None:
        """Wait for something that has to come."""
        end = time.monotonic() + PATIENCE
        while not (met := holds()) or (isinstance(met, Deferred) and not await met):
            if time.monotonic() > end:
                self.fail(why or "it did not come")
            await deferLater(reactor, 0.005)

    async def refused(self, asked: Awaitable[Any]) -> str:
        """@return: what a store said that could not do it."""
        try:
            await asked
        except StoreUnavailable as error:
            return str(error)
        self.fail("it could do it")
