"""TLS as an endpoint description."""

from __future__ import annotations

import ssl
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.protocol import ClientFactory, Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from lemmytx.net.sockets import CannotListen, Sockets, adopt
from lemmytx.net.tls.endpoint import INTERVAL, Securing, read
from lemmytx.net.tls.server import BadTls, ServerTls
from tests.certificates import Authority
from tests.net.pairs import NetCase, Recorder, tick
from tests.net.tls.peers import End, Half, Raw, TlsCase


class Descriptions(SynchronousTestCase):
    """What may be written."""

    def test_read(self) -> None:
        """All settings of C{tls:}, with lists in commas, units, and truth as in the configuration."""
        settings = read(
            {
                "certificates": "a,b",
                "preset": "modern",
                "minimum_version": "1.3",
                "strict_sni": "true",
                "client_ca": "ca",
                "client_auth": "optional",
                "ticket_rotation": "1h",
                "handshakes": "7",
                "session_tickets": "false",
            }
        )
        self.assertEqual(settings.certificates, ("a", "b"))
        self.assertEqual((settings.preset, settings.minimum_version), ("modern", "1.3"))
        self.assertEqual((settings.strict_sni, settings.session_tickets), (True, False))
        self.assertEqual((settings.ticket_rotation, settings.handshakes), (3600.0, 7))
        self.assertEqual((settings.client_ca, settings.client_auth), ("ca", "optional"))

    def test_errors(self) -> None:
        """What cannot be is refused before anything listens, and the text says which setting."""
        for description, error in (
            ("lemmytls:tcp\\:0", "certificates: "),
            ("lemmytls:tcp\\:0:certificates=a:colour=red", "colour: there is no such setting"),
            ("lemmytls:tcp\\:0:certificates=a:preset=old", "preset: "),
            ("lemmytls:tcp\\:0:certificates=a:handshakes=many", "handshakes: "),
            ("lemmytls:certificates=a", "takes one endpoint to listen on"),
            ("lemmytls:tcp:0:certificates=a", "takes one endpoint to listen on"),
        ):
            with self.assertRaisesRegex(ValueError, error):
                serverFromString(reactor, description)


