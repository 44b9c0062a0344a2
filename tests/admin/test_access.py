"""Who may use the admin side: L{lemmytx.admin.access}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.admin.access import check_admin, check_endpoint_is_local
from tests.admin.rig import Answer, Rig, token


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

    def test_replaced(self) -> None:
        """Other tokens hold from the next request on, also where there were none."""
        self.rig.site.access.tokens = (token("new"),)
        self.assertEqual(self.rig.ask("/stats", fields=["X-API-Key: first"]).status, 401)
        self.assertEqual(self.rig.ask("/stats", fields=["X-API-Key: new"]).status, 200)
        self.rig.site.access.tokens = ()
        self.assertEqual(self.rig.ask("/stats").status, 200)
        self.assertEqual(self.rig.ask("/stats", host="evil.example", fields=["X-API-Key: new"]).status, 421)

    def test_best_role(self) -> None:
        """A token that is listed twice has the better of its roles, in either order."""
        for roles in (("read", "admin"), ("admin", "read")):
            rig = Rig([token("twice", role) for role in roles])
            rig.ask_for("/api/v1/upgrade", ["X-API-Key: twice"])
            self.assertEqual([what for what, _ in rig.instance.asked], ["upgrade"], roles)


class RoleTests(SynchronousTestCase):
    """What each role may do."""

    def setUp(self) -> None:
        self.rig = Rig([token("r", "read"), token("o", "operate"), token("a", "admin")])

    def may(self, sent: str, path: str) -> bool:
        """Whether a POST reaches what is behind it."""
        asked = len(self.rig.instance.asked)
        answer = self.rig.send(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {sent}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        if len(self.rig.instance.asked) > asked:
            return True
        found = Answer(answer)
        self.assertEqual((found.status, found.json["title"]), (403, "Forbidden"))
        self.assertIn("has the role", found.json["detail"])
        return False

    def test_roles(self) -> None:
        """Reading is for all, a reload for operators, an upgrade for administrators alone."""
        for sent, reload, upgrade in (("r", False, False), ("o", True, False), ("a", True, True)):
            self.assertEqual(self.rig.ask("/stats", fields=[f"X-API-Key: {sent}"]).status, 200)
            self.assertEqual(self.may(sent, "/api/v1/config/reload"), reload, sent)
            self.assertEqual(self.may(sent, "/api/v1/upgrade"), upgrade, sent)

    def test_other_spellings(self) -> None:
        """No other spelling of a path takes a lesser role."""
        for path in ("/api/v1/%75pgrade", "/api/v1/upgrad%65", "/api/%76%31/upgrade"):
            self.assertFalse(self.may("o", path), path)

    def test_whatever_changes(self) -> None:
        """Who may only read gets nothing else through, wherever to."""
        for method in ("POST", "PUT", "PATCH", "DELETE", "BREW"):
            for path in ("/stats", "/nowhere", "/api/v1/config/reload"):
                self.assertEqual(self.rig.ask(path, method, fields=["X-API-Key: r"]).status, 403, (method, path))


class PageTests(SynchronousTestCase):
    """Without tokens a browser on this machine must not act for a page on the web."""

    def setUp(self) -> None:
        self.rig = Rig()

    def post(self, *fields: str) -> int:
        """The status of a POST; 0: it came through."""
        answer = self.rig.ask_for("/api/v1/config/reload", fields)
        return 0 if answer is None else answer.status

    def test_programs(self) -> None:
        """A program that is no browser says nothing about pages."""
        self.assertEqual(self.post(), 0)

    def test_own(self) -> None:
        """Our own page may, and so may the user's own doing."""
        self.assertEqual(self.post("Origin: http://localhost:8081"), 0)
        self.assertEqual(self.post("Origin: http://localhost:8081", "Sec-Fetch-Site: same-origin"), 0)
        self.assertEqual(self.post("Sec-Fetch-Site: none"), 0)

    def test_foreign(self) -> None:
        """Any other page is refused: of another host, port, scheme or none, alone or among others."""
        for fields in (
            ("Origin: https://evil.example",),
            ("Origin: null",),
            ("Origin: http://localhost:3000",),
            ("Origin: http://localhost",),
            ("Origin: https://localhost:8081",),
            ("Origin: http://localhost:8081.evil.example",),
            ("Origin:",),
            ("Origin: http://localhost:8081", "Origin: https://evil.example"),
            ("Sec-Fetch-Site: cross-site",),
            ("Sec-Fetch-Site: same-site",),
            ("Origin: http://localhost:8081", "Sec-Fetch-Site: cross-site"),
        ):
            self.assertEqual(self.post(*fields), 403, fields)
        self.assertEqual(self.rig.instance.asked, [])

    def test_forms(self) -> None:
        """What a form in a page can send is refused also from a browser that does not tell where it is from."""
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""):
            self.assertEqual(self.post(f"Content-Type: {kind}"), 415, kind)
        self.assertEqual(self.post("Content-Type: application/json; charset=utf-8"), 0)

    def test_reading(self) -> None:
        """A page may well ask: it does not get to see the answer."""
        answer = self.rig.ask("/stats", fields=["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"])
        self.assertEqual(answer.status, 200)
        self.assertNotIn("access-control-allow-origin", answer.fields)

    def test_with_tokens(self) -> None:
        """A browser sends no token by itself, so with tokens it does not matter where a page is from."""
        self.rig.site.access.tokens = (token("a", "admin"),)
        self.assertEqual(self.post("Origin: https://admin.example", "X-API-Key: a"), 0)
        self.assertEqual(self.post("Origin: https://admin.example"), 401)


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
