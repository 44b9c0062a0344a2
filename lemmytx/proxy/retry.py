"""
Whether a request is sent once more, and where to (semantics of a retry: RFC 9110 §9.2.2, RFC 9112 §9.3.1).

In all cases everything that was sent of it must still be held. Beyond that::

    failure                              once more                  if
    no connection could be made          on another backend (*)     -: nothing was sent
    a reused connection died unanswered  on the same backend, on    the method is idempotent or nothing was sent;
                                         a new connection           once for an exchange
    a status of C{retry.on}              on another backend (*)     the method is idempotent, or C{non_idempotent}
    any other                            no                         -

(*) when C{attempts} leaves one, the cluster's budget has room, and there is a backend that has not failed it yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.message import IDEMPOTENT
from lemmytx.proxy.carrier import Carrier

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange


class Retry:
    """
    What an exchange has used up of its chances. Made at its first failure, so most exchanges never have one. It
    decides, and takes from the cluster's budget; sending is the exchange's.
    """

    __slots__ = ("_cluster", "_redialled", "_retrying")

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._redialled = False
        self._retrying = False  # counted in the cluster's budget

    def elsewhere(self, exchange: Exchange, replayable: bool) -> Backend | None:
        """
        Another backend than those that the exchange has tried, none of which could be reached.

        @param replayable: whether the whole request can be sent again.
        @return: the one to send it to, now; L{None}: it may not be, or there is none.
        """
        cluster = self._cluster
        if exchange.attempts >= cluster.rules.attempts or not replayable:
            return None
        if not self._retrying and not cluster.may_retry():
            return None
        other = cluster.choose(exchange)
        if other is not None:
            self._begin()
        return other

    def instead(self, exchange: Exchange, replayable: bool) -> Backend | None:
        """
        Another backend than those that the exchange has tried, the last of which gave an answer that is worth another
        attempt. Parameters and result as for L{elsewhere}; with L{None} the answer stands.
        """
        cluster = self._cluster
        rules = cluster.rules
        if exchange.head.method not in IDEMPOTENT and not rules.non_idempotent:
            return None
        if not replayable or exchange.attempts >= rules.attempts:
            return None
        other = cluster.choose(exchange)
        if other is None or not (self._retrying or cluster.may_retry()):
            return None
        self._begin()
        return other

    def redial(self, method: bytes, upstream: Carrier, replayable: bool) -> bool:
        """
        Whether a request whose reused connection has died goes to the same backend again. That is the price of keeping
        connections open, so it is neither an attempt nor a failure of the backend, and takes nothing from the budget.

        @return: the chance is used up if so.
        """
        if self._redialled or upstream.answered or not replayable:
            return False
        if method not in IDEMPOTENT and not upstream.refused:
            return False
        self._redialled = True
        return True

    def _begin(self) -> None:
        if not self._retrying:
            self._retrying = True
            self._cluster.retrying += 1

    def answered(self) -> None:
        """
        The retry is over, by an answer or without one. A long download or a tunnel that followed from it is an exchange
        like any other and takes nothing from the budget: else three tunnels would use it up for hours.
        """
        if self._retrying:
            self._retrying = False
            self._cluster.retrying -= 1
