"""TLS over real sockets: our transports with it, and clients that know nothing of us."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import ClientFactory, Factory
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue

from lemmytx.model import Tls as TlsSettings
from lemmytx.net.tls import _openssl
from lemmytx.net.tls.connection import Tls
from lemmytx.net.tls.server import ServerTls
from tests.certificates import Authority
from tests.net.pairs import KINDS, NetCase, Recorder, tick

LARGE = os.urandom(1 << 16) * 128  # 8 MB

openssl = shutil.which("openssl")


class Starts:
    """What a connection becomes: a L{Recorder} in TLS. C{failed} fires when it does not."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.failed: Deferred[str] = Deferred()

    def secured(self, tls: Tls) -> None:
        tls.protocol = self.recorder
        self.recorder.makeConnection(tls)  # type: ignore[arg-type]  # it is what protocols use of an ITransport

    def insecure(self, reason: str) -> None:
        self.failed.callback(reason)


class TlsNetCase(NetCase):
    """A test with a server of TLS on a real socket."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.issued = self.authority.issue(["localhost", "127.0.0.1"])
        self.client_context = ssl.create_default_context(cadata=self.authority.cert_pem.decode())
        self.client_context.set_alpn_protocols(["h2"])
        self.accepted: list[Starts] = []

    def served(self, **settings: Any) -> ServerTls:
        path = self.issued.write(self.folder)
        return ServerTls(TlsSettings(certificates=(path,), **settings), ("h2", "http/1.1"))

    def secure_port(self, kind: str, served: ServerTls) -> Any:
        """A port of ours whose connections are L{Starts}."""
        case = self

        class Accepting(Factory[Any]):
            noisy = False

            def buildProtocol(self, addr: object) -> Tls:
                case.accepted.append(Starts())
                return served.connection(case.accepted[-1])

        return self.listen(kind, Accepting())

    async def secure_pair(self, kind: str) -> tuple[Recorder, Recorder]:
        """Both ends on our transports: server and client."""
        started = Starts()
        port = self.secure_port(kind, self.served())
        context = self.client_context

        class Connecting(ClientFactory[Any]):
            noisy = False

            def buildProtocol(self, addr: object) -> Tls:
                return Tls(context, started, False, "localhost")

        self.connect(port, Connecting())
        await started.recorder.connected_
        server = self.accepted[0].recorder
        await server.connected_
        self.addCleanup(self.gone, server, started.recorder)
        return server, started.recorder


class Ours(TlsNetCase):
    """Our transports at both ends."""

    async def test_large_both_ways(self) -> None:
        """8 MB in each direction at once arrive as they were sent."""
        for kind in KINDS:
            self.accepted.clear()
            server, client = await self.secure_pair(kind)
            for end in (server, client):
                end.transport.write(LARGE)  # type: ignore[union-attr]
            await server.when(lambda end=server: len(end.data) == len(LARGE))
            await client.when(lambda end=client: len(end.data) == len(LARGE))
            self.assertEqual(server.data, LARGE)
            self.assertEqual(client.data, LARGE)

    async def test_slow_reader(self) -> None:
        """Who does not read fills the other one's queue, whose producer is paused, and goes on when it reads."""
        server, client = await self.secure_pair("tcp")
        client.transport.pauseProducing()  # type: ignore[union-attr]
        server.transport.registerProducer(server, True)  # type: ignore[union-attr]
        sent = 0
        while not server.pauses:
            server.transport.write(LARGE[: 1 << 18])  # type: ignore[union-attr]
            sent += 1 << 18
            await tick()
        self.assertGreater(server.transport.queued, server.transport.bufferSize)  # type: ignore[union-attr]
        self.assertEqual(client.data, b"")
        client.transport.resumeProducing()  # type: ignore[union-attr]
        await server.when(lambda: server.resumes > 0)
        await client.when(lambda: len(client.data) == sent)
        self.assertTrue(server.transport.quiet)  # type: ignore[union-attr]
        server.transport.unregisterProducer()  # type: ignore[union-attr]

    async def test_half_close(self) -> None:
        """One side ends its half; what the other one then says still comes, and its end too."""
        server, client = await self.secure_pair("tcp")
        client.transport.write(b"question")  # type: ignore[union-attr]
        client.transport.loseWriteConnection()  # type: ignore[union-attr]
        await server.when(lambda: server.read_closed)
        self.assertEqual(server.data, b"question")
        server.transport.write(LARGE)  # type: ignore[union-attr]
        server.transport.loseConnection()  # type: ignore[union-attr]
        await server.lost
        await client.when(lambda: client.read_closed)
        self.assertEqual(client.data, LARGE)
        self.assertTrue(server.reason is not None and server.reason.check(ConnectionDone))

    async def test_vanished(self) -> None:
        """A side that is cut off is a loss for the other one, never an end."""
        server, client = await self.secure_pair("tcp")
        client.transport.abortConnection()  # type: ignore[union-attr]
        await server.lost
        self.assertTrue(server.reason is not None and server.reason.check(ConnectionLost))
        self.assertFalse(server.transport.connected)  # type: ignore[union-attr]
        server.transport.write(b"into the void")  # type: ignore[union-attr]


