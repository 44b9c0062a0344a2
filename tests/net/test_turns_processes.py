"""
L{lemmytx.net.turns} with real processes at one socket. Counts only: how long it takes is for the benchmark.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net.turns import Board

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "turns_worker.py")
PATIENCE = 30.0


class ProcessTests(SynchronousTestCase):
    """Two processes."""

    def setUp(self) -> None:
        self.board = Board(2)
        self.addCleanup(self.board.close)
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = listening.getsockname()
        # Blocking on purpose: a process that comes too late must not be stuck in accept.
        command = [sys.executable, WORKER]
        self.workers = []
        for row in range(2):
            worker = subprocess.Popen(
                [*command, str(row), str(self.board.fd), str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(self.board.fd, listening.fileno()),
            )
            self.addCleanup(worker.communicate)
            self.addCleanup(worker.kill)
            self.workers.append(worker)
        listening.close()
        for worker in self.workers:
            assert worker.stdout is not None
            self.assertEqual(b"listening\n", worker.stdout.readline())

    def connect(self) -> socket.socket:
        """A connection that was accepted."""
        client = socket.create_connection(self.address, timeout=PATIENCE)
        self.addCleanup(client.close)
        self.assertEqual(b".", client.recv(1))
        return client

    def counts(self) -> list[int]:
        return [row.accepted for row in self.board.rows()]

    def assert_even(self, connect: Callable[[], None]) -> None:
        """
        Within 20 % of even, of 200 each time, in two of three times: a process that the machine gives no core to for a
        tenth of a second is not there to take what is its own.
        """
        even = 0
        for _ in range(3):
            before = self.counts()
            connect()
            counts = [after - count for after, count in zip(self.counts(), before, strict=True)]
            self.assertEqual(200, sum(counts))
            even += all(80 <= count <= 120 for count in counts)
        self.assertTrue(even >= 2, even)

    def test_short(self) -> None:
        """200 connections one after the other are spread evenly."""

        def connect() -> None:
            for _ in range(200):
                self.connect().close()

        self.assert_even(connect)

    def test_kept(self) -> None:
        """200 connections that are opened at once and stay are spread evenly."""
        self.assert_even(self.at_once)
        self.assertEqual(600, self.board.connections())

    def at_once(self) -> None:
        """200 connections that stay."""
        with selectors.DefaultSelector() as selector:
            for _ in range(200):
                client = socket.socket()
                self.addCleanup(client.close)
                client.setblocking(False)
                client.connect_ex(self.address)
                selector.register(client, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(PATIENCE)
                self.assertTrue(ready, "nothing happens any more")
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    self.assertEqual(b".", key.fileobj.recv(1))
                    selector.unregister(key.fileobj)

    def test_busy(self) -> None:
        """While one process does something else for long, the other takes all that come."""
        first = self.connect()
        busy = self.counts().index(1)
        first.send(b"!")
        for _ in range(30):
            self.connect()
        counts = self.counts()
        # One that came with the request to be busy can still have been taken.
        self.assertTrue(counts[busy] <= 2, counts)
        self.assertEqual(31, sum(counts))

    def test_killed(self) -> None:
        """When one process is gone the other takes all, and its clients are not counted once its row is cleared."""
        clients = [self.connect() for _ in range(10)]
        before = self.counts()
        self.workers[0].kill()
        self.workers[0].wait()
        self.board.clear(0)
        for _ in range(20):
            clients.append(self.connect())
        self.assertEqual([before[1] + 20], self.counts())
        self.assertEqual(before[1] + 20, self.board.connections())
