"""One of several processes that accept from one socket, for L{tests.net.test_turns_processes}: row, board, socket."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from lemmytx.net import reactor as own

own.install()

from twisted.internet import reactor  # noqa: E402  # the one that was just installed
from twisted.internet.protocol import Factory, Protocol  # noqa: E402

from lemmytx.net.network import Network  # noqa: E402
from lemmytx.net.turns import Board, Turns  # noqa: E402


class Byte(Protocol):
    """Greets, and stops the world for whoever asks for it until the standard input ends."""

    def connectionMade(self) -> None:
        """Twisted: there is a client."""
        self.factory.present += 1
        self.factory.turns.connected(self.factory.present)
        self.transport.write(b".")

    def dataReceived(self, data: bytes) -> None:
        """Twisted: it asks."""
        os.read(0, 1)

    def connectionLost(self, reason: object = None) -> None:
        """Twisted: it is gone."""
        self.factory.present -= 1
        self.factory.turns.connected(self.factory.present)


def main(row: int, board: int, listening: int) -> None:
    """Serve until the process is ended."""
    running: Any = reactor
    factory: Any = Factory.forProtocol(Byte)
    factory.noisy = False
    factory.present = 0
    factory.turns = Turns(Board(fd=board), row, running)
    port: Any = Network(running).adoptStreamPort(listening, socket.AF_INET, factory)
    port.share(factory.turns)
    running.callWhenRunning(print, "listening", flush=True)
    running.run()


main(*map(int, sys.argv[1:]))
