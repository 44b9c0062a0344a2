"""TLS on a connection."""

from __future__ import annotations

import ssl
import sys

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, INegotiated
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from lemmytx.net.tls.connection import MOST_ANSWERS, Tls
from lemmytx.net.tls.server import ServerTls
from tests.certificates import Authority, self_signed
from tests.net.tls.peers import Half, Inner, Pair, TlsCase

#: Larger than what any part of it takes at once.
LARGE = bytes(range(256)) * 2000


class Case(TlsCase):
    """A test with a server for C{a.example} in the usual way."""

    def setUp(self) -> None:
        super().setUp()
        self._served = ServerTls(self.settings(), ("h2", "http/1.1"))

    def pair(self, inner: type[Inner] = Half, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Pair:
        client = self.trusting()
        client.maximum_version = version
        client.set_alpn_protocols(["h2", "http/1.1"])
        return Pair(client, self._served, inner=inner)


class Handshakes(Case):
    """The beginning."""

    def test_agreed(self) -> None:
        """Both sides know what they have agreed on, and that nobody has shown a certificate but the server."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            pair = self.pair(version=version).shaken()
            for end in (pair.client, pair.server):
                self.assertEqual(end.tls.negotiated, b"h2")
                self.assertEqual(end.tls.negotiatedProtocol, b"h2")
                self.assertEqual(end.tls.version, version.name.replace("_", "."))
                self.assertIn("AES", end.tls.cipher)
                self.assertEqual(end.tls.server_name, "a.example")
                self.assertFalse(end.tls.resumed)
                self.assertEqual(end.reasons, [])
            self.assertIsNone(pair.server.tls.peer_der)
            self.assertIsNone(pair.server.tls.getPeerCertificate())
            shown = pair.client.tls.getPeerCertificate()
            self.assertEqual(shown.subject.rfc4514_string(), "CN=a.example")

    def test_byte_by_byte(self) -> None:
        """A handshake and what follows it may come in single bytes."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            pair = self.pair(version=version)
            pair.pump(1)
            pair.client.tls.write(b"hello")
            pair.server.tls.write(b"welcome")
            pair.pump(1)
            self.assertEqual(pair.server.protocol.data, b"hello")
            self.assertEqual(pair.client.protocol.data, b"welcome")

    def test_data_with_the_end(self) -> None:
        """What a client sends together with the end of its handshake comes after L{Inside.secured}."""
        pair = self.pair()
        pair.server.tls.dataReceived(pair.client.raw.take())
        pair.client.tls.dataReceived(pair.server.raw.take())
        pair.client.tls.write(b"early bird")
        self.assertEqual(pair.server.opened, 0)
        pair.server.tls.dataReceived(pair.client.raw.take())
        self.assertEqual(pair.server.opened, 1)
        self.assertEqual(pair.server.protocol.pieces, [b"early bird"])

    def test_vanishing(self) -> None:
        """A peer that goes at any byte of its handshake: the other one is told once, and nothing is left open."""
        whole = self.pair()
        hello = len(whole.client.raw.value())
        whole.server.tls.dataReceived(whole.client.raw.take())
        whole.client.tls.dataReceived(whole.server.raw.take())
        finished = len(whole.client.raw.value())
        for count in [*range(0, hello + finished, 7), hello - 1, hello, hello + finished - 1]:
            pair = self.pair()
            first = pair.client.raw.take()
            pair.server.tls.dataReceived(first[:count]) if count else None
            if count > hello:
                pair.client.tls.dataReceived(pair.server.raw.take())
                pair.server.tls.dataReceived(pair.client.raw.take()[: count - hello])
            self.assertEqual((pair.server.opened, pair.server.reasons), (0, []), count)
            if count % 2:
                pair.server.tls.readConnectionLost()
                self.assertTrue(pair.server.raw.disconnecting)
            pair.server.tls.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(len(pair.server.reasons), 1)
            self.assertIn("during the handshake", pair.server.reasons[0])
            self.assertEqual(pair.server.opened, 0)

    def test_rubbish(self) -> None:
        """What is not TLS ends the connection, with a reason that tells the usual mistakes."""
        for data, reason in (
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "the peer speaks plain HTTP"),
            (b"CONNECT a:1 HTTP/1.1\r\n\r\n", "the peer speaks plain HTTP"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "the peer does not speak TLS"),
            (b"\x00" * 40, "the peer does not speak TLS"),
            (b"\x16\x03\x01\xff\xff" + b"\x01" * 40, "the peer does not speak TLS"),
            (b"\x16\x03\x01\x00\x05hello", None),
            (b"\x16\x03\x01\x00\x00" * 50, None),
            (b"\x17\x03\x03\x00\x05hello", None),
            (b"\x15\x03\x01\x00\x02\x02\x28", None),
        ):
            pair = self.pair()
            pair.server.tls.dataReceived(data)
            pair.server.tls.dataReceived(data)
            self.assertEqual(len(pair.server.reasons), 1, data)
            if reason is not None:
                self.assertEqual(pair.server.reasons, [reason])
            self.assertTrue(pair.server.raw.disconnecting)
            pair.server.tls.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(len(pair.server.reasons), 1)

    def test_mutations(self) -> None:
        """No byte of a client's greeting, changed, gets anything out but an end of the handshake."""
        greeting = self.pair().client.raw.value()
        for at in range(len(greeting)):
            pair = self.pair()
            damaged = bytearray(greeting)
            damaged[at] ^= 0x41
            pair.server.tls.dataReceived(bytes(damaged))
            pair.server.tls.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(len(pair.server.reasons), 1, at)
            self.assertEqual(pair.server.opened, 0)

    def test_untrusted(self) -> None:
        """A client that does not trust the certificate says why to itself and to the server, and both are told."""
        other = Authority("Other")
        for issued, reason in (
            (other.issue(["a.example"]), "unable to get local issuer certificate"),
            (self_signed(["a.example"]), "self-signed certificate"),
            (self.authority.expired(["a.example"]), "certificate has expired"),
            (self.authority.issue(["a.example"], started=-2), "certificate is not yet valid"),
            (self.authority.issue(["b.example"]), "certificate is not valid for 'a.example'"),
        ):
            served = self.served([issued.write(self.folder, "x.pem")])
            pair = Pair(self.trusting(), served)
            pair.pump()
            self.assertIn(reason, pair.client.reasons[0])
            self.assertTrue(pair.server.reasons[0].startswith("the peer refused: "), pair.server.reasons)
            self.assertEqual(pair.client.opened + pair.server.opened, 0)
            self.assertIsNotNone(pair.client.tls.error)

    def test_nothing_in_common(self) -> None:
        """A client of an old version is refused, and told so by an alert."""
        client = self.trusting()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        pair = Pair(client, self.served(preset="modern"))
        pair.pump()
        self.assertEqual(pair.server.reasons, ["no version of TLS in common"])
        self.assertEqual(pair.client.reasons, ["no version of TLS in common"])

    def test_aborted_by_the_caller(self) -> None:
        """A handshake that its caller ends, since it takes too long, is reported as failed once it is over."""
        pair = self.pair()
        pair.server.tls.abortConnection()
        pair.server.tls.dataReceived(pair.client.raw.take())
        self.assertTrue(pair.server.raw.aborted)
        self.assertEqual(pair.server.reasons, [])
        pair.server.tls.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(len(pair.server.reasons), 1)
        self.assertEqual(pair.server.raw.take(), b"")

    def test_errors_of_others(self) -> None:
        """What others cannot raise while a handshake is under way is told as ever."""
        told: list[object] = []
        self.patch(sys, "unraisablehook", told.append)
        pair = self.pair()

        class Others:
            def __del__(self) -> None:
                raise KeyError("not ours")

        class Shakes:
            def do_handshake(self) -> None:
                Others()  # it goes at once
                raise ssl.SSLWantReadError

        pair.server.tls._object = Shakes()  # type: ignore[assignment]
        pair.server.tls.dataReceived(b"x")
        self.assertEqual(len(told), 1)

    def test_name_that_is_none(self) -> None:
        """A client that is to ask for a name which cannot be one hears of it when it begins."""
        with self.assertRaises(ValueError):
            Tls(self.trusting(), Pair(self.trusting(), self.served()).client, False, "." * 300)


