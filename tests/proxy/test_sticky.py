"""Clients that stay with their backend, as requests and answers show it."""

from __future__ import annotations

import re

from lemmytx.addresses import parse_network
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.cluster.sticky import Codec, Cookie, Field, Sticky
from lemmytx.http1 import codec
from lemmytx.proxy.exchange import Exchange
from tests.proxy import http2_rig
from tests.proxy.http2_rig import Http2Case
from tests.proxy.rig import GET, OK, End, ProxyCase, split

SECRET = b"0123456789abcdef"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"

_SET = re.compile(rb"(?im)^set-cookie: (lemmy)=([^;\r]*); ([^\r]*)\r\n")


def sticky(cookie: Cookie | Field | None = None, secrets: tuple[bytes, ...] = (SECRET,), cluster: str = "c") -> Sticky:
    """As a cluster has it."""
    return Sticky(Codec(secrets, cluster), cookie or Cookie(b"lemmy"))


class StickyCase(ProxyCase):
    """
    Three backends in turn, and clients that are bound by a cookie.

    @ivar seen: the request as the last backend saw it.
    """

    def setUp(self) -> None:
        super().setUp()
        self.seen = b""
        self.stick()

    def stick(self, what: Sticky | None = None, backends: int = 3, attempts: int = 2, **more: object) -> None:
        """Compose it anew."""
        rules = Rules(attempts, sticky=what or sticky())
        self.compose(backends, rules, scheduler=RoundRobin(), **more)  # type: ignore[arg-type]  # as compose has them

    def ask(self, *lines: bytes, answer: bytes = OK, address: str = "192.0.2.1") -> tuple[str, bytes]:
        """
        A client asks, and is answered.

        @return: which backend it was, and the answer.
        """
        client = self.client(address)
        client.send(GET[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
        return self.answered(client, answer)

    def answered(self, client: End, answer: bytes = OK) -> tuple[str, bytes]:
        """Let whoever has got the request answer it."""
        end = self.accept() if self.network.dialled else next(end for end in self.network.ends if end.got)
        self.seen = end.take()
        end.send(answer)
        backend = self.log[-1].backend
        assert backend is not None
        return backend.name, client.take()

    def bind(self, *lines: bytes) -> tuple[str, bytes]:
        """
        A new client.

        @return: its backend, and the line with its cookie.
        """
        name, got = self.ask(*lines)
        return name, b"Cookie: lemmy=" + self.bound(got)

    def bound(self, got: bytes) -> bytes:
        """The binding in an answer; empty when there is none."""
        found = _SET.findall(got)
        self.assertLessEqual(len(found), 1, got)
        return bytes(found[0][1]) if found else b""


class BindingTests(StickyCase):
    """Who is bound, and to whom."""

    def test_stays(self) -> None:
        """A client stays where it came first, and is told so once; others go round."""
        name, cookie = self.bind()
        for _ in range(4):
            self.assertEqual((name, OK), self.ask(cookie))
        self.assertEqual({"b1", "b2", "b3"}, {name, self.bind()[0], self.bind()[0]})

    def test_attributes(self) -> None:
        """The cookie is for every path of this host, and for no script; no cache on the way keeps it."""
        first, fields, _ = split(self.ask()[1])
        self.assertEqual(first, b"HTTP/1.1 200 OK")
        self.assertRegex(fields[b"set-cookie"], rb"\Alemmy=[A-Za-z0-9_-]{36}; Path=/; HttpOnly; SameSite=Lax\Z")
        self.assertEqual(b"private", fields[b"cache-control"])

    def test_hidden(self) -> None:
        """The backend sees the other cookies, never this one; what it sets under the name does not get out."""
        name, cookie = self.bind()
        answer = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: lemmy=mine\r\nSet-Cookie: own=1\r\n\r\n")
        again, got = self.ask(cookie + b"; user=7", answer=answer)
        self.assertEqual((name, b"7"), (again, re.findall(rb"Cookie: user=(.*)\r\n", self.seen)[0]))
        self.assertNotIn(b"lemmy=", self.seen)
        self.assertEqual(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: own=1\r\n\r\n"), got)

    def test_foreign(self) -> None:
        """What is malformed, forged, oversized or another cluster's is no error: it is replaced, and not passed on."""
        other = Codec([SECRET], "other").write(self.backends[0].location.url)[0]
        forged = Codec([b"somebody else's."], "c").write(self.backends[0].location.url)[0]
        for value in (b"", b"x", b"A" * 36, b"A" * 20_000, b"\xff\xfe", other, forged, b'"' + other + b'"'):
            _, got = self.ask(b"Cookie: lemmy=" + value)
            self.assertTrue(got.startswith(b"HTTP/1.1 200 OK"))
            self.assertTrue(self.bound(got))
            self.assertNotIn(b"lemmy=", self.seen)

    def test_second_value(self) -> None:
        """Of several values the one that is ours counts, as when two paths have a cookie each."""
        name, cookie = self.bind()
        for _ in range(3):
            self.assertEqual((name, OK), self.ask(b"Cookie: lemmy=other", cookie))

    def test_restart(self) -> None:
        """Another process with the same secret knows the binding, whatever order the backends have there."""
        name, cookie = self.bind()
        self.stick()
        self.cluster.configure(self.backends[::-1], self.cluster.scheduler, self.cluster.rules)
        for _ in range(3):
            self.assertEqual((name, OK), self.ask(cookie))

    def test_rotation(self) -> None:
        """A binding under an old secret is kept, and written anew under the new one."""
        name, cookie = self.bind()
        self.stick(sticky(secrets=(b"a newer secret !", SECRET)))
        again, got = self.ask(cookie)
        value = self.bound(got)
        self.assertEqual(name, again)
        self.assertNotIn(value, cookie)
        self.stick(sticky(secrets=(b"a newer secret !",)))
        self.assertEqual((name, OK), self.ask(b"Cookie: lemmy=" + value))

    def test_errors_bind(self) -> None:
        """Whatever a backend answers binds; an answer of our own does not."""
        _, got = self.ask(answer=OK.replace(b"200 OK", b"500 Oops"))
        self.assertTrue(self.bound(got))
        for backend in self.backends:
            backend.state = "disabled"
            backend.changed()
        client = self.client()
        client.send(GET)
        self.assertEqual((b"HTTP/1.1 503 Service Unavailable", b""), (split(client.got)[0], self.bound(client.got)))

    def test_body_in_parts(self) -> None:
        """A response that comes in parts has the cookie in its head, and whole framing."""
        client = self.client()
        client.send(GET)
        end = self.accept()
        end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"0\r\n\r\n")
        self.assertTrue(self.bound(client.got))
        self.assertTrue(client.got.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), client.got)

    def test_tunnel(self) -> None:
        """The 101 of a tunnel binds, and a tunnel goes where its client is bound to."""
        upgrade = (b"Connection: upgrade", b"Upgrade: x")
        for _ in range(2):
            client = self.client()
            client.send(GET[:-2] + b"\r\n".join((*upgrade, b"", b"")))
            backend = self.accept()
            backend.send(SWITCH)
            value = self.bound(client.got)
            self.assertEqual(36, len(value))
            backend.close()
            client.close()
            name = self.log[-1].backend
        client = self.client()
        client.send(GET[:-2] + b"\r\n".join((*upgrade, b"Cookie: lemmy=" + value, b"", b"")))
        backend = self.accept()
        backend.send(SWITCH)
        self.assertEqual(b"", self.bound(client.got))
        backend.close()
        client.close()
        self.assertIs(name, self.log[-1].backend)

    def test_explained(self) -> None:
        """Whoever asks why a request would go where it goes is told of the binding, and nothing changes by that."""
        name, cookie = self.bind()
        head = codec.request(GET[:-2] + cookie + b"\r\n\r\n", False)
        assert head is not None
        exchange = Exchange(self.resource, self.log[0].downstream, head, self.log[0].peer)
        block = head.block
        found = self.cluster.explain(exchange)
        self.assertEqual((name, block, None), (found.pick.name if found.pick else "", head.block, exchange.binding))
        self.assertEqual(
            [("sticky", f"the client is bound to {name}")] * 2, [(why.filter, why.reason) for why in found.dropped]
        )
        for backend in self.backends:
            if backend.name == name:
                backend.state = "disabled"
                backend.changed()
        found = self.cluster.explain(exchange)
        self.assertEqual(["state"], [why.filter for why in found.dropped])

    def test_no_sticky(self) -> None:
        """Without it the cookie is like any other, and nothing is added to an answer."""
        self.compose(backends=2)
        self.assertEqual(OK, self.ask(b"Cookie: lemmy=x")[1])
        self.assertIn(b"Cookie: lemmy=x\r\n", self.seen)


class ChangeTests(StickyCase):
    """What becomes of a binding when the backend changes."""

    def setUp(self) -> None:
        super().setUp()
        self.name, self.cookie = self.bind()
        self.mine = next(backend for backend in self.backends if backend.name == self.name)

    def moves(self) -> str:
        """The client is sent to another backend, which it stays with."""
        name, got = self.ask(self.cookie)
        self.assertNotEqual(self.name, name)
        cookie = b"Cookie: lemmy=" + self.bound(got)
        self.assertNotEqual(self.cookie, cookie)
        self.assertEqual((name, OK), self.ask(cookie))
        return name

    def test_disabled(self) -> None:
        """Disabled: the client moves, and does not come back when the backend is enabled."""
        self.mine.state = "disabled"
        self.mine.changed()
        self.moves()

    def test_drain(self) -> None:
        """Draining: who is bound stays, who is not goes elsewhere."""
        self.mine.state = "drain"
        self.mine.changed()
        for _ in range(3):
            self.assertEqual((self.name, OK), self.ask(self.cookie))
            self.assertNotEqual(self.name, self.bind()[0])

    def test_ejected(self) -> None:
        """Ejected for its failures: the client moves."""
        for _ in range(3):
            self.cluster.failed(self.mine, "gone", "no reason")
        self.assertTrue(self.mine.passive.ejected)
        self.moves()

    def test_gone(self) -> None:
        """No member any more: the client moves."""
        rest = [backend for backend in self.backends if backend is not self.mine]
        self.cluster.configure(rest, self.cluster.scheduler, self.cluster.rules)
        self.moves()

    def test_back(self) -> None:
        """A backend that was away and came back, as another object, has the clients that did not ask meanwhile."""
        self.stick()
        self.assertEqual((self.name, OK), self.ask(self.cookie))

    def test_unreachable(self) -> None:
        """Found unreachable by the bound request itself: whoever answers in its place keeps the client."""
        self.mine.close_idle()
        client = self.client()
        client.send(GET[:-2] + self.cookie + b"\r\n\r\n")
        self.assertEqual(self.mine.addresses[0], self.network.dialled[0].address)
        self.refuse()
        name, got = self.answered(client)
        self.assertNotEqual(self.name, name)
        self.assertEqual((name, OK), self.ask(b"Cookie: lemmy=" + self.bound(got)))

    def test_backup(self) -> None:
        """Who was sent to a backup stays there when the active ones are back, as with HAProxy."""
        self.stick(backends=2, roles=("active", "backup"))
        self.backends[0].state = "disabled"
        self.backends[0].changed()
        name, cookie = self.bind()
        self.assertEqual("b2", name)
        self.backends[0].state = "ready"
        self.backends[0].changed()
        self.assertEqual("b1", self.bind()[0])
        self.assertEqual(("b2", OK), self.ask(cookie))

    def test_full(self) -> None:
        """At its capacity: this request goes elsewhere, and the client's binding stays as it is."""
        self.stick(backends=2, capacity=1)
        name, cookie = self.bind()
        waiting = self.client()
        waiting.send(GET[:-2] + cookie + b"\r\n\r\n")
        busy = next(end for end in self.network.ends if end.got)
        other = self.client()
        other.send(GET[:-2] + cookie + b"\r\n\r\n")
        free = self.accept()
        self.assertNotIn(b"lemmy=", free.take())
        free.send(OK)
        self.assertEqual(OK, other.got)
        self.assertNotEqual(name, self.log[-1].backend.name if self.log[-1].backend else None)
        busy.take()
        busy.send(OK)
        self.assertEqual((name, OK), self.ask(cookie))

    def test_queue(self) -> None:
        """Where all are busy, a bound client waits like anybody, and goes to its own backend if that is free."""
        rules = Rules(sticky=sticky(), queue=QueueRules())
        self.compose(2, rules, scheduler=RoundRobin(), capacity=1)
        name, cookie = self.bind()
        clients = [self.client() for _ in range(3)]
        lines = (cookie + b"\r\n", b"", cookie + b"\r\n")
        for client, line in zip(clients, lines, strict=True):
            client.send(GET[:-2] + line + b"\r\n")
        self.accept()
        busy = next(end for end in self.network.ends if end.wire.protocol.backend.name == name)
        busy.take()
        busy.send(OK)
        self.loop.wait(0)
        self.assertNotIn(b"lemmy=", busy.take())
        busy.send(OK)
        self.assertEqual([OK, b"", OK], [client.got for client in clients])
        self.assertEqual([name, name], [exchange.backend.name for exchange in self.log[1:] if exchange.backend])
        self.network.ends[-1].send(OK)


class SecureTests(StickyCase):
    """C{Secure}, by how the client came."""

    def test_plain(self) -> None:
        """Without TLS it is not there; nobody is believed who is not trusted."""
        self.assertNotIn(b"Secure", self.ask(b"X-Forwarded-Proto: https")[1])

    def test_trusted(self) -> None:
        """It is there when a trusted proxy says that the client came by TLS."""
        self.stick(trusted=(parse_network("192.0.2.0/24"),))
        self.assertIn(b"; Secure\r\n", self.ask(b"X-Forwarded-Proto: https")[1])
        self.assertNotIn(b"Secure", self.ask(b"X-Forwarded-Proto: http")[1])
        self.assertNotIn(b"Secure", self.ask()[1])

    def test_configured(self) -> None:
        """It is there always, or never, where that is wanted."""
        self.stick(sticky(Cookie(b"lemmy", secure=True)))
        self.assertIn(b"; Secure\r\n", self.ask()[1])


class HeaderTests(StickyCase):
    """A field in the place of the cookie."""

    def test_field(self) -> None:
        """The answer says what the next request has to say; the backend does not see it."""
        self.stick(sticky(Field(b"X-Bound")))
        name, got = self.ask()
        value = split(got)[1][b"x-bound"]
        self.assertNotIn(b"Set-Cookie", got)
        for _ in range(3):
            self.assertEqual((name, OK), self.ask(b"x-bound: " + value))
            self.assertNotIn(value, self.seen)
        self.assertIn(b"\r\nX-Bound: ", self.ask(b"X-Bound: nothing")[1])


class Http2Tests(Http2Case):
    """Clients by HTTP/2."""

    def compose(self, *args: object, **more: object) -> None:
        """With two backends in turn, and a cookie."""
        super().compose(2, Rules(sticky=sticky()), scheduler=RoundRobin(), **more)  # type: ignore[arg-type]  # as it has them

    def test_stays(self) -> None:
        """A client stays where it came first; its cookie may come in crumbs (RFC 9113 §8.2.3)."""
        client = self.second()
        stream = client.request()
        self.accept().send(OK)
        backend = self.log[-1].backend
        assert backend is not None
        value = Codec([SECRET], "c").write(backend.location.url)[0]
        told = self.answer(client, stream).fields[b"set-cookie"]
        self.assertEqual(b"lemmy=%b; path=/; httponly; samesite=lax" % value.lower(), told)
        for _ in range(3):
            stream = client.request(http2_rig.GET[:-2] + b"Cookie: a=1\r\nCookie: lemmy=%b\r\n\r\n" % value)
            end = next(end for end in self.network.ends if end.got)
            self.assertIn(b"cookie: a=1\r\n", end.take().lower())
            end.send(OK)
            self.assertNotIn(b"set-cookie", self.answer(client, stream).fields)
            self.assertIs(backend, self.log[-1].backend)
