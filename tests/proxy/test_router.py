"""Which vhost and which route a request goes to."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from types import FrameType

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.message import RequestHead
from lemmytx.proxy.router import Route, Router, Vhost


def request(
    host: str = "shop.example", path: str = "/", method: str = "GET", query: str = "", raw: str = ""
) -> RequestHead:
    """A head as the codec would make it."""
    head = RequestHead()
    head.method = method.encode()
    head.path = path.encode("utf-8", "surrogateescape")
    head.target = head.path + (b"?" + query.encode() if query else b"")
    head.authority = head.host = host.encode()
    head.raw = raw.encode()
    return head


def routes(*patterns: str) -> list[Route]:
    """Routes whose cluster is their own pattern, so that a test can tell them apart."""
    return [Route(pattern, cluster=pattern) for pattern in patterns]


def chosen(patterns: list[str], path: str) -> object:
    """The pattern that gets a path, or None."""
    return Vhost("v", ("*",), routes(*patterns)).choose(request(path=path), "").cluster


def calls(function: Callable[[], object]) -> tuple[int, int]:
    """How many Python and how many C functions a call needs, its own included."""
    counted = {"call": 0, "c_call": 0}

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event in counted:
            counted[event] += 1

    function()  # what is done once only is not counted
    gc.disable()  # what it calls is not the function's
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counted["call"], counted["c_call"] - 1  # the last one is setprofile itself


class HostTests(SynchronousTestCase):
    """Hosts to vhosts."""

    def setUp(self) -> None:
        self.router = Router(
            Vhost(hosts[0], hosts, [Route()])
            for hosts in (
                ("*",),
                ("*.example",),
                ("*.shop.example",),
                ("shop.example", "www.shop.example"),
                ("[::1]",),
            )
        )

    def vhost(self, host: str) -> str | None:
        found = self.router.find(request(host), "").vhost
        return found.name if found else None

    def test_exactBeatsWildcard(self) -> None:
        """A host named exactly goes to its vhost although wildcards match it too."""
        self.assertEqual(self.vhost("shop.example"), "shop.example")
        self.assertEqual(self.vhost("www.shop.example"), "shop.example")

    def test_longestWildcard(self) -> None:
        """Of several wildcards the longest one wins, at any depth below it."""
        self.assertEqual(self.vhost("a.shop.example"), "*.shop.example")
        self.assertEqual(self.vhost("c.b.a.shop.example"), "*.shop.example")
        self.assertEqual(self.vhost("a.market.example"), "*.example")

    def test_wildcardIsNotItsOwnName(self) -> None:
        """A wildcard does not stand for the name below which it is, nor for names that only end alike."""
        self.assertEqual(self.vhost("example"), "*")
        self.assertEqual(self.vhost("myexample"), "*")
        self.assertEqual(self.vhost(".example"), "*")

    def test_star(self) -> None:
        """Hosts that nothing else names go to the star: other names, addresses, and no host at all."""
        for host in ("other.test", "10.0.0.1", ""):
            self.assertEqual(self.vhost(host), "*", host)
        self.assertEqual(self.vhost("[::1]"), "[::1]")

    def test_longName(self) -> None:
        """A host longer than any name is not looked up label by label."""
        self.assertEqual(self.vhost("a." * 5000 + "example"), "*")

    def test_noVhost(self) -> None:
        """Without a vhost for the host the answer has neither cluster nor vhost."""
        router = Router([Vhost("v", ("shop.example",), [Route(cluster="c")])])
        found = router.find(request("other.example"), "")
        self.assertIs(found, router.nothing)
        self.assertIsNone(found.cluster)
        self.assertIsNone(found.vhost)

    def test_noFallThrough(self) -> None:
        """A vhost that matches but has no route is the answer, although a lesser vhost would have one."""
        shop = Vhost("shop", ("shop.example",), routes("/api/*"))
        router = Router([Vhost("all", ("*",), routes("/*")), shop])
        found = router.find(request("shop.example", "/else"), "")
        self.assertIsNone(found.cluster)
        self.assertIs(found.vhost, shop)
        self.assertIs(found, shop.nothing)

    def test_hostTwice(self) -> None:
        """Two vhosts for one host are refused, with the names of both."""
        error = self.assertRaises(
            ValueError, Router, [Vhost("a", ("x.example",), []), Vhost("b", ("y.example", "x.example"), [])]
        )
        self.assertEqual(str(error), "host 'x.example' is in two vhosts, 'a' and 'b'; keep one")


class PathTests(SynchronousTestCase):
    """Paths to routes."""

    def assertChosen(self, patterns: list[str], expected: dict[str, str | None]) -> None:
        """The patterns give the expected one for each path, in whatever order they stand in the file."""
        for order in (patterns, patterns[::-1]):
            for path, pattern in expected.items():
                self.assertEqual(chosen(order, path), pattern, f"{path} in {order}")

    def test_exact(self) -> None:
        """An exact path takes itself alone."""
        self.assertChosen(["/a/b"], {"/a/b": "/a/b", "/a/b/": None, "/a": None, "/a/b/c": None, "/A/b": None})

    def test_below(self) -> None:
        """A trailing star takes everything below by whole segments."""
        self.assertChosen(
            ["/api/*"],
            {"/api": "/api/*", "/api/": "/api/*", "/api/a/b": "/api/*", "/apis": None, "/ap": None, "/": None},
        )

    def test_root(self) -> None:
        """A slash is the root alone, and the catch-all takes the rest."""
        self.assertChosen(["/", "/*"], {"/": "/", "/a": "/*", "/a/": "/*"})
        self.assertChosen(["/"], {"/": "/", "/a": None, "*": None})

    def test_options(self) -> None:
        """OPTIONS * is about no path, so only the catch-all takes it."""
        self.assertChosen(["/", "/*/", "/*"], {"*": "/*"})

    def test_exactBeatsPrefix(self) -> None:
        """An exact path is more specific than any with a star."""
        self.assertChosen(["/a/b", "/a/b/*", "/a/*", "/*", "/*/b", "/a/b*"], {"/a/b": "/a/b"})

    def test_longestPrefix(self) -> None:
        """Of several prefixes the longest one wins."""
        self.assertChosen(
            ["/*", "/a/*", "/a/b/*", "/a/b/c/*"],
            {"/a/b/c/d": "/a/b/c/*", "/a/b/x": "/a/b/*", "/a/x": "/a/*", "/x": "/*", "/a/b/c": "/a/b/c/*"},
        )

    def test_within(self) -> None:
        """A star that is not trailing matches within one segment, and never an empty one in place of a name."""
        self.assertChosen(
            ["/u/*/photo", "/img-*.png"],
            {
                "/u/anna/photo": "/u/*/photo",
                "/u/a/b/photo": None,
                "/u/photo": None,
                "/img-1.png": "/img-*.png",
                "/img-.png": "/img-*.png",
                "/img.png": None,
                "/img-1.png/x": None,
            },
        )

    def test_starsAndTrailingSlashes(self) -> None:
        """The nothing behind a trailing slash is no segment that a star within stands for."""
        self.assertChosen(
            ["/*/*", "/a/*/*"], {"/": None, "/a": "/*/*", "/a/": "/*/*", "/a/b": "/a/*/*", "/a/b/": "/a/*/*"}
        )

    def test_endsDoNotShare(self) -> None:
        """What stands before a star and what stands behind it are found in different places of the segment."""
        self.assertChosen(["/aba*ba"], {"/aba": None, "/ababa": "/aba*ba", "/aba.ba": "/aba*ba"})

    def test_globs(self) -> None:
        """Of several globs in one segment the one with the longest literal beginning wins, then the longest end."""
        self.assertChosen(
            ["/*/x", "/a*/x", "/ab*/x", "/ab*z/x", "/ab*yyyy*z/x", "/abc/x", "/*z/x"],
            {
                "/abc/x": "/abc/x",
                "/abcz/x": "/ab*z/x",
                "/abyyyyz/x": "/ab*yyyy*z/x",
                "/abd/x": "/ab*/x",
                "/ac/x": "/a*/x",
                "/cz/x": "/*z/x",
                "/c/x": "/*/x",
            },
        )

    def test_backtracking(self) -> None:
        """A more specific branch that leads nowhere does not hide a less specific one."""
        self.assertChosen(
            ["/a/b/c", "/a/*/d", "/*/b/e", "/a*/b/f", "/a/*"],
            {"/a/b/c": "/a/b/c", "/a/b/d": "/a/*/d", "/ax/b/e": "/*/b/e", "/a/b/e": "/a/*", "/ax/b/f": "/a*/b/f"},
        )

    def test_expressions(self) -> None:
        """Regular expressions come behind paths, before the catch-all, in the order of the file."""
        patterns = ["/*", "~^/v[12]/", "~/b$", "/v1/x/*"]
        for path, pattern in (("/v1/b", "~^/v[12]/"), ("/v3/b", "~/b$"), ("/v1/x/b", "/v1/x/*"), ("/v3", "/*")):
            self.assertEqual(chosen(patterns, path), pattern)
        self.assertEqual(chosen(["~/b$", "~^/v[12]/"], "/v1/b"), "~/b$")

    def test_decodedExpressions(self) -> None:
        """Regular expressions see characters, and a path that is no UTF-8 is no obstacle."""
        self.assertEqual(chosen(["~^/caf.$"], "/café"), "~^/caf.$")
        self.assertEqual(chosen(["~^/caf.$"], "/caf\udce9"), "~^/caf.$")

    def test_otherScripts(self) -> None:
        """A pattern with characters beyond ASCII matches the decoded path."""
        self.assertChosen(["/café/*"], {"/café/x": "/café/*"})

    def test_equalOnes(self) -> None:
        """Of equal paths the first in the file wins."""
        for pattern in ("/a", "/a/*", "/*", "/*/a", "~a", "/a*"):
            first, second = Route(pattern, cluster=1), Route(pattern, cluster=2)
            found = Vhost("v", ("*",), [first, second]).choose(request(path="/a/a" if pattern == "/*/a" else "/a"), "")
            self.assertIs(found, first, pattern)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(
        st.lists(st.from_regex(r"\A(/(a|b|ab|a\*|\*b|a\*b|\*|\*a\*)){0,3}(/|/\*|/a|/ab)\Z"), min_size=1, max_size=12),
        st.lists(st.sampled_from(["a", "b", "ab", "aab", "ba", ""]), min_size=1, max_size=4),
    )
    def test_likeAScan(self, patterns: list[str], segments: list[str]) -> None:
        """The tree finds exactly what a scan over all patterns finds, exact ones first, then by literal prefix."""
        path = "/" + "/".join(part for part in segments[:-1] if part)
        path += ("/" if path != "/" else "") + segments[-1]
        found = [route.path for route in Vhost("v", ("*",), routes(*patterns)).candidates(path.encode())]
        self.assertEqual(sorted(found), sorted(pattern for pattern in patterns if scans(pattern, path)))
        ranks = [(0, 0) if "*" not in p else (1, -p.index("*")) for p in found]
        self.assertEqual(ranks, sorted(ranks), found)


def scans(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path, by a regular expression made from the description in the documents."""
    body = pattern.removesuffix("/*")
    parts = []
    for segment in body.split("/")[1:]:
        parts.append("/" + ("[^/]+" if segment == "*" else re.escape(segment).replace(r"\*", "[^/]*")))
    tail = "(/.*)?" if pattern.endswith("/*") else ""
    return re.fullmatch("".join(parts) + tail, path) is not None