class Data(Case):
    """What goes through."""

    def test_large(self) -> None:
        """A long piece is sent in one write, and comes in one piece as far as it was read at once."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            pair = self.pair(version=version).shaken()
            pair.server.raw.writes = 0
            pair.server.tls.write(LARGE)
            self.assertEqual(pair.server.raw.writes, 1)
            pair.client.tls.dataReceived(pair.server.raw.take())
            self.assertEqual(pair.client.protocol.pieces, [LARGE])

    def test_pieces(self) -> None:
        """However the records are cut on their way, the bytes are the same."""
        for size in (1, 5, 1000, 16384, 16390, 40000):
            pair = self.pair().shaken()
            pair.client.tls.write(LARGE[:100_000])
            pair.pump(size)
            self.assertEqual(pair.server.protocol.data, LARGE[:100_000])

    def test_small_records_together(self) -> None:
        """Many small records that come at once are one piece for the protocol."""
        pair = self.pair().shaken()
        for _ in range(50):
            pair.client.tls.write(b"ab")
        pair.server.tls.dataReceived(pair.client.raw.take())
        self.assertEqual(pair.server.protocol.pieces, [b"ab" * 50])

    def test_sequence(self) -> None:
        """C{writeSequence} is one record; nothing is none."""
        pair = self.pair().shaken()
        pair.client.raw.writes = 0
        pair.client.tls.writeSequence([b"a", b"", b"b"])
        pair.client.tls.write(b"")
        self.assertEqual(pair.client.raw.writes, 1)
        pair.pump()
        self.assertEqual(pair.server.protocol.pieces, [b"ab"])

    def test_answer_from_within(self) -> None:
        """A protocol may answer while it is being told."""
        pair = self.pair().shaken()
        pair.server.protocol.then = lambda data: pair.server.tls.write(data[::-1])
        pair.client.tls.write(b"abc")
        pair.pump()
        self.assertEqual(pair.client.protocol.data, b"cba")

    def test_damaged(self) -> None:
        """A record that was changed on its way ends the connection; what came before it counts."""
        pair = self.pair().shaken()
        pair.client.tls.write(b"good")
        good = pair.client.raw.take()
        pair.client.tls.write(b"evil")
        bad = bytearray(pair.client.raw.take())
        bad[-1] ^= 1
        pair.server.tls.dataReceived(good + bytes(bad))
        self.assertEqual(pair.server.protocol.data, b"good")
        [reason] = pair.server.protocol.reasons
        self.assertTrue(reason.check(ConnectionLost))
        self.assertIn("damaged", str(reason.value))
        self.assertTrue(pair.server.raw.disconnecting)
        pair.server.tls.dataReceived(b"more")
        pair.server.tls.connectionLost(Failure(ConnectionDone()))
        pair.server.tls.write(b"nothing")
        self.assertEqual(len(pair.server.protocol.reasons), 1)
        pair.client.tls.dataReceived(pair.server.raw.take())
        self.assertIn("bad record mac", str(pair.client.protocol.reasons[0].value))

    def test_no_ssl_errors_get_out(self) -> None:
        """After an error in reading, writing raises nothing."""
        pair = self.pair().shaken()
        pair.server.tls._object.read = _raising  # type: ignore[method-assign]
        pair.server.tls._object.write = _raising  # type: ignore[assignment]
        pair.server.tls.write(b"x")
        self.assertTrue(pair.server.raw.aborted)
        pair.server.tls.dataReceived(b"x")
        pair.server.tls.connectionLost(Failure(ConnectionAborted()))
        self.assertTrue(pair.server.protocol.reasons[0].check(ConnectionAborted))

    def test_renegotiation(self) -> None:
        """A client of TLS 1.2 that wants to begin anew is refused, and served on."""
        from OpenSSL import SSL

        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = SSL.Connection(context, None)
        client.set_tlsext_host_name(b"a.example")
        client.set_connect_state()
        pair = self.pair()
        pair.client.raw.take()

        def carry() -> None:
            for _ in range(4):
                try:
                    pair.server.tls.dataReceived(client.bio_read(65536))
                except SSL.WantReadError:
                    pass
                data = pair.server.raw.take()
                if data:
                    client.bio_write(data)
                try:
                    client.do_handshake()
                except SSL.WantReadError:
                    pass

        carry()
        self.assertEqual(pair.server.opened, 1)
        client.renegotiate()
        with self.assertRaises(SSL.Error):
            carry()
        self.assertEqual((pair.server.opened, pair.server.protocol.reasons), (1, []))


def _raising(*_: object) -> bytes:
    raise ssl.SSLError(1, "[SSL] internal error")


class Ends(Case):
    """How connections end."""

    def test_orderly(self) -> None:
        """C{loseConnection} says close_notify; the other side, knowing nothing of halves, closes too, in order."""
        pair = self.pair(Inner).shaken()
        pair.client.tls.write(b"last words")
        pair.client.tls.loseConnection()
        self.assertTrue(pair.client.raw.disconnecting)
        pair.pump()
        self.assertEqual(pair.server.protocol.data, b"last words")
        self.assertTrue(pair.server.raw.disconnecting)
        self.assertEqual(pair.server.protocol.reasons, [])
        for end in (pair.client, pair.server):
            end.tls.connectionLost(Failure(ConnectionDone()))
            self.assertTrue(end.protocol.reasons[0].check(ConnectionDone))
            self.assertFalse(end.tls.connected)

    def test_half(self) -> None:
        """A side that has ended its half still gets what the other one says."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            pair = self.pair(version=version).shaken()
            pair.client.tls.write(b"question")
            pair.client.tls.loseWriteConnection()
            self.assertTrue(pair.client.raw.write_closed)
            pair.client.tls.writeConnectionLost()
            pair.client.tls.write(b"no more of this")
            pair.pump()
            self.assertEqual(pair.server.protocol.data, b"question")
            self.assertEqual(pair.server.protocol.read_ends, 1)  # type: ignore[attr-defined]
            self.assertEqual(pair.client.protocol.write_ends, 1)  # type: ignore[attr-defined]
            pair.server.tls.readConnectionLost()
            for _ in range(3):
                pair.server.tls.write(LARGE)
                pair.pump(20_000)
            self.assertEqual(pair.client.protocol.data, LARGE * 3)
            pair.server.tls.loseConnection()
            pair.pump()
            self.assertEqual(pair.client.protocol.read_ends, 1)  # type: ignore[attr-defined]
            self.assertEqual(pair.client.protocol.reasons + pair.server.protocol.reasons, [])

    def test_lingering(self) -> None:
        """What was on its way to a side that has ended its half arrives there, byte by byte even."""
        pair = self.pair().shaken()
        pair.client.tls.write(b"a long body")
        pair.server.tls.loseWriteConnection()
        pair.client.tls.write(b" and its end")
        pair.pump(1)
        self.assertEqual(pair.server.protocol.data, b"a long body and its end")

    def test_truncated(self) -> None:
        """The end of the raw connection without close_notify is a loss, for those who know halves and for others."""
        for inner in (Inner, Half):
            pair = self.pair(inner).shaken()
            pair.client.tls.write(b"part")
            pair.pump()
            pair.server.tls.readConnectionLost()
            [reason] = pair.server.protocol.reasons
            self.assertTrue(reason.check(ConnectionLost))
            self.assertIn("without close_notify", str(reason.value))
            self.assertTrue(pair.server.raw.disconnecting)
            self.assertFalse(pair.server.tls.connected)
            pair.server.tls.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(len(pair.server.protocol.reasons), 1)

    def test_truncated_at_once(self) -> None:
        """The same on a transport that knows no halves: C{ConnectionDone} becomes a loss; other reasons stay."""
        pair = self.pair().shaken()
        pair.server.tls.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(pair.server.protocol.reasons[0].check(ConnectionLost))
        pair.client.tls.connectionLost(Failure(ConnectionAborted()))
        self.assertTrue(pair.client.protocol.reasons[0].check(ConnectionAborted))

    def test_truncated_record(self) -> None:
        """A peer that vanishes in the middle of a record: what was whole counts, the rest is a loss."""
        pair = self.pair().shaken()
        pair.client.tls.write(b"whole")
        pair.client.tls.write(b"broken")
        pair.server.tls.dataReceived(pair.client.raw.take()[:-1])
        pair.server.tls.readConnectionLost()
        self.assertEqual(pair.server.protocol.data, b"whole")
        self.assertTrue(pair.server.protocol.reasons[0].check(ConnectionLost))

    def test_reader_is_gone(self) -> None:
        """What is queued for a peer that has gone without a word is not waited for."""
        pair = self.pair().shaken()
        pair.server.raw.queued = 5000
        pair.server.tls.readConnectionLost()
        self.assertTrue(pair.server.raw.aborted)

    def test_after_the_end(self) -> None:
        """Bytes after close_notify are ignored, whatever they are."""
        pair = self.pair().shaken()
        pair.client.tls.write(b"all")
        pair.client.tls.loseWriteConnection()
        pair.server.tls.dataReceived(pair.client.raw.take() + b"GET / HTTP/1.1\r\n\r\n")
        pair.server.tls.dataReceived(b"\x17\x03\x03\x00\x05hello")
        self.assertEqual(pair.server.protocol.data, b"all")
        self.assertEqual(pair.server.protocol.reasons, [])
        pair.server.tls.write(b"served on")
        pair.pump()
        self.assertEqual(pair.client.protocol.data, b"served on")

    def test_close_from_within(self) -> None:
        """A protocol that closes while it is being told does not hear of the peer's end any more."""
        for name in ("loseConnection", "abortConnection"):
            pair = self.pair().shaken()
            pair.server.protocol.then = lambda _, end=pair.server, name=name: getattr(end.tls, name)()
            pair.client.tls.write(b"x")
            pair.client.tls.loseConnection()
            pair.pump()
            self.assertEqual(pair.server.protocol.read_ends, 0)  # type: ignore[attr-defined]
            self.assertEqual(pair.server.raw.aborted, name == "abortConnection")

    def test_abort(self) -> None:
        """C{abortConnection} ends without a word, and nothing comes any more."""
        pair = self.pair().shaken()
        pair.client.tls.write(b"on its way")
        pair.server.tls.abortConnection()
        pair.server.tls.write(b"unsent")
        pair.server.tls.loseConnection()
        pair.pump()
        self.assertEqual(pair.server.protocol.data, b"")
        self.assertTrue(pair.server.raw.aborted)
        self.assertEqual(pair.client.protocol.pieces, [])

    def test_producer_first(self) -> None:
        """As with any transport, the end waits for the producer; what it writes until then is sent."""
        pair = self.pair().shaken()
        producer = object()
        pair.server.tls.registerProducer(producer, True)
        self.assertIs(pair.server.raw.producer, producer)
        pair.server.tls.loseConnection()
        self.assertTrue(pair.server.tls.disconnecting)
        pair.server.tls.write(b"the rest")
        self.assertFalse(pair.server.raw.disconnecting)
        pair.server.tls.unregisterProducer()
        self.assertTrue(pair.server.raw.disconnecting)
        pair.pump()
        self.assertEqual(pair.client.protocol.data, b"the rest")
        self.assertEqual(pair.client.protocol.read_ends, 1)  # type: ignore[attr-defined]
        pair.server.tls.unregisterProducer()

    def test_producer_of_a_lost_connection(self) -> None:
        """A producer is stopped when what the peer sends cannot be trusted, and one that comes later at once."""
        stopped = []

        class Producer:
            def stopProducing(self) -> None:
                stopped.append(self)

        pair = self.pair().shaken()
        first, second = Producer(), Producer()
        pair.server.tls.registerProducer(first, True)
        pair.server.tls.readConnectionLost()
        self.assertEqual(stopped, [first])
        self.assertIsNone(pair.server.raw.producer)
        pair.server.tls.registerProducer(second, True)
        self.assertEqual(stopped, [first, second])

    def test_errors_of_what_is_inside(self) -> None:
        """An error of the protocol goes where the raw transport takes it; one that knows what to do is asked."""
        pair = self.pair().shaken()

        def fails(_: bytes) -> None:
            raise KeyError("ours")

        pair.server.protocol.then = fails
        pair.client.tls.write(b"x")
        data = pair.client.raw.take()
        asked = []
        try:
            pair.server.tls.dataReceived(data)
        except KeyError:
            with self.assertRaises(KeyError):
                pair.server.tls.broke_down()
            pair.server.protocol.broke_down = lambda: asked.append(True)  # type: ignore[attr-defined]
            pair.server.tls.broke_down()
        self.assertEqual(asked, [True])


