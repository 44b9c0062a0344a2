"""When backends are checked, and what becomes of the outcome."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError

from lemmytx.checks.checker import MOST_TOLD, Gate
from lemmytx.cluster.backend import Backend
from lemmytx.interfaces import Unhealthy
from tests.checks.rig import ClockCase, Scripted


def state(backend: Backend) -> str:
    """Of its checks."""
    assert backend.checked is not None
    return backend.checked.state


class PaceTests(ClockCase):
    """Intervals, jitter, timeouts."""

    def test_interval(self) -> None:
        """A check begins an interval after the beginning of the last one, however long that took."""
        self.checker(self.backend(interval=2.0, timeout=1.5), delay=0.5)
        self.clock.advance(0.4)
        self.assertEqual(0, len(self.check.going))
        self.clock.advance(0.1)
        self.assertEqual(1, len(self.check.going))
        self.clock.advance(1.0)
        self.check.going[0].callback(None)
        self.clock.advance(0.9)
        self.assertEqual(1, len(self.check.going))
        self.clock.advance(0.1)
        self.assertEqual(2, len(self.check.going))

    def test_jitter(self) -> None:
        """Chance makes an interval shorter or longer by the jitter, and no more than that."""
        for chance, wanted in ((0.0, 9.0), (0.5, 10.0), (1.0, 11.0)):
            check = Scripted()
            self.checker(self.backend(check=check, interval=10.0, jitter=0.1), chance=chance)
            self.clock.advance(0)
            check.going[0].callback(None)
            self.clock.advance(wanted - 0.01)
            self.assertEqual(1, len(check.going), chance)
            self.clock.advance(0.02)
            self.assertEqual(2, len(check.going), chance)

    def test_fast(self) -> None:
        """On its way up or down a backend is looked at in the fast interval, else in the other one."""
        backend = self.backend(interval=10.0, fast_interval=1.0, rise=2, fall=2)
        self.checker(backend)
        self.clock.advance(0)
        expected = (
            (False, "going_down", 1.0), (False, "down", 10.0), (True, "going_up", 1.0), (True, "up", 10.0),
        )  # fmt: skip
        for number, (passes, becomes, pause) in enumerate(expected):
            self.check.going[number].callback(None) if passes else self.check.going[number].errback(Unhealthy("no"))
            self.assertEqual(becomes, state(backend))
            self.clock.advance(pause - 0.01)
            self.assertEqual(number + 1, len(self.check.going), becomes)
            self.clock.advance(0.02)
            self.assertEqual(number + 2, len(self.check.going), becomes)

    def test_timeout(self) -> None:
        """A check without an outcome has failed at its timeout; it is cancelled, and what it says later is ignored."""
        backend = self.backend(interval=2.0, timeout=1.0, fall=1)
        self.checker(backend)
        self.clock.advance(0)
        self.clock.advance(1.0)
        self.assertEqual("down", state(backend))
        assert backend.checked is not None
        self.assertEqual("no outcome within 1 s", backend.checked.reason)
        self.assertTrue(self.check.going[0].called)
        self.assertEqual(1, backend.checked.failures)
        self.clock.advance(1.0)
        self.assertEqual(2, len(self.check.going))

    def test_longerThanTheInterval(self) -> None:
        """With a timeout beyond the interval there is still one check at a time, and the next begins at once."""
        self.checker(self.backend(interval=1.0, timeout=5.0))
        self.clock.advance(0)
        self.clock.advance(3.0)
        self.assertEqual(1, len(self.check.going))
        self.check.going[0].callback(None)
        self.clock.advance(0)
        self.assertEqual(2, len(self.check.going))

    def test_doesNotEnd(self) -> None:
        """A check that swallows its cancellation is not started again beside itself; it counts as failed instead."""
        endless: list[Deferred[None]] = []

        class Swallows:
            async def check(self, target: Any) -> None:
                while True:
                    endless.append(Deferred())
                    try:
                        await endless[-1]
                    except CancelledError:
                        continue
                    return

        backend = self.backend(check=Swallows(), interval=2.0, timeout=1.0)
        self.checker(backend)
        self.clock.advance(0)
        self.clock.advance(1)
        self.clock.advance(1)
        assert backend.checked is not None
        self.assertEqual((2, "its last check still hangs, which is the check's fault"),
                         (backend.checked.failures, backend.checked.last))  # fmt: skip
        endless[-1].callback(None)
        self.clock.advance(2)
        self.assertEqual(3, len(endless))

    def test_stop(self) -> None:
        """After the end nothing is due, and what is under way is cancelled without an outcome."""
        backend = self.backend(interval=2.0)
        checker = self.checker(backend)
        self.clock.advance(0)
        checker.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
        assert backend.checked is not None
        self.assertEqual((0, 0), (backend.checked.passes, backend.checked.failures))

    def test_noAddress(self) -> None:
        """A backend whose name has no address is not checked until it has one."""
        backend = self.backend(interval=1.0)
        backend.addresses = ()
        self.checker(backend)
        self.clock.pump([1.0] * 3)
        self.assertEqual(0, len(self.check.going))
        backend.addresses = ("10.0.0.1",)
        self.clock.advance(1.0)
        self.assertEqual(1, len(self.check.going))


class OutcomeTests(ClockCase):
    """What a check says, and what it may do."""

    def once(self, backend: Backend, result: Any) -> None:
        """One check with this outcome: an exception, or a value."""
        number = len(self.check.going)
        if not number or self.check.going[-1].called:
            self.clock.advance(2.0)
            number = len(self.check.going)
        deferred = self.check.going[number - 1]
        deferred.errback(result) if isinstance(result, BaseException) else deferred.callback(result)

    def test_told(self) -> None:
        """The cluster is told and the log has a line for each change, and for nothing else."""
        backend = self.backend(interval=2.0, rise=2, fall=2)
        self.checker(backend)
        self.clock.advance(0)
        for outcome in (None, None, Unhealthy("it answered 500"), Unhealthy("it answered 503"), Unhealthy("x"), "fine",
                        "fine again", "fine"):  # fmt: skip
            self.once(backend, outcome)
        self.assertEqual(
            [
                "cluster c: backend b is going down: it answered 500",
                "cluster c: backend b is down: it answered 503",
                "cluster c: backend b is going up: fine",
                "cluster c: backend b is up: fine again",
            ],
            self.told,
        )
        self.assertEqual(4, self.changes)
        assert backend.checked is not None
        self.assertEqual({"going_down": 1, "down": 1, "going_up": 1, "up": 1}, backend.checked.changes)

    def test_downCloses(self) -> None:
        """Idle connections to a backend that goes down are closed."""
        closed = []

        class Idle:
            def close(self) -> None:
                closed.append(self)

        backend = self.backend(fall=1)
        backend.idle.append(Idle())
        self.checker(backend)
        self.clock.advance(0)
        self.once(backend, Unhealthy("no"))
        self.assertEqual(1, len(closed))

    def test_failedConnections(self) -> None:
        """A connection that fails is the backend's failure, whoever made it."""
        backend = self.backend(fall=10)
        self.checker(backend)
        self.clock.advance(0)
        for error in (ConnectionRefusedError(), ConnectionResetError(), BrokenPipeError()):
            self.once(backend, error)
        assert backend.checked is not None
        self.assertEqual(3, backend.checked.failures)

    def test_errorsOfOurs(self) -> None:
        """Running out of descriptors, or a plugin's error, says nothing about the backend and is logged once."""
        backend = self.backend(fall=1)
        checker = self.checker(backend)
        self.clock.advance(0)
        for _ in range(3):
            self.once(backend, OSError(errno.EMFILE, "Too many open files"))
            self.once(backend, KeyError("port"))
        assert backend.checked is not None
        self.assertEqual((0, 0, "up"), (backend.checked.failures, backend.checked.passes, backend.checked.state))
        self.assertEqual(2, len(self.told), self.told)
        self.assertIn("Too many open files", self.told[0])
        self.assertIn("KeyError: 'port'", self.told[1])
        self.assertEqual([3, 3], list(checker.errors.values()))

    def test_manyErrors(self) -> None:
        """A check that fails with another text each time does not fill the log."""
        backend = self.backend()
        checker = self.checker(backend)
        self.clock.advance(0)
        for number in range(2 * MOST_TOLD):
            self.once(backend, ValueError(str(number)))
        self.assertEqual(MOST_TOLD + 1, len(self.told))
        self.assertEqual(MOST_TOLD + 1, len(checker.errors))
        self.assertEqual(2 * MOST_TOLD, sum(checker.errors.values()))

    def test_raises(self) -> None:
        """A check that raises where it should have returned something to wait for ends nothing but itself."""

        class Exits:
            def check(self, target: Any) -> Any:
                raise SystemExit(3)

        class Number:
            def check(self, target: Any) -> Any:
                return 7

        for check in (Exits(), Number()):
            backend = self.backend(check=check, interval=1.0)
            checker = self.checker(backend)
            self.clock.advance(0)
            self.clock.advance(1.0)
            self.assertEqual([2], list(checker.errors.values()), check)

    def test_awaitable(self) -> None:
        """A check may be a coroutine or return a Deferred."""

        class Both:
            def __init__(self, result: Any) -> None:
                self.result = result

            def check(self, target: Any) -> Any:
                return self.result

        async def well() -> str:
            return "well"

        for made, passes in ((succeed("x"), 1), (fail(Unhealthy("x")), 0), (well(), 1)):
            backend = self.backend(check=Both(made))
            self.checker(backend)
            self.clock.advance(0)
            assert backend.checked is not None
            self.assertEqual((passes, 1 - passes), (backend.checked.passes, backend.checked.failures))


