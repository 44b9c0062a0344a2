"""What names the bucket of a request."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from lemmytx.cluster.classes import by_cookie, by_header, guarded
from lemmytx.interfaces import IClassifier
from lemmytx.testing import Request


class FieldTests(SynchronousTestCase):
    """Header fields and cookies."""

    def test_header(self) -> None:
        """The value of a field is the name, however the field's own name is written."""
        classify = by_header("X-Class")
        self.assertEqual(classify(Request(fields=[("x-cLASS", "vip")])), "vip")
        self.assertIsNone(classify(Request(fields=[("X-Other", "vip")])))

    def test_headerTwice(self) -> None:
        """A field that comes twice names nothing that there could be."""
        self.assertEqual(by_header("X-Class")(Request(fields=[("X-Class", "a"), ("X-Class", "b")])), "a, b")

    def test_headerBytes(self) -> None:
        """Any bytes are only a name that there is not."""
        self.assertEqual(by_header("X-Class")(Request(fields=[("X-Class", "\xff\xfe")])), "\xff\xfe")

    def test_cookie(self) -> None:
        """The value of a cookie is the name, in quotes or not, wherever it stands among others."""
        classify = by_cookie("class")
        self.assertEqual(classify(Request(fields=[("Cookie", "a=b; class=vip; c=d")])), "vip")
        self.assertEqual(classify(Request(fields=[("Cookie", "a=b"), ("Cookie", 'class="vip"')])), "vip")
        self.assertIsNone(classify(Request(fields=[("Cookie", "xclass=vip; class; Class=vip")])))
        self.assertIsNone(classify(Request()))

    def test_cookieTwice(self) -> None:
        """Of two the first counts."""
        self.assertEqual(by_cookie("class")(Request(fields=[("Cookie", "class=a; class=b")])), "a")

    def test_cookieBytes(self) -> None:
        """Bytes that are no text do no harm."""
        self.assertEqual(by_cookie("class")(Request(fields=[("Cookie", "class=\xff")])), "\ufffd")


@implementer(IClassifier)
class Failing:
    """A plugin's, with a fault."""

    def classify(self, request: Any) -> str | None:
        """Fails for some."""
        if request.client == "192.0.2.8":
            raise SystemExit("no such")
        return "vip" if request.client == "192.0.2.1" else {}["no such"]

    def __repr__(self) -> str:
        return "<Failing>"


class GuardedTests(SynchronousTestCase):
    """A plugin that fails."""

    def test_raises(self) -> None:
        """A request for which it raises is in no class; that is told once, and others are not concerned."""
        events: list[dict[str, Any]] = []
        classify = guarded(Failing(), "web", Logger(observer=lambda event: events.append(dict(event))))
        names = [classify(Request(client=client)) for client in ("192.0.2.9", "192.0.2.1", "192.0.2.8")]
        self.assertEqual(names, [None, "vip", None])
        self.assertEqual([(event["cluster"], str(event["error"])) for event in events], [("web", "'no such'")])