class Pauses(Case):
    """Who is slow makes the other one wait."""

    def test_held_back(self) -> None:
        """While it is paused the protocol gets nothing, even if bytes come; then they come first, from the reactor."""
        pair = self.pair().shaken()
        pair.server.tls.pauseProducing()
        self.assertEqual(pair.server.raw.producerState, "paused")
        pair.client.tls.write(b"one")
        pair.client.tls.write(b"two")
        pair.pump()
        self.assertEqual(pair.server.protocol.data, b"")
        pair.server.tls.resumeProducing()
        self.assertEqual(pair.server.raw.producerState, "producing")
        self.assertEqual(pair.server.protocol.data, b"")
        pair.server.raw.reactor.run()
        self.assertEqual(pair.server.protocol.data, b"onetwo")

    def test_bytes_overtake_nothing(self) -> None:
        """What comes between the resumption and the reactor's turn comes after what was held."""
        pair = self.pair().shaken()
        pair.server.tls.pauseProducing()
        pair.client.tls.write(b"one")
        pair.pump()
        pair.server.tls.resumeProducing()
        pair.client.tls.write(b"two")
        pair.pump()
        pair.server.raw.reactor.run()
        self.assertEqual(pair.server.protocol.data, b"onetwo")

    def test_end_held_back(self) -> None:
        """The peer's end is told when the protocol reads again."""
        pair = self.pair().shaken()
        pair.server.protocol.then = lambda _: pair.server.tls.pauseProducing()
        pair.client.tls.write(b"all")
        pair.client.tls.loseWriteConnection()
        pair.pump()
        self.assertEqual(pair.server.protocol.data, b"all")
        self.assertEqual(pair.server.protocol.read_ends, 0)  # type: ignore[attr-defined]
        pair.server.tls.resumeProducing()
        pair.server.raw.reactor.run()
        self.assertEqual(pair.server.protocol.read_ends, 1)  # type: ignore[attr-defined]

    def test_paused_before_anything_comes(self) -> None:
        """A protocol that pauses as soon as it is connected gets nothing of what came with the handshake's end."""
        pair = self.pair()
        pair.server.protocol.connectionMade = lambda: pair.server.tls.pauseProducing()  # type: ignore[method-assign]
        pair.server.tls.dataReceived(pair.client.raw.take())
        pair.client.tls.dataReceived(pair.server.raw.take())
        pair.client.tls.write(b"early")
        pair.server.tls.dataReceived(pair.client.raw.take())
        self.assertEqual(pair.server.protocol.data, b"")
        pair.server.tls.resumeProducing()
        pair.server.raw.reactor.run()
        self.assertEqual(pair.server.protocol.data, b"early")

    def test_paused_again(self) -> None:
        """Paused again before the reactor's turn: it waits on. Lost meanwhile: nothing comes."""
        pair = self.pair().shaken()
        pair.server.tls.pauseProducing()
        pair.client.tls.write(b"one")
        pair.pump()
        pair.server.tls.resumeProducing()
        pair.server.tls.pauseProducing()
        pair.server.raw.reactor.run()
        self.assertEqual(pair.server.protocol.data, b"")
        pair.server.tls.resumeProducing()
        pair.server.tls.connectionLost(Failure(ConnectionAborted()))
        pair.server.raw.reactor.run()
        self.assertEqual(pair.server.protocol.data, b"")

    def test_error_after_a_pause(self) -> None:
        """An error of the protocol in the reactor's turn ends this connection, and the protocol is asked if it can."""
        for asks in (True, False):
            pair = self.pair().shaken()
            asked: list[bool] = []
            if asks:
                pair.server.protocol.broke_down = lambda asked=asked: asked.append(True)  # type: ignore[attr-defined]

            def fails(_: bytes) -> None:
                raise KeyError("ours")

            pair.server.protocol.then = fails
            pair.server.tls.pauseProducing()
            pair.client.tls.write(b"one")
            pair.pump()
            pair.server.tls.resumeProducing()
            if asks:
                pair.server.raw.reactor.run()
                self.assertEqual(asked, [True])
            else:
                self.assertRaises(KeyError, pair.server.raw.reactor.run)
                self.assertTrue(pair.server.raw.aborted)

    def test_end_of_the_raw_connection(self) -> None:
        """If the raw connection ends while it is paused, what has come is told before the loss."""
        pair = self.pair().shaken()
        pair.server.tls.pauseProducing()
        pair.client.tls.write(b"one")
        pair.pump()
        pair.server.tls.readConnectionLost()
        self.assertEqual(pair.server.protocol.data, b"one")
        self.assertTrue(pair.server.protocol.reasons[0].check(ConnectionLost))


