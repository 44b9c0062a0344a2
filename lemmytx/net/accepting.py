"""
Ports that stop at once when they are told to, and wait when there is nothing to accept a connection with.

Twisted's accepts a hundred connections and more in one go, whatever the protocols built for them do, so a limit on
connections would be overrun by any burst. And when there are no file descriptors left it accepts with one that it keeps
in reserve and closes at once: every waiting client is sent away, each with a line in the log. Here they stay in the
kernel's queue, as with nginx, until there are descriptors again; a line says so once a minute.
"""

from __future__ import annotations

import errno
import socket
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.logger import Logger

#: The most connections accepted in one turn of the reactor. The established ones want theirs, too.
ACCEPTS_A_TURN = 100

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
    """

    held = False
    factory: Any
    reactor: Any
    _again: Any = None
    _quiet_until = -inf

    def stopReading(self) -> None:
        """Accept nobody from now on."""
        self.held = True
        super().stopReading()

    def startReading(self) -> None:
        """Accept."""
        self.held = False
        super().startReading()

    def doRead(self) -> None:
        """Called by the reactor when somebody has connected."""
        for _ in range(ACCEPTS_A_TURN):
            if self.held or self.disconnecting:
                return
            try:
                accepted, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _ITS_OWN:
                    continue
                self._wait(error)
                return
            try:
                self._begin(accepted, address)
            except Exception:
                # One connection's trouble; the reactor would close the port for it.
                log.failure("a connection could not be begun")
                accepted.close()

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

    def connectionLost(self, reason: Any) -> None:
        """Called by the reactor when the port is closed."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        super().connectionLost(reason)