class ModeTests(ClockCase):
    """C{paranoid}, C{opportunistic}, C{lazy}."""

    def beats(self, seconds: int) -> int:
        """Lets so many seconds pass, in which checks end at once and well; says how many there were."""
        before = len(self.check.going)
        for _ in range(seconds):
            self.clock.advance(1.0)
            for deferred in self.check.going:
                if not deferred.called:
                    deferred.callback(None)
        return len(self.check.going) - before

    def test_paranoid(self) -> None:
        """It looks at a backend whatever that is doing."""
        backend = self.backend(interval=1.0)
        self.checker(backend)
        backend.active = 5
        self.assertEqual(10, self.beats(10))

    def test_opportunistic(self) -> None:
        """A backend that is up is looked at when no request has come for C{idle} seconds."""
        backend = self.backend(interval=1.0, mode="opportunistic", idle=5.0)
        self.checker(backend)
        for _ in range(10):
            backend.traffic.count += 1
            self.assertEqual(0, self.beats(1))
        self.assertEqual(0, self.beats(4))
        self.assertEqual(3, self.beats(3))
        backend.active = 1
        self.assertEqual(0, self.beats(20))

    def test_opportunisticDown(self) -> None:
        """One that is not up is looked at whatever it is doing."""
        backend = self.backend(interval=1.0, mode="opportunistic", idle=5.0, fall=1, rise=3)
        assert backend.checked is not None
        backend.checked.failed("x")
        backend.active = 1
        self.checker(backend)
        self.assertEqual(3, self.beats(3))
        self.assertEqual("up", state(backend))
        self.assertEqual(0, self.beats(10))

    def test_takesAPlace(self) -> None:
        """An opportunistic check is one of the requests that the backend has room for, as long as it runs."""
        backend = self.backend(capacity=1, interval=1.0, timeout=0.5, mode="opportunistic", idle=0.0)
        self.checker(backend)
        self.clock.advance(0)
        self.assertEqual(1, backend.active)
        self.check.going[0].callback(None)
        self.assertEqual(0, backend.active)
        self.clock.advance(1.0)
        self.assertEqual(1, backend.active)
        self.clock.advance(0.5)  # the timeout
        self.assertEqual(0, backend.active)

    def test_lazy(self) -> None:
        """Nothing is done until a request fails; that takes the backend down, and it is looked at until it is up."""
        backend = self.backend(interval=1.0, mode="lazy", rise=2)
        self.checker(backend)
        self.assertEqual(0, self.beats(10))
        assert backend.suspected is not None
        backend.suspected("connecting: refused")
        self.assertEqual("down", state(backend))
        backend.suspected("connecting: refused")
        self.assertEqual(2, self.beats(10))
        self.assertEqual("up", state(backend))
        self.assertEqual(
            [
                "cluster c: backend b is down: connecting: refused",
                "cluster c: backend b is going up: the check passed",
                "cluster c: backend b is up: the check passed",
            ],
            self.told,
        )

    def test_lookLazy(self) -> None:
        """Asked to look, even a lazy one does: once, or until it is up again."""
        backend = self.backend(interval=1.0, mode="lazy", fall=2, rise=1)
        checker = self.checker(backend)
        checker.look(False)
        self.check.going[0].callback(None)
        self.clock.advance(5.0)
        self.assertEqual((1, "up"), (len(self.check.going), state(backend)))
        checker.look(False)
        self.check.going[-1].errback(Unhealthy("no"))
        self.assertEqual("going_down", state(backend))
        self.clock.advance(1.0)
        self.check.going[-1].errback(Unhealthy("no"))
        self.assertEqual("down", state(backend))
        checker.look(False)
        self.assertEqual(3, len(self.check.going))
        checker.look(True)
        self.assertEqual(4, len(self.check.going))
        self.check.going[-1].callback(None)
        self.assertEqual("up", state(backend))

    def test_lookBusy(self) -> None:
        """Asked to look, it does not while it looks, while it is on its way up or down, or where there is no place."""
        backend = self.backend(capacity=1, interval=100.0, mode="opportunistic", fall=3)
        checker = self.checker(backend, 50.0)
        backend.active = 1
        checker.look(False)
        self.assertEqual(0, len(self.check.going))
        backend.active = 0
        checker.look(False)
        checker.look(False)
        self.assertEqual((1, 1), (len(self.check.going), backend.active))
        self.check.going[0].errback(Unhealthy("no"))
        self.assertEqual("going_down", state(backend))
        checker.look(False)
        checker.look(True)
        checker.stop()
        assert backend.checked is not None
        backend.checked.passed()
        checker.look(False)
        self.assertEqual(1, len(self.check.going))

    def test_lazyLost(self) -> None:
        """A backend that has answered requests and fails one was up; one whose first request fails was not."""
        for counts, lost in (({}, False), ({502: 3, 499: 1, 0: 1}, False), ({200: 1}, True), ({404: 1, 301: 2}, True)):
            backend = self.backend(interval=1.0, mode="lazy")
            self.checker(backend)
            backend.traffic.statuses.update(counts)
            assert backend.suspected is not None and backend.checked is not None
            backend.suspected("connecting: refused")
            self.assertIs(lost, backend.checked.lost, counts)

    def test_lazyStartsDown(self) -> None:
        """One that begins as down is looked at from the start."""
        backend = self.backend(interval=1.0, mode="lazy", up=False)
        self.checker(backend)
        self.assertEqual(1, self.beats(5))
        self.assertEqual("up", state(backend))

    def test_lazyFailsDuringACheck(self) -> None:
        """A request that fails while a check is under way starts no second one."""
        backend = self.backend(interval=1.0, timeout=0.9, mode="lazy", rise=1)
        self.checker(backend)
        assert backend.suspected is not None
        backend.suspected("x")
        self.clock.advance(1.0)
        self.assertEqual(1, len(self.check.going))
        backend.suspected("y")
        self.check.going[0].callback(None)
        self.assertEqual("up", state(backend))
        self.assertEqual([], self.clock.getDelayedCalls())


