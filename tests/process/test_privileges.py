"""
Sockets are opened while the process still is who started it.
"""

from __future__ import annotations

import json

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from lemmytx import assemble, config
from tests.process.rig import ANY, configuration, folder


class PrivilegeTests(TestCase):
    """L{assemble.Proxy} as twistd starts it with C{--uid}."""

    async def test_opened_before(self) -> None:
        """All sockets stand before twistd gives up the rights of root, and the start goes on with those."""
        where = folder(self)
        settings = configuration("http://127.0.0.1:9", (ANY, f"unix:{where}/door"))
        settings["admin"] = {"endpoint": f"unix:{where}/admin"}
        proxy = assemble.proxy(config.read(json.dumps(settings).encode(), "test"), (), reactor)
        proxy.privilegedStartService()
        doors = [*proxy._doors, proxy._admin]
        ports = [door.port for door in doors]
        self.assertNotIn(None, ports)
        self.assertEqual("starting", proxy.ready())
        proxy.startService()
        self.assertIsNone(proxy.ready())
        self.assertEqual(ports, [door.port for door in doors])
        await proxy.stopService()
