"""
Sockets are opened while the process still is who started it.
"""

from __future__ import annotations

import json

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from lemmytx import config
from lemmytx.instance import build
from tests.process.rig import ANY, configuration, folder


class PrivilegeTests(TestCase):
    """L{Instance} as twistd starts it with C{--uid}."""

    async def test_opened_before(self) -> None:
        """All sockets stand before twistd gives up the rights of root, and the start goes on with those."""
        where = folder(self)
        settings = configuration("http://127.0.0.1:9", (ANY, f"unix:{where}/door"))
        settings["admin"] = {"endpoint": f"unix:{where}/admin"}
        instance = build(config.read(json.dumps(settings).encode(), "test"), "", reactor)
        instance.privilegedStartService()
        opened = instance._sockets.descriptors()
        self.assertEqual(3, len(opened))
        self.assertEqual("starting", instance.ready())
        instance.startService()
        self.assertIsNone(instance.ready())
        self.assertEqual(opened, instance._sockets.descriptors())
        await instance.stopService()
