"""What a serving process says to the others that share its table, and what it does with their answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable
from typing import Any

from lemmytx.admin.stats import counted, process_facts
from lemmytx.cluster.traffic import Traffic
from lemmytx.live.live import Live
from lemmytx.live.mold import Built
from lemmytx.net.slices import Slices
from lemmytx.proxy.figures import Figures
from lemmytx.table import Report

#: A number or a text, as a store takes it.
Flat = str | int | float

#: So many vhosts are told of in one report at the most; the others' turn comes with the next.
MOST_VHOSTS = 1000


class Telling:
    """
    Makes the reports.
    """

    def __init__(self, live: Live, reactor: Any) -> None:
        self._live = live
        self._reactor = reactor
        self._asked: dict[str, Built] = {}

    async def requests(self) -> Report:
        """
        What is in flight on the store's backends.
        """
        slices = Slices(self._reactor)
        active: dict[tuple[str, str], int] = {}
        asked: dict[str, Built] = {}
        for name, built in list(self._live.built.items()):
            busy = False
            for text, backend in built.backends.items():
                if backend.active:
                    active[name, text] = backend.active
                    busy = True
            count = built.vhost.traffic.count
            if busy or count != built.count:
                asked[name] = built
                built.count = count
            if slices.full():
                await slices.turn()
        for name, built in self._asked.items():
            if name not in asked:
                # Nobody asks for it here any more; what the others do there will be asked for when it matters again.
                _hear(built, name, {})
        self._asked = asked
        return Report(active, frozenset(asked))

    def heard(self, elsewhere: Any) -> None:
        """
        What others have in flight.

        @param elsewhere: by vhost and member text.
        """
        for name, built in self._asked.items():
            _hear(built, name, elsewhere)


def _hear(built: Built, name: str, elsewhere: Any) -> None:
    for text, backend in built.backends.items():
        number = elsewhere.get((name, text), 0)
        if number != backend.elsewhere:
            backend.elsewhere = number
            if backend.watch is not None:
                backend.watch(backend)


class Summary:
    """
    The statistics of a process or an instance, flat, and of those vhosts that have changed since the last ones.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._started = reactor.seconds()
        self._counts: dict[str, int] = {}

    async def make(
        self,
        vhosts: Iterable[tuple[str, Traffic]],
        figures: Callable[[str, Traffic], Figures],
        rest: Iterable[Traffic],
    ) -> tuple[dict[str, Flat], dict[str, dict[str, Flat]]]:
        """
        @param vhosts: with their counters.
        @param figures: copies one's counters, with those of late.
        @param rest: what was counted for no vhost that there is.
        @return: the whole, and the vhosts by their names.
        """
        slices = Slices(self._reactor)
        whole = Figures()
        for traffic in rest:
            whole.traffic.add(traffic)
        changed: dict[str, dict[str, Flat]] = {}
        counts = self._counts
        for name, traffic in vhosts:
            if not traffic.count:
                continue
            found = figures(name, traffic)
            whole.add(found)
            # Once more when the last minute is over, so that it does not stay as it was.
            mark = found.traffic.count if found.count else -found.traffic.count
            if counts.get(name) != mark and len(changed) < MOST_VHOSTS:
                counts[name] = mark
                changed[name] = flat(counted(found))
            if slices.full():
                await slices.turn()
        facts = process_facts(self._reactor.seconds() - self._started)
        return flat(facts | counted(whole)), changed


def flat(said: dict[str, Any]) -> dict[str, Flat]:
    """What is neither a number nor text becomes JSON."""
    return {
        name: value if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)
        for name, value in said.items()
    }


def hostname() -> str:
    """Under which the statistics are written."""
    return socket.gethostname()
