"""
L{lemmytx.net.turns}: what processes read on the board and conclude from it. Here all of them are in one process.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net.turns import ARREARS, BUSY, IN_VAIN, MOST, PART, SLACK, Board, Row, Turns


class BoardTests(SynchronousTestCase):
    """L{Board}."""

    def setUp(self) -> None:
        self.board = Board(3)
        self.addCleanup(self.board.close)

    def test_shared(self) -> None:
        """What is written through one descriptor is read through another."""
        other = Board(fd=os.dup(self.board.fd))
        self.addCleanup(other.close)
        Turns(other, 1, Clock()).connected(7)
        self.assertEqual((3, 7), (other.size, self.board.connections()))
        self.assertEqual([Row(1, os.getpid(), False, 7, 0)], self.board.rows())

    def test_sum(self) -> None:
        """The connections are those of all, whether they accept or not; a row that is cleared has none."""
        for row in range(3):
            turns = Turns(self.board, row, Clock())
            turns.connected(10 + row)
            if row:
                turns.opened(self)
        self.assertEqual(33, self.board.connections())
        self.board.clear(1)
        self.assertEqual(22, self.board.connections())
        self.assertEqual([(0, False), (2, True)], [(each.row, each.accepting) for each in self.board.rows()])

    def test_another_in_the_row(self) -> None:
        """A process that gets the row of another starts at nothing, though nobody has cleared it."""
        turns = Turns(self.board, 0, Clock())
        turns.opened(self)
        turns.accepted()
        turns.connected(5)
        Turns(self.board, 0, Clock())
        self.assertEqual([Row(0, os.getpid(), False, 0, 0)], self.board.rows())

    def test_no_row(self) -> None:
        """A number beyond the board is an error that says so."""
        for number in (-1, 3):
            error = self.assertRaises(ValueError, self.board.clear, number)
            self.assertEqual(f"there is no row {number} on a board of 3", str(error))
        self.assertRaises(ValueError, Board, 0)

    def test_no_board(self) -> None:
        """A descriptor of something else is an error that says so."""
        fd = os.memfd_create("other")
        self.addCleanup(os.close, fd)
        for size in (0, 8):
            os.ftruncate(fd, size)
            error = self.assertRaises(ValueError, Board, fd=fd)
            self.assertEqual(f"descriptor {fd} is not a board: it has {size} bytes", str(error))

    def test_cannot_be_cut(self) -> None:
        """Nobody can take the memory away from the others."""
        self.assertRaises(PermissionError, os.ftruncate, self.board.fd, 8)

    def test_not_inherited(self) -> None:
        """A program that is started does not get the descriptor unless it is meant to."""
        self.assertFalse(os.get_inheritable(self.board.fd))


class Case(SynchronousTestCase):
    """Several processes at one board."""

    count = 3

    def setUp(self) -> None:
        self.clock = Clock()
        self.board = Board(8)
        self.addCleanup(self.board.close)
        self.all = [self.begin(row) for row in range(self.count)]

    def begin(self, row: int) -> Turns:
        """One more process that accepts."""
        turns = Turns(self.board, row, self.clock)
        turns.opened(self)
        return turns

    def accept(self, turns: Turns, times: int = 1) -> None:
        for _ in range(times):
            turns.accepted()

    def may(self) -> list[int]:
        """Which of them may accept."""
        return [row for row, turns in enumerate(self.all) if not turns.before()]


class TurnsTests(Case):
    """Who goes first."""

    def test_even(self) -> None:
        """Where all have the same anyone may."""
        self.assertEqual([0, 1, 2], self.may())

    def test_connections(self) -> None:
        """Whoever has two more connections than another lets that one go first; one more is no reason."""
        self.all[0].connected(2)
        self.all[1].connected(1)
        self.assertEqual([1, 2], self.may())
        self.all[2].connected(1)
        self.assertEqual([0, 1, 2], self.may())

    def test_many_connections(self) -> None:
        """Among many connections a few more are no reason."""
        for turns in self.all:
            turns.connected(10 * PART)
        self.all[0].connected(10 * PART + 11)
        self.assertEqual([0, 1, 2], self.may())
        self.all[0].connected(10 * PART + 12)
        self.assertEqual([1, 2], self.may())

    def test_turns(self) -> None:
        """Among those with as few connections, whoever has accepted more than the others lets them go first."""
        self.accept(self.all[0], SLACK)
        self.assertEqual([0, 1, 2], self.may())
        self.accept(self.all[0])
        self.assertEqual([1, 2], self.may())
        self.accept(self.all[1])
        self.accept(self.all[2])
        self.assertEqual([0, 1, 2], self.may())

    def test_connections_count_first(self) -> None:
        """Whoever has fewer connections goes first, whoever's turn it is."""
        self.accept(self.all[0], 2 * SLACK)
        self.all[1].connected(5)
        self.all[2].connected(5)
        self.assertEqual([0], self.may())

    def test_who_goes_first(self) -> None:
        """Only those are waited for who are behind, not those who have to wait themselves."""
        self.all[0].connected(9)
        self.all[1].connected(8)
        self.all[2].connected(2)
        self.assertEqual([1, 1], [len(self.all[row].before()) for row in (0, 1)])

    def test_alone(self) -> None:
        """Nobody waits where nobody else accepts: others that have no port, or have stopped theirs, do not count."""
        self.accept(self.all[0], 50)
        self.all[0].connected(50)
        self.assertFalse(self.all[0].alone())
        for turns in self.all[1:]:
            turns.closed(self)
        self.assertEqual((True, []), (self.all[0].alone(), self.all[0].before()))
        self.all[1].opened(self)
        self.assertEqual((False, 1), (self.all[0].alone(), len(self.all[0].before())))
        self.board.clear(1)
        self.assertEqual((True, []), (self.all[0].alone(), self.all[0].before()))

    def test_several_ports(self) -> None:
        """A process accepts as long as one of its ports does."""
        others: Any = (object(), object())
        for port in others:
            self.all[0].opened(port)
        for port in (self, *others):
            self.assertTrue(self.board.rows()[0].accepting)
            self.all[0].closed(port)
        self.assertFalse(self.board.rows()[0].accepting)

    def test_who_comes_later(self) -> None:
        """A process that starts does not make up for the time before."""
        for _ in range(1000):
            for turns in self.all:
                self.accept(turns)
        self.all.append(self.begin(3))
        self.assertEqual([0, 1, 2, 3], self.may())
        self.accept(self.all[3], SLACK + 1)
        self.assertEqual([0, 1, 2], self.may())

    def test_who_was_away(self) -> None:
        """A process that could not accept makes up for a part of it and then has its share."""
        busy, *others = self.all
        for _ in range(1000):
            for turns in others:
                self.accept(turns)
        taken = 0
        while any(turns.before() for turns in others) and taken < 1000:
            self.assertEqual([], busy.before())
            self.accept(busy)
            taken += 1
        self.assertEqual(ARREARS + 1 - SLACK, taken)


