"""
Ports that stop at once when they are told to, and wait when there is nothing to accept a connection with.

Twisted's accepts a hundred connections and more in one go, whatever the protocols built for them do, so a limit on
connections would be overrun by any burst. And when there are no file descriptors left it accepts with one that it keeps
in reserve and closes at once: every waiting client is sent away, each with a line in the log. Here they stay in the
kernel's queue, as with nginx, until there are descriptors again; a line says so once a minute.

Where several processes accept from one socket they take turns (L{lemmytx.net.turns}).
"""

from __future__ import annotations

import errno
import socket
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.logger import Logger

from lemmytx.net.turns import WAIT, Turns, Waited

#: The most connections accepted in one turn of the reactor. The established ones want theirs, too.
ACCEPTS_A_TURN = 100

#: The same where others could take them, too: what is accepted behind a request that takes long waits as long.
SHARED_ACCEPTS_A_TURN = 16

#: Seconds until it is tried again when there was no descriptor; nginx waits as long.
ACCEPT_AGAIN = 0.5

#: Seconds without such trouble after which it is told again.
TOLD_AGAIN = 60.0

#: What concerns one connection alone: it is gone already, or a firewall wants it to be (accept(2)).
_ITS_OWN = frozenset((errno.ECONNABORTED, errno.EPERM, errno.EPROTO))

if TYPE_CHECKING:
    _Base = tcp.Port
else:
    _Base = object

log = Logger(namespace="lemmytx.net")


class AcceptsWhileOpen(_Base):
    """
    Mixed into a Twisted port, before it.

    @ivar held: somebody has called L{stopReading}: whoever connects has to wait.
    @ivar turns: with whom the socket is shared; L{None}: with nobody. Set by L{share}.
    """

    held = False
    turns: Turns | None = None
    factory: Any
    reactor: Any
    _again: Any = None
    _quiet_until = -inf

    #: For whom we wait.
    _waited: Waited | None = None

    def share(self, turns: Turns | None) -> None:
        """Other processes accept from this socket, too."""
        if self.turns is not None:
            self.turns.closed(self)
        self.turns = turns
        if turns is not None:
            # What was there when we were told can be gone when we come, and then accept must not wait.
            self.socket.setblocking(False)
            if not self.held:
                turns.opened(self)

    def stopReading(self) -> None:
        """Accept nobody from now on."""
        self.held = True
        self._waited = None
        if self.turns is not None:
            self.turns.closed(self)
        super().stopReading()

    def startReading(self) -> None:
        """Accept."""
        self.held = False
        self._waited = None
        if self.turns is not None:
            self.turns.opened(self)
        super().startReading()

    def doRead(self) -> None:
        """Called by the reactor when somebody has connected."""
        turns = self.turns
        if turns is None or turns.alone():
            self._waited = None
            for _ in range(ACCEPTS_A_TURN):
                if not self._accept(turns):
                    return
            return
        for _ in range(SHARED_ACCEPTS_A_TURN):
            waited, self._waited = self._waited, None
            if waited is None:
                others = turns.before()
                if others:
                    self._let_go_first(others)
                    return
            if not self._accept(turns):
                return
            if waited is not None:
                turns.came_back(waited)

    def _accept(self, turns: Turns | None) -> bool:
        """Accept one connection; whether to go on with the next."""
        if self.held or self.disconnecting or (turns is not None and not turns.room()):
            return False
        try:
            accepted, address = self.socket.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _ITS_OWN:
                return True
            self._wait(error)
            return False
        if turns is not None:
            turns.accepted()
        try:
            self._begin(accepted, address)
        except Exception:
            # One connection's trouble; the reactor would close the port for it.
            log.failure("a connection could not be begun")
            accepted.close()
        return True

    def _let_go_first(self, others: Waited) -> None:
        self._waited = others
        super().stopReading()
        if self._again is None:
            self._again = self.reactor.callLater(WAIT, self._go_on)

    def _begin(self, accepted: socket.socket, address: Any) -> None:
        if self.addressFamily == socket.AF_INET6:
            # With the scope of a link-local address.
            host = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
            address = (host, *address[1:])
        protocol = self.factory.buildProtocol(self._buildAddr(address))
        if protocol is None:
            accepted.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        protocol.makeConnection(self.transport(accepted, protocol, address, self, number, self.reactor))

    def _wait(self, error: OSError) -> None:
        now = self.reactor.seconds()
        if now >= self._quiet_until:
            log.error(
                "no connections can be accepted on {port}: {why}; clients have to wait (told once a minute)",
                port=self.getHost(),
                why=error.strerror or str(error),
            )
        self._quiet_until = now + TOLD_AGAIN
        super().stopReading()
        if self._again is None:
            self._again = self.reactor.callLater(ACCEPT_AGAIN, self._go_on)

    def _go_on(self) -> None:
        self._again = None
        if self.connected and not self.held and not self.disconnecting:
            super().startReading()
            if self._waited is not None:
                # What is there at this moment was left to us; what comes later is for the others again.
                self.doRead()

    def connectionLost(self, reason: Any) -> None:
        """Called by the reactor when the port is closed."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self.turns is not None:
            self.turns.closed(self)
        super().connectionLost(reason)
