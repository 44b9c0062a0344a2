"""
The whole that serves by one configuration: as signals, the admin side and an upgrade see it.

It owns the listening sockets and the admin side, reads the configuration, and has somebody who serves: itself, with
one process (L{Alone}), or workers (L{lemmytx.crew.Crew}). One process has no parent: it is the smallest thing that
runs, all of it can be seen with one debugger, and what restarts it is what restarts a parent: the supervisor.

Whatever comes (the start, a reload, a listener that could not be opened and now can) takes the same way: open sockets,
have everybody prepare, have everybody commit; or else close the sockets, have everybody abort, say why.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from lemmytx import __version__, checking, config, model, upgrade
from lemmytx.admin.site import AdminSite, Door, admin_site
from lemmytx.assemble import CannotStart
from lemmytx.config.changes import changes
from lemmytx.directory import figures_of, find, strays
from lemmytx.http1 import codec
from lemmytx.interfaces import Busy, IInstance, Refused
from lemmytx.members import Alone, Members
from lemmytx.net.network import Network
from lemmytx.net.notify import Notifier
from lemmytx.net.sockets import CannotListen, Sockets, adopt
from lemmytx.proxy.figures import BackendFigures
from lemmytx.proxy.snapshot import Snapshot
from lemmytx.serving import Serving, workers
from lemmytx.table import State

log = Logger(namespace="lemmytx")

#: Seconds after which a listener that could not be opened is tried again.
LISTEN_AGAIN = 5.0

CODECS = {True: "compiled", False: "pure Python (slower; there was no C compiler at the installation)"}


@implementer(IInstance)
class Instance(Service):
    """
    @ivar configuration: the one at work; before the start the one to come.
    @ivar failed: whether it could not be started.
    """

    def __init__(
        self,
        configuration: model.Configuration,
        file: str,
        reactor: Any,
        members: Members,
        inheritance: upgrade.Inheritance | None = None,
        notifier: Notifier | None = None,
        successor: Callable[[Sockets], Coroutine[Any, Any, int]] | None = None,
    ) -> None:
        """
        @param file: that the configuration is from, absolute; empty: none, so there is nothing to reload.
        @param members: who serves.
        @param inheritance: from the process before this one.
        @param notifier: tells the supervisor.
        @param successor: starts the next program with these sockets, and gives its process id once it serves.
        @raise CannotStart: what was inherited is unusable.
        """
        self.configuration = configuration
        self._file = file
        self._reactor = reactor
        self._members = members
        if file:
            members.begins_at(os.path.dirname(os.path.abspath(file)))
        self._inheritance = inheritance or upgrade.Inheritance({})
        self._notifier = notifier or Notifier({})
        self._start_successor = successor
        self._network = Network(reactor)
        try:
            self._sockets = Sockets(self._inheritance.sockets)
        except ValueError as error:
            raise CannotStart(str(error)) from error
        self._site: AdminSite = admin_site(self, configuration.admin.tokens, reactor)
        self._admin: IListeningPort | None = None
        self._state = "starting"
        self._busy = ""
        self._once_more = False
        self.failed = False
        self._hurried = False
        self._handed_over = False
        self._waiting: Deferred[None] | None = None
        self._again: Any = None
        self._opening: Deferred[Any] | None = None
        self._succession: Deferred[int] | None = None
        self._descriptors: dict[str, list[int]] = {}
        self._watchdog = LoopingCall(self._notifier.watchdog)
        self._watchdog.clock = reactor

    # The start

    def privilegedStartService(self) -> None:
        """Called by twistd while the process still is who started it: C{--uid} gives up what opens ports below 1024."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]  # Twisted has no annotation
        self._opening = ensureDeferred(self._open_all())

    async def _open_all(self) -> list[CannotListen]:
        """Open whatever the configuration names and is not open yet; what could not be opened, and why."""
        refused = []
        for endpoint in _endpoints(self.configuration):
            try:
                opened = await self._sockets.open(endpoint)
            except CannotListen as error:
                refused.append(error)
            else:
                self._descriptors[endpoint] = opened.descriptors()
        return refused

    def startService(self) -> None:
        """
        Called by Twisted when the reactor is about to run.

        @raise SystemExit: it cannot serve.
        """
        super().startService()  # type: ignore[no-untyped-call]  # as above
        self._members.start()
        if self._notifier.interval is not None:
            self._watchdog.start(self._notifier.interval / 2)
        (self._opening or ensureDeferred(self._open_all())).addCallback(self._opened)
        if self.failed:
            # The lines in the log say why. Whoever started us sees it by the exit status.
            raise SystemExit(1)

    def _opened(self, refused: list[CannotListen]) -> None:
        for error in refused:
            log.critical("{error}", error=error)
        if self.configuration.listeners and not self._serves_on():
            # Nothing to serve on: whoever started us must see that.
            self._fail("no listener could be opened")
            return
        ensureDeferred(self._begin(bool(refused))).addErrback(self._could_not_begin)

    def _fail(self, state: str) -> None:
        self._state = state
        self.failed = True
        if self._reactor.running:
            self._reactor.stop()

    def _could_not_begin(self, failure: Any) -> None:
        if failure.check(CannotStart):
            log.critical("{error}", error=failure.value)
        else:
            log.failure("it could not be started", failure)
        self._fail("it could not be started")

    async def _begin(self, incomplete: bool) -> None:
        await self._apply(self.configuration)
        why = self._members.ready()
        if why is not None and self._inheritance.sockets is not None:
            raise CannotStart(why)  # and the one before us goes on
        await self._open_admin(self.configuration)
        if self._state != "starting":
            return  # it was told to stop meanwhile
        if self._serves_on():
            log.info(
                "lemmytx {version} serves on {endpoints}; codec: {codec}",
                version=__version__,
                endpoints=", ".join([(await self._sockets.open(each)).address for each in self._serves_on()]),
                codec=CODECS[codec.compiled],
            )
        self._state = "serving"
        if not self._inheritance.serves():
            raise CannotStart("the process before this one has ended, so this one is not wanted any more")
        # Not before: until it has been told, the one before us may have to go on with what we have no use for.
        self._sockets.close_unclaimed()
        self._notifier.ready()
        if incomplete:
            # A port that another process is just giving up, an address that comes with an interface: try again.
            self._again = self._reactor.callLater(LISTEN_AGAIN, self._open_rest)

    def _serves_on(self) -> list[str]:
        return [each.endpoint for each in self.configuration.listeners if each.endpoint in self._descriptors]

    async def _apply(self, configuration: model.Configuration) -> list[str]:
        """
        Have it at work everywhere, or nowhere.

        @return: what should be known of it, one sentence each.
        @raise CannotStart: somebody cannot; nothing has changed then.
        """
        folders = config.plugin_folders(configuration, self._file)
        wanted = {
            each.endpoint: self._descriptors[each.endpoint]
            for each in configuration.listeners
            if each.endpoint in self._descriptors
        }
        doubts = await self._members.prepare(configuration, folders, wanted)
        if self._state == "draining":
            await self._members.abort()
            raise CannotStart("it has been told to stop")
        self._members.resize(workers(configuration))
        await self._members.commit()
        return doubts

    async def _open_admin(self, configuration: model.Configuration) -> None:
        """Have the admin side on its socket, if that is open."""
        endpoint = configuration.admin.endpoint
        if endpoint in self._descriptors and self._admin is None:
            self._admin = await adopt(self._network, endpoint, self._descriptors[endpoint], Door(self._site))  # type: ignore[no-untyped-call]  # as above

    def _open_rest(self) -> None:
        """Try again what could not be opened."""
        self._again = None
        if self._state != "serving":
            return
        if self._busy:
            self._again = self._reactor.callLater(LISTEN_AGAIN, self._open_rest)
            return
        self._busy = "a listener is being opened"

        async def tried() -> None:
            before = set(self._descriptors)
            refused = await self._open_all()
            for endpoint in self._descriptors.keys() - before:
                address = (await self._sockets.open(endpoint)).address
                log.info("now listening on {endpoint} too", endpoint=address)
            if self._descriptors.keys() != before:
                await self._apply(self.configuration)
                await self._open_admin(self.configuration)
            if refused and self._state == "serving":
                self._again = self._reactor.callLater(LISTEN_AGAIN, self._open_rest)

        def over(result: Any) -> Any:
            self._free()
            return result

        ensureDeferred(tried()).addBoth(over).addErrback(
            lambda failure: log.failure("a listener could not be opened", failure)
        )

    # What the admin side asks

    def ready(self) -> str | None:
        """See L{IInstance}."""
        if self._state != "serving":
            return self._state
        closed = [each.endpoint for each in self.configuration.listeners if each.endpoint not in self._descriptors]
        return f"not listening on {', '.join(closed)}" if closed else self._members.ready()

    def snapshot(self) -> Awaitable[Snapshot]:
        """See L{IInstance}."""
        return self._members.snapshot()

    def workers(self) -> list[dict[str, Any]]:
        """See L{IInstance}."""
        return self._members.workers()

    async def backend(self, cluster: str, backend: str) -> BackendFigures:
        """See L{IInstance}."""
        url = find(self.configuration, self._members.states.table, cluster, backend)
        snapshot = await self._members.snapshot()
        return figures_of(snapshot, cluster, backend, url, self._members.states.wanted(cluster, backend))

    async def want(self, cluster: str, backend: str, state: str, why: str, by: str) -> State:
        """See L{IInstance}."""
        find(self.configuration, self._members.states.table, cluster, backend)
        return await self._members.want(cluster, backend, state, why, by)

    def store(self) -> dict[str, Any]:
        """See L{IInstance}."""
        return self._members.store()

    def strays(self) -> dict[tuple[str, str], State]:
        """See L{IInstance}."""
        return strays(self.configuration, self._members.states)

    async def explain(self, url: str, method: str, fields: Sequence[tuple[str, str]], client: str) -> dict[str, Any]:
        """See L{IInstance}."""
        return await self._members.explain(url, method, fields, client)

    def reopen_logs(self) -> None:
        """Log files were moved away: write to new ones."""
        self._members.reopen_logs()

    # Reload

    def asked_to_reload(self) -> None:
        """SIGHUP: reload. One that comes during another is not lost."""
        if self._busy:
            self._once_more = True
            return
        ensureDeferred(self.reload()).addErrback(lambda failure: failure.trap(config.ConfigurationError, Refused))

    def _free(self) -> None:
        self._busy = ""
        if self._once_more and self._state == "serving":
            self._once_more = False
            self._reactor.callLater(0, self.asked_to_reload)

    async def reload(self) -> list[str]:
        """See L{IInstance}. What became of it is in the log, too."""
        self._claim("a reload is under way")
        self._notifier.reloading()
        try:
            lines, doubts = await self._reload()
        except (config.ConfigurationError, Refused) as error:
            for line in str(error).splitlines():
                log.error("reload refused, nothing has changed: {line}", line=line)
            raise
        except Exception:
            log.failure("reload refused by an error of our own")
            raise
        finally:
            self._notifier.ready()
            self._free()
        for line in lines:
            log.info("reload: {line}", line=line)
        for doubt in doubts:
            log.warn("reload: {doubt}", doubt=doubt)
        log.info("reloaded: {what}", what=_count(len(lines)))
        return [*lines, *doubts]

    def _claim(self, what: str) -> None:
        if self._busy:
            raise Busy(self._busy)
        if self._state != "serving":
            raise Refused(f"it is {self._state}")
        self._busy = what

    async def _reload(self) -> tuple[list[str], list[str]]:
        """What is different now, and what should be known of that."""
        if not self._file:
            raise Refused("the configuration is from no file, so there is nothing to read again")
        if _is_pipe(self._file):
            raise Refused(f"{self._file} is a pipe: what was in it has been read, and waiting for more might not end")
        # Reading a long file takes seconds, and clients do not wait.
        new = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), checking.load, self._file)
        old = self.configuration
        if (workers(old) == 1) != (workers(new) == 1):
            raise Refused(
                f"workers: from {workers(old)} to {workers(new)}: whether there is a parent cannot change while it"
                " runs; 'lemmy upgrade' does it without losing a request"
            )
        lines = changes(old, new)
        if not lines and not _has_files(new):
            return [], []
        added = [each for each in _endpoints(new) if each not in self._descriptors and each not in _endpoints(old)]
        going = [each for each in _endpoints(old) if each not in _endpoints(new)]
        try:
            for endpoint in added:
                self._descriptors[endpoint] = (await self._sockets.open(endpoint, going)).descriptors()
            doubts = await self._apply(new)
        except (CannotListen, CannotStart) as error:
            for endpoint in added:
                self._close(endpoint)
            raise Refused(*str(error).splitlines()) from error
        except BaseException:
            for endpoint in added:
                self._close(endpoint)
            raise
        self.configuration = new
        self._site.access.tokens = new.admin.tokens
        if old.admin.endpoint != new.admin.endpoint:
            former, self._admin = self._admin, None
            await self._open_admin(new)
            if former is not None:
                former.stopListening()
        for endpoint in going:
            await self._members.forget(endpoint)
            self._close(endpoint)
        return lines, doubts

    def _close(self, endpoint: str) -> None:
        if self._descriptors.pop(endpoint, None) is not None:
            self._sockets.close(endpoint)

    # Upgrade

    async def upgrade(self) -> int:
        """See L{IInstance}. What became of it is in the log, too."""
        self._claim("an upgrade is under way")
        try:
            pid = await self._succeeded()
        except BaseException:
            self._free()
            raise
        self._handed_over = True
        log.info("upgrade: pid {pid} serves; this process (pid {own}) ends what it has", pid=pid, own=os.getpid())
        self._notifier.main_pid(pid)
        # Whoever asked is still to be answered.
        self._reactor.callLater(0.1, self._make_room)
        return pid

    async def _succeeded(self) -> int:
        """Start the successor, and wait until it serves."""
        try:
            if self._start_successor is None:
                raise Refused("it is not known how this program was started, so it cannot be started again")
            self._succession = Deferred.fromCoroutine(self._start_successor(self._sockets))
            return await self._succession
        except CancelledError:
            raise Refused("it has been told to stop") from None
        except Refused as error:
            for reason in error.reasons:
                log.error("upgrade refused, this process goes on: {reason}", reason=reason)
            raise

    def _make_room(self) -> None:
        if self._state == "serving":
            self._reactor.stop()

    def asked_to_upgrade(self) -> None:
        """SIGUSR2: upgrade."""
        ensureDeferred(self.upgrade()).addErrback(lambda failure: failure.trap(Refused))

    # The end

    def stopService(self) -> Deferred[Any]:
        """Called by Twisted when the reactor is about to stop; it waits for the result."""
        serving, self._state = self._state == "serving", "draining"
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._succession is not None:
            self._succession.cancel()  # it changes nothing where that is over
        timeouts, delay = self.configuration.timeouts, self.configuration.shutdown.delay
        if self._handed_over or not serving or self._hurried:
            delay = 0.0
        self._notifier.stopping(delay + timeouts.drain + 30)
        return ensureDeferred(self._stop(serving, delay))

    async def _stop(self, serving: bool, delay: float) -> None:
        if delay:
            log.info("stopping: clients are accepted for another {delay:g} s", delay=delay)
            waiting: Deferred[None] = Deferred()
            self._waiting = waiting
            timer = self._reactor.callLater(delay, waiting.callback, None)
            await waiting
            if timer.active():
                timer.cancel()
        if serving:
            log.info("stopping: {count} exchanges are under way", count=self._members.exchanges)
        if self._handed_over:
            self._sockets.leave()
        else:
            for endpoint in _endpoints(self.configuration):
                if endpoint != self.configuration.admin.endpoint:
                    self._close(endpoint)
        if self._handed_over:
            await self._close_admin()
        if serving:
            await self._members.drain()
        await self._close_admin()
        self._members.end()
        if not self._handed_over:
            self._close(self.configuration.admin.endpoint)
        if self._watchdog.running:
            self._watchdog.stop()
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        log.info("stopped")

    async def _close_admin(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await maybeDeferred(admin.stopListening)

    def hurry(self) -> None:
        """While it stops, or about to: wait for nothing."""
        self._hurried = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)
        self._members.hurry()