class GateTests(ClockCase):
    """How many run at one time."""

    def test_limit(self) -> None:
        """No more than the limit run at one time, and those that wait come in their order."""
        self.gate = Gate(2)
        backends = [self.backend(interval=100.0, timeout=50.0) for _ in range(5)]
        for number, backend in enumerate(backends):
            backend.name = f"b{number}"
            self.checker(backend)
        self.clock.advance(0)
        self.assertEqual(["b0", "b1"], [target.name for target in self.check.targets])
        self.check.going[1].callback(None)
        self.check.going[0].errback(Unhealthy("no"))
        self.assertEqual(["b0", "b1", "b2", "b3"], [target.name for target in self.check.targets])
        self.clock.advance(50.0)  # those time out
        self.assertEqual(5, len(self.check.targets))

    def test_waitingIsNotFailing(self) -> None:
        """The time in line is not taken from a check's own."""
        self.gate = Gate(1)
        first, second = self.backend(timeout=1.0, interval=10.0), self.backend(timeout=1.0, interval=10.0)
        self.checker(first)
        self.checker(second)
        self.clock.advance(0)
        self.clock.advance(1.0)
        self.check.going[1].callback(None)
        assert first.checked is not None and second.checked is not None
        self.assertEqual((1, 1), (first.checked.failures, second.checked.passes))

    def test_stopWhileWaiting(self) -> None:
        """One that leaves the line is not started, and one that is stopped at work makes room."""
        self.gate = Gate(1)
        one, two, _ = (self.checker(self.backend()) for _ in range(3))
        self.clock.advance(0)
        two.stop()
        one.stop()
        self.assertEqual(2, len(self.check.going))
