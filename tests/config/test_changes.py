"""What a reload says that it changes."""

from __future__ import annotations

from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.config.changes import MOST, changes
from lemmytx.model import Configuration


def read(text: str) -> Configuration:
    """A configuration out of a file's text."""
    return config.read(dedent(text).encode(), "x.yaml")


BEFORE = """\
    listeners: [{endpoint: "tcp:80"}, {endpoint: "tcp:81"}]
    vhosts: [{hosts: [a.example], routes: [{path: /a, cluster: web}, {cluster: web}]}, {hosts: [b], cluster: web}]
    clusters: {web: {backends: ["http://a", {url: "http://b", weight: 2}]}, old: {backends: []}}
"""


class ChangesTests(SynchronousTestCase):
    """One line for each difference."""

    def differ(self, after: str) -> list[str]:
        """The lines between L{BEFORE} and another text."""
        return changes(read(BEFORE), read(after))

    def test_none(self) -> None:
        """The same settings in other words are no change."""
        same = BEFORE.replace("/a, cluster: web}", '/a, cluster: "web"}') + "    timeouts: {drain: 30s}\n"
        self.assertEqual(self.differ(same), [])

    def test_each(self) -> None:
        """Whatever is added, removed or another value is told, with its place and both values."""
        self.assertEqual(
            self.differ(
                """\
                workers: 2
                listeners: [{endpoint: "tcp:80", trusted_proxies: [10.0.0.0/8]}, {endpoint: "tcp:82"}]
                vhosts:
                  - {hosts: [a.example], routes: [{path: /b, cluster: web}, {cluster: web}]}
                  - {hosts: [c], cluster: new}
                clusters:
                  web: {backends: ["http://c", {url: "http://b", weight: 3}], retry: {attempts: 5}}
                  new: {backends: []}
                """
            ),
            [
                "workers: 1 → 2",
                "listeners[tcp:81]: removed",
                "listeners[tcp:80].trusted_proxies[0]: added",
                "listeners[tcp:82]: added",
                "vhosts[b]: removed",
                "vhosts[a.example].routes[0].path: '/a' → '/b'",
                "vhosts[c]: added",
                "clusters.old: removed",
                "clusters.web.retry.attempts: 2 → 5",
                "clusters.web.backends[http://a:80]: removed",
                "clusters.web.backends[http://c:80]: added",
                "clusters.web.backends[http://b:80].weight: 2 → 3",
                "clusters.new: added",
            ],
        )

    def test_order(self) -> None:
        """The order of backends and vhosts means something, so another one is a change."""
        self.assertEqual(
            self.differ(
                BEFORE.replace(
                    '["http://a", {url: "http://b", weight: 2}]', '[{url: "http://b", weight: 2}, "http://a"]'
                )
            ),
            ["clusters.web.backends: in another order"],
        )

    def test_secrets(self) -> None:
        """The hash of a token is not shown."""
        old, new = (
            read(f'admin: {{tokens: [{{name: a, role: read, hash: "{hash}"}}]}}')
            for hash in (self.hash("a"), self.hash("b"))
        )
        self.assertEqual(changes(old, new), ["admin.tokens[a].hash: changed"])

    def hash(self, token: str) -> str:
        """What the configuration keeps of a token."""
        from lemmytx.admin.tokens import hash_token

        return hash_token(token * 32)

    def test_scheduler(self) -> None:
        """A cluster without a named scheduler gets another one when it becomes large; that is the first line."""

        def of(count: int, scheduler: str = "null") -> Configuration:
            backends = ", ".join(f'"http://x{number}"' for number in range(count))
            return read(f"clusters: {{a: {{scheduler: {scheduler}, backends: [{backends}]}}}}")

        why = "since there is none named and there are"
        for before, after, line in (
            (256, 257, f"least_connections → two_choices, {why} more than 256 backends"),
            (300, 256, f"two_choices → least_connections, {why} no more than 256 backends"),
        ):
            lines = changes(of(before), of(after))
            self.assertEqual(lines[0], f"clusters.a.scheduler: {line}")
            self.assertNotIn("scheduler", "".join(lines[1:]))
        self.assertNotIn("scheduler", "".join(changes(of(255), of(256))))
        self.assertNotIn("scheduler", "".join(changes(of(256, "lemmy"), of(257, "lemmy"))))
        self.assertEqual(changes(of(300), of(300, "lemmy")), ["clusters.a.scheduler: nothing → lemmy"])

    def test_many(self) -> None:
        """However much changes, the lines are bounded, and say how many more there are."""
        backends = ", ".join(f'"http://x{number}"' for number in range(500))
        few, many = (f"clusters: {{a: {{scheduler: first, backends: [{some}]}}}}" for some in ("", backends))
        lines = changes(read(few), read(many))
        self.assertEqual((len(lines), lines[-1]), (MOST + 1, "and 400 more"))