class Listening(TlsCase):
    """With a reactor in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.path_ = self.authority.issue(["a.example"]).write(self.folder)
        self.reactor: Any = MemoryReactorClock()

    def listen(self, factory: Any, more: str = "") -> Any:
        """@return: the factory that the port got."""
        endpoint = serverFromString(self.reactor, f"lemmytls:tcp\\:8443:certificates={self.path_}{more}")
        self.successResultOf(endpoint.listen(factory))
        [(port, listening, *_)] = self.reactor.tcpServers
        self.assertEqual(port, 8443)
        return listening

    def connect(self, listening: Securing, end: End) -> Any:
        """A client of it; its handshake is not over."""
        from lemmytx.net.tls.connection import Tls

        tls = listening.buildProtocol(None)
        if tls is None:
            return None
        end.tls = Tls(self.client, end, False, "a.example")
        end.tls.makeConnection(end.raw)
        raw = Raw()
        tls.makeConnection(raw)
        return tls, raw

    @property
    def client(self) -> ssl.SSLContext:
        context = self.trusting()
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def pump(self, tls: Any, raw: Raw, end: End) -> None:
        while end.raw.value() or raw.value():
            tls.dataReceived(end.raw.take())
            data = raw.take()
            if data:
                end.tls.dataReceived(data)

    def test_protocols_in_tls(self) -> None:
        """The factory's protocol gets what was inside of TLS, and has it for a transport."""
        made: list[Half] = []

        class Made(Factory[Any]):
            def buildProtocol(self, addr: object) -> Half:
                made.append(Half())
                return made[-1]

        listening = self.listen(Made(), ":alpn=http/1.1")
        end = End(Half())
        tls, raw = self.connect(listening, end)
        self.assertEqual(made, [])
        self.pump(tls, raw, end)
        end.tls.write(b"hello")
        self.pump(tls, raw, end)
        self.assertEqual(made[0].data, b"hello")
        self.assertIs(made[0].transport, tls)
        self.assertEqual(tls.negotiatedProtocol, b"http/1.1")
        self.assertEqual(listening.handshakes, 0)

    def test_protocols_of_the_factory(self) -> None:
        """Without C{alpn} a factory that knows what it speaks is asked."""

        @implementer(IProtocolNegotiationFactory)
        class Speaks(Factory[Any]):
            protocol = Half

            def acceptableProtocols(self) -> list[bytes]:
                return [b"h2"]

        listening = self.listen(Speaks.forProtocol(Half))
        end = End(Half())
        self.pump(*self.connect(listening, end), end)
        self.assertEqual(end.tls.negotiated, b"h2")

    def test_refused_by_the_factory(self) -> None:
        """A factory that wants no protocol for it ends the connection."""

        class Refuses(Factory[Any]):
            def buildProtocol(self, addr: object) -> None:
                return None

        listening = self.listen(Refuses())
        end = End(Half())
        tls, raw = self.connect(listening, end)
        self.pump(tls, raw, end)
        self.assertTrue(raw.aborted)

    def test_time_and_number(self) -> None:
        """A handshake has its time, and there is a bound to how many there are at once."""
        listening = self.listen(Factory.forProtocol(Half), ":handshake_timeout=2s:handshakes=2")
        ends = [End(Half()) for _ in range(3)]
        first, second = self.connect(listening, ends[0]), self.connect(listening, ends[1])
        self.assertIsNone(self.connect(listening, ends[2]))
        self.pump(*second, ends[1])
        third = self.connect(listening, ends[2])
        self.reactor.advance(1)
        self.assertFalse(first[1].aborted)
        self.reactor.advance(1)
        self.assertTrue(first[1].aborted)
        self.assertFalse(second[1].aborted)
        self.assertTrue(third[1].aborted)
        from twisted.internet.error import ConnectionAborted
        from twisted.python.failure import Failure

        for tls, _ in (first, third):
            tls.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(listening.handshakes, 0)

    def test_failed_handshake(self) -> None:
        """What is not TLS is counted out again, and its timer goes with it."""
        listening = self.listen(Factory.forProtocol(Half))
        tls, raw = self.connect(listening, End(Half()))
        tls.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(raw.disconnecting)
        self.assertEqual(listening.handshakes, 0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_files_are_looked_at(self) -> None:
        """As long as the port listens, files that change are read again."""
        listening = self.listen(Factory.forProtocol(Half))
        listening.doStart()
        self.authority.issue(["b.example"]).write(self.folder, "site.pem")
        self.assertTrue(listening.tls.changed())
        self.reactor.advance(INTERVAL)
        self.assertFalse(listening.tls.changed())
        self.assertEqual(listening.tls.certificates()[0].names, ("b.example",))
        listening.doStop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_without_a_clock(self) -> None:
        """Without anything that tells the time it serves without timeouts."""
        securing = Securing(Factory.forProtocol(Half), ServerTls(self.settings()), self.settings(), None)
        securing.doStart()
        end = End(Half())
        self.pump(*self.connect(securing, end), end)
        self.assertEqual(end.opened, 1)
        securing.doStop()

    def test_bad_certificates(self) -> None:
        """Listening fails with what is wrong with the files, and no port is opened."""
        endpoint = serverFromString(self.reactor, "lemmytls:tcp\\:8443:certificates=/none.pem")
        failure = self.failureResultOf(endpoint.listen(Factory.forProtocol(Half)), BadTls)
        self.assertIn("/none.pem: there is no such file or folder", str(failure.value))
        self.assertEqual(self.reactor.tcpServers, [])

    def test_warnings(self) -> None:
        """A certificate that is about to expire is told when it begins to listen."""
        from twisted.logger import globalLogPublisher

        lines: list[str] = []

        def hear(event: Any) -> None:
            if event.get("log_namespace") == "lemmytx.tls":
                lines.append(event["about"])

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        self.authority.issue(["a.example"], days=3).write(self.folder)
        self.listen(Factory.forProtocol(Half))
        self.assertIn("expires on", lines[0])


class Adopted(NetCase):
    """With real sockets, opened apart from accepting."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.certificate = self.authority.issue(["localhost"]).write(self.folder, "site.pem")

    async def test_opened_and_adopted(self) -> None:
        """Its socket can be opened here and accepted on there; a client of Twisted's own TLS gets an answer."""
        from twisted.internet.ssl import Certificate, optionsForClientTLS

        sockets = Sockets({"sockets": {}, "systemd": []})
        description = f"lemmytls:tcp\\:0\\:interface\\=127.0.0.1:certificates={self.certificate}"
        opened = await sockets.open(description)
        self.addCleanup(sockets.close, description)
        accepted: list[Recorder] = []

        class Accepting(Factory[Any]):
            noisy = False

            def buildProtocol(self, addr: object) -> Recorder:
                accepted.append(Recorder())
                return accepted[-1]

        port = await adopt(self.network, description, opened.descriptors(), Accepting())
        self.addCleanup(port.stopListening)
        client = Recorder()

        class Connecting(ClientFactory[Any]):
            noisy = False

            def buildProtocol(self, addr: object) -> Recorder:
                return client

        options = optionsForClientTLS("localhost", Certificate.loadPEM(self.authority.cert_pem))
        reactor.connectSSL("127.0.0.1", port.getHost().port, Connecting(), options)  # type: ignore[attr-defined]
        await client.connected_
        client.transport.write(b"hello")  # type: ignore[union-attr]
        while not accepted:
            await tick()
        await accepted[0].when(lambda: accepted[0].data == b"hello")
        large = bytes(range(256)) * 40_000
        accepted[0].transport.write(large)  # type: ignore[union-attr]
        accepted[0].transport.loseConnection()  # type: ignore[union-attr]
        await client.lost
        await accepted[0].lost
        self.assertEqual(bytes(client.data), large)
        self.assertEqual(type(client.reason.value).__name__, "ConnectionDone")  # type: ignore[union-attr]

    async def test_bad_certificates(self) -> None:
        """An instance cannot open it, and says why."""
        sockets = Sockets({"sockets": {}, "systemd": []})
        with self.assertRaisesRegex(CannotListen, "there is no such file or folder"):
            await sockets.open("lemmytls:tcp\\:0:certificates=/none.pem")
