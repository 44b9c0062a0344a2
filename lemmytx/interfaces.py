"""
Every interface, in the order in which a request meets them.

They are what a plugin's author implements and what the layers above the concrete classes rely on. Nothing here does
anything, and nothing here needs Twisted.
"""

from __future__ import annotations

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
