"""
A backend's host name, kept resolved.

Names are looked up with Twisted's L{IHostnameResolver}, so the rules of the system hold (hosts file, search domains,
nsswitch). It tells no TTL, so a name is looked up every 30 seconds, and every few seconds while it has never been
found. An answer is only believed when it has an address in it: while the name service is away the last good addresses
stay.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer

#: Seconds between two look-ups of a name that has been found before.
INTERVAL = 30.0

#: Seconds between two look-ups of a name that never was. Someone is waiting for it.
FIRST_INTERVAL = 3.0

#: Seconds after which a look-up without an answer is given up. C{getaddrinfo} itself needs about 30 with two dead name
#: servers, and a look-up holds a thread, so another one is not started before.
PATIENCE = 60.0


@implementer(IResolutionReceiver)
class _LookUp:
    """One look-up: collects what comes, and tells it when it is complete."""

    __slots__ = ("_done", "_found")

    def __init__(self, done: Callable[[_LookUp, tuple[str, ...]], None]) -> None:
        self._done = done
        self._found: dict[str, None] = {}

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing to note: Twisted's own resolver cannot be cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, (IPv4Address, IPv6Address)):
            self._found[address.host] = None

    def resolutionComplete(self) -> None:
        self._done(self, tuple(self._found))


class Resolution:
    """
    Looks one name up, again and again, between L{start} and L{stop}.

    @ivar addresses: the last good ones, IPv4 and IPv6, in the order of the resolver; empty before the first.
    @ivar why: why the last look-up gave nothing; L{None} when it did.
    """

    def __init__(
        self,
        resolver: IHostnameResolver,
        host: str,
        port: int,
        clock: IReactorTime,
        changed: Callable[[tuple[str, ...]], None],
        failed: Callable[[str], None],
        interval: float = INTERVAL,
        first_interval: float = FIRST_INTERVAL,
    ) -> None:
        """
        @param resolver: usually C{reactor.nameResolver}.
        @param host: a name, or an IP literal, which is never looked up.
        @param changed: called with the addresses when they are others than before, and when a look-up succeeds after
            one that failed. The same addresses in another order are no change: name servers rotate them.
        @param failed: called with the reason (the name is not in it) when a look-up gives nothing, if the one before it
            gave something or had another reason.
        """
        self.addresses: tuple[str, ...] = ()
        self.why: str | None = None
        self._resolver = resolver
        self._host = host
        self._port = port
        self._clock = clock
        self._changed = changed
        self._failed = failed
        self._interval = interval
        self._first_interval = first_interval
        self._timer: IDelayedCall | None = None
        self._current: _LookUp | None = None
        self._running = False

    def start(self) -> None:
        """Look the name up now and from then on. May call C{changed} or C{failed} before it returns."""
        if self._running:
            return
        self._running = True
        literal = _literal(self._host)
        if literal is not None:
            if not self.addresses:
                self._succeed((literal,))
        elif (fault := _fault(self._host)) is not None:
            # Not asked: the resolver's thread would raise, and the answer would never come.
            self._fail(fault)
        else:
            self._look_up()

    def stop(self) -> None:
        """Call nothing any more. What is under way is ignored when it comes."""
        self._running = False
        self._current = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_up(self) -> None:
        self._current = current = _LookUp(self._complete)
        self._timer = self._clock.callLater(PATIENCE, self._give_up)
        try:
            self._resolver.resolveHostName(current, self._host, self._port)
        except Exception as error:  # a resolver is exchangeable, and what a foreign one raises cannot be foreseen
            self._complete(current, (), f"the resolver raised {error!r}")

    def _give_up(self) -> None:
        self._timer = None
        assert self._current is not None
        self._complete(self._current, (), f"no answer within {PATIENCE:g} s")

    def _complete(self, look_up: _LookUp, addresses: tuple[str, ...], why: str = "no address is known for it") -> None:
        if look_up is not self._current:
            return  # stopped, or given up
        self._current = None
        if self._timer is not None:
            self._timer.cancel()
        delay = self._interval if addresses or self.addresses else self._first_interval
        # Before anyone is told: who is told may stop us.
        self._timer = self._clock.callLater(delay, self._again)
        if addresses:
            self._succeed(addresses)
        else:
            self._fail(why)

    def _again(self) -> None:
        self._timer = None
        self._look_up()

    def _succeed(self, addresses: Sequence[str]) -> None:
        recovered = self.why is not None
        self.why = None
        if set(addresses) != set(self.addresses):
            self.addresses = tuple(addresses)
        elif not recovered:
            return
        self._changed(self.addresses)

    def _fail(self, why: str) -> None:
        if why != self.why:
            self.why = why
            self._failed(why)

    def __repr__(self) -> str:
        return f"<Resolution {self._host} {', '.join(self.addresses) or self.why or 'not yet'}>"


def _literal(host: str) -> str | None:
    """The address that a host is, if it is one, without brackets."""
    text = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return None
    return text


def _fault(host: str) -> str | None:
    """Why a host cannot be a name (RFC 1035 §2.3.4: labels of 1 to 63 bytes)."""
    try:
        encoded = host.encode("idna")
    except UnicodeError as error:
        return f"not a host name: {error}"
    if not encoded or len(encoded) > 253 or b"\0" in encoded:
        return "not a host name: it is empty, longer than 253 bytes, or has a zero byte in it"
    return None
