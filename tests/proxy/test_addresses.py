"""A name with several addresses, over real sockets: what the kernel says of those where nobody is."""

from __future__ import annotations

import socket

from tests.proxy.rig import GET, OK
from tests.proxy.test_sockets import SocketCase


class AddressesTests(SocketCase):
    """The backend is at the last of its addresses."""

    async def served(self, *addresses: str) -> None:
        """A request is answered, by the last of these addresses, which is the first from then on."""
        self.backend.addresses = addresses
        client = self.client()
        await self.send(client, GET)
        (await self.upstream()).transport.write(OK)
        self.assertEqual(await self.read(client, len(OK)), OK)
        self.assertEqual(self.backend.addresses[0], addresses[-1])
        self.assertEqual(self.backend.failures, {})
        await self.finish()

    async def test_refused(self) -> None:
        """Where nobody listens, the next address is tried."""
        self.build("tcp")
        await self.served("127.0.0.2", "127.0.0.3", "127.0.0.1")

    async def test_otherFamily(self) -> None:
        """Where there is no way to an IPv6 address, or nobody there, an IPv4 one is tried."""
        self.build("tcp")
        await self.served("::1", "127.0.0.1")

    async def test_silent(self) -> None:
        """Where all packets are swallowed, the next address is tried beside it, and the attempt is given up."""
        self.build("tcp")
        port = self.backend.location.port
        with socket.create_server(("127.0.0.2", port), backlog=0) as full:
            # The kernel drops what does not fit into the queue any more.
            for _ in range(4):
                filler = socket.socket()
                self.addCleanup(filler.close)
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            await self.served("127.0.0.2", "127.0.0.1")
