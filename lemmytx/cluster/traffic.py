"""What was served, as plain integers: one such set of counters per vhost and per backend, summed when somebody asks."""

from __future__ import annotations


class Traffic:
    """
    Counters of ended exchanges since the start.

    @ivar count: how many.
    @ivar statuses: how many by status that the client saw; 499 for a client that left, 0 for a connection that was
        cut before any answer. Bounded, since a status has three digits.
    @ivar time: seconds from the first byte of the request to the last of the response, added up. A tunnel counts
        up to its 101: what follows is not a response time.
    @ivar received: bytes of request bodies.
    @ivar sent: bytes of response bodies.
    """

    __slots__ = ("count", "received", "sent", "statuses", "time")

    def __init__(self) -> None:
        self.count = 0
        self.statuses: dict[int, int] = {}
        self.time = 0.0
        self.received = 0
        self.sent = 0

    def ended(self, status: int, time: float, received: int, sent: int) -> None:
        """Count one exchange. Called once per exchange, on the way of a request."""
        self.count += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.time += time
        self.received += received
        self.sent += sent

    def add(self, other: Traffic) -> None:
        """Add another set's counts to these."""
        self.count += other.count
        self.time += other.time
        self.received += other.received
        self.sent += other.sent
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