class Bounds(Case):
    """What a peer can cost."""

    def test_key_updates(self) -> None:
        """Who asks for new keys over and over, and does not read the answers, is cut off."""
        pair, updates = self._key_updates(MOST_ANSWERS + 20)
        asked = 0
        while not pair.server.protocol.reasons:
            pair.server.raw.queued = 1000
            pair.server.tls.dataReceived(updates[asked])
            asked += 1
        # OpenSSL may put an answer off until it is called again.
        self.assertIn(asked, (MOST_ANSWERS + 1, MOST_ANSWERS + 2))
        self.assertIn("reads nothing", str(pair.server.protocol.reasons[0].value))
        self.assertTrue(pair.server.raw.aborted)

    def test_key_updates_of_a_reader(self) -> None:
        """Who reads the answers may ask as often as it likes, and data goes on both ways."""
        pair, updates = self._key_updates(MOST_ANSWERS * 2)
        for update in updates:
            pair.server.tls.dataReceived(update)
        self.assertEqual(pair.server.protocol.reasons, [])

    def test_answered_at_once(self) -> None:
        """A request for new keys is answered when it comes, also with data behind it."""
        pair, updates = self._key_updates(2)
        pair.client.tls.write(b"data")
        pair.server.raw.take()
        pair.server.tls.dataReceived(b"".join(updates) + pair.client.raw.take())
        self.assertEqual(pair.server.protocol.data, b"data")
        self.assertNotEqual(pair.server.raw.take(), b"")

    def _key_updates(self, count: int) -> tuple[Pair, list[bytes]]:
        """A connection, and so many requests of its client for new keys (RFC 8446 §4.6.3), in order."""
        import ctypes

        from lemmytx.net.tls import _openssl

        if not _openssl.available:
            self.skipTest(_openssl.why_not)
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
        pair = self.pair().shaken()
        inner = pair.client.tls._object._sslobj  # type: ignore[attr-defined]  # no other client can be made to
        connection = ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + 8).value
        updates = []
        for _ in range(count):
            assert library.SSL_key_update(connection, 1) == 1
            assert library.SSL_do_handshake(connection) == 1
            updates.append(pair.client.tls._outgoing.read())
        return pair, updates


