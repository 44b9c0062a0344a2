"""What may be sent once more after which failure: each row of the table in L{lemmytx.proxy.retry}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.addresses import parse_url
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import RETRIES_AT_LEAST, Rules
from lemmytx.http1 import codec
from lemmytx.message import RequestHead
from lemmytx.proxy.retry import Retry


def head(method: bytes) -> RequestHead:
    """The head of a request."""
    parsed = codec.request(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method, False, 1000, 10)
    assert parsed is not None
    return parsed


class Attempted:
    """The part of an exchange that a retry asks about."""

    client = ""

    def __init__(self, method: bytes, tried: tuple[Backend, ...]) -> None:
        self.head = head(method)
        self.tried = tried
        self.attempts = len(tried)


class Dead:
    """An upstream whose connection is gone."""

    def __init__(self, answered: bool = False, refused: bool = False) -> None:
        self.answered = answered
        self.refused = refused


class RetryTests(SynchronousTestCase):
    """An exchange of a cluster of three backends."""

    def cluster(self, rules: Rules) -> Cluster:
        backends = []
        for port in (9001, 9002, 9003):
            url = f"http://127.0.0.1:{port}"
            location = parse_url(url)
            backend = Backend(location.name, url, location, None, Passive(), Pool())
            backend.addresses = (location.host,)
            backends.append(backend)
        return Cluster("c", backends, LeastConnections(), rules, Clock().seconds)

    def tries(
        self, *, way: str, method: bytes = b"GET", tried: int = 1, replayable: bool = True, busy: int = 0,
        rules: Rules | None = None,
    ) -> bool:  # fmt: skip
        """
        Whether an exchange gets another backend, by C{elsewhere} or C{instead}; and that the budget knows.

        @param tried: how many backends have failed it.
        @param busy: how many retries of others are under way.
        """
        cluster = self.cluster(rules or Rules())
        cluster.retrying = busy
        exchange = Attempted(method, tuple(cluster.backends[:tried]))
        retry = Retry(cluster)
        other = getattr(retry, way)(exchange, replayable)
        self.assertNotIn(other, exchange.tried)
        self.assertEqual(cluster.retrying, busy + (other is not None))
        retry.answered()
        retry.answered()
        self.assertEqual(cluster.retrying, busy)
        return other is not None

    def test_elsewhere(self) -> None:
        """Where nothing was sent, any method may go to another backend, if attempts, body and budget allow it."""
        self.assertTrue(self.tries(way="elsewhere"))
        self.assertTrue(self.tries(way="elsewhere", method=b"POST"))
        self.assertFalse(self.tries(way="elsewhere", replayable=False))
        self.assertFalse(self.tries(way="elsewhere", tried=2))
        self.assertTrue(self.tries(way="elsewhere", tried=2, rules=Rules(attempts=3)))
        self.assertFalse(self.tries(way="elsewhere", tried=3, rules=Rules(attempts=9)))
        self.assertFalse(self.tries(way="elsewhere", busy=RETRIES_AT_LEAST))

    def test_instead(self) -> None:
        """Where a backend has answered, the method must be idempotent, or the configuration allow others."""
        self.assertTrue(self.tries(way="instead"))
        self.assertFalse(self.tries(way="instead", method=b"POST"))
        self.assertTrue(self.tries(way="instead", method=b"POST", rules=Rules(non_idempotent=True)))
        self.assertFalse(self.tries(way="instead", replayable=False))
        self.assertFalse(self.tries(way="instead", tried=2))
        self.assertFalse(self.tries(way="instead", tried=3, rules=Rules(attempts=9)))
        self.assertFalse(self.tries(way="instead", busy=RETRIES_AT_LEAST))

    def test_oneShare(self) -> None:
        """An exchange that retries more than once has one share of the budget, and needs no room for another."""
        for way in ("elsewhere", "instead"):
            cluster = self.cluster(Rules(attempts=3))
            cluster.retrying = RETRIES_AT_LEAST - 1
            retry = Retry(cluster)
            for tried in (1, 2):
                exchange = Attempted(b"GET", tuple(cluster.backends[:tried]))
                self.assertIsNotNone(getattr(retry, way)(exchange, True))
                self.assertEqual(cluster.retrying, RETRIES_AT_LEAST)

    def test_redial(self) -> None:
        """A reused connection that died unanswered is made anew once, and takes nothing from the budget."""
        cluster = self.cluster(Rules())
        retry = Retry(cluster)
        self.assertTrue(retry.redial(b"GET", Dead(), True))
        self.assertFalse(retry.redial(b"GET", Dead(), True))
        self.assertEqual(cluster.retrying, 0)

    def test_noRedial(self) -> None:
        """Not after the beginning of an answer, not without the body, and if it may have arrived only if idempotent."""
        retry = Retry(self.cluster(Rules()))
        self.assertFalse(retry.redial(b"GET", Dead(answered=True), True))
        self.assertFalse(retry.redial(b"GET", Dead(), False))
        self.assertFalse(retry.redial(b"POST", Dead(), True))
        self.assertTrue(retry.redial(b"POST", Dead(refused=True), True))
