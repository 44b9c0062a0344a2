"""The connection of a check: what it keeps, how it ends, whose fault that is."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.checks.connection import UNREAD, Connection
from lemmytx.interfaces import ICheckConnection, Unhealthy


class Transport(StringTransport):
    """One that notes how it was closed."""

    aborted = False

    def setTcpNoDelay(self, on: bool) -> None:
        """Nothing to do."""

    def abortConnection(self) -> None:
        """Closed at once."""
        self.aborted = True


class Connector:
    """One that notes that it was given up."""

    disconnected = False

    def disconnect(self) -> None:
        """Given up."""
        self.disconnected = True


class ConnectionTests(SynchronousTestCase):
    """L{Connection}"""

    def setUp(self) -> None:
        self.connector = Connector()
        self.transport = Transport()
        self.connection = Connection(b"PROXY UNKNOWN\r\n", None, "https", "a.example", "x")
        self.connection.connect(lambda factory: self.connector)

    def stands(self) -> Connection:
        """It does."""
        self.connection.makeConnection(self.transport)
        self.assertIs(self.connection, self.successResultOf(self.connection.opened))
        return self.connection

    def failed(self, waited: Any) -> str:
        """Why the backend is not well."""
        return str(self.failureResultOf(waited, Unhealthy).value)

    def test_header(self) -> None:
        """A header comes before what the check sends."""
        self.assertTrue(ICheckConnection.providedBy(self.connection))
        self.stands().write(b"PING")
        self.assertEqual(b"PROXY UNKNOWN\r\nPING", self.transport.value())

    def test_comesBeforeItIsWanted(self) -> None:
        """What comes before somebody waits for it is kept, in its order."""
        connection = self.stands()
        connection.dataReceived(b"one")
        connection.dataReceived(b"two")
        self.assertEqual(b"onetwo", self.successResultOf(connection.receive()))
        waited = connection.receive()
        self.assertNoResult(waited)
        connection.dataReceived(b"three")
        self.assertEqual(b"three", self.successResultOf(waited))

    def test_bounded(self) -> None:
        """A backend that sends more than is read is not listened to until it is."""
        connection = self.stands()
        connection.dataReceived(b"x" * UNREAD)
        self.assertEqual("producing", self.transport.producerState)
        connection.dataReceived(b"y")
        self.assertEqual("paused", self.transport.producerState)
        self.assertEqual(UNREAD + 1, len(self.successResultOf(connection.receive())))
        self.assertEqual("producing", self.transport.producerState)

    def test_ends(self) -> None:
        """After the end there is what came before it, and then nothing, as often as it is asked for."""
        connection = self.stands()
        connection.dataReceived(b"last")
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(b"last", self.successResultOf(connection.receive()))
        self.assertEqual(b"", self.successResultOf(connection.receive()))
        self.assertEqual(b"", self.successResultOf(connection.receive()))
        before = self.transport.value()
        connection.write(b"too late")
        self.assertEqual(before, self.transport.value())

    def test_lost(self) -> None:
        """A connection that is lost fails whoever waits, and whoever asks later."""
        connection = self.stands()
        waited = connection.receive()
        connection.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(self.failed(waited).startswith("the connection is lost: "))
        self.assertTrue(self.failed(connection.receive()).startswith("the connection is lost: "))

    def test_givenUp(self) -> None:
        """Who has stopped waiting is not in the way of the next one."""
        connection = self.stands()
        waited = connection.receive()
        waited.cancel()
        self.failureResultOf(waited, CancelledError)
        connection.dataReceived(b"x")
        self.assertEqual(b"x", self.successResultOf(connection.receive()))

    def test_failures(self) -> None:
        """A connection that does not come about is the backend's failure, unless it is we who are at the end."""
        self.connection.clientConnectionFailed(self.connector, Failure(TimeoutError()))
        self.assertTrue(self.failed(self.connection.opened).startswith("no connection: User timeout"))
        for number in (errno.EMFILE, errno.EADDRNOTAVAIL):
            connection = Connection(b"", None, "https", "", "x")
            connection.clientConnectionFailed(self.connector, Failure(ConnectError(number)))
            self.assertEqual(number, self.failureResultOf(connection.opened, OSError).value.errno)

    def test_noSocket(self) -> None:
        """Without a descriptor for the socket it is the same."""

        def connect(factory: Connection) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        connection = Connection(b"", None, "https", "", "x")
        connection.connect(connect)
        self.assertEqual(errno.EMFILE, self.failureResultOf(connection.opened, OSError).value.errno)
        connection.close()

    def test_closedBeforeItStands(self) -> None:
        """One that is not wanted any more is given up; when it stands all the same it is closed."""
        self.connection.close(False)
        self.assertTrue(self.connector.disconnected)
        self.connection.clientConnectionFailed(self.connector, Failure(ConnectError()))
        self.assertNoResult(self.connection.opened)
        self.connection.makeConnection(self.transport)
        self.assertTrue(self.transport.aborted)
        self.assertEqual(b"", self.transport.value())

    def test_closes(self) -> None:
        """It comes to an orderly end where there is time for that, else to a quick one."""
        connection = self.stands()
        connection.close()
        self.assertEqual((True, False), (self.transport.disconnecting, self.transport.aborted))
        connection.dataReceived(b"of no interest")
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(b"", self.successResultOf(connection.receive()))

    def test_aborts(self) -> None:
        """A backend that does not read, or does not stop, is not waited for."""
        connection = self.stands()
        connection.dataReceived(b"x" * 2 * UNREAD)
        connection.close()
        self.assertTrue(self.transport.aborted)
