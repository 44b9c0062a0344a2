"""Schedulers that learn from answers: by their time, and by what backends report."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance.reported_load import ReportedLoad, read_report, take_reports
from lemmytx.balance.response_time import ResponseTime
from lemmytx.testing import Candidate, check_scheduler, response
from tests.balance.rig import REQUEST, following, many

#: A moment as a clock that began long ago says it.
NOW = 500_000.0


def flow(
    scheduler: Any, members: tuple[Candidate, ...], times: dict[str, float], seconds: float, every: float = 0.01
) -> Counter[str]:
    """
    How often each is chosen while requests come at a steady pace.

    @param times: how long a request stays in flight, by member; an answer comes at its end.
    @param every: seconds between two requests.
    """
    counted: Counter[str] = Counter()
    flying: list[tuple[float, float, Candidate]] = []
    now = NOW
    while now < NOW + seconds:
        for entry in [entry for entry in flying if entry[0] <= now]:
            flying.remove(entry)
            scheduler.answered(entry[2], entry[0] - entry[1], response(), entry[0])
            entry[2].active -= 1
        chosen = scheduler.choose(members, REQUEST)
        counted[chosen.name] += 1
        chosen.active += 1
        flying.append((now + times[chosen.name], now, chosen))
        now += every
    for _, _, backend in flying:
        backend.active -= 1
    return counted


class ResponseTimeTests(SynchronousTestCase):
    """L{ResponseTime}"""

    def test_contract(self) -> None:
        """It keeps the contract of its interface in the situations that the public check knows."""
        check_scheduler(ResponseTime)

    def told(self, *seconds: float, weight: int = 1) -> tuple[ResponseTime, tuple[Candidate, ...]]:
        """One whose members have answered once, so quickly."""
        members = many(len(seconds), weight)
        scheduler = ResponseTime()
        scheduler.update(members)
        for member, time in zip(members, seconds, strict=True):
            scheduler.answered(member, time, response(), NOW)
        return scheduler, members

    def test_quickest(self) -> None:
        """The quickest is chosen until its requests in flight make up for it."""
        scheduler, members = self.told(0.3, 0.1, 0.2)
        chosen = []
        for _ in range(6):
            backend: Any = scheduler.choose(members, REQUEST)
            backend.active += 1
            chosen.append(backend.name)
        self.assertEqual(sorted(chosen), ["b0", "b1", "b1", "b1", "b2", "b2"])
        self.assertEqual(chosen[0], "b1")

    def test_weights(self) -> None:
        """Of two that are equally quick the one of twice the weight holds twice as many."""
        scheduler, members = self.told(0.1, 0.1)
        members[1].weight = 2
        scheduler.update(members)
        for _ in range(30):
            backend: Any = scheduler.choose(members, REQUEST)
            backend.active += 1
        self.assertEqual([member.active for member in members], [10, 20])

    def test_peak(self) -> None:
        """A slow answer counts at once and in full; quick ones make up for it within a few times the decay."""
        scheduler, members = self.told(0.1, 0.1)
        slow = members[0]
        scheduler.answered(slow, 2.0, response(), NOW + 0.1)
        self.assertEqual(scheduler.known["b0"].cost, 2.0)
        scheduler.answered(slow, 0.1, response(), NOW + 10.1)
        self.assertApproximates(scheduler.known["b0"].cost, 0.1 + 1.9 * 0.3679, 0.001)
        scheduler.answered(slow, 0.1, response(), NOW + 40.1)
        self.assertApproximates(scheduler.known["b0"].cost, 0.1, 0.04)

    def test_newcomer(self) -> None:
        """One that is added begins with the median, and is neither stampeded nor avoided."""
        scheduler, members = self.told(0.1, 0.2, 0.9)
        members = (*members, Candidate("new"))
        scheduler.update(members)
        self.assertEqual(scheduler.known["new"].cost, 0.2)
        self.assertIs(scheduler.choose(members, REQUEST), members[0])

    def test_nobodyKnown(self) -> None:
        """Before anyone has answered it is least connections; the first time there is holds for all."""
        members = many(3)
        scheduler = ResponseTime()
        scheduler.update(members)
        self.assertEqual([scheduler.choose(members, REQUEST).name for _ in range(3)], ["b0", "b1", "b2"])
        scheduler.answered(members[0], 0.5, response(), NOW)
        self.assertEqual([scheduler.choose(members, REQUEST).name for _ in range(3)], ["b0", "b1", "b2"])

    def test_failing(self) -> None:
        """To fail quickly is no merit: a 503 makes nobody look quicker, though a slow one looks slower."""
        scheduler, members = self.told(0.2, 0.2)
        scheduler.answered(members[0], 0.001, response(503), NOW + 5)
        self.assertEqual(scheduler.known["b0"].cost, 0.2)
        scheduler.answered(members[0], 0.4, response(503), NOW + 6)
        self.assertEqual(scheduler.known["b0"].cost, 0.4)

    def test_unmeasured(self) -> None:
        """An answer whose time nobody knows changes nothing."""
        scheduler, members = self.told(0.2, 0.2)
        scheduler.answered(members[0], -1.0, response(), NOW + 5)
        self.assertEqual((scheduler.known["b0"].cost, scheduler.known["b0"].at), (0.2, NOW))

    def test_shares(self) -> None:
        """Of three, one of which is ten times slower, that gets a small part and yet is not forgotten."""
        members = many(3)
        scheduler = ResponseTime()
        scheduler.update(members)
        served = flow(scheduler, members, {"b0": 0.05, "b1": 0.05, "b2": 0.5}, 60)
        self.assertGreater(served["b2"], 5)
        self.assertLess(served["b2"], 6000 * 0.1)
        self.assertLess(abs(served["b0"] - served["b1"]), 6000 * 0.05)

    def test_recovered(self) -> None:
        """One that was slow for a while and is no more has its share again soon after."""
        members = many(3)
        scheduler = ResponseTime()
        scheduler.update(members)
        flow(scheduler, members, {"b0": 0.05, "b1": 0.05, "b2": 1.0}, 20)
        served = flow(scheduler, members, dict.fromkeys(("b0", "b1", "b2"), 0.05), 120)
        self.assertGreater(served["b2"], 12000 * 0.15)

    def test_longSilence(self) -> None:
        """After a night without requests, or a clock that jumps, all is as it was before."""
        for pause in (1.0, 2_000.0, 5_000.0, 1e6, 1e12, -1.0, -1e6):
            scheduler, members = self.told(0.1, 0.2, 0.6)
            scheduler.answered(members[0], 0.1, response(), NOW + pause)
            for _ in range(60):
                backend: Any = scheduler.choose(members, REQUEST)
                backend.active += 1
            for member, count in zip(members, (36, 18, 6), strict=True):
                self.assertApproximates(member.active, count, 4, str(pause))

    def test_days(self) -> None:
        """Weeks of answers make no number too large, and a backend that nobody hears of is forgotten."""
        scheduler, members = self.told(0.1, 0.2, 0.6)
        for second in range(7000):
            scheduler.answered(members[0], 0.1, response(), NOW + second)
            scheduler.answered(members[1], 0.2, response(), NOW + second)
        self.assertLess(max(cost.value for cost in scheduler.known.values()), 1e140)
        self.assertEqual([name for name in ("b0", "b1", "b2") if name in scheduler.known], ["b0", "b1"])
        self.assertApproximates(scheduler.known["b1"].value / scheduler.known["b0"].value, 2.0, 0.01)

    def test_outOfMany(self) -> None:
        """Among many an answer counts for the next pick, and all who are unknown take part of the first time."""
        members = many(20)
        scheduler = following(ResponseTime(), members)
        for _ in range(20):
            scheduler.pick(REQUEST)
        scheduler.answered(members[0], 0.5, response(), NOW)
        self.assertEqual([scheduler.pick(REQUEST).name for _ in range(20)], [member.name for member in members])
        scheduler.answered(members[7], 0.1, response(), NOW + 0.1)
        self.assertEqual({scheduler.pick(REQUEST).name for _ in range(5)}, {"b7"})

    def test_options(self) -> None:
        """A decay that is none is refused."""
        for decay in (0.0, -1.0, float("nan"), float("inf")):
            self.assertIn("decay: found", str(self.assertRaises(ValueError, ResponseTime, decay)))


class ReportTests(SynchronousTestCase):
    """What backends say."""

    def read(self, *lines: tuple[str, str], metric: str | None = None) -> list[float | None]:
        return [read_report(name, value, metric) for name, value in take_reports(response(fields=lines))]

    def test_forms(self) -> None:
        """Text, JSON and the short form are understood."""
        for name, value, load in (
            ("X-Backend-Load", "0.73", 0.73),
            ("x-backend-load", " 0 ", 0.0),
            ("Endpoint-Load-Metrics", "TEXT cpu_utilization=0.3, mem_utilization=0.8", 0.3),
            ("endpoint-load-metrics", "TEXT cpu_utilization=0.3,application_utilization=0.5", 0.5),
            ("endpoint-load-metrics", "TEXT application_utilization=0,cpu_utilization=0.3", 0.3),
            ("endpoint-load-metrics", "TEXT application_utilization=0", 0.0),
            ("endpoint-load-metrics", 'JSON {"cpu_utilization": 0.3, "mem_utilization": 0.8}', 0.3),
            ("endpoint-load-metrics", 'JSON {"application_utilization": 1.7}', 1.7),
        ):
            self.assertEqual(self.read((name, value)), [load], value)

    def test_metrics(self) -> None:
        """Another metric can be asked for, named ones too."""
        text = ("endpoint-load-metrics", "TEXT cpu_utilization=0.3,named_metrics.queue=4")
        data = ("endpoint-load-metrics", 'JSON {"cpu_utilization": 0.3, "named_metrics": {"queue": 4}}')
        for line in (text, data):
            self.assertEqual(self.read(line, metric="named_metrics.queue"), [4.0])
            self.assertEqual(self.read(line, metric="mem_utilization"), [None])

    def test_nonsense(self) -> None:
        """What is no load is none."""
        for value in ("", "nan", "inf", "-1", "1e999", "much", "0,5"):
            self.assertEqual(self.read(("X-Backend-Load", value)), [None], value)
        for value in (
            "", "TEXT", "TEXT cpu_utilization", "TEXT cpu_utilization=x", "BIN abc=", "JSON", "JSON [1]", "JSON {",
            'JSON {"cpu_utilization": true}', 'JSON {"cpu_utilization": [1]}', "JSON " + "[" * 5000,
            'JSON {"cpu_utilization": 1' + "0" * 400 + "}",
        ):  # fmt: skip
            self.assertEqual(self.read(("endpoint-load-metrics", value)), [None], value)

    def test_stripped(self) -> None:
        """The lines do not reach the client, however they are written and however often; all others do."""
        head = response(
            fields=[
                ("X-BACKEND-LOAD", "1"), ("X-Backend-Load-Not", "a"), ("Endpoint-Load-Metrics", "what?"),
                ("Vary", "x-backend-load: 3"), ("x-backend-load", "2"),
            ]
        )  # fmt: skip
        self.assertEqual(len(take_reports(head)), 3)
        self.assertEqual(head.block, b"HTTP/1.1 200 Whatever\r\nX-Backend-Load-Not: a\r\nVary: x-backend-load: 3\r\n")
        self.assertEqual(take_reports(head), [])

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60))
    def test_anything(self, value: str) -> None:
        """Whatever a backend sends, it is a finite load of 0 or more, or none."""
        for line in (value, f"TEXT {value}", f"JSON {value}", f"TEXT cpu_utilization={value}"):
            for load in self.read(("endpoint-load-metrics", line), ("x-backend-load", value)):
                self.assertTrue(load is None or 0 <= load <= 1000, (line, load))


class ReportedLoadTests(SynchronousTestCase):
    """L{ReportedLoad}"""

    def report(self, scheduler: ReportedLoad, backend: Candidate, load: float | None, now: float = NOW) -> None:
        fields = [] if load is None else [("X-Backend-Load", str(load))]
        scheduler.answered(backend, 0.1, response(fields=fields), now)

    def made(self, count: int) -> tuple[ReportedLoad, tuple[Candidate, ...]]:
        members = many(count)
        scheduler = ReportedLoad()
        scheduler.update(members)
        return scheduler, members

    def test_contract(self) -> None:
        """It keeps the contract of its interface in the situations that the public check knows."""
        check_scheduler(ReportedLoad)

    def test_silent(self) -> None:
        """When nobody reports it is least connections."""
        scheduler, members = self.made(3)
        members[0].active, members[1].active = 2, 1
        self.assertIs(scheduler.choose(members, REQUEST), members[2])
        self.report(scheduler, members[2], None)
        self.assertIs(scheduler.choose(members, REQUEST), members[2])

    def test_least(self) -> None:
        """The one that says it has least to do is chosen, whatever is in flight to it from here."""
        scheduler, members = self.made(3)
        for member, load in zip(members, (0.9, 0.2, 0.6), strict=True):
            member.active = 4
            self.report(scheduler, member, load)
        self.assertIs(scheduler.choose(members, REQUEST), members[1])

    def test_betweenReports(self) -> None:
        """Until it reports again each request counts as what those before it have cost: no stampede."""
        scheduler, members = self.made(2)
        for member, load in zip(members, (0.8, 0.4), strict=True):
            member.active = 4
            self.report(scheduler, member, load)
        for _ in range(10):
            backend: Any = scheduler.choose(members, REQUEST)
            backend.active += 1
        self.assertEqual([member.active for member in members], [6, 12])

    def test_someSilent(self) -> None:
        """One that does not report counts by its requests in flight, at what one costs on the others."""
        scheduler, members = self.made(3)
        for member, load in zip(members[:2], (0.5, 0.5), strict=True):
            member.active = 10
            self.report(scheduler, member, load)
        members[2].active = 5
        for _ in range(10):
            backend: Any = scheduler.choose(members, REQUEST)
            backend.active += 1
        self.assertTrue(all(10 <= member.active <= 13 for member in members), members)

    def test_stale(self) -> None:
        """A report from long ago says little: the one that was overloaded is asked again."""
        scheduler, members = self.made(2)
        self.report(scheduler, members[0], 0.9)
        for second in range(60):
            self.report(scheduler, members[1], 0.3, NOW + second)
            if scheduler.choose(members, REQUEST) is members[0]:
                break
        self.assertTrue(8 < second < 14, second)

    def test_silentAgain(self) -> None:
        """One that answers and has not reported for long counts like one that never has."""
        scheduler, members = self.made(2)
        self.report(scheduler, members[0], 0.9)
        self.report(scheduler, members[0], None, NOW + 29)
        self.assertIn("b0", scheduler.known)
        self.report(scheduler, members[0], None, NOW + 31)
        self.assertNotIn("b0", scheduler.known)

    def test_outOfMany(self) -> None:
        """Among many a report counts for the next pick, and the silent ones follow the others."""
        members = many(20)
        scheduler = following(ReportedLoad(), members)
        for member in members[:10]:
            member.active = 10
            scheduler.moved(member)
            self.report(scheduler, member, 0.5)
        silent = [scheduler.pick(REQUEST).name for _ in range(10)]
        self.assertEqual(sorted(silent), sorted(member.name for member in members[10:]))
        self.report(scheduler, members[3], 0.01, NOW + 0.5)
        self.assertEqual(scheduler.pick(REQUEST).name, "b3")
        self.report(scheduler, members[3], None, NOW + 60)
        self.assertNotEqual(scheduler.pick(REQUEST).name, "b3")

    def test_options(self) -> None:
        """A metric without a name is refused."""
        self.assertIn("metric: found ''", str(self.assertRaises(ValueError, ReportedLoad, metric="")))