class ConditionTests(SynchronousTestCase):
    """Methods, fields, query, cookies and networks."""

    def takes(self, route: Route, head: RequestHead, client: str = "192.0.2.1") -> bool:
        return Router([Vhost("v", ("*",), [route])]).find(head, client) is route

    def test_methods(self) -> None:
        """A route for some methods takes no other, and GET does not stand for HEAD."""
        route = Route(methods=["GET", "POST"])
        taken = [
            method for method in ("GET", "POST", "HEAD", "get", "DELETE") if self.takes(route, request(method=method))
        ]
        self.assertEqual(taken, ["GET", "POST"])

    def test_fields(self) -> None:
        """A wanted field is found whatever its case, and one of several lines is enough."""
        route = Route(headers={"X-Team": "ops"})
        self.assertTrue(self.takes(route, request(raw="Accept: */*\r\nx-TEAM:  ops \r\n")))
        self.assertTrue(self.takes(route, request(raw="X-Team: dev\r\nX-Team: ops\r\n")))
        self.assertFalse(self.takes(route, request(raw="X-Team: devops\r\n")))
        self.assertFalse(self.takes(route, request()))

    def test_presence(self) -> None:
        """A field can be wanted whatever it says."""
        route = Route(headers={"x-debug": True})
        self.assertTrue(self.takes(route, request(raw="X-Debug:\r\n")))
        self.assertFalse(self.takes(route, request(raw="X-Other: 1\r\n")))

    def test_query(self) -> None:
        """Query parameters are compared decoded, and an empty value is a value."""
        route = Route(query={"näme": "a b", "flag": True})
        self.assertTrue(self.takes(route, request(query="flag&n%C3%A4me=a+b")))
        self.assertTrue(self.takes(route, request(query="n%C3%A4me=x&flag=1&n%C3%A4me=a%20b")))
        self.assertFalse(self.takes(route, request(query="n%C3%A4me=a+b")))
        self.assertFalse(self.takes(route, request()))

    def test_cookies(self) -> None:
        """Cookies are found in any of the fields that carry them, and may be wanted by a regular expression."""
        route = Route(cookies={"beta": "~^[1-3]$"})
        self.assertTrue(self.takes(route, request(raw="Cookie: a=b; beta=2\r\n")))
        self.assertTrue(self.takes(route, request(raw="Cookie: a=b\r\ncookie: beta=3\r\n")))
        self.assertFalse(self.takes(route, request(raw="Cookie: a=beta; xbeta=2; beta=22\r\n")))

    def test_networks(self) -> None:
        """A route for networks takes clients in one of them, IPv4 ones on a socket for both included."""
        route = Route(client_networks=["10.0.0.0/8", "2001:db8::/32"])
        for client in ("10.1.2.3", "2001:db8::5", "::ffff:10.1.2.3"):
            self.assertTrue(self.takes(route, request(), client), client)
        for client in ("11.0.0.1", "2001:db9::1", "::ffff:11.0.0.1", "", "unix"):
            self.assertFalse(self.takes(route, request(), client), client)

    def test_next(self) -> None:
        """A route whose conditions do not hold lets the next candidate try, down to the catch-all."""
        vhost = Vhost(
            "v",
            ("*",),
            [
                Route("/internal/*", cluster="ops", headers={"x-team": "ops"}),
                Route("/internal/*", cluster="write", methods=["POST"]),
                Route("/*/reports", cluster="reports", query={"year": True}),
                Route("~^/int", cluster="cookie", cookies={"c": True}),
                Route(cluster="near", client_networks=["10.0.0.0/8"]),
                Route(cluster="web"),
            ],
        )
        router = Router([vhost])
        path = "/internal/reports"
        for cluster, head, client in (
            ("ops", request(path=path, method="POST", raw="X-Team: ops\r\n"), ""),
            ("write", request(path=path, method="POST"), ""),
            ("reports", request(path=path, query="year=1"), ""),
            ("cookie", request(path=path, raw="Cookie: c=1\r\n"), ""),
            ("near", request(path=path), "10.0.0.1"),
            ("web", request(path=path), "11.0.0.1"),
            ("web", request(path="/"), "11.0.0.1"),
        ):
            self.assertEqual(router.find(head, client).cluster, cluster)

    def test_broken(self) -> None:
        """A path, value or network that is none is refused when the route is made."""
        self.assertRaises(ValueError, Route, "api")
        self.assertRaises(ValueError, Route, headers={"a": "~("})
        self.assertRaises(ValueError, Route, client_networks=["10.0.0.1/8"])


