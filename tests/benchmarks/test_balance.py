"""Tests of C{benchmarks.balance}: that the load is open, that times count from when a request was due, what is read
out of them, and the faults of the backends."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import Awaitable, Callable

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.balance.backend import Faults, Link, Work
from benchmarks.balance.generator import Generator
from benchmarks.balance.lane import Outcome
from benchmarks.balance.plan import Answer, Phase, arrivals, length, percentile
from benchmarks.balance.report import bounds, markdown
from benchmarks.balance.scenarios import SCENARIOS
from benchmarks.balance.subjects import QUICK, SUBJECTS

_OK = b"HTTP/1.1 200 OK\r\nX-Served-By: a\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def generate(serve: Serve, dues: list[float]) -> list[Answer]:
    """The answers of a generator to a server."""

    async def both() -> list[Answer]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            generator = Generator(server.sockets[0].getsockname()[1], dues)
            with contextlib.redirect_stdout(io.StringIO()):
                await generator.run()
            return generator.answers

    return asyncio.run(both())


def outcome(*rows: tuple[float, float, str, str]) -> Outcome:
    """Of these answers."""
    return Outcome([Answer(*row) for row in rows], 0.0)


class PlanTests(SynchronousTestCase):
    """When requests are due."""

    def test_rates(self) -> None:
        """Each phase has about its rate, and nothing is due outside of them."""
        dues = list(arrivals([Phase(10, 200), Phase(10, 800)], 1))
        early = [due for due in dues if due < 10]
        self.assertTrue(1800 < len(early) < 2200, len(early))
        self.assertTrue(7600 < len(dues) - len(early) < 8400, len(dues))
        self.assertEqual(dues, sorted(dues))
        self.assertLess(dues[-1], 20)

    def test_alike(self) -> None:
        """Everyone gets the same requests at the same times."""
        phases = [Phase(2, 100)]
        self.assertEqual(list(arrivals(phases, 7)), list(arrivals(phases, 7)))
        self.assertNotEqual(list(arrivals(phases, 7)), list(arrivals(phases, 8)))

    def test_length(self) -> None:
        """The phases follow each other."""
        self.assertEqual(length([Phase(2, 1), Phase(3, 1)]), 5)

    def test_percentile(self) -> None:
        """The nearest rank: 99 of 100 values are not above the 99th percentile."""
        values = [float(value) for value in range(1, 101)]
        self.assertEqual(percentile(values, 0.99), 99)
        self.assertEqual(percentile(values, 0.5), 50)
        self.assertEqual(percentile(values, 1.0), 100)
        self.assertEqual(percentile([3.0], 0.01), 3)
        self.assertEqual(percentile([], 0.5), 0)


class OutcomeTests(SynchronousTestCase):
    """What is read out of answers."""

    def test_times(self) -> None:
        """A failure that came at once does not make the times better, and one that was waited for makes them worse."""
        seen = outcome((0, 0.2, "200", "a"), (0, 0.3, "200", "a"), (0, 0.001, "502", ""), (0, 5.0, "timeout", ""))
        self.assertEqual(seen.quantile(0.01), 0.2)
        self.assertEqual(seen.quantile(1.0), 5.0)
        self.assertEqual(seen.failures, {"502": 1, "timeout": 1})

    def test_window(self) -> None:
        """The times of a part are those of the requests that were due in it."""
        seen = outcome((1.0, 0.5, "200", "a"), (2.0, 0.1, "200", "a"))
        self.assertEqual(seen.quantile(1.0, 2.0, 3.0), 0.1)

    def test_evenness(self) -> None:
        """It is 1 when all five have the same, and a fifth when one has it all."""
        self.assertAlmostEqual(outcome(*((0, 0.1, "200", name) for name in "abcde")).evenness, 1.0)
        self.assertAlmostEqual(outcome((0, 0.1, "200", "a"), (0, 0.1, "200", "a")).evenness, 0.2)

    def test_kept(self) -> None:
        """What is written to a file is what is read from it."""
        seen = outcome((0, 0.2, "200", "a"), (1, 5.0, "timeout", ""))
        self.assertEqual(Outcome.of(json.loads(json.dumps(seen.as_json()))), seen)

    def test_bounds(self) -> None:
        """A request that lemmytx loses in a restart is a broken bound, and one that nginx loses is none."""
        good, bad = outcome((0, 0.1, "200", "a")), outcome((0, 0.1, "502", ""))
        name = "lemmytx round_robin"
        self.assertEqual([bound.kept for bound in bounds({"restart": {name: good, "nginx least_conn": bad}})], [True])
        (broken,) = bounds({"restart": {name: bad}})
        self.assertFalse(broken.kept)
        self.assertIn(name, broken.measured)

    def test_slow_bound(self) -> None:
        """The best p99 of lemmytx is held against the best one of HAProxy."""
        slow, quick = outcome((0, 0.3, "200", "a")), outcome((0, 0.1, "200", "a"))
        ours, theirs = ("lemmytx round_robin", "lemmytx lemmy"), ("HAProxy leastconn", "HAProxy roundrobin")
        (kept,) = bounds({"slow": {ours[0]: slow, ours[1]: quick, theirs[0]: quick}})
        self.assertTrue(kept.kept)
        (broken,) = bounds({"slow": {ours[0]: slow, theirs[0]: slow, theirs[1]: quick}})
        self.assertFalse(broken.kept)

    def test_page(self) -> None:
        """The page has a section for each scenario that ran, with a row for each subject."""
        page = markdown(
            {"spike": {"HAProxy leastconn": outcome((0, 0.1, "200", "a"))}}, {"cpu": "X"}, {"spike": "s.svg"}
        )
        self.assertIn(SCENARIOS["spike"].title, page)
        self.assertIn("| HAProxy leastconn | 100 | 100 |", page)
        self.assertIn("(s.svg)", page)
        self.assertNotIn(SCENARIOS["slow"].title, page)

    def test_quick(self) -> None:
        """A quick run is of subjects that there are."""
        self.assertLess(set(QUICK), set(SUBJECTS))


class GeneratorTests(SynchronousTestCase):
    """The generator, against servers that behave badly."""

    def test_open(self) -> None:
        """Requests are sent although none was answered yet: a server that first wants to see them all gets them."""
        count = 300
        seen: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            seen.append(writer)
            if len(seen) == count:
                for waiting in seen:
                    waiting.write(_OK)

        answers = generate(serve, [number / 10_000 for number in range(count)])
        self.assertEqual([answer.outcome for answer in answers], ["200"] * count)

    def test_due(self) -> None:
        """A request that is sent late has been waiting since it was due."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_OK)

        (answer,) = generate(serve, [-2.0])
        self.assertEqual((answer.due, answer.backend), (-2.0, "a"))
        self.assertGreaterEqual(answer.seconds, 1.8)  # the first phase begins 0.2 s after the start

    def test_kept_connection_ends(self) -> None:
        """A request that meets the end of a kept connection is sent once more on a new one; on that it is lost."""
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.readuntil(b"\r\n\r\n")
            if connections == 1:
                writer.write(_OK)
                await reader.readuntil(b"\r\n\r\n")
            writer.close()

        async def both() -> list[Answer]:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                generator = Generator(server.sockets[0].getsockname()[1], [0.0, 1.0], keys=1)
                with contextlib.redirect_stdout(io.StringIO()):
                    await generator.run()
                return generator.answers

        answers = asyncio.run(both())
        self.assertEqual([answer.outcome for answer in answers], ["200", "reset"])
        self.assertEqual(connections, 2)

    def test_refused(self) -> None:
        """A port where nobody listens is told from a connection that ended."""

        async def both() -> list[Answer]:
            server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            server.close()
            await server.wait_closed()
            generator = Generator(port, [0.0])
            with contextlib.redirect_stdout(io.StringIO()):
                await generator.run()
            return generator.answers

        self.assertEqual([answer.outcome for answer in asyncio.run(both())], ["refused"])

    def test_statuses(self) -> None:
        """A status is told, an answer that ends too early is cut, and C{Connection: close} is heeded."""
        replies = [
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        ]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(replies.pop(0))
            writer.close()

        answers = generate(serve, [0.0, 0.2])
        self.assertEqual([answer.outcome for answer in answers], ["503", "cut"])


