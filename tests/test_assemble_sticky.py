"""Sticky sessions and pins as they are configured, and what is built of them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx import model
from lemmytx.builders import build_pin, build_sticky
from lemmytx.cluster.sticky import Binding, Codec, Sticky
from lemmytx.config.changes import changes
from tests.cluster.test_sticky import response
from tests.proxy.rig import ProxyCase

SECRET = "0123456789abcdef"


def built(found: dict[str, Any], secret: bytes = b"") -> Sticky:
    """What a cluster C{c} has."""
    sticky = build_sticky("c", model.Sticky.model_validate(found), secret)
    assert sticky is not None
    return sticky


class StickyTests(ProxyCase):
    """C{sticky} of a cluster."""

    def line(self, sticky: Sticky, secure: bool = False) -> str:
        """What a new client of the first backend is told."""
        sticky.know(tuple(self.backends))
        head = response()
        before = head.block
        sticky.tell(head, self.backend, Binding(sticky), secure)
        return head.block.removeprefix(before).decode()

    def test_attributes(self) -> None:
        """Every setting has its place in the cookie."""
        value = Codec([SECRET.encode()], "c").write(self.backend.location.url)[0].decode()
        private = "\r\nCache-Control: private\r\n"
        for more, secure, line in (
            ({}, False, f"Set-Cookie: a={value}; Path=/; HttpOnly; SameSite=Lax{private}"),
            ({}, True, f"Set-Cookie: a={value}; Path=/; HttpOnly; SameSite=Lax; Secure{private}"),
            (
                {"path": "/x", "domain": "Shop.Example", "max_age": "1h", "same_site": "strict", "http_only": False},
                False,
                f"Set-Cookie: a={value}; Path=/x; Domain=shop.example; Max-Age=3600; SameSite=Strict{private}",
            ),
            (
                {"same_site": "none", "secure": "always", "nocache": False},
                False,
                f"Set-Cookie: a={value}; Path=/; HttpOnly; SameSite=None; Secure\r\n",
            ),
            ({"secure": "never"}, True, f"Set-Cookie: a={value}; Path=/; HttpOnly; SameSite=Lax{private}"),
        ):
            self.assertEqual(line, self.line(built({"cookie": "a", "secret": SECRET, **more}), secure))

    def test_none_is_secure(self) -> None:
        """A cookie for other sites is Secure whatever the connection: browsers would not take it otherwise."""
        self.assertIn("; SameSite=None; Secure\r\n", self.line(built({"cookie": "a", "same_site": "none"})))

    def test_header(self) -> None:
        """A field has the value alone."""
        value = Codec([SECRET.encode()], "c").write(self.backend.location.url)[0].decode()
        found = {"header": "X-Bound", "secrets": [SECRET, SECRET[::-1]]}
        self.assertEqual(f"X-Bound: {value}\r\nCache-Control: private\r\n", self.line(built(found)))
        self.assertEqual(f"X-Bound: {value}\r\n", self.line(built({**found, "nocache": False})))

    def test_without_secret(self) -> None:
        """Without a secret it is the instance's; and where that has none, nobody's."""
        found = {"cookie": "a"}
        self.assertEqual(self.line(built(found, b"instance")), self.line(built(found, b"instance")))
        self.assertNotEqual(self.line(built(found, b"instance")), self.line(built(found, b"another")))
        self.assertNotEqual(self.line(built(found)), self.line(built(found)))
        self.assertIsNone(build_sticky("c", None))


class ConfiguredTests(SynchronousTestCase):
    """C{pin} of a route, and what is told of secrets."""

    def test_pin(self) -> None:
        """All three places; a field's name is in lower case, as they are compared."""
        for found, kind, name in (
            ({"cookie": "B"}, "cookie", "B"),
            ({"header": "X-B"}, "header", "x-b"),
            ({"query": "B"}, "query", "B"),
        ):
            pin = build_pin(model.Pin.model_validate({**found, "secret": SECRET, "capacity": True}))
            assert pin is not None
            self.assertEqual((kind, name, SECRET.encode(), True), (pin._kind, pin._name, pin._secret, pin._capacity))
        self.assertIsNone(build_pin(None))

    def test_secrets_are_not_shown(self) -> None:
        """Neither the configuration's text nor what a reload says of changes has a secret in it."""

        def configured(*secrets: str, one: str = SECRET) -> model.Configuration:
            sticky = {"cookie": "a", "secrets": list(secrets)}
            web = {"backends": [], "sticky": sticky}
            routes = [{"cluster": "web", "pin": {"query": "b", "secret": one}}]
            other = {"backends": [], "sticky": {"cookie": "b", "secret": one}}
            return model.Configuration.model_validate(
                {"clusters": {"web": web, "b": other}, "vhosts": [{"hosts": ["*"], "routes": routes}]}
            )

        old, new = configured(SECRET), configured("a newer secret !", SECRET, one="a newer secret !")
        self.assertEqual(
            [
                "vhosts[*].routes[0].pin.secret: changed",
                "clusters.web.sticky.secrets: changed",
                "clusters.b.sticky.secret: changed",
            ],
            changes(old, new),
        )
        for text in (repr(old), repr(new), str(new)):
            self.assertNotIn("secret !", text)
            self.assertNotIn(SECRET, text)
