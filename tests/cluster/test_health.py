"""What checks make of a backend: the state machine, panic, and what people are told."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.health import LONGEST, Checkup, Health, printable
from lemmytx.cluster.rules import Rules
from tests.cluster.test_cluster import ClusterCase

#: p: a check passes, f: one fails, r: a request fails (lazy).
STEPS = st.text("pfr", max_size=40)


def model(rise: int, fall: int, up: bool, steps: str) -> tuple[str, int]:
    """State and number of changes, worked out from the whole history instead of step by step."""
    states = ["up" if up else "down"]
    checked = False
    row, last = 0, ""
    for step in steps:
        state = states[-1]
        row = row + 1 if step == last else 1
        last = step
        stands_up = state in ("up", "going_down")
        if step == "r":
            state, row = "down", 0
        elif step == "p":
            if stands_up or row >= rise or not checked:
                state = "up"
            else:
                state = "going_up"
        elif stands_up:
            state = "down" if row >= fall else "going_down"
        else:
            state = "down"
        # What was in a row before the last change of sides does not count for the next one.
        if state in ("up", "down") and state != states[-1]:
            row = 0 if (step == "p") != (state == "up") else row
        checked = True
        states.append(state)
    return states[-1], sum(one != other for one, other in pairwise(states))


class HealthTests(SynchronousTestCase):
    """L{Health}"""

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(st.integers(1, 4), st.integers(1, 4), st.booleans(), STEPS)
    def test_model(self, rise: int, fall: int, up: bool, steps: str) -> None:
        """Whatever comes in whatever order, state, availability and the number of changes are those of the model."""
        health = Health(rise, fall, up)
        changes = 0
        for step in steps:
            before = health.state
            if step == "p":
                changed = health.passed()
            elif step == "f":
                changed = health.failed("no")
            else:
                changed = health.fell("request")
            self.assertIs(changed, before != health.state)
            changes += changed
        state, expected = model(rise, fall, up, steps)
        self.assertEqual((state, expected), (health.state, changes))
        self.assertEqual(expected, sum(health.changes.values()))
        self.assertIs(health.available, state in ("up", "going_down"))
        self.assertEqual((steps.count("p"), steps.count("f")), (health.passes, health.failures))

    def test_threeAndTwo(self) -> None:
        """Three failures take it down, two passes bring it back, and nothing less does."""
        health = Health(rise=2, fall=3)
        seen = []
        for step in "fffpfpp":
            _ = health.passed() if step == "p" else health.failed("x")
            seen.append(health.state)
        self.assertEqual(["going_down", "going_down", "down", "going_up", "down", "going_up", "up"], seen)

    def test_firstOne(self) -> None:
        """A backend that begins as down is up after the first check, whatever C{rise} is; but only if that passes."""
        health = Health(rise=5, up=False)
        self.assertFalse(health.available)
        self.assertTrue(health.passed())
        self.assertEqual("up", health.state)
        other = Health(rise=5, up=False)
        other.failed("x")
        other.passed()
        self.assertEqual("going_up", other.state)

    def test_reasonAndTime(self) -> None:
        """A change has its reason and its time; what changes nothing leaves both as they are."""
        now = 100.0
        health = Health(fall=1, now=lambda: now)
        now = 101.0
        health.failed("refused")
        now = 102.0
        health.failed("refused again")
        self.assertEqual((101.0, "refused", "refused again"), (health.since, health.reason, health.last))
        self.assertIn("refused", repr(health))

    def test_lost(self) -> None:
        """It is lost when it goes from up to down, where somebody had found it up: not before the first check, and not
        when it fails on its way up."""
        for up, steps, lost in (
            (True, "f", "-"), (True, "ff", "--"), (True, "r", "-"), (True, "s", "+"), (False, "f", "-"),
            (True, "pff", "--+"), (True, "pffpf", "--+--"), (True, "pffppff", "--+---+"), (True, "pr", "-+"),
            (True, "fff", "---"), (True, "ffpf", "----"), (True, "ffppff", "-----+"), (False, "pff", "--+"),
            (True, "fpff", "---+"), (True, "ffs", "---"),
        ):  # fmt: skip
            health, seen = Health(2, 2, up), ""
            for step in steps:
                if step in "rs":
                    health.fell("request", served=step == "s")
                else:
                    _ = health.passed() if step == "p" else health.failed("no")
                seen += "+" if health.lost else "-"
            self.assertEqual(lost, seen, (up, steps))

    def test_settingsChange(self) -> None:
        """Other thresholds hold from the next check on; what has come in a row still counts."""
        health = Health(fall=10)
        health.failed("x")
        health.failed("x")
        health.configure(2, 3)
        self.assertTrue(health.failed("x"))
        self.assertEqual("down", health.state)

    def test_reasonsArePrintable(self) -> None:
        """A reason is one line of bounded length, whatever the backend has put into it."""
        self.assertEqual("a b?[31m c", printable("a\nb\x1b[31m\r\n  c"))
        self.assertEqual(LONGEST, len(printable("x" * 1000)))


class AvailabilityTests(ClusterCase):
    """What health means to a cluster."""

    def test_downIsNotChosen(self) -> None:
        """A backend that is down gets nothing; one that is going down does, and one that is going up does not."""
        cluster = self.cluster("aa")
        first = cluster.backends[0]
        first.check_by(Checkup(None, rise=2, fall=2))
        assert first.checked is not None
        expected = (("f", {"a0", "a1"}), ("f", {"a1"}), ("p", {"a1"}), ("p", {"a0", "a1"}))
        for step, names in expected:
            _ = first.checked.passed() if step == "p" else first.checked.failed("x")
            first.changed()
            self.assertEqual(names, set(self.chosen(cluster, 4).split()), step)

    def test_allDown(self) -> None:
        """When all are down nobody is chosen; the moment one is back it is."""
        cluster = self.cluster("aa")
        for backend in cluster.backends:
            backend.check_by(Checkup(None, rise=1, fall=1))
            assert backend.checked is not None
            backend.checked.failed("x")
            backend.changed()
        self.assertEqual("-", self.chosen(cluster))
        self.assertFalse(cluster.full())
        second = cluster.backends[1]
        assert second.checked is not None
        second.checked.passed()
        second.changed()
        self.assertEqual("a1 a1", self.chosen(cluster, 2))

    def test_standIns(self) -> None:
        """A backup takes over when the checks of the active ones say that they are down."""
        cluster = self.cluster("ab")
        active = cluster.backends[0]
        active.check_by(Checkup(None, fall=1, rise=1))
        assert active.checked is not None
        active.checked.failed("x")
        active.changed()
        self.assertEqual("b1", self.chosen(cluster))

    def test_bothKinds(self) -> None:
        """A backend is available when checks and requests both find nothing wrong with it."""
        cluster = self.cluster("aa", rules=Rules(max_ejected=1.0))
        backend = cluster.backends[0]
        backend.check_by(Checkup(None, fall=1, rise=1))
        assert backend.checked is not None
        for _ in range(3):
            cluster.failed(backend, "refused", "connecting: refused")
        self.assertEqual("ejected", backend.health)
        self.assertEqual("connecting: refused", backend.told[1])
        backend.checked.failed("refused to the check too")
        self.assertEqual(("down", "refused to the check too"), (backend.health, backend.told[1]))
        backend.checked.passed()
        backend.changed()
        self.assertEqual("a1 a1", self.chosen(cluster, 2))

    def test_unknownWithoutAddress(self) -> None:
        """As long as its name has no address, nothing is known of a backend."""
        cluster = self.cluster("a")
        backend = cluster.backends[0]
        backend.check_by(Checkup(None))
        backend.moved(())
        self.assertEqual("unknown", backend.health)
        backend.moved(("10.0.0.9",))
        self.assertEqual("up", backend.health)


class PanicTests(ClusterCase):
    """C{panic_threshold}"""

    def falls(self, cluster: object, *numbers: int) -> None:
        """These are down."""
        for number in numbers:
            backend = cluster.backends[number]  # type: ignore[attr-defined]
            backend.check_by(Checkup(None, fall=1, rise=1))
            backend.checked.failed("x")
            backend.changed()

    def test_belowTheThreshold(self) -> None:
        """With fewer than that up, health is ignored, which is logged once; with as many it counts again."""
        cluster = self.cluster("aaaa", rules=Rules(panic=0.5))
        self.falls(cluster, 0, 1)
        self.assertFalse(cluster.panicking)
        self.assertEqual({"a2", "a3"}, set(self.chosen(cluster, 8).split()))
        self.falls(cluster, 2)
        self.assertTrue(cluster.panicking)
        self.assertEqual({"a0", "a1", "a2", "a3"}, set(self.chosen(cluster, 8).split()))
        self.falls(cluster, 3)
        checked = [backend.checked for backend in cluster.backends]
        for health in checked[:2]:
            assert health is not None
            health.passed()
        cluster.changed()
        self.assertFalse(cluster.panicking)
        self.assertEqual({"a0", "a1"}, set(self.chosen(cluster, 8).split()))
        told = [event["log_format"].format(**event) for event in self.events]
        self.assertEqual(
            [
                "cluster c: 1 of 4 backends are up, and 50 % are to be: health is ignored until more are",
                "cluster c: 2 of 4 backends are up, and 50 % are to be: health counts again",
            ],
            told,
        )

    def test_ejectedOnesToo(self) -> None:
        """Backends that are out because of failed requests get requests again, all of them and not one at a time."""
        cluster = self.cluster("aa", rules=Rules(max_ejected=1.0, panic=0.6))
        for backend in cluster.backends:
            for _ in range(3):
                cluster.failed(backend, "refused", "refused")
        self.assertTrue(cluster.panicking)
        self.assertEqual({"a0", "a1"}, set(self.chosen(cluster, 6).split()))

    def test_outAlready(self) -> None:
        """One that is out and fails in panic is not put out once more with each request: its time stays, and so does
        the log; a request that goes well brings it back."""
        cluster = self.cluster("aa", rules=Rules(max_ejected=1.0, panic=0.6))
        backend = cluster.backends[0]
        for _ in range(9):
            backend.passive.began(self)
            cluster.failed(backend, "gone", "went away")
            backend.passive.left(self)
        self.assertTrue(cluster.panicking)
        self.assertEqual((1, 1010.0), (backend.ejections, backend.passive.until))
        self.assertEqual(1, sum("is out for" in event["log_format"] for event in self.events))
        self.now = 1010.0
        backend.passive.began(self)
        cluster.failed(backend, "gone", "went away")
        self.assertEqual((2, 1030.0), (backend.ejections, backend.passive.until))
        backend.passive.began(self)
        cluster.succeeded(backend)
        self.assertFalse(cluster.panicking or backend.passive.suspect)

    def test_noAddress(self) -> None:
        """Those whose address is not known yet do not count either: a start is no reason to panic."""
        cluster = self.cluster("aaaa", rules=Rules(panic=0.5))
        for backend in cluster.backends:
            backend.addresses = ()
        for backend in cluster.backends:
            backend.moved((backend.location.host,))
            self.assertFalse(cluster.panicking)
        self.assertEqual([], self.events)

    def test_notByDefault(self) -> None:
        """Without a threshold that never happens."""
        cluster = self.cluster("aa")
        self.falls(cluster, 0, 1)
        self.assertFalse(cluster.panicking)
        self.assertEqual("-", self.chosen(cluster))

    def test_disabledOnesDoNotCount(self) -> None:
        """Backends that an operator has taken out are not among those that should be up."""
        cluster = self.cluster("aaaa", rules=Rules(panic=0.5))
        for backend in cluster.backends[:2]:
            backend.state = "disabled"
            backend.changed()
        self.assertFalse(cluster.panicking)
        self.falls(cluster, 2)
        self.assertFalse(cluster.panicking)
        self.assertEqual("a3 a3", self.chosen(cluster, 2))