class Strangers(TlsNetCase):
    """Clients that know nothing of us."""

    def blocking(self, port: Any, talk: Callable[[ssl.SSLSocket], Any]) -> Deferred[Any]:
        """Let Python's own TLS talk to the port, in a thread."""

        def talks() -> Any:
            plain = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
            with self.client_context.wrap_socket(plain, server_hostname="localhost") as secured:
                return talk(secured)

        return deferToThread(talks)

    async def test_echo(self) -> None:
        """Python's own client is understood, and understands."""
        port = self.secure_port("tcp", self.served())

        def talk(client: ssl.SSLSocket) -> tuple[str | None, str | None, bytes]:
            client.sendall(b"hello")
            got = b""
            while len(got) < 5:
                got += client.recv(100)
            agreed = client.version(), client.selected_alpn_protocol()
            client.unwrap()
            return *agreed, got

        talking = self.blocking(port, talk)
        while not self.accepted:
            await tick()
        server = self.accepted[0].recorder
        await server.connected_
        await server.when(lambda: server.data == b"hello")
        server.transport.write(b"HELLO")  # type: ignore[union-attr]
        await server.when(lambda: server.read_closed)
        server.transport.loseConnection()  # type: ignore[union-attr]
        self.assertEqual(await talking, ("TLSv1.3", "h2", b"HELLO"))
        await server.lost

    async def test_fin_alone(self) -> None:
        """A client that closes its socket without a word of TLS has not ended in order."""
        port = self.secure_port("tcp", self.served())
        await self.blocking(port, lambda client: client.sendall(b"part"))
        server = self.accepted[0].recorder
        await server.lost
        self.assertEqual(server.data, b"part")
        self.assertTrue(server.reason is not None and server.reason.check(ConnectionLost))

    async def test_rubbish(self) -> None:
        """Plain HTTP on the port of TLS is told as that, and closed."""
        port = self.secure_port("tcp", self.served())
        plain = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
        self.addCleanup(plain.close)
        plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while not self.accepted:
            await tick()
        self.assertEqual(await self.accepted[0].failed, "the peer speaks plain HTTP")

        def rest() -> bytes:
            got = b""
            while data := plain.recv(100):
                got += data
            return got

        self.assertRegex(await deferToThread(rest), rb"(?s)\A(\x15\x03.*)?\Z")


class OpenSslClient(TlsNetCase):
    """The command C{openssl s_client}."""

    if openssl is None:
        skip = "there is no openssl command here"

    async def s_client(self, port: Any, *arguments: str) -> str:
        """What it prints; its standard input is empty."""
        assert openssl is not None
        ca = self.authority.write(self.folder)
        address = f"127.0.0.1:{port.getHost().port}"
        command = ("s_client", "-connect", address, "-servername", "localhost", "-CAfile", ca, *arguments)
        output, _, _ = await getProcessOutputAndValue(
            openssl, command, dict(os.environ), reactor=reactor, stdinBytes=b""
        )
        said: str = output.decode()
        return said

    async def test_verified(self) -> None:
        """It verifies the certificate for the name, and agrees on what is best."""
        said = await self.s_client(self.secure_port("tcp", self.served()), "-verify_return_error", "-alpn", "h2")
        self.assertIn("Verify return code: 0 (ok)", said)
        self.assertIn("ALPN protocol: h2", said)
        self.assertIn("TLSv1.3", said)

    async def test_stapled(self) -> None:
        """It sees the OCSP response, and finds it good."""
        if not _openssl.available:
            self.skipTest(_openssl.why_not)
        staple = os.path.join(self.folder, "ocsp.der")
        with open(staple, "wb") as file:
            file.write(self.authority.staple(self.issued))
        port = self.secure_port("tcp", self.served(ocsp=(staple,)))
        for version in ("-tls1_2", "-tls1_3"):
            said = await self.s_client(port, "-status", version)
            self.assertIn("OCSP Response Status: successful", said)
            self.assertIn("Cert Status: good", said)

    async def test_resumed(self) -> None:
        """It resumes its session at another server with the same secret (TLS 1.2, where it has the ticket at once)."""
        if not _openssl.available:
            self.skipTest(_openssl.why_not)
        path = self.issued.write(self.folder)
        session = os.path.join(self.folder, "session")
        said = []
        for option in ("-sess_out", "-sess_in"):
            served = ServerTls(TlsSettings(certificates=(path,)), (), b"s" * 32)
            said.append(await self.s_client(self.secure_port("tcp", served), "-tls1_2", option, session))
        self.assertIn("New, TLSv1.2", said[0])
        self.assertIn("Reused, TLSv1.2", said[1])


class Memory(TlsNetCase):
    """What a connection holds."""

    async def test_long_bodies_leave_nothing(self) -> None:
        """After a long body both directions of OpenSSL's memory are empty, and nothing is held of it."""
        server, client = await self.secure_pair("tcp")
        client.transport.write(LARGE)  # type: ignore[union-attr]
        await server.when(lambda: len(server.data) == len(LARGE))
        for end in (server, client):
            tls: Any = end.transport
            self.assertEqual((tls._incoming.pending, tls._outgoing.pending, tls._object.pending()), (0, 0, 0))