class ExplainTests(SynchronousTestCase):
    """L{Router.explain}"""

    def test_steps(self) -> None:
        """An explanation names every candidate with the condition that does not hold, and ends as find does."""
        router = Router(
            [
                Vhost(
                    "shop",
                    ("*.example",),
                    [
                        Route("/a/*", methods=["PUT", "POST"]),
                        Route("/a/b", headers={"x-team": "ops"}),
                        Route("~b", cluster="web", client_networks=["10.0.0.0/8"]),
                    ],
                )
            ]
        )
        head = request("shop.example", "/a/b")
        route, steps = router.explain(head, "10.0.0.1")
        self.assertIs(route, router.find(head, "10.0.0.1"))
        self.assertEqual(
            steps,
            [
                "no vhost names the host 'shop.example'",
                "vhost 'shop' matches it as a wildcard",
                "route /a/b does not: not so: field x-team is 'ops'",
                "route /a/* does not: the method is none of POST, PUT",
                "route ~b of vhost 'shop' takes it",
            ],
        )

    def test_nothing(self) -> None:
        """An explanation tells a missing vhost from a missing route."""
        router = Router([Vhost("shop", ("shop.example",), routes("/a"))])
        route, steps = router.explain(request("shop.example", "/b"), "")
        self.assertIs(route, router.vhosts[0].nothing)
        self.assertEqual(steps[-1], "vhost 'shop' has no other route for the path")
        route, steps = router.explain(request("other.example", "/b"), "")
        self.assertIs(route, router.nothing)
        self.assertEqual(steps[-1], "no wildcard matches it, and there is no vhost for '*'")


