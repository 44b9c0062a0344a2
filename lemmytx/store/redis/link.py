"""
Always a connection to Redis, or the reason why there is none.

While there is none it is tried again and again, after 0.1 s at first and up to 2 s later; each wait is a random part of
that, so that many instances do not come back in step. A connection that has stood for a while begins anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater

from lemmytx.store.redis.address import Address
from lemmytx.store.redis.dialling import Dialler
from lemmytx.store.redis.said import Lost, Refusal, Unsent, command
from lemmytx.store.redis.scripts import Script

if TYPE_CHECKING:
    # Not before a store is opened: see the package.
    from lemmytx.store.redis.wire import Connection, Subscriber

#: Seconds between two attempts: at first, and at most.
FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0

#: Seconds until a user who may not hear of anything tries again.
REFUSED_WAIT = 30.0

#: Seconds for which a connection has to stand until the next loss counts as the first.
STOOD = 5.0

#: Seconds between two questions whether the connection lives on which others are heard.
PING = 5.0


class Link:
    """
    A connection for questions, and one for what others announce.

    @ivar problem: why there is no connection for questions; empty: there is.
    @ivar epoch: counts the connections: what was said on one may not be known on the next.
    @ivar hearing: whether announcements arrive.
    """

    def __init__(
        self,
        reactor: Any,
        dialler: Dialler,
        address: Address,
        timeout: float,
        scripts: tuple[Script, ...],
        channels: tuple[bytes, ...],
        patterns: tuple[bytes, ...],
        changed: Callable[[], None],
        told: Callable[[bytes, bytes], None],
        heard: Callable[[], None],
    ) -> None:
        """
        @param scripts: what Redis is to know.
        @param channels: what to subscribe to; so are C{patterns}.
        @param changed: called when C{problem} has changed, and not only for a moment.
        @param told: called with what arrives on a channel.
        @param heard: called when announcements arrive from now on, so that some may have been missed.
        """
        self.problem = "not connected yet"
        self.epoch = 0
        self.hearing = False
        self._reactor = reactor
        self._dialler = dialler
        self._address = address
        self._timeout = timeout
        self._scripts = scripts
        self._channels = channels
        self._patterns = patterns
        self._changed = changed
        self._told = told
        self._heard = heard
        self._connection: Connection | None = None
        self._subscriber: Subscriber | None = None
        self._running: list[Deferred[Any]] = []
        self._clear: Deferred[None] | None = None
        self._going = True
        self._told_problem = ""

    def start(self) -> Deferred[None]:
        """
        Connect, and stay so.

        @return: when it is clear whether that can be done, and announcements arrive if they ever do.
        """
        clear: Deferred[None] = Deferred()
        self._clear = clear
        self._running.append(_started(self._keep()))
        return clear

    def stop(self) -> None:
        """Give up all connections, and call nothing any more."""
        self._going = False
        running, self._running = self._running, []
        for one in running:
            one.cancel()
        for connection in (self._connection, self._subscriber):
            if connection is not None:
                connection.lost = None
                connection.end("")
        self._connection = self._subscriber = None
        self._settled()

    async def ask(self, *commands: tuple[bytes, ...]) -> list[Any]:
        """
        @return: their replies; what is refused is a L{Refusal} in its place.
        @raise Lost: no answers.
        """
        return await self.send(b"".join([command(*one) for one in commands]), len(commands))

    def send(self, data: bytes, count: int) -> Deferred[list[Any]]:
        """
        As L{ask}, for commands that have been put together already.
        """
        if self._connection is None:
            failed: Deferred[list[Any]] = Deferred()
            failed.errback(Unsent(self.problem))
            return failed
        return self._connection.ask(data, count, self._timeout)

    async def run(self, script: Script, *arguments: bytes) -> Any:
        """
        @return: what the script returns.
        @raise Lost: no answer.
        @raise Refusal: it could not do it.
        """
        return await self.run_sent(script, script.call(*arguments))

    async def run_sent(self, script: Script, data: bytes) -> Any:
        """
        As L{run}, for a call that has been put together already.
        """
        (reply,) = await self.send(data, 1)
        if isinstance(reply, Refusal) and reply.code == "NOSCRIPT":
            # Somebody has used SCRIPT FLUSH. It did nothing, so it may be asked again.
            await self.ask(*((b"SCRIPT", b"LOAD", one.text) for one in self._scripts))
            (reply,) = await self.send(data, 1)
        if isinstance(reply, Refusal):
            raise reply
        return reply

    def drop(self, why: str) -> None:
        """Make a new connection: this one leads to the wrong place."""
        if self._connection is not None:
            self._connection.end(why)

    async def _keep(self) -> None:
        """Runs all the time."""
        wait = FIRST_WAIT
        while self._going:
            began, epoch = self._reactor.seconds(), self.epoch
            try:
                await self._hold()
            except Lost as error:
                # Of one that stood it is told when the next attempt fails, too: mostly there is another reason by then,
                # or none.
                self._say(f"Redis {self._address}: {error}", self.epoch == epoch)
                if not self._going:
                    return  # whoever waited for this has seen enough, and what runs cannot be cancelled
            if self._reactor.seconds() - began > STOOD:
                wait = FIRST_WAIT
            await deferLater(self._reactor, wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, LONGEST_WAIT)

    async def _hold(self) -> None:
        """
        One connection, from beginning to end.

        @raise Lost: it was lost, or could not be had; it always ends so.
        """
        from lemmytx.store.redis.wire import Connection

        lost: Deferred[str] = Deferred()
        where = await self._dialler.find()
        connection = await self._dialler.connect(
            where, lambda: Connection(self._reactor, lambda _, why: lost.callback(why))
        )
        try:
            asked = b"".join(command(b"SCRIPT", b"LOAD", script.text) for script in self._scripts)
            for reply in await connection.ask(asked, len(self._scripts), self._timeout):
                if isinstance(reply, Refusal):
                    raise Lost(str(reply))
            self._connection = connection
            self.epoch += 1
            hearing = _started(self._hear(where))
            self._running.append(hearing)
            try:
                self._say("")
                why = await lost
            finally:
                self._connection = None
                if hearing in self._running:
                    self._running.remove(hearing)
                hearing.cancel()
        finally:
            connection.lost = None
            connection.end("")
        raise Lost(why)

    async def _hear(self, where: tuple[str, int]) -> None:
        """Runs beside a connection for questions. Without it changes are found by the timer alone."""
        wait = FIRST_WAIT
        while self._going:
            lost: Deferred[str] = Deferred()
            subscriber: Subscriber | None = None
            began = self._reactor.seconds()
            try:
                subscriber = await self._dialler.connect(where, partial(self._subscriber_to, lost))
                await self._subscribe(subscriber)
                self._subscriber, self.hearing = subscriber, True
                self._heard()
                self._settled()
                if not self._going:
                    return
                pings = LoopingCall(self._ping, subscriber)
                pings.clock = self._reactor
                pings.start(PING, now=False)
                try:
                    await lost
                finally:
                    pings.stop()
            except Refusal:
                wait = REFUSED_WAIT
            except Lost:
                pass  # the way of questions tells what is wrong, and comes before it
            finally:
                self._settled()
                self._subscriber, self.hearing = None, False
                if subscriber is not None:
                    subscriber.lost = None
                    subscriber.end("")
            if not self._going:
                return
            if self._reactor.seconds() - began > STOOD:
                wait = FIRST_WAIT
            await deferLater(self._reactor, wait * random.uniform(0.5, 1.0))
            wait = FIRST_WAIT if wait == REFUSED_WAIT else min(2 * wait, LONGEST_WAIT)

    def _subscriber_to(self, lost: Deferred[str]) -> Subscriber:
        from lemmytx.store.redis.wire import Subscriber

        return Subscriber(self._reactor, lambda _, why: lost.callback(why), self._told)

    async def _subscribe(self, subscriber: Subscriber) -> None:
        """
        @raise Lost: nothing is heard.
        @raise Refusal: the user may not (ACL).
        """
        # One by one, since a refusal is one reply to all of a command's channels. A user who may not hear of keys (ACL)
        # still hears the channels.
        asked = [command(b"SUBSCRIBE", channel) for channel in self._channels]
        asked += [command(b"PSUBSCRIBE", pattern) for pattern in self._patterns]
        replies = await subscriber.ask(b"".join(asked), len(asked), self._timeout)
        for reply in replies[: len(self._channels)]:
            if isinstance(reply, Refusal):
                raise reply

    def _ping(self, subscriber: Subscriber) -> None:
        asking = subscriber.ask(command(b"PING"), 1, self._timeout)
        asking.addErrback(lambda failure: failure.trap(Lost, CancelledError))  # C{lost} tells

    def _say(self, problem: str, aloud: bool = True) -> None:
        """
        @param aloud: whether anybody is told.
        """
        self.problem = problem
        if aloud and problem != self._told_problem:
            self._told_problem = problem
            self._changed()
        if problem:
            self._settled()

    def _settled(self) -> None:
        clear, self._clear = self._clear, None
        if clear is not None:
            clear.callback(None)


def _started(running: Any) -> Deferred[Any]:
    started: Deferred[Any] = Deferred.fromCoroutine(running)
    # It ends by being cancelled alone. Anything else is an error, and for the log.
    started.addErrback(lambda failure: failure.trap(CancelledError))
    return started
