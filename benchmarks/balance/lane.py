"""One proxy in one scenario: its backends, its load, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.balance.backend import Faults
from benchmarks.balance.generator import PATIENCE
from benchmarks.balance.plan import Answer, Phase, length, percentile
from benchmarks.balance.scenarios import NAMES, Scenario
from benchmarks.balance.subjects import Subject
from benchmarks.machine import Failed, Process, free_port, running

#: From the proxy's first answer to the first request, in seconds: it has looked at all backends by then.
_SETTLED = 1.2

#: Seconds of load that go before the scenario and are not counted: connections are made, and times are learnt.
WARM = 1.0

#: Seconds that the generator may take longer than its plan says.
_GRACE = PATIENCE + 15.0


class Stopped(Exception):
    """The whole run is to end."""


@dataclass(frozen=True)
class Outcome:
    """
    What the clients saw.

    @ivar answers: all of them.
    @ivar late: seconds by which the generator itself was late at the most.
    """

    answers: Sequence[Answer]
    late: float

    def as_json(self) -> dict[str, Any]:
        """For a file, and for L{of}."""
        rows = [[answer.due, answer.seconds, answer.outcome, answer.backend] for answer in self.answers]
        return {"late": self.late, "answers": rows}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Outcome:
        """Out of what L{as_json} made, or the generator wrote."""
        return cls([Answer(*row) for row in told["answers"]], told["late"])

    def quantile(self, share: float, begin: float = 0.0, end: float = float("inf")) -> float:
        """
        Seconds that this share of the answers took at the most, those that were given up included; of the requests
        that were due in the given time.
        """
        taken = sorted(answer.seconds for answer in self.answers if answer.waited and begin <= answer.due < end)
        return percentile(taken, share)

    @property
    def failures(self) -> Counter[str]:
        """What went wrong, by kind."""
        return Counter(answer.outcome for answer in self.answers if not answer.good)

    @property
    def shares(self) -> dict[str, float]:
        """Which share of the answers came from each backend, 0 to 1."""
        counts = Counter(answer.backend for answer in self.answers if answer.backend)
        whole = sum(counts.values()) or 1
        return {name: counts[name] / whole for name in NAMES}

    @property
    def evenness(self) -> float:
        """R. Jain's index of fairness of the shares: 1 when all are equal, 0.2 when one of five has everything."""
        shares = self.shares.values()
        squares = sum(share * share for share in shares)
        return sum(shares) ** 2 / (len(NAMES) * squares) if squares else 0.0


def all_cores() -> str:
    """As C{taskset -c} reads them."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


class Generated:
    """
    A running load generator.

    @ivar began: when the phases begin that count, by the monotonic clock.
    """

    def __init__(self, port: int, phases: Sequence[Phase], log: Path) -> None:
        """
        @param phases: what counts; some of the first one goes before.
        @raise Failed: it does not start.
        """
        self._log = log
        phases = [Phase(WARM, phases[0].rate), *phases]
        self._longest = length(phases) + _GRACE
        command = [sys.executable, "-m", "benchmarks.balance.generator", "--port", str(port)]
        command += [f"{phase.seconds}:{phase.rate}" for phase in phases]
        with log.open("wb") as errors:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True,
            )  # fmt: skip
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise Failed(f"the generator ended: {self._tail()}")
        self.began: float = json.loads(line)["began"] + WARM

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-500:]

    def outcome(self) -> Outcome:
        """
        Wait for its end.

        @raise Failed: that was no good one.
        """
        try:
            rest, _ = self._popen.communicate(timeout=self._longest)
            told = json.loads(rest)
        except (subprocess.TimeoutExpired, ValueError) as why:
            raise Failed(f"the generator told nothing ({type(why).__name__}): {self._tail()}") from why
        answers = [Answer(due - WARM, *row) for due, *row in told["answers"] if due >= WARM]
        return Outcome(answers, told["late"])

    def close(self) -> None:
        """End it, if it has not."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


class Lane:
    """The backends of one run, as its scenario sees them (L{benchmarks.balance.scenarios.Stage})."""

    def __init__(self, folder: Path, scenario: Scenario, started: list[Process], stopping: threading.Event) -> None:
        """
        @param started: gets all that is started.
        @param stopping: set when everything is to end.
        """
        self.ports = {name: free_port() for name in NAMES}
        self._folder = folder
        self._scenario = scenario
        self._started = started
        self._stopping = stopping
        self._running: dict[str, Process] = {}
        self.began = 0.0

    def until(self, seconds: float) -> None:
        """See L{benchmarks.balance.scenarios.Stage}."""
        if self._stopping.wait(max(0.0, self.began + seconds - time.monotonic())):
            raise Stopped

    def start(self, name: str) -> None:
        """See L{benchmarks.balance.scenarios.Stage}."""
        faults = self._scenario.faults_of(name)
        process = start_backend(name, self.ports[name], faults, self._folder / f"{name}.log")
        self._running[name] = process
        self._started.append(process)

    def serving(self) -> None:
        """Wait for those that were started."""
        for name, process in self._running.items():
            process.wait_until_serving(self.ports[name])

    def stop(self, name: str) -> None:
        """See L{benchmarks.balance.scenarios.Stage}."""
        self._running.pop(name).stop()

    def kill(self, name: str) -> None:
        """See L{benchmarks.balance.scenarios.Stage}."""
        self._running.pop(name).kill()


def start_backend(name: str, port: int, faults: Faults, log: Path) -> Process:
    """Start one."""
    command = [sys.executable, "-m", "benchmarks.balance.backend", "--name", name, *faults.options(), str(port)]
    return Process(f"backend {name}", command, all_cores(), log)


def run(subject: Subject, scenario: Scenario, folder: Path, stopping: threading.Event) -> Outcome:
    """
    One run, from nothing to nothing.

    @param folder: where it may write; it is made.
    @raise Failed: something did not start or did not end.
    @raise Stopped: it was told to.
    """
    folder.mkdir(parents=True)
    with running([]) as started:
        lane = Lane(folder, scenario, started, stopping)
        for name in NAMES:
            if name not in scenario.absent:
                lane.start(name)
        lane.serving()
        port = free_port()
        proxy = subject.start(folder, all_cores(), port, list(lane.ports.values()))
        started.append(proxy)
        proxy.wait_until_serving(port)
        if stopping.wait(_SETTLED):
            raise Stopped
        load = Generated(port, scenario.phases, folder / "generator.log")
        try:
            lane.began = load.began
            scenario.play(lane)
            lane.until(length(scenario.phases))
            return load.outcome()
        finally:
            load.close()
