"""What happens to the five backends while requests come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.balance.backend import Faults
from benchmarks.balance.plan import Phase

#: The backends.
NAMES = "abcde"

#: The one that is otherwise than the others, where one is.
ODD = "c"

_USUAL = Faults()


class Stage(Protocol):
    """What a scenario does things to."""

    def until(self, seconds: float) -> None:
        """Wait for a time, counted from the first phase of the load."""

    def start(self, name: str) -> None:
        """Start a backend."""

    def stop(self, name: str) -> None:
        """Tell a backend to end, and wait until it has."""

    def kill(self, name: str) -> None:
        """End a backend at once."""


def _nothing(stage: Stage) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    """
    One of them.

    @ivar title: of its section.
    @ivar text: what happens, for the report.
    @ivar meaning: what is to be learnt from it.
    @ivar phases: the load.
    @ivar faults: of the backends that have some.
    @ivar absent: the backends that do not run at the beginning.
    @ivar play: what happens during it.
    @ivar windows: parts of it that have a p99 of their own, by their heading: from when until when.
    @ivar lossless: whether lemmytx is to lose no request in it.
    """

    title: str
    text: str
    meaning: str
    phases: tuple[Phase, ...]
    faults: Mapping[str, Faults] = field(default_factory=dict)
    absent: str = ""
    play: Callable[[Stage], None] = _nothing
    windows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    lossless: bool = False

    def faults_of(self, name: str) -> Faults:
        """What a backend is like."""
        return self.faults.get(name, _USUAL)


# A restart takes each of them away for half a second at the least, and what it takes to start.
_FIRST, _EACH, _AWAY = 0.6, 1.7, 0.5


def _restart(stage: Stage) -> None:
    for number, name in enumerate(NAMES):
        at = _FIRST + number * _EACH
        stage.until(at)
        stage.stop(name)
        stage.until(at + _AWAY)
        stage.start(name)


def _kill(stage: Stage) -> None:
    stage.until(2.0)
    stage.kill(ODD)


def _come(stage: Stage) -> None:
    stage.until(2.0)
    stage.start(ODD)


#: In the order of the report. Together the five can do 1,000 requests a second.
SCENARIOS = {
    "slow": Scenario(
        "One of five is ten times slower",
        f"Backend {ODD} takes 200 ms for what the others do in 20.",
        "Who goes by connections alone cannot avoid it: when the others have something to do and it has nothing, it"
        " is the best choice, and whoever goes there waits for 200 ms. `reported_load` does no better, since a slow"
        " backend that is idle says that it is idle. Who goes by turns, by chance or by key alone sends it more than it"
        " can do, and its queue only grows. `response_time` knows.",
        (Phase(7, 300),),
        {ODD: Faults(mean=0.2)},
    ),
    "failing": Scenario(
        "One of five fails 30 % of its requests",
        f"Backend {ODD} answers 20 % of them with 503 and ends the connection of another 10 %, both at once. Its health"
        " check passes.",
        "Failing is quick, so it looks like the one that has least to do; that it gets few requests all the same is"
        " because three failures take it out for 2 s in lemmytx and in nginx. A request that failed there is tried"
        " elsewhere.",
        (Phase(7, 300),),
        {ODD: Faults(errors=0.2, resets=0.1)},
    ),
    "restart": Scenario(
        "All five are restarted, one after the other",
        "Each is told to end, finishes what it has, is away for half a second, and starts again.",
        "A request that meets a backend's end is tried on another one, so nothing is to be lost.",
        (Phase(_FIRST + len(NAMES) * _EACH + 0.9, 300),),
        play=_restart,
        lossless=True,
    ),
    "killed": Scenario(
        "One of five is killed",
        f"Backend {ODD} ends after 2 s without a word, with what it was working on, and does not come back.",
        "What was under way there is sent to another one, since a GET may be, so nothing is to be lost.",
        (Phase(5, 500),),
        play=_kill,
        lossless=True,
    ),
    "cold": Scenario(
        "A cold backend comes to the other four",
        f"Backend {ODD} is not there at first and starts after 2 s. Its first requests take ten times as long as usual,"
        " and it is warm after 80.",
        "Slow start is for rules that give a share whatever comes of it: with it, round robin sends the newcomer"
        " little until it is warm. Who goes by connections sees by itself that it is not as quick as the others,"
        " and `response_time` leaves it alone for a while after its first slow answers.",
        (Phase(10, 400),),
        {ODD: Faults(warmup=80)},
        absent=ODD,
        play=_come,
        windows={"p99 while it warms up": (2.0, 10.0)},
    ),
    "spike": Scenario(
        "Four times as many requests for three seconds",
        "200 requests a second, then 800, then 200 again.",
        "800 is four fifths of all that the five can do, so there is room for everyone, if they are shared evenly"
        " from one moment to the next: rules that go by chance or by key let some wait while others idle.",
        (Phase(2, 200), Phase(3, 800), Phase(3, 200)),
        windows={"p99 in the spike": (2.0, 5.0), "after it": (5.0, 8.0)},
    ),
}
