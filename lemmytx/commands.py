"""
What a parent and its workers say to each other, over AMP on a unix socket pair.

The parent asks, a worker answers; of itself a worker says one thing only, L{Seen}. A box of AMP holds 64 kB, so what
may be longer goes in parts: a configuration as calls of L{Part} before L{Prepare}, statistics as calls of L{Statistics}
until there is no more, and so L{Load}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

from lemmytx.assemble import CannotStart
from lemmytx.interfaces import Busy
from lemmytx.proxy.explain import BadQuestion

#: Bytes of a part. AMP takes 65,535.
PART = 60_000


class Control(amp.AMP):
    """Either end of a control connection. AMP's own logs the addresses of both, and a socket pair has none."""

    def makeConnection(self, transport: Any) -> None:
        """Twisted: it is there."""
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: it is there no more."""
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None


class Listening(amp.Command):
    """One listening socket of an endpoint description. The descriptors of one come in their order."""

    arguments = [(b"endpoint", amp.Unicode()), (b"descriptor", amp.Descriptor())]


class Forget(amp.Command):
    """The sockets of an endpoint description are not needed any more."""

    arguments = [(b"endpoint", amp.Unicode())]


class Part(amp.Command):
    """
    A part of a pickled pair: a L{lemmytx.model.Configuration}, and the secret that session tickets are made with. The
    pipe is private to the two processes.
    """

    arguments = [(b"data", amp.String())]


class Prepare(amp.Command):
    """
    Build the configuration that came in parts, beside the one at work. C{doubts}: what should be known of it, one
    sentence each.
    """

    arguments = [(b"folders", amp.ListOf(amp.Unicode()))]
    response = [(b"doubts", amp.ListOf(amp.Unicode()))]
    errors = {CannotStart: b"CANNOT"}


class Commit(amp.Command):
    """Put to work what was prepared."""


class Abort(amp.Command):
    """Forget what was prepared."""


class Statistics(amp.Command):
    """The first or the next part of the statistics; C{more}: whether another one follows."""

    arguments = [(b"first", amp.Boolean())]
    response = [(b"piece", amp.String()), (b"more", amp.Boolean())]


class Load(amp.Command):
    """
    The first or the next part of how busy it is (L{lemmytx.cluster.shares.Load}), by cluster: JSON; C{more}: whether
    another one follows.
    """

    arguments = [(b"first", amp.Boolean())]
    response = [(b"piece", amp.String()), (b"more", amp.Boolean())]


class Share(amp.Command):
    """
    How many requests may be in flight on backends, from now on: JSON, by cluster and backend. Nothing is said of those
    that stay as they are. C{held}: how many may be all the same, of each of these that it has: as many as are already.
    """

    arguments = [(b"room", amp.String())]
    response = [(b"held", amp.String())]


class Seen(amp.Command):
    """
    From a worker: its checks see these backends in another state than before. JSON: cluster, backend, and whether it
    looks better. No answer.
    """

    arguments = [(b"changes", amp.String())]
    requiresAnswer = False


class Look(amp.Command):
    """Another one's L{Seen}: check these at once where they looked otherwise until now. No answer."""

    arguments = [(b"changes", amp.String())]
    requiresAnswer = False


class Explain(amp.Command):
    """
    What would become of a request: as JSON the arguments of L{lemmytx.serving.Serving.explain}, and as deflated JSON
    what that returns; with fewer backends told one by one where it would not fit.
    """

    arguments = [(b"asked", amp.String())]
    response = [(b"answer", amp.String())]
    errors = {BadQuestion: b"BAD", Busy: b"BUSY"}


class Reopen(amp.Command):
    """Log files were moved away."""


class Drain(amp.Command):
    """Accept nobody any more, let what runs end within C{timeouts.drain}, and go."""


class Hurry(amp.Command):
    """Go at once."""