class BusyTests(Case):
    """Those who do not come."""

    count = 2

    def setUp(self) -> None:
        super().setUp()
        self.one, self.busy = self.all
        self.one.connected(1000)

    def in_vain(self) -> None:
        """Wait, and take what nobody has come for."""
        waited = self.one.before()
        self.assertTrue(waited)
        self.clock.advance(0.00001)
        self.one.came_back(waited)
        self.assertEqual([], self.one.before())
        self.accept(self.one)

    def without(self) -> int:
        """How many connections are accepted then without waiting."""
        count = 0
        while not self.one.before() and count < 1000:
            self.accept(self.one)
            count += 1
        return count

    def test_not_waited_for(self) -> None:
        """Whoever did not come is not waited for while a few are accepted; each time twice as many, up to a bound."""
        found = []
        for _ in range(9):
            self.in_vain()
            found.append(self.without() + 1)
        self.assertEqual([IN_VAIN * times for times in (1, 2, 4, 8, 16, 32, MOST, MOST, MOST)], found)

    def test_not_for_long(self) -> None:
        """When few come it is not for long, each time twice as long, up to a bound."""
        for times in (1, 2, 4, 8, 16, 32, MOST, MOST):
            waited = self.one.before()
            self.one.came_back(waited)
            self.clock.advance(times * BUSY - 0.0005)
            self.assertEqual([], self.one.before())
            self.clock.advance(0.001)
            self.assertTrue(self.one.before())

    def test_clock_set_back(self) -> None:
        """When the clock is set back nobody is taken to be busy until it is that late again."""
        self.clock.advance(1000)
        self.in_vain()
        self.clock.rightNow -= 500
        self.assertTrue(self.one.before())

    def test_comes_back(self) -> None:
        """Whoever accepts again is waited for at once, and the next time counts as the first."""
        for _ in range(3):
            self.in_vain()
            self.without()
        self.in_vain()
        self.assertEqual([], self.one.before())
        self.accept(self.busy)
        self.assertTrue(self.one.before())
        self.in_vain()
        self.assertEqual(IN_VAIN, self.without() + 1)

    def test_came(self) -> None:
        """Something was left though somebody had come: there was more than one connection, and nobody is busy."""
        third = self.begin(2)
        waited = self.one.before()
        self.assertEqual(2, len(waited))
        self.accept(third)
        self.accept(self.one)
        self.one.came_back(waited)
        self.assertEqual(2, len(self.one.before()))

    def test_told(self) -> None:
        """Who has waited in vain tells the others: they need not wait to find out, and go on from there."""
        third = self.begin(2)
        third.connected(1000)
        self.in_vain()
        self.assertEqual([], third.before())
        self.clock.advance(BUSY)
        self.assertEqual(1, len(third.before()))
        third.came_back(third.before())
        self.clock.advance(BUSY * 2 - 0.0005)
        self.assertEqual(([], []), (self.one.before(), third.before()))

    def test_others(self) -> None:
        """While one is busy the others take their turns among themselves."""
        self.in_vain()
        third = self.begin(2)
        third.connected(999)
        self.assertEqual([], self.one.before())
        third.connected(10)
        self.assertEqual(1, len(self.one.before()))


