"""
Every interface, in the order in which a request meets them.

They are what a plugin's author implements and what the layers above the concrete classes rely on. Nothing here does
anything, and nothing here needs Twisted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface

from lemmytx.message import ResponseHead
from lemmytx.table import Change, Hint, Record, Report, State, Table


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
    weight = Attribute(
        "Its share relative to the others, 1 unless configured: an int, or a float while it has but a part of it."
    )
    warmth = Attribute("How much of the configured weight that is: 1.0, or less during a slow start; never 0.")
    capacity = Attribute("How many requests it takes at one time; 0 = no limit.")
    elsewhere = Attribute(
        "Requests in flight on it from other processes that share the table, as they last said (int); 0 where none do."
    )


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


class IPreviewingScheduler(IScheduler):
    """One that can say whom it would choose."""

    def preview(candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate | None:
        """
        What C{choose} would return now, for people. Nothing may change by it, not even whose turn it is; how long it
        takes matters little.

        @return: one of the candidates; L{None} when it is left to chance.
        """


class IObservingScheduler(IScheduler):
    """One that learns from the answers of backends. Whether it is one is asked once, when a cluster gets it."""

    def answered(backend: ICandidate, seconds: float, head: ResponseHead, now: float) -> None:
        """
        The head of a final response has come. Called on the way of the response, so it costs as much as C{choose} and
        must not raise.

        @param seconds: from when the backend had the whole request, connecting included; or less than 0, when nobody
            knows.
        @param head: the response's. What is meant for the proxy alone may be taken out of its C{block}.
        @param now: the time, in seconds on a clock that only goes forward; the same one at each call.
        """


class IFollowingScheduler(IScheduler):
    """
    One that keeps a table of many backends up to date, instead of looking at each of them for each request.

    A cluster of more than 16 backends, none of which has labels, calls C{pick} in place of C{choose}, and tells
    beforehand what changes. After an C{update} nobody is admitted.
    """

    counts = Attribute("Whether C{moved} is to be called: whether the numbers of requests in flight matter.")

    def admit(backend: ICandidate) -> None:
        """From now on it may be picked. It is a member, and was not admitted."""

    def withdraw(backend: ICandidate) -> None:
        """It may not be picked any more. It was admitted."""

    def moved(backend: ICandidate) -> None:
        """
        C{active} or C{elsewhere} of a member has changed. Called twice per request, so it should only make a note of
        it.
        """

    def pick(request: IRequest) -> ICandidate:
        """
        @return: one of those that are admitted. There is at least one, and the contract of C{choose} holds.
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


class IClassifier(Interface):
    """
    Names the bucket that a request is in, where no route does. Called once or twice for each request of its cluster.
    """

    def classify(request: IRequest) -> str | None:
        """
        @return: the name of a bucket. L{None}, or a name that there is not: the bucket of those that have none.
        """


class IClassifierPlugin(Interface):
    """
    A classifier as C{twisted.plugin} finds it. Use L{lemmytx.plugin.Classifier} unless there is a reason not to.
    """

    name = Attribute("What the configuration calls it.")

    def build(options: dict[str, object]) -> IClassifier:
        """
        @param options: those of C{buckets_by}.
        @return: a new L{IClassifier}.
        @raise ValueError: with a text for the user, when the options do not fit: which, what was found, what fits.
        """


class Unhealthy(Exception):
    """What an L{IHealthCheck} raises: the backend is not fit for requests. The text says why, as half a sentence."""


