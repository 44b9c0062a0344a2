"""
Every interface, in the order in which a request meets them.

They are what a plugin's author implements and what the layers above the concrete classes rely on. Nothing here does
anything, and nothing here needs Twisted.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from zope.interface import Attribute, Interface


class IRequest(Interface):
    """
    What a scheduler may ask about the request that it chooses for. L{lemmytx.proxy.exchange.Exchange} provides it.
    """

    head = Attribute("The request's L{lemmytx.message.RequestHead}.")
    client = Attribute("The address of the client as text, behind trusted proxies the one they tell of.")


class ICandidate(Interface):
    """
    What a scheduler may know about a backend. L{lemmytx.cluster.backend.Backend} provides it.

    The attributes are plain and may be read as often as wanted. A scheduler never writes them.
    """

    name = Attribute("The backend's name, unique in its cluster.")
    active = Attribute("Requests now in flight on it (int).")
    weight = Attribute("Its share relative to the others; an int, 1 unless configured.")
    capacity = Attribute("How many requests it takes at one time; 0 = no limit.")


class IScheduler(Interface):
    """
    Chooses a backend for a request, and nothing else: it never queues, checks health or retries.

    One scheduler serves one cluster. It is called from one thread, once per attempt, on the way of a request:
    about 3 µs is what a choice may cost. It must not block, wait or raise.
    """

    def update(backends: tuple[ICandidate, ...]) -> None:
        """
        The cluster's membership or a weight changed; called before the first choice too. For those who keep
        tables. C{choose} may offer any subset of these.

        @param backends: every backend of the cluster, whatever its state: a tuple of L{ICandidate}.
        """

    def choose(candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """
        @param candidates: those that can take the request now, a tuple of L{ICandidate} in the order of the
            configuration, never empty. The same tuple object means the same members as the last time.
        @param request: an L{IRequest}.
        @return: one of the candidates.
        """


class ISchedulerPlugin(Interface):
    """
    A scheduler as C{twisted.plugin} finds it. Use L{lemmytx.plugin.Scheduler} unless there is a reason not to.
    """

    name = Attribute("What the configuration calls it.")

    def build(options: dict[str, object]) -> IScheduler:
        """
        @param options: what the configuration says beside the name.
        @return: a new L{IScheduler}.
        @raise ValueError: with a text for the user, when the options do not fit: which, what was found, what fits.
        """


class Refused(Exception):
    """
    What was asked of an L{IInstance} cannot be done, and nothing has changed.

    @ivar reasons: for the user, one line each.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "\n".join(self.reasons)


class Busy(Refused):
    """It cannot be done now, because something of the kind is under way."""


class IInstance(Interface):
    """
    All that serves by one configuration, be it one process or several: as the admin side, signals and an upgrade see
    it.
    """

    def ready() -> str | None:
        """
        @return: why it cannot serve now, for people; L{None} when it can.
        """

    def snapshot() -> Awaitable[Any]:
        """
        @return: the L{lemmytx.proxy.snapshot.Snapshot} of the whole.
        """

    def workers() -> list[dict[str, Any]]:
        """
        The serving processes, as they were at the last L{snapshot}.

        @return: for each C{id}, C{pid}, C{uptime_sec}, C{downstreams}, C{exchanges} and C{restarts}; empty when
            there is one process that does everything.
        """

    def reload() -> Awaitable[list[str]]:
        """
        Read the configuration again and apply what changed; everywhere or nowhere. Whoever asked may be gone before
        it is done, which changes nothing.

        @return: what changed, one line each; empty when nothing did. It fails with
            L{lemmytx.config.ConfigurationError} or L{Refused}, and with L{Busy} while another one runs. Either way
            it is in the log.
        """

    def upgrade() -> Awaitable[int]:
        """
        Start the program anew, as it is installed now, and give it the listening sockets.

        @return: the pid of the successor, once that is ready; from then on this one drains. It fails with L{Refused}
            when the successor could not start, and this one goes on; with L{Busy} while another upgrade or a
            reload runs.
        """
