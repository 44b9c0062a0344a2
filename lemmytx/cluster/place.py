"""
A place in a cluster's queue (L{lemmytx.cluster.queue}), which an exchange has while it waits, and while it has a token.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from lemmytx.balance.buckets import Bucket

if TYPE_CHECKING:
    from lemmytx.cluster.queue import Queue


class Place:
    """
    An exchange's place in the queue, and its token after that, where tokens are counted.

    @ivar bucket: the leaf.
    @ivar token: whether it has one.
    @ivar waiting: whether it is a place in the queue; with a token: of a retry.
    @ivar since: when it got in line, on the ticker's clock.
    """

    __slots__ = ("bucket", "check_at", "deadline", "exchange", "queue", "since", "token", "waiting")

    def __init__(self, queue: Queue, bucket: Bucket, exchange: Any, token: bool = False) -> None:
        self.queue = queue
        self.bucket = bucket
        self.exchange = exchange
        self.token = token
        self.waiting = False
        self.since = 0.0
        self.deadline = inf
        self.check_at = inf

    def expired(self) -> None:
        """See L{lemmytx.net.ticker.Timed}."""
        self.queue.timed_out(self)

    def leave(self) -> None:
        """The exchange is over, or does not want it any more. Takes the same time however many wait."""
        self.queue.left(self)

    def __repr__(self) -> str:
        return f"<Place {'in line' if self.waiting else 'token'} bucket={self.bucket.name or '(root)'}>"