class CostTests(SynchronousTestCase):
    """What a request costs, in function calls, which unlike seconds are the same every time."""

    def test_plain(self) -> None:
        """A vhost with one route for everything costs one Python call and one look-up."""
        router = Router([Vhost("v", ("shop.example",), [Route(cluster="c")])])
        head = request()
        self.assertEqual(calls(lambda: router.find(head, "")), (2, 1))  # the lambda is one

    def test_vhosts(self) -> None:
        """Ten thousand vhosts cost as many calls as one, for exact hosts, wildcards and hosts of no one."""

        def build(number: int) -> Router:
            return Router(
                Vhost(f"v{n}", (f"shop{n}.example", f"*.shop{n}.example"), [Route(cluster="c")]) for n in range(number)
            )

        one, many = build(1), build(10_000)
        for host in ("shop0.example", "a.b.shop0.example", "a.other.example"):
            head = request(host)
            self.assertEqual(calls(lambda: one.find(head, "")), calls(lambda: many.find(head, "")), host)  # noqa: B023

    def test_routes(self) -> None:
        """A thousand routes in a vhost cost as many calls as one of each kind."""

        def build(number: int) -> Router:
            kinds = ("/a{}/*", "/a{}/exact", "/g{}-*/x", "/s/*.t{}", "/*/b{}")
            return Router(
                [
                    Vhost(
                        "v",
                        ("shop.example",),
                        routes(*(kind.format(f"{n:03}") for kind in kinds for n in range(number))),
                    )
                ]
            )

        one, many = build(1), build(1000)
        for path, pattern in (
            ("/a000/deep/er", "/a000/*"),
            ("/a000/exact", "/a000/exact"),
            ("/g000-1/x", "/g000-*/x"),
            ("/s/file.t000", "/s/*.t000"),
            ("/any/b000", "/*/b000"),
            ("/none/of/them", None),
        ):
            head = request(path=path)
            self.assertEqual(one.find(head, "").cluster, pattern)
            self.assertEqual(many.find(head, "").cluster, pattern)
            self.assertEqual(calls(lambda: one.find(head, "")), calls(lambda: many.find(head, "")), path)  # noqa: B023

    def test_conditionsAreNotPaidByOthers(self) -> None:
        """A route without conditions does not look at fields although its neighbours do."""
        plain = Router([Vhost("v", ("shop.example",), [Route("/a/*"), Route("/b/*")])])
        mixed = Router([Vhost("v", ("shop.example",), [Route("/a/*"), Route("/b/*", headers={"x-a": "b"})])])
        head = request(path="/a/x")
        self.assertEqual(calls(lambda: plain.find(head, "")), calls(lambda: mixed.find(head, "")))