def _has_files(configuration: model.Configuration) -> bool:
    """Whether a reload has files to read again though the configuration is the same: certificates and authorities."""
    ours = configuration.defaults.tls
    return (
        any(listener.tls is not None for listener in configuration.listeners)
        or bool(ours.ca or ours.certificate)
        or any(
            backend.location.protocol in ("https", "h2")
            for cluster in configuration.clusters.values()
            for backend in cluster.backends
        )
    )


def _is_pipe(file: str) -> bool:
    """Whether it is one; what else is wrong with a file is found when it is read."""
    try:
        return stat.S_ISFIFO(os.stat(file).st_mode)
    except OSError:
        return False


def _count(changes: int) -> str:
    """How many, for people."""
    return "nothing has changed" if not changes else "1 change" if changes == 1 else f"{changes} changes"


def _endpoints(configuration: model.Configuration) -> list[str]:
    """All endpoint descriptions that a configuration names."""
    return [*(each.endpoint for each in configuration.listeners), configuration.admin.endpoint]


def build(configuration: model.Configuration, file: str, reactor: Any, reactor_name: str = "", **more: Any) -> Instance:
    """
    An instance with whom it takes to serve.

    @param reactor_name: Twisted's short name of the reactor, for workers.
    @param more: see L{Instance}.
    @raise CannotStart: it cannot be had.
    """
    from lemmytx.crew import Crew

    count = workers(configuration)
    members: Members = Alone(Serving(reactor)) if count == 1 else Crew(reactor, reactor_name, count)
    return Instance(configuration, file, reactor, members, **more)
