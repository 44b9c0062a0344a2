"""
How metrics are read from the figures: what a L{Row} of L{lemmytx.admin.families} is, and what many of them share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client.metrics_core import Metric

from lemmytx.cluster.histogram import VALUES
from lemmytx.cluster.traffic import Traffic
from lemmytx.proxy.figures import Lately

#: Values of labels.
Labels = tuple[str, ...]

#: A label's further values, and the value.
Reading = tuple[Labels, float]

#: Upper bounds of the buckets for response times, in seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: How a bound is written in the label C{le}.
_ENDS = (*map(str, BOUNDS), "+Inf")

#: For each bucket of L{lemmytx.cluster.histogram} the one here that it counts in. Where one has a bound inside, its
#: middle decides; it is 5 % wide, so bounds are right to 2.5 %.
_PLACES = tuple(sum(value > bound for bound in BOUNDS) for value in VALUES)

#: Classes of status that are always there, so that the first error is an increase, too.
_USUAL = ("2xx", "3xx", "4xx", "5xx")

#: What ended without a status that the client saw: it left, or it was cut.
_ODD = {499: "gone", 0: "cut"}


class Row(NamedTuple):
    """
    A metric.

    @ivar name: in full, as it is in the text format.
    @ivar kind: C{counter}, C{gauge}, C{histogram} or C{gaugehistogram}.
    @ivar more: its labels, beside those of the group.
    @ivar read: called with an entry of the group.
    """

    name: str
    kind: str
    help: str
    more: Labels
    read: Callable[[Any], Iterable[Reading]]

    def family(self) -> Metric:
        """One without any sample."""
        return Metric(self.name.removesuffix("_total") if self.kind == "counter" else self.name, self.help, self.kind)

    def add(self, family: Metric, labels: Mapping[str, str], entry: Any) -> None:
        """Add the samples of an entry, which has these labels."""
        if self.kind in _SPREAD:
            self._spread(family, labels, entry)
            return
        for values, value in self.read(entry):
            family.add_sample(self.name, {**labels, **dict(zip(self.more, values, strict=True))}, value)

    def _spread(self, family: Metric, labels: Mapping[str, str], entry: Any) -> None:
        count, sum_ = _SPREAD[self.kind]
        total = 0.0
        for values, value in self.read(entry):
            if values == SUM:
                family.add_sample(self.name + count, dict(labels), total)
                family.add_sample(self.name + sum_, dict(labels), value)
            else:
                total = value
                family.add_sample(self.name + "_bucket", {**labels, "le": values[0]}, value)


#: Histograms, with the suffixes of their count and sum.
_SPREAD = {"histogram": ("_count", "_sum"), "gaugehistogram": ("_gcount", "_gsum")}

#: In the place of a bucket's end: the sum of what is in all of them.
SUM: Labels = ("sum",)


def _one(read: Callable[[Any], float]) -> Callable[[Any], Iterable[Reading]]:
    """One value."""
    return lambda entry: (((), read(entry)),)


def _some(read: Callable[[Any], float | None]) -> Callable[[Any], Iterable[Reading]]:
    """One, or none."""

    def found(entry: Any) -> Iterable[Reading]:
        value = read(entry)
        return () if value is None else (((), value),)

    return found


def _each(read: Callable[[Any], Mapping[str, float]]) -> Callable[[Any], Iterable[Reading]]:
    """One for each name."""
    return lambda entry: [((name,), value) for name, value in read(entry).items()]


def gauge(name: str, help: str, read: Callable[[Any], float | None]) -> Row:
    """One value, which may be missing."""
    return Row(name, "gauge", help, (), _some(read))


def counter(name: str, help: str, read: Callable[[Any], float]) -> Row:
    """One value."""
    return Row(name, "counter", help, (), _one(read))


def by(label: str, name: str, kind: str, help: str, read: Callable[[Any], Mapping[str, float]]) -> Row:
    """One value for each of the names."""
    return Row(name, kind, help, (label,), _each(read))


def classes(statuses: Mapping[int, int]) -> dict[str, float]:
    """How many by the class of their status."""
    found: dict[str, float] = dict.fromkeys(_USUAL, 0)
    for status, count in statuses.items():
        name = _ODD.get(status) or f"{status // 100}xx"
        found[name] = found.get(name, 0) + count
    return found


def spread(lately: Lately) -> Iterator[Reading]:
    """Response times of late, by the ends of buckets; nothing where nothing came. The sum is right to 2.5 %."""
    if not lately.times:
        return
    counts = [0] * len(_ENDS)
    total = 0.0
    for bucket, count in lately.times.items():
        counts[_PLACES[bucket]] += count
        total += VALUES[bucket] * count
    for end, count in zip(_ENDS, accumulate(counts), strict=True):
        yield (end,), count
    yield SUM, total


def served(prefix: str, what: str, traffic: Callable[[Any], Traffic]) -> tuple[Row, ...]:
    """What was served, since the start."""
    return (
        by(
            "code", f"{prefix}_requests_total", "counter", f"Exchanges {what} that have ended, by the class of status.",
            lambda entry: classes(traffic(entry).statuses),
        ),
        counter(
            f"{prefix}_exchange_seconds_total",
            f"Time from the head of the request to the end of the response, of all exchanges {what}.",
            lambda entry: traffic(entry).time,
        ),
        counter(
            f"{prefix}_request_body_bytes_total", f"Bytes of request bodies {what}.",
            lambda entry: traffic(entry).received,
        ),
        counter(
            f"{prefix}_response_body_bytes_total", f"Bytes of response bodies {what}.",
            lambda entry: traffic(entry).sent,
        ),
    )  # fmt: skip


def times_of(prefix: str, whose: str) -> Row:
    """Response times of late."""
    return Row(
        f"{prefix}_recent_response_seconds", "gaugehistogram",
        f"Response times of {whose} in the last five minutes; they leave it when they are older.",
        ("le",), lambda entry: spread(entry.lately),
    )  # fmt: skip
