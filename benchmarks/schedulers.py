"""
What a choice costs, and whether weights hold: C{python -m benchmarks.schedulers}.

Each scheduler in a real cluster of 10 and of 1,000 backends (L{lemmytx.cluster.cluster}), with as many requests in
flight as there are backends, the oldest of which ends whenever another one begins. Measured is the CPU time of
C{choose}, and apart from that what it costs to note that a request has begun, was answered and has ended. Each is
measured in two states: as it should be, and with a backend ejected, capacities everywhere, and a tenth of the backends
full.

Then weights are 1 to 5. Over 100,000 picks each backend's share of the picks must be within one percentage point of its
share of the weights. C{first} has no such share.

It ends with status 1 when a figure is above its bound.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from lemmytx.addresses import parse_url
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.plugin import build_scheduler, find_schedulers
from lemmytx.testing import Request

#: What is measured, by what it is called in the table.
SCHEDULERS: dict[str, tuple[str, dict[str, object]]] = {
    "round_robin": ("round_robin", {}),
    "least_connections": ("least_connections", {}),
    "least_load": ("least_load", {}),
    "first": ("first", {}),
    "random": ("random", {"seed": 1}),
    "two_choices": ("two_choices", {"seed": 1}),
    "ip_hash": ("ip_hash", {}),
    "ip_hash, bounded": ("ip_hash", {"balance_factor": 125}),
    "hash by header": ("hash", {"header": "X-User"}),
    "hash by cookie": ("hash", {"cookie": "sid"}),
    "hash by query": ("hash", {"query": "id"}),
    "response_time": ("response_time", {}),
    "reported_load": ("reported_load", {}),
    "lemmy": ("lemmy", {}),
}

#: Microseconds that a choice may cost, by the number of backends and whether there is trouble.
BOUNDS = {(10, False): 3.0, (10, True): 3.0, (1000, False): 6.0, (1000, True): 6.0}

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Backend-Load: 0.5\r\n"


class Head:
    """As much of a response's head as a scheduler looks at."""

    status = 200
    block = ANSWER


class Asking(Request):
    """A request as a cluster sees it."""

    __slots__ = ("tried",)

    def __init__(self, number: int) -> None:
        user = f"user-{number * 7919 % 100003}"
        fields = [
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("Accept-Language", "en-US,en;q=0.5"),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
            ("Cookie", f"theme=dark; consent=yes; sid={user}"),
            ("X-User", user),
        ]
        client = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        super().__init__(f"/shop/item?colour=red&id={user}", client=client, fields=fields)
        self.tried: tuple[Backend, ...] = ()


def cluster(label: str, count: int, capacity: int = 0, weighted: bool = False) -> Cluster:
    """A cluster of so many backends."""
    name, options = SCHEDULERS[label]
    backends = []
    for number in range(count):
        location = parse_url(f"http://10.1.{number // 250}.{number % 250 + 1}:8000")
        network: Any = None
        weight = number % 5 + 1 if weighted else 1
        backend = Backend(
            location.authority, location.url, location, network, Passive(), Pool(), weight=weight, capacity=capacity
        )
        backend.addresses = (location.host,)
        backends.append(backend)
    scheduler = build_scheduler(find_schedulers(), name, options)
    return Cluster("c", backends, scheduler, Rules(), time.monotonic)


def troubled(made: Cluster) -> Cluster:
    """One backend is ejected, and a tenth of the others is full."""
    for _ in range(3):
        made.failed(made.backends[7], "refused", "for the measurement")
    for backend in made.backends[5::10]:
        for _ in range(backend.capacity):
            backend.acquire()
    return made


def requests(count: int) -> Iterator[Asking]:
    """Requests of different clients, again and again."""
    made = [Asking(number) for number in range(2000)]
    for number in range(count):
        yield made[number % len(made)]


def cost(made: Cluster, times: int) -> tuple[float, float]:
    """
    @return: microseconds of CPU per choice; and per request for everything else that a cluster has to do.
    """
    flying: deque[Backend] = deque()
    observer, head = made.observer, Head()
    asked: Any = head
    clock = time.thread_time
    choosing = rest = 0.0
    block = 200
    started = time.monotonic()
    for done in range(0, times, block):
        for request in requests(block):
            begun = clock()
            chosen = made.choose(request)
            middle = clock()
            assert chosen is not None
            chosen.acquire()
            flying.append(chosen)
            if len(flying) > len(made.backends):
                flying.popleft().leave()
            if observer is not None:
                head.block = ANSWER
                observer(chosen, 0.02, asked, started + done / 10000)
            choosing += middle - begun
            rest += clock() - middle
    idle = _clock_cost()
    for backend in flying:
        backend.leave()
    return (choosing / times - idle) * 1e6, (rest / times - idle) * 1e6


def _clock_cost() -> float:
    """Seconds between two looks at the clock."""
    clock = time.thread_time
    total = 0.0
    for _ in range(2000):
        begun = clock()
        total += clock() - begun
    return total / 2000


def deviation(label: str, picks: int) -> float:
    """By how many percentage points a backend's share of the picks is off, at the most."""
    made = cluster(label, 10, weighted=True)
    total = sum(backend.weight for backend in made.backends)
    flying: deque[Backend] = deque()
    counted: Counter[Backend] = Counter()
    for number in range(picks):
        chosen = made.choose(Asking(number) if "hash" in label else _SOMEBODY)
        assert chosen is not None
        counted[chosen] += 1
        chosen.acquire()
        flying.append(chosen)
        if len(flying) > 60:
            flying.popleft().leave()
    return max(abs(counted[backend] / picks - backend.weight / total) for backend in made.backends) * 100


_SOMEBODY = Asking(0)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="What a choice costs, and whether weights hold.")
    parser.add_argument("--times", type=int, default=20_000, help="choices per measurement (default: 20,000)")
    parser.add_argument("--only", help="one scheduler of the table")
    asked = parser.parse_args()
    wrong = []
    print("CPU per choice, µs; in brackets what beginning, answering and ending a request cost in addition\n")
    heads = ("10 backends", "10, troubled", "1,000", "1,000, troubled", "weights off by")
    print(" " * 18 + "".join(f"{head:>17}" for head in heads))
    for label in SCHEDULERS if asked.only is None else [asked.only]:
        cells = []
        for (count, trouble), bound in BOUNDS.items():
            made = cluster(label, count, 20 if trouble else 0)
            if trouble:
                troubled(made)
            cost(made, asked.times // 10)  # the first choices build tables
            each, rest = min(cost(made, asked.times // 2) for _ in range(2))
            cells.append(f"{each:.2f} ({rest:.2f})")
            if each > bound:
                wrong.append(f"{label}: {each:.2f} µs at {count} backends, more than {bound:g}")
        off = "-"
        if label != "first":
            points = deviation(label, 100_000)
            off = f"{points:.2f} points"
            if points > 1:
                wrong.append(f"{label}: shares are off by {points:.2f} percentage points, more than 1")
        print(f"{label:<18}" + "".join(f"{cell:>17}" for cell in (*cells, off)), flush=True)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
