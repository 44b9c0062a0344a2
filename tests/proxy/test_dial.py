"""Connecting to backends: addresses, the PROXY protocol, TLS."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import error
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from lemmytx import proxy_protocol
from lemmytx.addresses import parse_url
from lemmytx.cluster.backend import Pool
from lemmytx.cluster.rules import Rules
from lemmytx.cluster.way import Way
from lemmytx.model import BackendTls
from lemmytx.net.tls.client import TOLD_AGAIN, ClientTls, pin_of
from lemmytx.proxy.dial import HEAD_START, MOST_ADDRESSES, in_turn
from lemmytx.proxy.terms import Terms
from tests.certificates import Authority, Issued, self_signed
from tests.process.rig import folder
from tests.proxy.rig import GET, OK, End, ProxyCase, Wire, post

FOUR = ("192.0.2.11", "192.0.2.12", "192.0.2.13")
SIX = ("2001:db8::11", "2001:db8::12")


class OrderTests(ProxyCase):
    """L{in_turn}."""

    def test_turns(self) -> None:
        """The families take turns, beginning with the first address; within a family the order stays."""
        for addresses, expected in (
            (FOUR, FOUR),
            (SIX, SIX),
            ((*SIX, *FOUR), (SIX[0], FOUR[0], SIX[1], FOUR[1], FOUR[2])),
            ((*FOUR, *SIX), (FOUR[0], SIX[0], FOUR[1], SIX[1], FOUR[2])),
            ((FOUR[1], SIX[1], SIX[0], FOUR[0]), (FOUR[1], SIX[1], FOUR[0], SIX[0])),
        ):
            self.assertEqual(in_turn(addresses), list(expected))

    def test_most(self) -> None:
        """No more addresses are tried than there should be, and the other family is among them."""
        many = [f"192.0.2.{number}" for number in range(50)] + list(SIX)
        turns = in_turn(many)
        self.assertEqual(len(turns), MOST_ADDRESSES)
        self.assertEqual(turns[:4], ["192.0.2.0", SIX[0], "192.0.2.1", SIX[1]])


class EyeballsTests(ProxyCase):
    """A name with several addresses (RFC 8305)."""

    def dial(self, *addresses: str) -> End:
        """A client asks for something on a backend with these addresses."""
        self.backend.addresses = addresses
        client = self.client()
        client.send(GET)
        return client

    @property
    def tried(self) -> list[str]:
        """What is being connected to now."""
        return [dialled.address for dialled in self.network.dialled]

    def test_one(self) -> None:
        """A single address is given all the time there is, and needs no timer."""
        before = len(self.loop.getDelayedCalls())
        client = self.dial(FOUR[0])
        self.assertEqual(len(self.loop.getDelayedCalls()), before)
        self.loop.wait(3)
        self.assertEqual((self.tried, self.network.dialled[0].timeout), ([FOUR[0]], 4.0))
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)

    def test_headStart(self) -> None:
        """An address that does not answer gets the next one beside it after 250 ms, of the other family."""
        self.dial(*SIX, *FOUR)
        self.assertEqual(self.tried, [SIX[0]])
        self.loop.advance(HEAD_START - 0.01)
        self.assertEqual(self.tried, [SIX[0]])
        self.loop.advance(0.02)
        self.assertEqual(self.tried, [SIX[0], FOUR[0]])
        self.loop.advance(HEAD_START)
        self.assertEqual(self.tried, [SIX[0], FOUR[0], SIX[1]])
        self.accept().send(OK)
        self.assertEqual(self.tried, [])

    def test_winner(self) -> None:
        """The first that connects gets the request; the others are given up, and it is tried first from then on."""
        client = self.dial(*SIX, FOUR[0])
        self.loop.advance(HEAD_START)
        self.network.dialled[1].accept().send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.tried, [])
        self.assertEqual(self.backend.addresses, (FOUR[0], *SIX))
        self.loop.advance(10 * HEAD_START)
        self.assertEqual(len(self.network.ends), 1)

    def test_late(self) -> None:
        """The first address wins as well when it answers after the second one was begun with."""
        self.dial(SIX[0], FOUR[0])
        self.loop.advance(HEAD_START)
        self.accept().send(OK)
        self.assertEqual((self.tried, self.backend.addresses), ([], (SIX[0], FOUR[0])))

    def test_atOnce(self) -> None:
        """An address that refuses costs no time: the next one is tried at once, and has its own head start."""
        self.dial(*SIX, FOUR[0])
        self.loop.advance(HEAD_START / 2)
        self.refuse()
        self.assertEqual(self.tried, [FOUR[0]])
        self.loop.advance(HEAD_START * 0.9)
        self.assertEqual(self.tried, [FOUR[0]])
        self.loop.advance(HEAD_START * 0.2)
        self.assertEqual(self.tried, [FOUR[0], SIX[1]])
        self.accept().send(OK)

    def test_noneAnswers(self) -> None:
        """All addresses together have as long as one: then it is 504, one failure of one backend."""
        self.dial(*SIX, *FOUR)
        for _ in range(4):
            self.loop.advance(HEAD_START)
        self.assertEqual([dialled.timeout for dialled in self.network.dialled], [4.0, 3.75, 3.5, 3.25, 3.0])
        while self.network.dialled:
            self.refuse(error.TimeoutError())
        self.assertEqual(self.ended, (504, "timeout_connect"))
        self.assertEqual(self.backend.failures, {"timeout": 1})

    def test_noTimeLeft(self) -> None:
        """An address whose turn would come after the time is over is not tried any more."""
        self.compose(rules=Rules(connect=0.4))
        self.dial(*SIX, *FOUR)
        self.loop.advance(HEAD_START)
        self.assertEqual(self.tried, [SIX[0], FOUR[0]])
        self.loop.advance(HEAD_START)
        self.assertEqual(self.tried, [SIX[0], FOUR[0]])
        self.refuse(error.TimeoutError())
        self.refuse(error.TimeoutError())
        self.assertEqual(self.ended, (504, "timeout_connect"))

    def test_allRefuse(self) -> None:
        """When each address refuses, it is 502 with what the last one said."""
        self.dial(*FOUR)
        for _ in FOUR:
            self.assertEqual(self.log, [])
            self.refuse()
        self.assertEqual(self.ended, (502, "backend_refused"))
        self.assertEqual(self.backend.failures, {"refused": 1})

    def test_clientLeaves(self) -> None:
        """A client that leaves takes all attempts with it, and the timer."""
        client = self.dial(SIX[0], *FOUR)
        self.loop.advance(HEAD_START)
        timers = len(self.loop.getDelayedCalls())
        client.reset()
        self.assertEqual(self.tried, [])
        self.assertEqual(len(self.loop.getDelayedCalls()), timers - 1)
        self.assertEqual(self.ended, (499, "client_gone"))

    def test_lateArrival(self) -> None:
        """A connection that comes to stand when nobody wants it any more is ended."""
        client = self.dial(FOUR[0])
        factory = self.network.dialled[0]._factory
        arrival = factory.buildProtocol(None)
        dial = factory._dial
        client.reset()
        factory._dial = dial
        wire = Wire(self.loop, arrival)
        end = End(self.loop, wire)
        arrival.makeConnection(wire)
        self.loop.settle()
        self.assertEqual(end.fate, "reset")

    def test_noFamily(self) -> None:
        """A machine without IPv6 says of an IPv6 address what it says without ports left: the next address is tried."""
        self.dial(SIX[0], FOUR[0])
        without = error.ConnectError(errno.EADDRNOTAVAIL)
        self.refuse(without)
        self.assertEqual(self.tried, [FOUR[0]])
        self.refuse(without)
        self.assertEqual(self.ended, (503, "overloaded"))

    def test_starvedAtOnce(self) -> None:
        """A unix socket that cannot even be made says the same."""

        def without(path: str, factory: Any, timeout: float) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

        self.network.connectUNIX = without  # type: ignore[method-assign]
        self.backend.location = parse_url("http+unix:///run/app.sock")
        self.dial()
        self.assertEqual(self.ended, (503, "overloaded"))
        self.assertIn("Too many open files", self.log[0].why)

    def test_starved(self) -> None:
        """Without descriptors no other address is tried, and nobody is blamed."""
        self.dial(SIX[0], *FOUR)
        self.loop.advance(HEAD_START)
        self.refuse(error.ConnectError(errno.EMFILE))
        self.assertEqual((self.tried, self.ended), ([], (503, "overloaded")))
        self.assertEqual(self.backend.failures, {})


class IntroducingTests(ProxyCase):
    """C{proxy_protocol} of a cluster."""

    def dial(self, version: Any, request: bytes = GET, **settings: Any) -> End:
        """A client asks a backend that wants to be told of it: the backend's end."""
        self.compose(pool=Pool(0), **settings)
        self.backend.way = Way(proxy=version)
        self.client().send(request)
        return self.accept()

    def test_line(self) -> None:
        """With v1 the request comes after a line with both ends of the client's connection."""
        backend = self.dial("v1")
        line, _, rest = backend.take().partition(b"\r\n")
        self.assertEqual(line, b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 80")
        self.assertTrue(rest.startswith(b"GET / HTTP/1.1\r\n"))
        backend.send(OK)
        self.assertEqual(backend.fate, "closed")

    def test_binary(self) -> None:
        """With v2 it is the same in binary."""
        backend = self.dial("v2")
        data = backend.take()
        header = proxy_protocol.parse(data)
        assert header is not None
        self.assertEqual((header.source, header.source_port, header.destination), ("192.0.2.1", 40000, "192.0.2.254"))
        self.assertTrue(data[header.size :].startswith(b"GET / HTTP/1.1\r\n"))
        backend.send(OK)

    def test_told(self) -> None:
        """Behind a proxy that is trusted it is the client that this one tells of, whose port nobody knows."""
        request = GET[:-2] + b"X-Forwarded-For: 198.51.100.7\r\n\r\n"
        backend = self.dial("v1", request, trusted=(ip_network("192.0.2.1"),))
        self.assertEqual(backend.take().partition(b"\r\n")[0], b"PROXY TCP4 198.51.100.7 192.0.2.254 0 80")
        backend.send(OK)

    def test_passedOn(self) -> None:
        """What a header has told of the client goes on in the one for the backend, both ends of the connection."""
        self.compose(pool=Pool(0))
        self.listener.configure(Terms((ip_network("192.0.2.1"),), proxy_protocol=True))
        self.backend.way = Way(proxy="v1")
        line = b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 443\r\n"
        self.client().send(line + GET)
        backend = self.accept()
        self.assertTrue(backend.take().startswith(line + b"GET "))
        backend.send(OK)

    def test_unknown(self) -> None:
        """Of a client by a unix socket nothing is known, and so it is told."""
        self.patch(Wire, "getPeer", lambda wire: object())
        self.assertTrue(self.dial("v1").take().startswith(b"PROXY UNKNOWN\r\nGET "))
        self.network.ends[-1].send(OK)


class Secured:
    """A backend that speaks TLS, at the other end of a connection."""

    def __init__(self, end: End, context: ssl.SSLContext) -> None:
        self.end = end
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, True)
        self.got = b""
        self.problem: ssl.SSLError | None = None
        self.standing = False

    def _shake(self) -> None:
        if not self.standing:
            self.tls.do_handshake()
            self.standing = True
        while True:
            piece = self.tls.read(65536)
            if not piece:
                return
            self.got += piece

    def go_on(self) -> Secured:
        """Take what has come and answer it, until there is nothing more to say."""
        for _ in range(20):
            self._incoming.write(self.end.take())
            try:
                self._shake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as problem:
                self.problem = problem
            answer = self._outgoing.read()
            if not answer:
                break
            self.end.send(answer)
        return self

    def send(self, data: bytes) -> None:
        """Say something to the proxy."""
        self.tls.write(data)
        self.end.send(self._outgoing.read())
        self.go_on()