class AsTransport(Case):
    """What the protocols inside use."""

    def test_interfaces(self) -> None:
        """It provides what it says."""
        tls = self.pair().shaken().server.tls
        verifyObject(IHalfCloseableProtocol, tls)
        verifyObject(INegotiated, tls)

    def test_of_the_raw_one(self) -> None:
        """What is known of the raw transport is known here: queue, room, addresses."""
        pair = self.pair().shaken()
        raw, tls = pair.server.raw, pair.server.tls
        self.assertFalse(tls.plain)
        self.assertTrue(tls.quiet)
        raw.queued, raw.behind, raw.failed_write, raw.bufferSize = 7, True, True, 99
        self.assertEqual((tls.queued, tls.behind, tls.failed_write, tls.bufferSize), (7, True, True, 99))
        self.assertFalse(tls.quiet)
        tls.behind = False
        self.assertFalse(raw.behind)
        self.assertIs(tls.reactor, raw.reactor)
        self.assertEqual(tls.getPeer(), raw.getPeer())
        self.assertEqual(tls.getHost(), raw.getHost())
        tls.setTcpNoDelay(True)
        self.assertIs(raw.delay, False)
        self.assertTrue(tls.connected)
        self.assertFalse(tls.disconnecting)

    def test_session(self) -> None:
        """A client that shows the session of its last connection continues it."""
        served = self.served()
        client = self.trusting()
        pair = Pair(client, served).shaken()
        again = Pair(client, served, session=pair.client.tls.session).shaken()
        self.assertTrue(again.client.tls.resumed)
        self.assertTrue(again.server.tls.resumed)
        self.assertEqual(again.server.tls.server_name, "a.example")

    def test_shown(self) -> None:
        """Its text says which side it is, how far it is and what is inside."""
        pair = self.pair()
        self.assertIn("server handshake", repr(pair.server.tls))
        pair.shaken()
        self.assertRegex(repr(pair.client.tls), r"<Tls client TLSv1\.3 TLS_AES_256_GCM_SHA384 <.*Half")
        pair.client.tls.readConnectionLost()
        self.assertIn("over", repr(pair.client.tls))
