"""Who may use the admin side: L{lemmytx.admin.access}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.admin.access import check_admin, check_endpoint_is_local
from tests.admin.rig import Rig, token


class EndpointTests(SynchronousTestCase):
    """Where the admin side may listen."""

    def test_local(self) -> None:
        """Loopback addresses, however written, and unix sockets can be reached from this machine alone."""
        for description in (
            "tcp:8081:interface=127.0.0.1",
            "tcp:8081:127.0.0.1",
            "tcp:port=8081:127.0.0.1",
            "tcp:8081:backlog=5:interface=127.9.9.9",
            "tcp:interface=localhost:port=8081",
            "tcp6:8081:interface=\\:\\:1",
            "unix:/run/lemmy.sock",
            "unix:address=/run/lemmy.sock:mode=600",
        ):
            self.assertTrue(check_endpoint_is_local(description), description)

    def test_not_local(self) -> None:
        """Whatever listens on other addresses, or might, is not local."""
        for description in (
            "tcp:8081",
            "tcp:8081:interface=",
            "tcp:8081:interface=0.0.0.0",
            "tcp:8081:interface=10.0.0.1",
            "tcp:8081:interface=127.0.0.1.example",
            "tcp6:8081",
            "tcp6:8081:interface=\\:\\:",
            "tcp6:8081:interface=\\:\\:ffff\\:10.0.0.1",
            "systemd:domain=INET:index=0",
            "haproxy:tcp:8081:interface=127.0.0.1",
            "tcp:127.0.0.1",
            "tcp:8081\\",
            "",
        ):
            self.assertFalse(check_endpoint_is_local(description), description)

    def test_check(self) -> None:
        """Open to others and without tokens is refused, with what to do about it; one of both is enough."""
        self.assertIsNone(check_admin("tcp:8081:interface=127.0.0.1", ()))
        self.assertIsNone(check_admin("tcp:8081", [token("t")]))
        self.assertEqual(
            check_admin("tcp:8081", ()),
            "'tcp:8081' can be reached from other machines and there are no admin.tokens, so anybody could use it;"
            " make a token with 'lemmy token new', or listen on loopback alone, as in 'tcp:8081:interface=127.0.0.1'",
        )


class TokenTests(SynchronousTestCase):
    """With tokens in the configuration."""

    def setUp(self) -> None:
        self.rig = Rig([token("first"), token("second", "admin"), token("dritté", "operate")])

    def test_none(self) -> None:
        """Without a token there is nothing to see, and it says how to send one."""
        answer = self.rig.ask("/stats")
        self.assertEqual(answer.status, 401)
        self.assertEqual(answer.fields["www-authenticate"], 'Bearer realm="lemmytx"')
        self.assertIn("Authorization: Bearer TOKEN", answer.json["detail"])

    def test_wrong(self) -> None:
        """A token that is not known, or one that is not sent as it must be, opens nothing."""
        for field in (
            "Authorization: Bearer third",
            "Authorization: Bearer firs",
            "Authorization: Bearer firstt",
            "Authorization: Bearer first second",
            "Authorization: Bearer",
            "Authorization: Bearer ",
            "Authorization: Basic first",
            "Authorization: first",
            "X-API-Key: third",
            "X-API-Key:",
            "Authorization: Bearer third\r\nAuthorization: Bearer first",
            "X-API-Key: first\r\nX-API-Key: first",
            "Cookie: token=first",
        ):
            self.assertEqual(self.rig.ask("/stats", fields=[field]).status, 401, field)
        self.assertEqual(self.rig.ask("/stats?token=first").status, 401)

    def test_hash(self) -> None:
        """The hash that the configuration holds is not a token."""
        answer = self.rig.ask("/stats", fields=[f"X-API-Key: {token('first').hash}"])
        self.assertEqual(answer.status, 401)

    def test_right(self) -> None:
        """Any of the tokens, of any role, in either field, reads."""
        for field in (
            "Authorization: Bearer first",
            "authorization: bearer   second ",
            "X-API-Key: second",
            "x-api-key:first",
            "Authorization: Basic eDp5\r\nX-API-Key: first",
            "Authorization: Bearer dritt\u00c3\u00a9",
        ):
            self.assertEqual(self.rig.ask("/stats", fields=[field]).status, 200, field)

    def test_open(self) -> None:
        """Health and readiness need no token: supervisors and balancers have none."""
        self.assertEqual(self.rig.ask("/health").status, 200)
        self.assertEqual(self.rig.ask("/ready").status, 200)

    def test_only_those_are_open(self) -> None:
        """No other spelling of an open path, and no path below one, is open."""
        for path in ("/health/", "//health", "/health/x", "/%68ealth", "/Health", "/ready/../stats", "/x", "/"):
            self.assertEqual(self.rig.ask(path).status, 401, path)

    def test_any_host(self) -> None:
        """With tokens the host does not matter: there may be another proxy in front."""
        for host in ("admin.example", "10.0.0.1:8081", "x" * 200, None):
            self.assertEqual(self.rig.ask("/stats", host=host, fields=["X-API-Key: first"]).status, 200, host)


class HostTests(SynchronousTestCase):
    """Without tokens, on loopback."""

    def setUp(self) -> None:
        self.rig = Rig()

    def test_loopback(self) -> None:
        """Names and addresses that always mean this machine are served without a token."""
        for host in (
            "localhost", "LOCALHOST.:8081", "lemmy.localhost", "127.0.0.1:8081", "127.1.2.3", "[::1]:8081", "[0:0::1]",
        ):  # fmt: skip
            self.assertEqual(self.rig.ask("/stats", host=host).status, 200, host)

    def test_rebinding(self) -> None:
        """Any other host is refused: a page on the web can give its own name the address of this machine."""
        for host in (
            "evil.example", "evil.example:8081", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example",
            "10.0.0.1", "[::]", "[::ffff:10.0.0.1]", "0.0.0.0", "", "localhost, evil.example", "user@localhost", "[::1",
            None,
        ):  # fmt: skip
            for path in ("/stats", "/health", "/ready", "/nowhere"):
                answer = self.rig.ask(path, host=host)
                self.assertEqual(answer.status, 421, (host, path))
                self.assertNotIn("Set-Cookie", answer.fields)
        self.assertEqual(self.rig.ask("/stats", fields=["Host: localhost"]).status, 421)
