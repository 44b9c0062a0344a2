"""Host names of backends, kept resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from lemmytx.net.resolve import FIRST_INTERVAL, INTERVAL, PATIENCE, Resolution


@implementer(IHostResolution)
class _Begun:
    """A look-up that began."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError


@implementer(IHostnameResolver)
class Resolver:
    """
    A resolver that answers when the test says so.

    @ivar asked: the names it was asked for, in order.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.waiting: list[IResolutionReceiver] = []
        self.broken: Exception | None = None

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        if self.broken is not None:
            raise self.broken
        self.asked.append((hostName, portNumber))
        begun = _Begun(hostName)
        resolutionReceiver.resolutionBegan(begun)
        self.waiting.append(resolutionReceiver)
        return begun

    def answer(self, *addresses: str) -> None:
        """Complete the oldest look-up."""
        receiver = self.waiting.pop(0)
        for address in addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, 80))
        receiver.resolutionComplete()


class ResolutionTests(SynchronousTestCase):
    """L{Resolution}"""

    def setUp(self) -> None:
        self.clock = Clock()
        self.resolver = Resolver()
        self.told: list[object] = []

    def resolution(self, host: str, **options: float) -> Resolution:
        """A resolution that was started, and whose calls are in C{told}."""
        made = Resolution(self.resolver, host, 8080, self.clock, self.told.append, self.told.append, **options)
        made.start()
        return made

    def pending(self) -> Mapping[str, float]:
        """When the clock calls what."""
        return {call.func.__name__: call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()}

    def test_addresses(self) -> None:
        """The addresses of both families are told in the order of the resolver, each once."""
        resolution = self.resolution("app.example")
        self.assertEqual(self.resolver.asked, [("app.example", 8080)])
        self.resolver.answer("2001:db8::1", "10.0.0.1", "10.0.0.1")
        self.assertEqual(self.told, [("2001:db8::1", "10.0.0.1")])
        self.assertEqual(resolution.addresses, ("2001:db8::1", "10.0.0.1"))

    def test_foreignAddresses(self) -> None:
        """An address that is no IP address is passed over."""
        self.resolution("app.example")
        self.resolver.waiting[0].addressResolved(UNIXAddress("/run/app.sock"))
        self.resolver.answer("10.0.0.1")
        self.assertEqual(self.told, [("10.0.0.1",)])

    def test_again(self) -> None:
        """A name that was found is looked up again when the interval is over."""
        self.resolution("app.example")
        self.resolver.answer("10.0.0.1")
        self.clock.advance(INTERVAL - 0.1)
        self.assertEqual(len(self.resolver.asked), 1)
        self.clock.advance(0.1)
        self.assertEqual(len(self.resolver.asked), 2)

    def test_onlyChanges(self) -> None:
        """The same addresses in another order are not told, others are."""
        self.resolution("app.example")
        for addresses in (("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1"), ("10.0.0.2",)):
            self.resolver.answer(*addresses)
            self.clock.advance(INTERVAL)
        self.assertEqual(self.told, [("10.0.0.1", "10.0.0.2"), ("10.0.0.2",)])

    def test_failure(self) -> None:
        """A look-up that finds nothing is told once and leaves the last good addresses."""
        resolution = self.resolution("app.example")
        self.resolver.answer("10.0.0.1")
        for _ in range(3):
            self.clock.advance(INTERVAL)
            self.resolver.answer()
        self.assertEqual(self.told, [("10.0.0.1",), "no address is known for it"])
        self.assertEqual(resolution.addresses, ("10.0.0.1",))

    def test_recovery(self) -> None:
        """The first look-up that succeeds after a failure is told although the addresses are the same."""
        self.resolution("app.example")
        for addresses in (("10.0.0.1",), (), ("10.0.0.1",), ("10.0.0.1",)):
            self.resolver.answer(*addresses)
            self.clock.advance(INTERVAL)
        self.assertEqual(self.told, [("10.0.0.1",), "no address is known for it", ("10.0.0.1",)])

    def test_neverYet(self) -> None:
        """A name that was never found is looked up every few seconds until it is."""
        self.resolution("app.example")
        self.resolver.answer()
        self.assertEqual(self.pending(), {"_again": FIRST_INTERVAL})
        self.clock.advance(FIRST_INTERVAL)
        self.resolver.answer("10.0.0.1")
        self.assertEqual(self.pending(), {"_again": INTERVAL})

    def test_intervals(self) -> None:
        """Both intervals can be chosen."""
        self.resolution("app.example", interval=5.0, first_interval=1.0)
        self.resolver.answer()
        self.assertEqual(self.pending(), {"_again": 1.0})
        self.clock.advance(1.0)
        self.resolver.answer("10.0.0.1")
        self.assertEqual(self.pending(), {"_again": 5.0})

    def test_noAnswer(self) -> None:
        """A look-up that is not answered is given up, tried again, and ignored when it answers after all."""
        self.resolution("app.example")
        self.clock.advance(PATIENCE)
        self.assertEqual(self.told, ["no answer within 60 s"])
        self.clock.advance(FIRST_INTERVAL)
        self.assertEqual(len(self.resolver.asked), 2)
        self.resolver.answer("10.0.0.9")
        self.assertEqual(len(self.told), 1)
        self.resolver.answer("10.0.0.1")
        self.assertEqual(self.told[1:], [("10.0.0.1",)])

    def test_oneAtATime(self) -> None:
        """While a look-up is under way there is no second one."""
        self.resolution("app.example")
        self.clock.pump([1.0] * int(PATIENCE - 1))
        self.assertEqual(len(self.resolver.asked), 1)

    def test_brokenResolver(self) -> None:
        """A resolver that raises is a failure like any other, and is asked again."""
        self.resolver.broken = RuntimeError("boom")
        self.resolution("app.example")
        self.assertEqual(self.told, ["the resolver raised RuntimeError('boom')"])
        self.resolver.broken = None
        self.clock.advance(FIRST_INTERVAL)
        self.resolver.answer("10.0.0.1")
        self.assertEqual(self.told[1:], [("10.0.0.1",)])

    def test_literals(self) -> None:
        """IP literals, in brackets or not, are their own addresses and never looked up."""
        for host, address in (("10.0.0.1", "10.0.0.1"), ("[2001:db8::1]", "2001:db8::1"), ("::1", "::1")):
            self.assertEqual(self.resolution(host).addresses, (address,))
        self.assertEqual(self.told, [("10.0.0.1",), ("2001:db8::1",), ("::1",)])
        self.assertEqual(self.resolver.asked, [])
        self.assertEqual(self.pending(), {})

    def test_noName(self) -> None:
        """What cannot be a host name is told at once and never looked up."""
        for host in ("", "a..b", "x" * 64 + ".example", "a." * 127 + "example", "a\0b"):
            self.resolution(host)
        self.assertEqual(len(self.told), 5)
        for text in self.told:
            self.assertIn("not a host name", str(text))
        self.assertEqual(self.resolver.asked, [])

    def test_stop(self) -> None:
        """A stopped resolution leaves nothing on the clock and tells nothing any more."""
        resolution = self.resolution("app.example")
        resolution.stop()
        self.assertEqual(self.pending(), {})
        self.resolver.answer("10.0.0.1")
        self.assertEqual(self.told, [])
        self.assertEqual(self.pending(), {})

    def test_stopBetween(self) -> None:
        """Stopped between two look-ups, it does not look up again, until it is started."""
        resolution = self.resolution("app.example")
        self.resolver.answer("10.0.0.1")
        resolution.stop()
        self.clock.advance(INTERVAL)
        self.assertEqual(len(self.resolver.asked), 1)
        resolution.start()
        resolution.start()
        self.assertEqual(len(self.resolver.asked), 2)

    def test_stopWhenTold(self) -> None:
        """Whoever is told may stop it on the spot."""
        made: list[Resolution] = []
        resolution = Resolution(
            self.resolver, "app.example", 80, self.clock, lambda found: made[0].stop(), self.told.append
        )
        made.append(resolution)
        resolution.start()
        self.resolver.answer("10.0.0.1")
        self.assertEqual(self.pending(), {})

    def test_repr(self) -> None:
        """The representation is a status line."""
        resolution = self.resolution("app.example")
        self.assertEqual(repr(resolution), "<Resolution app.example not yet>")
        self.resolver.answer("10.0.0.1")
        self.assertEqual(repr(resolution), "<Resolution app.example 10.0.0.1>")
