"""A backend's capacity among several processes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.shares import Load, Room, divide, parts, portion, shares


def load(
    waiting: int, active: int, backends: str = "a", room: int = 0, capacity: int = 10, usable: bool = True
) -> Load:
    """A process with so many in line, and so many in flight on each backend."""
    return Load(waiting, {name: Room(active, room, capacity, usable) for name in backends})


class ShareTests(SynchronousTestCase):
    """Who may have how many."""

    def test_portions(self) -> None:
        """Before anything is known all have the same, as far as it divides."""
        self.assertEqual([portion(10, number, 3) for number in range(3)], [4, 3, 3])
        self.assertEqual([portion(1, number, 2) for number in range(2)], [1, 0])

    def test_oneTooMany(self) -> None:
        """A process that is about to go, because there are to be fewer, has no part in what is new."""
        self.assertEqual([portion(10, number, 2) for number in range(3)], [5, 5, 0])

    def test_free(self) -> None:
        """What is free goes to all alike, what does not divide to the busiest."""
        self.assertEqual(divide(10, [4, 0, 1]), [6, 1, 3])
        self.assertEqual(divide(1, [0, 0]), [1, 0])

    def test_lowered(self) -> None:
        """Where more are in flight than there is room for, nobody gets any more."""
        self.assertEqual(divide(3, [2, 2]), [2, 2])

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.integers(1, 1000), st.lists(st.integers(0, 50), min_size=1, max_size=9))
    def test_never_more(self, capacity: int, active: list[int]) -> None:
        """All shares together are the capacity, and nobody's is below what is in flight."""
        shares = divide(capacity, active)
        self.assertEqual(sum(shares), max(capacity, sum(active)))
        self.assertTrue(all(share >= now for share, now in zip(shares, active, strict=True)))
        self.assertEqual(sum(portion(capacity, number, len(active)) for number in range(len(active))), capacity)


class WaitingTests(SynchronousTestCase):
    """Who may have how many while somebody waits."""

    def share(self, *loads: Load, owed: list[float] | None = None, capacity: int = 10) -> list[int]:
        """Of all backends together."""
        names = dict.fromkeys(loads[0].rooms, capacity)
        return [sum(column) for column in zip(*shares(names, loads, owed or [0.0] * len(loads)).values(), strict=True)]

    def test_idle(self) -> None:
        """Who has a line gets what the others have no use for."""
        self.assertEqual(self.share(load(20, 5), load(0, 0)), [10, 0])
        self.assertEqual(self.share(load(20, 5), load(0, 2)), [8, 2])

    def test_spare(self) -> None:
        """Where there is plenty, one place stays free for the next request of a process without a line."""
        self.assertEqual(self.share(load(90, 5, "abcd"), load(0, 0, "abcd")), [39, 1])

    def test_longer(self) -> None:
        """The longer line gets more, and the shorter one keeps half of an even part."""
        self.assertEqual(self.share(load(100, 5, "abcd"), load(100, 5, "abcd")), [20, 20])
        self.assertEqual(self.share(load(180, 5, "abcd"), load(80, 5, "abcd")), [24, 16])
        self.assertEqual(self.share(load(10000, 5, "abcd"), load(20, 0, "abcd")), [30, 10])

    def test_onlyInLine(self) -> None:
        """One that has nothing but a line has room at once, as much as it asks for."""
        self.assertEqual(self.share(load(500, 9, "abcd"), load(3, 0, "abcd")), [37, 3])

    def test_kept(self) -> None:
        """What does not divide stays where it is, until that has become too much."""
        owed = [0.0, 0.0]
        first = self.share(load(5, 1, room=1), load(5, 0), owed=owed, capacity=1)
        self.assertEqual(first, [1, 0])
        self.assertEqual([round(debt, 1) for debt in owed], [-0.5, 0.5])
        self.assertEqual(self.share(load(5, 1, room=1), load(5, 0), owed=owed, capacity=1), [0, 1])

    def test_elsewhere(self) -> None:
        """A backend that one process does not see up is there for those who do, and its own line counts there only."""
        blind = Load(30, {"a": Room(0, 5, 10, False), "b": Room(5, 5, 10, True)})
        seeing = Load(30, {"a": Room(5, 5, 10, True), "b": Room(5, 5, 10, True)})
        found = shares({"a": 10, "b": 10}, [blind, seeing], [0.0, 0.0])
        self.assertEqual(found["a"], [0, 10])
        self.assertGreater(found["b"][0], 0)

    def test_nobodyUp(self) -> None:
        """Who waits for a backend to come up does not wait for room."""
        down = load(30, 0, usable=False)
        self.assertEqual(down.waits, 0)
        self.assertEqual(self.share(down, load(0, 0)), [5, 5])

    LOADS = st.lists(
        st.tuples(
            st.integers(0, 100),
            st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=6,
    )
    CAPACITIES = st.lists(st.integers(1, 12), min_size=3, max_size=3)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(LOADS, CAPACITIES)
    def test_sum(self, drawn: list[tuple[int, list[tuple[int, int, bool]]]], capacities: list[int]) -> None:
        """Whoever waits for what, round after round: all shares together are the capacity, or what is in flight."""
        loads = [
            Load(
                waiting,
                {
                    name: Room(active, room, capacity, usable)
                    for name, capacity, (active, room, usable) in zip("abc", capacities, rooms, strict=True)
                },
            )
            for waiting, rooms in drawn
        ]
        owed = [0.0] * len(loads)
        for _ in range(5):
            for name, given_ in shares(dict(zip("abc", capacities, strict=True)), loads, owed).items():
                capacity = loads[0].rooms[name].capacity
                self.assertGreaterEqual(min(given_), 0)
                self.assertIn(sum(given_), (capacity, sum(load.rooms[name].active for load in loads)))
            self.assertAlmostEqual(sum(owed), 0)
            # No process owes or is owed more than it could be given in a few rounds.
            self.assertLess(max(map(abs, owed)), 4)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(1, 3), st.integers(1, 3))
    def test_noneStarves(self, lines: list[int], backends: int, capacity: int) -> None:
        """However long the lines of others are and however little there is, everybody who waits has a turn."""
        names = "abc"[:backends]
        capacities = dict.fromkeys(names, capacity)
        owed = [0.0] * len(lines)
        rooms = {name: [0] * len(lines) for name in names}
        had = [0] * len(lines)
        for _ in range(8 * len(lines)):
            loads = [
                Load(
                    line, {name: Room(given_[number], given_[number], capacity, True) for name, given_ in rooms.items()}
                )
                for number, line in enumerate(lines)
            ]
            rooms = shares(capacities, loads, owed)
            for number in range(len(lines)):
                had[number] += sum(rooms[name][number] for name in names)
        self.assertTrue(all(had), had)

    def test_parts(self) -> None:
        """Parts are the whole together, also where nobody has a use for all of it."""
        for loads in ([load(1, 0), load(0, 0)], [load(0, 1), load(2, 5), load(100, 0)]):
            self.assertAlmostEqual(sum(parts(30, loads)), 30)
