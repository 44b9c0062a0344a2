"""What is right and yet seldom meant: L{lemmytx.config.advice}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.config.advice import advice
from lemmytx.model import Configuration


class StickyOfflineTests(SynchronousTestCase):
    """C{sticky_offline} that does nothing, or not for long."""

    def told(self, cluster: dict[str, object], **more: object) -> list[tuple[str, str]]:
        """Of a configuration with this cluster."""
        settings = {"backends": ["http://a:1", "http://b:1"], **cluster}
        return advice(Configuration.model_validate({"clusters": {"web": settings}, **more}))

    def test_unchecked(self) -> None:
        """Where nobody looks after a backend nothing ever finds it down; it is told once for a cluster."""
        file = {"type": "file", "path": "table.db"}
        (found,) = self.told({"sticky_offline": True}, store=file)
        self.assertEqual("clusters.web.sticky_offline", found[0])
        self.assertIn("backend 'a:1' has no health_check", found[1])
        checked = {"health_check": {"type": "tcp"}}
        self.assertEqual([], self.told({"sticky_offline": True, **checked}, store=file))
        off = [{"url": "http://a:1", "sticky_offline": False}]
        self.assertEqual([], self.told({"sticky_offline": True, "backends": off}, store=file))
        self.assertEqual([], self.told({}, store=file))

    def test_forgotten(self) -> None:
        """A store in memory forgets it."""
        checked = {"health_check": {"type": "tcp"}}
        for cluster in ({"sticky_offline": True}, {"backends": [{"url": "http://a:1", "sticky_offline": True}]}):
            (found,) = self.told({**checked, **cluster})
            self.assertIn("is forgotten at a restart", found[1])
        self.assertEqual("defaults.sticky_offline", self.told({}, defaults={"sticky_offline": True})[0][0])
        self.assertEqual([], self.told(checked))
