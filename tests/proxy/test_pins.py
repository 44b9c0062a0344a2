"""Clients that name the backend."""

from __future__ import annotations

import hmac
import shutil
import subprocess
from typing import Any
from unittest import SkipTest

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import TimeoutError

from lemmytx.addresses import parse_network
from lemmytx.balance.buckets import Share
from lemmytx.balance.first import First
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.cluster.sticky import Codec, Cookie, Sticky
from lemmytx.proxy.pins import Pin, sign
from tests.proxy.rig import GET, OK, End, ProxyCase, split

SECRET = b"0123456789abcdef"
NEAR = (parse_network("192.0.2.0/24"),)
BAD = OK.replace(b"200 OK", b"503 Service Unavailable")


class PinCase(ProxyCase):
    """Three backends, of which the first gets all that is not pinned."""

    def setUp(self) -> None:
        super().setUp()
        self.pin(Pin("header", "X-Backend", NEAR))

    def pin(self, pin: Pin, **more: Any) -> None:
        """Compose it anew."""
        self.compose(**{"backends": 3, "scheduler": First(), "trusted": (parse_network("127.0.0.1"),), **more})
        self.vhost.routes[0].pin = pin

    def send(self, *lines: bytes, address: str = "192.0.2.1", target: bytes = b"/") -> End:
        """A client asks."""
        client = self.client(address)
        client.send(GET.replace(b" / ", b" %b " % target)[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
        return client

    def ask(self, *lines: bytes, address: str = "192.0.2.1", target: bytes = b"/") -> tuple[str, bytes]:
        """
        A client asks, and a backend answers.

        @return: which one, and what the answer says in X-Backend.
        """
        client = self.send(*lines, address=address, target=target)
        end = self.accept() if self.network.dialled else next(end for end in self.network.ends if end.got)
        end.take()
        end.send(OK)
        backend = self.log[-1].backend
        assert backend is not None
        return backend.name, split(client.got)[1].get(b"x-backend", b"")

    def refused(self, client: End) -> tuple[int, str, bytes]:
        """Status, termination, and X-Backend of an answer of our own."""
        return int(client.got[9:12]), self.log[-1].termination, split(client.got)[1].get(b"x-backend", b"")


class NameTests(PinCase):
    """Where the name stands, and who may say it."""

    def test_header(self) -> None:
        """A field names the backend, and the answer does; without it nothing is otherwise."""
        self.assertEqual(("b2", b"b2"), self.ask(b"x-backend: b2"))
        self.assertEqual(("b3", b"b3"), self.ask(b"X-Backend: b3", b"X-Backend: b1"))
        self.assertEqual(("b1", b""), self.ask())
        self.assertEqual(("b1", b""), self.ask(b"X-Backend: "))

    def test_cookie(self) -> None:
        """A cookie does."""
        self.pin(Pin("cookie", "backend", NEAR))
        self.assertEqual(("b2", b"b2"), self.ask(b"Cookie: a=1; backend=b2; b=3"))
        self.assertEqual(("b1", b""), self.ask(b"Cookie: Backend=b2; xbackend=b3"))

    def test_query(self) -> None:
        """A parameter does, decoded; the target goes on as it is."""
        self.pin(Pin("query", "b", NEAR))
        client = self.send(target=b"/?a=b2&b=b%33&b=b1")
        end = self.accept()
        self.assertTrue(end.got.startswith(b"GET /?a=b2&b=b%33&b=b1 HTTP/1.1\r\n"))
        end.send(OK)
        self.assertEqual((200, "ok", b"b3"), self.refused(client))

    def test_networks(self) -> None:
        """From elsewhere the name is ignored, whether there is such a backend or not."""
        for name in (b"b2", b"nothing"):
            self.assertEqual(("b1", b""), self.ask(b"X-Backend: " + name, address="198.51.100.1"))
        self.assertEqual(("b1", b""), self.ask(b"X-Backend: b2", address="2001:db8::1"))

    def test_behind_a_proxy(self) -> None:
        """Where the client is, a trusted proxy says, and nobody else."""
        claim = b"X-Forwarded-For: 192.0.2.7"
        self.assertEqual(("b2", b"b2"), self.ask(b"X-Backend: b2", claim, address="127.0.0.1"))
        self.assertEqual(("b1", b""), self.ask(b"X-Backend: b2", address="127.0.0.1"))
        self.assertEqual(("b1", b""), self.ask(b"X-Backend: b2", claim, address="198.51.100.1"))

    def test_signed(self) -> None:
        """A signed name lets anybody in; with another signature, or for another cluster, it is ignored."""
        self.pin(Pin("header", "X-Backend", (), SECRET))
        good = sign(SECRET, "c", "b2").encode()
        self.assertEqual(("b2", b"b2"), self.ask(b"X-Backend: " + good, address="198.51.100.1"))
        for wrong in (
            b"b2",
            b"b2.",
            b"." + good.partition(b".")[2],
            b"b3." + good.partition(b".")[2],
            good[:-1],
            good + b"0",
            good.upper(),
            sign(SECRET, "d", "b2").encode(),
            sign(b"another secret!!", "c", "b2").encode(),
            b"b2." + b"\xe9" * 64,
            b"x" * 10_000,
        ):
            self.assertEqual(("b1", b""), self.ask(b"X-Backend: " + wrong), wrong)

    def test_signed_near(self) -> None:
        """Who may name one as it is may sign it too."""
        self.pin(Pin("header", "X-Backend", NEAR, SECRET))
        for value in (b"b2", sign(SECRET, "c", "b2").encode()):
            self.assertEqual(("b2", b"b2"), self.ask(b"X-Backend: " + value))

    def test_openssl(self) -> None:
        """The signature is what openssl makes of it."""
        program = shutil.which("openssl")
        if program is None:
            raise SkipTest("there is no openssl")
        done = subprocess.run(
            [program, "dgst", "-sha256", "-hmac", SECRET.decode()],
            input=b"web/web1", capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(sign(SECRET, "web", "web1"), "web1." + done.stdout.decode().split()[-1])
        self.assertEqual(hmac.digest(SECRET, b"web/web1", "sha256").hex(), done.stdout.decode().split()[-1])

    def test_noText(self) -> None:
        """What stands in a query may be no text when it is decoded; from strangers and others."""
        for networks, status in (((), 200), (NEAR, 400)):
            self.pin(Pin("query", "b", networks, SECRET))
            client = self.send(target=b"/?b=%ff.%80")
            if status == 200:
                self.accept().send(OK)
            self.assertEqual(status, self.refused(client)[0])

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.binary(min_size=1, max_size=40).filter(lambda raw: not set(raw) & set(b"\r\n\0") and raw.strip() != b""))
    def test_anything(self, value: bytes) -> None:
        """Whatever a stranger says, it is ignored; nothing breaks."""
        self.pin(Pin("cookie", "b", (), SECRET))
        client = self.send(b"Cookie: b=" + value)
        if self.network.dialled:
            self.accept().send(OK)
            self.assertEqual((200, "ok", b""), self.refused(client))
        else:
            self.assertTrue(client.got.startswith(b"HTTP/1.1 400"))  # no field value at all
            self.assertEqual([], self.log)


class FateTests(PinCase):
    """What becomes of a pinned request."""

    def test_unknown(self) -> None:
        """No such backend: 400, and none is tried."""
        self.assertEqual((400, "pin_unknown", b""), self.refused(self.send(b"X-Backend: b4")))
        self.assertEqual([], self.network.dialled)
        self.assertIn("'b4'", self.log[0].why)

    def test_states(self) -> None:
        """Not ready: 503 that names it; nothing else takes its place."""
        for state, said in (("drain", "in drain"), ("disabled", "disabled")):
            self.backends[1].state = state
            self.backends[1].changed()
            client = self.send(b"X-Backend: b2")
            self.assertEqual((503, "pin_unavailable", b"b2"), self.refused(client))
            self.assertIn(said, self.log[-1].why)

    def test_ejected(self) -> None:
        """Not well: 503."""
        for _ in range(3):
            self.cluster.failed(self.backends[1], "gone", "no reason")
        client = self.send(b"X-Backend: b2")
        self.assertEqual((503, "pin_unavailable", b"b2"), self.refused(client))
        self.assertIn("ejected", self.log[-1].why)

    def test_one_attempt(self) -> None:
        """It cannot be reached: 502 or 504, without a second attempt."""
        self.pin(Pin("header", "X-Backend", NEAR), rules=Rules(5))
        client = self.send(b"X-Backend: b2")
        self.refuse()
        self.assertEqual((502, "backend_refused", b"b2"), self.refused(client))
        client = self.send(b"X-Backend: b2")
        self.refuse(TimeoutError())
        self.assertEqual((504, "timeout_connect", b"b2"), self.refused(client))
        self.assertEqual(([], [1, 1]), (self.network.dialled, [exchange.attempts for exchange in self.log]))

    def test_no_retry(self) -> None:
        """An answer that others would be spared stands."""
        self.pin(Pin("header", "X-Backend", NEAR), rules=Rules(5, retry_on=frozenset((503,))))
        client = self.send(b"X-Backend: b2")
        self.accept().send(BAD)
        self.assertEqual((503, "ok", b"b2"), self.refused(client))
        client = self.send()
        self.accept().send(BAD)
        self.assertEqual("10.0.0.2", self.log[-1].backend.addresses[0] if self.log[-1].backend else "")
        next(end for end in self.network.ends if end.got and end.got.startswith(b"GET") and end.fate == "open").send(OK)
        self.assertEqual(OK, client.got)

    def test_capacity(self) -> None:
        """A backend at its capacity takes it all the same, unless the pin minds."""
        for mind, fate in ((False, (200, "ok", b"b2")), (True, (503, "pin_unavailable", b"b2"))):
            self.pin(Pin("header", "X-Backend", NEAR, capacity=mind), capacity=1)
            busy = self.send(b"X-Backend: b2")
            first = self.accept()
            client = self.send(b"X-Backend: b2")
            if not mind:
                self.accept().send(OK)
            self.assertEqual(fate, self.refused(client))
            first.send(OK)
            self.assertEqual((200, "ok", b"b2"), self.refused(busy))

    def test_backup(self) -> None:
        """Its role and weight do not matter: that is what a pin is for."""
        self.pin(Pin("header", "X-Backend", NEAR), roles=("active", "backup", "standby"))
        self.backends[1].weight = 0
        self.assertEqual(("b2", b"b2"), self.ask(b"X-Backend: b2"))
        self.assertEqual(("b3", b"b3"), self.ask(b"X-Backend: b3"))

    def test_said_by_the_backend(self) -> None:
        """What the backend says in X-Backend is not what the client gets."""
        client = self.send(b"X-Backend: b2")
        self.accept().send(OK.replace(b"\r\n\r\n", b"\r\nx-backend: mine\r\nX-Other: 1\r\n\r\n"))
        self.assertEqual(OK.replace(b"\r\n\r\n", b"\r\nX-Other: 1\r\nX-Backend: b2\r\n\r\n"), client.got)

    def test_body(self) -> None:
        """A body that comes in parts goes there."""
        client = self.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nX-Backend: b3\r\nContent-Length: 8\r\n\r\nhalf")
        end = self.accept()
        client.send(b"half")
        self.assertTrue(end.take().endswith(b"\r\n\r\nhalfhalf"))
        end.send(OK)
        self.assertEqual((200, "ok", b"b3"), self.refused(client))

    def test_tunnel(self) -> None:
        """A tunnel is pinned like anything else, and its 101 says where."""
        client = self.send(b"X-Backend: b3", b"Connection: upgrade", b"Upgrade: x")
        end = self.accept()
        end.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        self.assertEqual(b"b3", split(client.got)[1][b"x-backend"])
        end.close()
        client.close()

    def test_sticky(self) -> None:
        """A pin does not bind the client, nor unbind it; the backend sees nothing of its binding."""
        sticky = Sticky(Codec([SECRET], "c"), Cookie(b"lemmy"))
        self.pin(Pin("header", "X-Backend", NEAR), rules=Rules(sticky=sticky))
        bound = b"Cookie: lemmy=" + Codec([SECRET], "c").write(self.backends[0].location.url)[0]
        client = self.send(bound, b"X-Backend: b2")
        end = self.accept()
        self.assertNotIn(b"lemmy=", end.take())
        end.send(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: lemmy=mine\r\n\r\n"))
        self.assertEqual(OK.replace(b"\r\n\r\n", b"\r\nX-Backend: b2\r\n\r\n"), client.got)
        self.assertEqual(("b1", b""), self.ask(bound))

    def test_queue(self) -> None:
        """It does not wait in line, is in no bucket, and does not count against those who do."""
        queue = QueueRules(buckets=(Share("main", 1.0),))
        self.pin(Pin("header", "X-Backend", NEAR), backends=1, capacity=1, rules=Rules(queue=queue))
        busy = self.send()
        first = self.accept()
        waits = self.send()
        client = self.send(b"X-Backend: b1")
        second = self.accept()
        second.take()
        second.send(OK)
        self.assertEqual((200, "ok", b"b1"), self.refused(client))
        self.assertEqual(-1.0, self.log[-1].queue_time)
        self.assertEqual(b"", waits.got)
        first.take()
        first.send(OK)
        self.loop.wait(0)
        self.assertEqual((OK, b""), (busy.got, waits.got))
        next(end for end in self.network.ends if end.got.startswith(b"GET") and end.wire.connected).send(OK)
        self.assertEqual(OK, waits.got)