class ICheckTarget(Interface):
    """
    A backend, as an L{IHealthCheck} sees it.
    """

    cluster = Attribute("The cluster's name.")
    name = Attribute("The backend's name.")
    url = Attribute("The backend's URL, as configured.")
    protocol = Attribute("How it is spoken to: C{http}, C{https}, C{h2}, C{h2c} or C{fcgi}.")
    authority = Attribute("Host and port as they stand in a Host field.")
    address = Attribute("An address of it as text; the path of a unix socket.")
    port = Attribute("The port that is to be checked; 0 for a unix socket.")
    timeout = Attribute("Seconds that the check has.")
    reactor = Attribute("What there is of Twisted's: time, threads, processes. It is not imported.")

    def connect() -> Awaitable[Any]:
        """
        @return: a new connection to it, an L{ICheckConnection}. TLS has been agreed on, and the PROXY protocol's header
            is sent, where the backend wants that. It fails with L{Unhealthy}.
        """


class ICheckConnection(Interface):
    """
    A connection that a check is made on. It is closed when the check is over.
    """

    def write(data: bytes) -> None:
        """Send something."""

    def receive() -> Awaitable[bytes]:
        """
        @return: what has come, as soon as there is any; empty when the backend has closed its side. It fails with
            L{Unhealthy} when the connection is lost.
        """


class IHealthCheck(Interface):
    """
    Finds out whether a backend is fit for requests. One of these serves all backends with the same settings.

    It says nothing about when: intervals, timeouts and what becomes of an outcome are not its business. What it waits
    for is cancelled when its time is over, and its connections are closed.

    Two attributes may be there: C{protocols}, a tuple of those (as in L{ICheckTarget}) that it can check, where that is
    not all; and C{at_once}, how many checks of it may run at one time in a cluster, where they are expensive.
    """

    def check(target: ICheckTarget) -> Awaitable[Any]:
        """
        Called for each check, in the reactor's thread: it must not block. C{async def} is what it usually is.

        @return: what there is to say of a backend that is well, as half a sentence; or nothing. It fails with
            L{Unhealthy} when the backend is not; so do connections that fail. Any other failure is taken for an error
            of the check, which says nothing about the backend, and is logged.
        """


class IHealthCheckPlugin(Interface):
    """
    A health check as C{twisted.plugin} finds it. Use L{lemmytx.plugin.HealthCheck} unless there is a reason not to.
    """

    name = Attribute("What the configuration calls it.")

    def build(options: dict[str, object]) -> IHealthCheck:
        """
        @param options: what the configuration says beside the settings that all checks have.
        @return: a new L{IHealthCheck}.
        @raise ValueError: with a text for the user, when the options do not fit: which, what was found, what fits.
        """


class IStorePlace(Interface):
    """Where a store is going to work."""

    reactor = Attribute("What there is of Twisted's: time, threads, connections. It is not imported.")
    identity = Attribute("Of this process among all that share the table: unique, also over restarts; text.")
    folder = Attribute("Of the configuration's file, where relative paths begin; absolute.")
    lease = Attribute("Seconds after which a process that has not published is dead to the others.")