NUMBERS = st.integers(0, 40)


class NobodyWaitsForEver(SynchronousTestCase):
    """Properties of any board."""

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
    def test_one_can_go(self, rows: list[tuple[int, int]]) -> None:
        """Whatever connections and turns they have, at least one may accept, and it is one with few connections."""
        board = Board(len(rows))
        try:
            all_of_them = [Turns(board, row, Clock()) for row in range(len(rows))]
            for turns, (connections, accepted) in zip(all_of_them, rows, strict=True):
                turns.opened(self)
                turns.connected(connections)
                for _ in range(accepted):
                    turns.accepted()
            least = min(connections for connections, _ in rows)
            may = [rows[row][0] for row, turns in enumerate(all_of_them) if not turns.before()]
            self.assertTrue(may)
            self.assertTrue(all(connections <= least + 1 + least // PART for connections in may))
        finally:
            board.close()

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(st.lists(st.integers(0, 3), min_size=100, max_size=300))
    def test_even(self, order: list[int]) -> None:
        """Whichever of four is there first each time, the connections that stay are even but for one or two."""
        board = Board(4)
        try:
            all_of_them = [Turns(board, row, Clock()) for row in range(4)]
            for turns in all_of_them:
                turns.opened(self)
            counts = [0] * 4
            for first in order:
                row = next((first + step) % 4 for step in range(4) if not all_of_them[(first + step) % 4].before())
                counts[row] += 1
                all_of_them[row].accepted()
                all_of_them[row].connected(counts[row])
            self.assertTrue(max(counts) - min(counts) <= 2 + min(counts) // PART, counts)
        finally:
            board.close()