class BackendTests(SynchronousTestCase):
    """The backend with faults, through the generator."""

    def _outcomes(self, faults: Faults, dues: list[float]) -> list[str]:
        async def both() -> list[str]:
            loop = asyncio.get_running_loop()
            work = Work("a", faults, loop)
            server = await loop.create_server(lambda: Link(work), "127.0.0.1", 0)
            async with server:
                generator = Generator(server.sockets[0].getsockname()[1], dues)
                with contextlib.redirect_stdout(io.StringIO()):
                    await generator.run()
                work.leave()
                await work.gone
                return [answer.outcome for answer in generator.answers]

        return asyncio.run(both())

    def test_works(self) -> None:
        """Those for whom there is no place wait for their turn, and nobody is lost."""
        self.assertEqual(self._outcomes(Faults(mean=0.001, places=1), [0.0] * 50), ["200"] * 50)

    def test_errors(self) -> None:
        """It fails the share of requests that it is told to, with 503."""
        self.assertEqual(self._outcomes(Faults(errors=1.0), [0.0] * 5), ["503"] * 5)
        outcomes = self._outcomes(Faults(mean=0.0001, places=100, errors=0.3), [n / 1000 for n in range(300)])
        self.assertTrue(60 < outcomes.count("503") < 120, outcomes.count("503"))

    def test_resets(self) -> None:
        """It ends the connections of the share that it is told to."""
        self.assertEqual(self._outcomes(Faults(resets=1.0), [0.0] * 5), ["reset"] * 5)

    def test_options(self) -> None:
        """The options that a backend is started with are its faults."""
        self.assertIn("--mean=0.2", Faults(mean=0.2).options())