class IBackendStore(Interface):
    """
    Where the table of vhosts and backends lives, and what the processes that share it know of each other.

    One serves one process. No request ever waits for it: it is asked on timers and by operators. It looks after its
    connections itself, and what it waits for has a timeout. C{open} comes first, and C{close} last.
    """

    problem = Attribute("Why it cannot be reached now, for people and without secrets; empty when it can.")
    shared = Attribute("Whether other processes may use the same table (bool).")
    refresh = Attribute("Seconds between two looks at the table where nothing was announced.")

    def open(told: Callable[[], None], hinted: Callable[[Hint], None]) -> Awaitable[Any]:
        """
        Begin. That it cannot be reached is no failure: it goes on trying, and C{problem} says so.

        @param told: to be called when the table may have changed, or C{problem} has: soon, in the reactor's thread,
            and not more often than ten times a second.
        @param hinted: to be called with the L{Hint}s of others.
        @return: when it is clear whether it can be reached.
        @raise ValueError: what the options name can never be used; with a text for the user.
        """

    def close() -> Awaitable[Any]:
        """Give up what this process has said of itself, and all connections; within two seconds."""

    def load(known: Table) -> Awaitable[Table]:
        """
        @param known: what was loaded before, or an empty one.
        @return: the whole table as it is now. What has not changed in it are the same objects; C{known} itself, when
            nothing has.
        @raise StoreUnavailable: nothing is known then about what is there.
        """

    def change(changes: Sequence[Change]) -> Awaitable[Any]:
        """
        All of them, in their order, or none. When it fires they are durable, and announced to all.

        @raise StoreUnavailable: none, or it is not known; the text says which.
        @raise ValueError: none: something in them cannot be stored at all. That a host or a member is none need not be
            found out here; it may be left to L{load}, which names it as a fault.
        """

    def publish(report: Report) -> Awaitable[Mapping[tuple[str, str], int]]:
        """
        Say what this process does, and live on for another lease.

        @return: what all I{other} living processes have in flight, by vhost and member text, for the vhosts that the
            report asks about; those with none may be left out.
        @raise StoreUnavailable: nothing, or not known how much of it, has arrived; the next one makes it right.
        """

    def instances() -> Awaitable[Sequence[Record]]:
        """
        @return: every living process that shares the table, this one too.
        @raise StoreUnavailable: see there.
        """

    def hint(hint: Hint) -> Awaitable[Any]:
        """Tell the others. It gets there or not: failures are the store's own affair."""


class IStorePlugin(Interface):
    """
    A store as C{twisted.plugin} finds it. Use L{lemmytx.plugin.Store} unless there is a reason not to.
    """

    name = Attribute("What the configuration calls it.")

    def build(options: dict[str, object], place: IStorePlace) -> IBackendStore:
        """
        @param options: what the configuration says beside C{type}.
        @return: a new L{IBackendStore}, which has not been opened.
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


class Unknown(Refused):
    """There is no cluster or no backend of that name."""


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

        @return: what changed, and what should be known of that, one line each; empty when nothing did. It fails with
            L{lemmytx.config.ConfigurationError} or L{Refused}, and with L{Busy} while another one runs. Either way
            it is in the log.
        """

    def backend(cluster: str, backend: str) -> Awaitable[Any]:
        """
        @return: how a backend is: its L{lemmytx.proxy.figures.BackendFigures}.
        @raise Unknown: there is none; with the nearest names.
        """

    def want(cluster: str, backend: str, state: str, why: str, by: str) -> Awaitable[State]:
        """
        Take a backend out, or bring it back: here and wherever the store is shared.

        @param state: C{ready}, C{drain} or C{disabled}.
        @param why: half a sentence, or empty; C{by}: who wants it.
        @return: what is wanted of it now, once that is durable. All processes know within a second.
        @raise Unknown: there is no such backend; with the nearest names.
        @raise StoreUnavailable: nothing has changed, or it is not known whether it has; the text says which.
        """

    def store() -> Mapping[str, Any]:
        """
        @return: what there is to say of the store, of which C{type} and C{status} (C{OK} or C{unavailable}) are always
            there, and C{problem} where there is one; empty before it has been opened.
        """

    def strays() -> Mapping[tuple[str, str], State]:
        """
        @return: what is wanted of backends that there are not, by the names of cluster and backend.
        """

    def explain(url: str, method: str, fields: Sequence[tuple[str, str]], client: str) -> Awaitable[Mapping[str, Any]]:
        """
        What would become of a request if it came now. Nothing changes by it.

        @param fields: header fields; C{client}: the client's address.
        @return: what L{lemmytx.proxy.explain.Answer.as_data} says. It fails with L{Refused} when there can be no such
            request, and with L{Busy} when nobody is there who could tell.
        """

    def upgrade() -> Awaitable[int]:
        """
        Start the program anew, as it is installed now, and give it the listening sockets.

        @return: the pid of the successor, once that is ready; from then on this one drains. It fails with L{Refused}
            when the successor could not start, and this one goes on; with L{Busy} while another upgrade or a
            reload runs.
        """
