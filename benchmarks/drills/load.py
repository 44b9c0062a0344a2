"""The origin and the clients of the drills, as processes; and what the clients saw, added up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drills.instance import Instance, until
from benchmarks.machine import Failed, Process, free_port


@dataclass(frozen=True)
class Amount:
    """
    How much load there is.

    @ivar keepers: keep-alive connections with small requests.
    @ivar posters: clients with a new connection for each request.
    @ivar talkers: WebSockets.
    @ivar pause: seconds between two exchanges of each.
    @ivar size: of the download, in bytes.
    @ivar rate: of the download, in bytes per second.
    """

    keepers: int = 200
    posters: int = 4
    talkers: int = 20
    pause: float = 0.2
    size: int = 200_000_000
    rate: float = 25e6


@dataclass
class Seen:
    """
    What the clients saw in some time.

    @ivar done: exchanges that went well, by kind.
    @ivar failures: by kind, see L{benchmarks.drills.tally.KINDS}.
    @ivar told: the failures one by one, the first two thousand.
    @ivar reconnects: by what was seen.
    @ivar away: WebSockets that were closed with 1001.
    @ivar slowest: seconds of the small request that took longest, with its reconnects.
    """

    done: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    told: list[dict[str, Any]] = field(default_factory=list)
    reconnects: Counter[str] = field(default_factory=Counter)
    away: int = 0
    slowest: float = 0.0

    def add(self, seen: dict[str, Any]) -> None:
        """Add what the clients' process says."""
        self.done.update(seen["done"])
        self.failures.update(seen["failures"])
        self.told += seen["told"]
        self.reconnects.update(seen["reconnects"])
        self.away += seen["away"]
        self.slowest = max(self.slowest, seen["slowest"])


class Load:
    """
    Runs for as long as the drills do.

    @ivar amount: how much it is.
    @ivar origins: the ports of the backends.
    """

    def __init__(self, folder: Path, amount: Amount, started: list[Process]) -> None:
        """
        Starts the backends; the clients begin with the first L{aim}.

        @param started: gets what is started here, for the end.
        """
        self.amount = amount
        self.origins = [free_port() for _ in range(5)]
        command = [sys.executable, "-m", "benchmarks.drills.origin", "--size", str(amount.size)]
        origin = Process("origin", [*command, *map(str, self.origins)], _all_cores(), folder / "origin.log")
        started.append(origin)
        origin.wait_until_serving(self.origins[0])
        self._log = folder / "clients.log"
        options = [f"--{name}={value}" for name, value in vars(amount).items()]
        with self._log.open("wb") as errors:
            self._clients = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.drills.clients", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def _tell(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._clients.stdin is not None and self._clients.stdout is not None
        try:
            self._clients.stdin.write(json.dumps(command) + "\n")
            self._clients.stdin.flush()
            line = self._clients.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"the clients' process ended: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def count(self) -> Seen:
        """What was seen since the last time."""
        seen = Seen()
        seen.add(self._tell({}))
        return seen

    def aim(self, instances: Sequence[Instance]) -> None:
        """
        Let new connections go there, and wait until exchanges of all kinds succeed. What was seen before is forgotten.
        """
        seen = Seen()
        seen.add(self._tell({"targets": [(instance.port, instance.admin) for instance in instances]}))
        seen.done.clear()

        def flows() -> bool:
            seen.add(self._tell({}))
            return all(seen.done[kind] for kind in ("GET", "POST", "echo"))

        until("the load", flows, pause=0.1)

    def close(self) -> None:
        """End the clients."""
        self._clients.kill()
        self._clients.wait()
        assert self._clients.stdin is not None and self._clients.stdout is not None
        self._clients.stdin.close()
        self._clients.stdout.close()


def _all_cores() -> str:
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))