class TlsTests(ProxyCase):
    """TLS towards backends, whose URL is an address: C{10.0.0.1}."""

    authority = Authority()
    other = Authority("Another Authority")

    def setUp(self) -> None:
        self.folder = folder(self)
        self.ca = self.authority.write(self.folder)
        super().setUp()

    def end(self) -> None:
        """End what is idle: what the pool holds are not the wires themselves, as the rig expects it."""
        for backend in self.backends:
            backend.close_idle()
        self.loop.settle()
        super().end()

    def server(self, issued: Issued | None = None, **attributes: Any) -> ssl.SSLContext:
        """What a backend shows."""
        issued = issued or self.authority.issue(["10.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(issued.write(self.folder))
        for name, value in attributes.items():
            setattr(context, name, value)
        return context

    def secure(self, backends: int = 1, **settings: Any) -> None:
        """Compose a proxy whose backends speak TLS."""
        self.compose(backends=backends)
        settings = {"ca": self.ca, **settings}
        way = Way("https", ClientTls(BackendTls(**settings)))
        for backend in self.backends:
            backend.way = way

    def ask(self, context: ssl.SSLContext) -> tuple[End, Secured]:
        """A client asks, and the backend has answered the handshake as far as it goes."""
        client = self.client()
        client.send(GET)
        return client, Secured(self.accept(), context).go_on()

    def refused(self, context: ssl.SSLContext, **settings: Any) -> str:
        """Ask a backend that is to be refused; the reason in the log."""
        self.secure(**settings)
        client, backend = self.ask(context)
        self.assertEqual(backend.got, b"", "something of the request is out")
        self.assertEqual(self.ended, (502, "backend_tls"))
        self.assertEqual(self.backend.failures, {"tls": 1})
        status, _, answer = client.take().partition(b"\r\n")
        body, _, _ = answer.partition(b"Request: ")  # an id that is made by chance
        self.assertEqual(status, b"HTTP/1.1 502 Bad Gateway")
        for word in (b"certificate", b"TLS", b"10.0.0.1", b"b1"):
            self.assertNotIn(word, body)
        self.assertNotEqual(backend.end.fate, "open")
        why = self.log[0].why
        self.assertTrue(why.startswith("b1: TLS: "), why)
        return why.removeprefix("b1: TLS: ")

    def test_exchange(self) -> None:
        """A backend whose certificate is right gets the request, and its connection the next one as well."""
        self.secure()
        client, backend = self.ask(self.server())
        self.assertTrue(backend.got.startswith(b"GET / HTTP/1.1\r\n"))
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        client.send(post(3), b"abc")
        backend.got = b""
        backend.go_on()
        self.assertTrue(backend.got.endswith(b"\r\n\r\nabc"))
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual((self.backend.connects, len(self.network.ends)), (1, 1))

    def test_byteByByte(self) -> None:
        """The handshake may come in any pieces."""
        self.secure()
        self.client().send(GET)
        end = self.accept()
        backend = Secured(end, self.server())
        for _ in range(6):
            backend._incoming.write(end.take())
            try:
                backend._shake()
            except ssl.SSLWantReadError:
                pass
            for byte in backend._outgoing.read():
                end.send(bytes((byte,)))
        self.assertTrue(backend.got.startswith(b"GET / "))
        backend.send(OK)
        self.assertEqual(self.ended, (200, "ok"))

    def test_certificates(self) -> None:
        """A certificate that is not right is refused, before a byte of the request, and the log says what is wrong."""
        issue = self.authority.issue
        for issued, expected in (
            (self.authority.expired(["10.0.0.1"]), "its certificate has expired, on "),
            (issue(["10.0.0.1"], started=-5), "its certificate is not valid yet, not before "),
            (self_signed(["10.0.0.1"]), "its certificate is self-signed"),
            (self.other.issue(["10.0.0.1"]), "its certificate is from an authority that is not believed"),
            (issue(["a.example", "*.b.example"]), "its certificate is for a.example, *.b.example, not for 10.0.0.1"),
            (issue(["10.0.0.2"]), "its certificate is for 10.0.0.2, not for 10.0.0.1"),
            (issue([], subject="10.0.0.1"), "its certificate is for no name at all, not for 10.0.0.1"),
            (issue(["10.0.0.1"], client=True), "its certificate is not for a server"),
            (issue(["10.0.0.1"], "weak"), "the key of its certificate is too weak"),
        ):
            why = self.refused(self.server(issued))
            self.assertTrue(why.startswith(expected), (why, expected))

    def test_name(self) -> None:
        """With C{name} the certificate is to be for that, and that is what the backend is asked for."""
        asked: list[str | None] = []
        context = self.server(self.authority.issue(["app.internal"]))
        context.sni_callback = lambda connection, name, context: asked.append(name)
        self.secure(name="app.internal")
        client, backend = self.ask(context)
        backend.send(OK)
        self.assertEqual((client.take(), asked), (OK, ["app.internal"]))
        why = self.refused(self.server(), name="app.internal")
        self.assertEqual(why, "its certificate is for 10.0.0.1, not for app.internal")

    def test_hostileNames(self) -> None:
        """What stands in a certificate that is refused cannot write lines into our log, or very long ones."""
        names = ["a" * 50 + f".{number}.example" for number in range(40)]
        why = self.refused(self.server(self.authority.issue(names)))
        self.assertTrue(why.isprintable())
        self.assertTrue(len(why) < 300 and why.endswith(", …, not for 10.0.0.1"), why)

    def test_chain(self) -> None:
        """An authority in between that the backend sends is followed, and one that is written as C{ca} is believed."""
        between = Authority("Between", parent=self.authority)
        issued = between.issue(["10.0.0.1"])
        for ca in (self.ca, between.write(self.folder, "between.pem")):
            self.secure(ca=ca)
            client, backend = self.ask(self.server(issued))
            backend.send(OK)
            self.assertEqual(client.take(), OK)
            self.backend.close_idle()
        alone = Issued(issued.certificate, issued.key)
        self.assertIn("or it does not send the ones in between", self.refused(self.server(alone)))

    def test_revoked(self) -> None:
        """Where the file of authorities has their revocation lists, what is on them is refused, the rest is not."""
        revoked, good = self.authority.issue(["10.0.0.1"]), self.authority.issue(["10.0.0.1"])
        both = self.folder + "/both.pem"
        with open(both, "wb") as file:
            file.write(self.authority.cert_pem + self.authority.revocations([revoked]))
        self.assertEqual(self.refused(self.server(revoked), ca=both), "its certificate has been revoked")
        self.secure(ca=both)
        client, backend = self.ask(self.server(good))
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_staleRevocations(self) -> None:
        """A revocation list that is out of date says nothing any more, so nobody is believed."""
        both = self.folder + "/both.pem"
        with open(both, "wb") as file:
            file.write(self.authority.cert_pem + self.authority.revocations(days=-1))
        self.assertIn("revocation list", self.refused(self.server(), ca=both))

    def test_unverified(self) -> None:
        """With C{verify: false} any certificate will do, and each start says so."""
        self.secure(verify=False)
        for context in (self.server(self_signed(["x.example"])), self.server(self.authority.expired(["10.0.0.1"]))):
            client, backend = self.ask(context)
            backend.send(OK)
            self.assertEqual(client.take(), OK)
            self.backend.close_idle()
            self.loop.settle()
        (warning,) = self.backend.way.tls.warnings()
        self.assertIn("tls.verify is false", warning)

    def test_pin(self) -> None:
        """A key that is not pinned is refused, whatever certificate it has, verified or not; the log has its pin."""
        right, wrong = self.authority.issue(["10.0.0.1"], fresh_key=True), self.authority.issue(["10.0.0.1"])
        for verify in (True, False):
            for issued in (right, wrong):
                pins = (pin_of(self.authority.issue(["x"], fresh_key=True).der), pin_of(right.der))
                if issued is wrong:
                    why = self.refused(self.server(wrong), pin=pins, verify=verify)
                    self.assertEqual(why, f"its key is none of those that are pinned; its pin is {pin_of(wrong.der)}")
                else:
                    self.secure(pin=pins, verify=verify)
                    client, backend = self.ask(self.server(right))
                    backend.send(OK)
                    self.assertEqual(client.take(), OK)

    def test_ourCertificate(self) -> None:
        """A backend that wants a certificate gets ours."""
        ours = self.authority.issue(["lemmy.internal"], client=True, subject="lemmy")
        demanding = self.server(verify_mode=ssl.CERT_REQUIRED)
        demanding.load_verify_locations(self.ca)
        self.secure(certificate=ours.write(self.folder, "ours.pem"))
        client, backend = self.ask(demanding)
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertIn(((("commonName", "lemmy"),)), backend.tls.getpeercert()["subject"])

    def test_wantsCertificate(self) -> None:
        """
        A backend that wants a certificate and gets none has not been reached. With TLS 1.3 it says so when the request
        is out already, and then that is told.
        """
        older = self.server(verify_mode=ssl.CERT_REQUIRED, maximum_version=ssl.TLSVersion.TLSv1_2)
        self.assertIn("it wants a certificate of ours", self.refused(older))
        self.secure()
        self.ask(self.server(verify_mode=ssl.CERT_REQUIRED))
        self.assertEqual(self.ended, (502, "backend_gone"))
        self.assertEqual(self.log[0].why, "b1 reset the connection without an answer: it wants a certificate of ours")

    def test_versions(self) -> None:
        """A backend that speaks only what is too old is refused."""
        old = self.server(minimum_version=ssl.TLSVersion.TLSv1_2, maximum_version=ssl.TLSVersion.TLSv1_2)
        self.assertIn("minimum_version", self.refused(old, minimum_version="1.3"))
        self.secure()
        client, backend = self.ask(old)
        backend.send(OK)
        self.assertEqual((client.take(), backend.tls.version()), (OK, "TLSv1.2"))

    def test_plain(self) -> None:
        """A backend that speaks plain HTTP is told apart from one that does not speak at all."""
        for said in (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"<!DOCTYPE html><html>" * 10):
            self.secure()
            client = self.client()
            client.send(GET)
            self.accept().send(said)
            self.assertEqual(self.ended, (502, "backend_tls"))
            self.assertIn("does not speak TLS", self.log[0].why)
            self.assertIn(b" 502 ", client.take())

    def test_vanishes(self) -> None:
        """A backend that closes or vanishes at any point of the handshake has not been reached."""
        vanish: Callable[[End], None]
        for vanish in (End.close, End.reset):
            for rounds in (0, 1):
                self.secure()
                self.client().send(GET)
                end = self.accept()
                if rounds:
                    backend = Secured(end, self.server())
                    backend._incoming.write(end.take())
                    self.assertRaises(ssl.SSLWantReadError, backend.tls.do_handshake)
                    end.send(backend._outgoing.read()[:200])
                vanish(end)
                self.assertEqual(self.ended, (502, "backend_tls"))
                self.assertIn("handshake", self.log[0].why)

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 255)), max_size=3), st.binary(max_size=40))
    def test_damaged(self, changes: list[tuple[int, int]], more: bytes) -> None:
        """Whatever of a handshake is damaged on the way, and whatever comes after it: the client gets 502."""
        self.secure()
        client = self.client()
        client.send(GET)
        end = self.accept()
        backend = Secured(end, self.server())
        backend._incoming.write(end.take())
        self.assertRaises(ssl.SSLWantReadError, backend.tls.do_handshake)
        flight = bytearray(backend._outgoing.read())
        for at, bits in changes:
            flight[at % len(flight)] ^= bits
        end.send(bytes(flight) + more)
        backend.go_on()
        end.close()
        # Not each byte of the records' own heads is looked at, so the handshake may have succeeded all the same.
        self.assertEqual(self.ended, (502, "backend_gone" if backend.got else "backend_tls"))
        self.assertIn(b" 502 ", client.take())

    def test_stalls(self) -> None:
        """A handshake has what is left of the time to connect: then it is 504."""
        self.secure()
        client = self.client()
        client.send(GET)
        self.loop.wait(2)
        end = self.accept()
        self.loop.wait(1)
        self.assertEqual(self.log, [])
        self.loop.wait(2)
        self.assertEqual(self.ended, (504, "timeout_connect"))
        self.assertEqual((end.fate, self.backend.failures), ("reset", {"timeout": 1}))
        self.assertIn(b" 504 ", client.take())

    def test_clientLeaves(self) -> None:
        """A client that leaves during the handshake ends it, and nobody is blamed."""
        self.secure()
        client = self.client()
        client.send(GET)
        end = self.accept()
        client.reset()
        self.assertEqual((end.fate, self.ended), ("reset", (499, "client_gone")))
        self.assertEqual(self.backend.failures, {})

    def test_another(self) -> None:
        """A request whose backend is refused goes to another one, once: a POST too, since nothing of it is out."""
        self.secure(backends=2)
        for backend in self.backends:
            backend.way = Way("https", ClientTls(BackendTls(ca=self.ca, name="10.0.0.1")))
        client = self.client()
        client.send(post(3), b"abc")
        first = Secured(self.accept(), self.server(self_signed(["10.0.0.1"]))).go_on()
        second = Secured(self.accept(), self.server()).go_on()
        second.send(OK)
        self.assertEqual((first.got, second.got[-3:]), (b"", b"abc"))
        self.assertEqual(client.take(), OK)
        self.assertEqual((self.ended, self.log[0].attempts), ((200, "ok"), 2))

    def test_told(self) -> None:
        """A backend that is refused is told of once; again when the reason is another one, or after it was fine."""
        said: list[LogEvent] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        self.secure()
        wrong, other, right = (
            self.server(self_signed(["10.0.0.1"])),
            self.server(self.other.issue(["x"])),
            self.server(),
        )
        for context, lines in ((wrong, 1), (wrong, 1), (other, 1), (None, 1), (other, 2), (right, 2), (wrong, 3)):
            if context is None:
                self.loop.wait(TOLD_AGAIN)
                continue
            client, backend = self.ask(context)
            if context is right:
                backend.send(OK)
            self.backend.close_idle()
            client.close()
            told = [formatEvent(event) for event in said if event.get("log_namespace") == "lemmytx.proxy"]
            self.assertEqual(len(told), lines, told)
        self.assertEqual(told[0], "cluster c: TLS with backend b1 fails: its certificate is self-signed (told once)")

    def test_noStorm(self) -> None:
        """A request is tried no more often for that than for any other reason, and at no backend twice."""
        self.secure(backends=3)
        context = self.server(self_signed(["10.0.0.1"]))
        client, _ = self.ask(context)
        self.assertEqual(client.take(), b"")
        Secured(self.accept(), context).go_on()
        self.assertEqual(self.ended, (502, "backend_tls"))
        self.loop.wait(5)
        self.assertEqual((sorted(b.connects for b in self.backends), self.network.dialled), ([0, 1, 1], []))
        self.assertIn(b" 502 ", client.take())

    def test_resumed(self) -> None:
        """The next connection to a backend resumes the session of the last one, with TLS 1.3 and with 1.2."""
        for newest in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            self.secure()
            context = self.server(maximum_version=newest)
            reused = []
            for _ in range(3):
                client, backend = self.ask(context)
                backend.send(OK)
                self.assertEqual(client.take(), OK)
                reused.append(backend.tls.session_reused)
                self.backend.close_idle()
                self.loop.settle()
            self.assertEqual(reused, [False, True, True])

    def test_resumedAgain(self) -> None:
        """A backend that does not know the session any more, as after its restart, gives another one."""
        self.secure()
        issued = self.authority.issue(["10.0.0.1"])
        reused = []
        first, second = self.server(issued), self.server(issued)
        for context in (first, first, second, second, second):
            client, backend = self.ask(context)
            backend.send(OK)
            self.assertEqual(client.take(), OK)
            reused.append(backend.tls.session_reused)
            self.backend.close_idle()
            self.loop.settle()
        self.assertEqual(reused, [False, True, False, True, True])

    def test_resumedAfterReload(self) -> None:
        """A session of before a reload of other authorities is not resumed after it."""
        self.secure()
        context = self.server()
        reused = []
        for _ in range(2):
            client, backend = self.ask(context)
            backend.send(OK)
            self.assertEqual(client.take(), OK)
            reused.append(backend.tls.session_reused)
            self.backend.close_idle()
            with open(self.ca, "ab") as file:
                file.write(self.other.cert_pem)
            self.backend.way.tls.reload()
        self.assertEqual(reused, [False, False])

    def test_resumedElsewhere(self) -> None:
        """A session is not offered to another backend."""
        self.secure(backends=2)
        context = self.server(self.authority.issue(["10.0.0.1", "10.0.0.2"]))
        reused = []
        for backend in self.backends:
            client, other = self.ask(context)
            other.send(OK)
            client.take()
            reused.append(other.tls.session_reused)
            self.backend.close_idle()
            backend.state = "drain"
            backend.changed()
        self.assertEqual(reused, [False, False])

    def test_alpn(self) -> None:
        """Backends of https are offered HTTP/1.1 alone, and may take it or say nothing."""
        for spoken, expected in ((["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), (None, None)):
            self.secure()
            context = self.server()
            if spoken is not None:
                context.set_alpn_protocols(spoken)
            client, backend = self.ask(context)
            backend.send(OK)
            self.assertEqual((client.take(), backend.tls.selected_alpn_protocol()), (OK, expected))

    def test_noHttp2(self) -> None:
        """A backend of h2 has to agree on that: else nothing is sent."""
        for spoken in (None, ["http/1.1"]):
            context = self.server()
            if spoken is not None:
                context.set_alpn_protocols(spoken)
            self.secure()
            self.backend.way = Way("h2", ClientTls(BackendTls(ca=self.ca), ["h2"]))
            _, backend = self.ask(context)
            self.assertEqual((backend.got, self.ended), (b"", (502, "backend_tls")))
            self.assertIn("does not speak HTTP/2 (ALPN)", self.log[0].why)

    def test_ownError(self) -> None:
        """An error of our own in the middle of it costs one exchange, and no connection is left."""
        self.secure()
        self.patch(ClientTls, "session", lambda tls, protocol, where: 1 // 0)
        client = self.client()
        client.send(GET)
        end = self.accept()
        self.assertEqual((self.ended, end.fate), ((500, "error"), "reset"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIn(b" 500 ", client.take())

    def test_introduced(self) -> None:
        """The PROXY protocol header comes before TLS, in plain."""
        self.secure()
        self.backend.way.proxy = "v1"
        client = self.client()
        client.send(GET)
        end = self.accept()
        line, _, hello = end.take().partition(b"\r\n")
        self.assertEqual(line, b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 80")
        backend = Secured(end, self.server())
        backend._incoming.write(hello)
        try:
            backend.tls.do_handshake()
        except ssl.SSLWantReadError:
            end.send(backend._outgoing.read())
        backend.go_on().send(OK)
        self.assertEqual(client.take(), OK)

    def test_cutShort(self) -> None:
        """An answer that ends with the connection, and without TLS's own end, may be a part: it is cut."""
        self.secure()
        client, backend = self.ask(self.server())
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nthe first half")
        backend.end.close()
        self.assertEqual(self.ended, (200, "backend_gone"))
        self.assertEqual(client.fate, "reset")

    def test_untilClose(self) -> None:
        """With TLS's own end it is whole."""
        self.secure()
        client, backend = self.ask(self.server())
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        try:
            backend.tls.unwrap()
        except ssl.SSLError:
            pass  # it would wait for ours
        backend.end.send(backend._outgoing.read())
        backend.end.close()
        self.assertEqual(self.ended, (200, "ok"))
        self.assertTrue(client.take().endswith(b"all of it\r\n0\r\n\r\n"))
