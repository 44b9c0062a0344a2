"""
What would become of a request if it came now, and why: for people, and without doing anything.

A L{Question} goes the way of an exchange (L{lemmytx.proxy.exchange}) on paper: vhost and route, pin, circuit breaker,
queue and bucket, the filters of the cluster, the scheduler; and where a cluster has nobody for it, the same again in
the one that stands in. What the clusters say of it is theirs (L{lemmytx.cluster.explain}); here it is put together.

What a listener adds (TLS, a redirect to HTTPS, what trusted proxies say of clients) has no part in it: the client's
address is part of the question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from zope.interface import implementer

from lemmytx.addresses import parse_name
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.explain import Explanation
from lemmytx.http1 import codec
from lemmytx.interfaces import IRequest, Refused
from lemmytx.message import ProtocolError, RequestHead
from lemmytx.model import Limits
from lemmytx.proxy.attempts import TURNED_AWAY
from lemmytx.proxy.forward import COUNTED, is_last_hop
from lemmytx.proxy.pins import Pinned
from lemmytx.proxy.router import Route

if TYPE_CHECKING:
    from lemmytx.proxy.resource import ReverseProxyResource

#: How many backends of a cluster are told one by one.
MOST = 1000

#: What a request line and a field can hold; all else of a URL is escaped.
_PLAIN = re.compile(r"[!-~]")
_LINE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")


class BadQuestion(Refused):
    """There can be no such request; the text says why."""


@implementer(IRequest)
class Question:
    """
    A request that nobody has sent: as much of an exchange as those look at that decide about one.

    @ivar tried: the backends that are taken to have failed it.
    @ivar pinned_to: the backend that the client has named, and may.
    @ivar reply: the answer to what else it has named: the status, and why.
    """

    __slots__ = ("attempts", "binding", "client", "cluster", "head", "pinned_to", "place", "reply", "route", "tried")

    cluster: Cluster
    route: Route

    def __init__(self, head: RequestHead, client: str) -> None:
        self.head = head
        self.client = client
        self.tried: tuple[Backend, ...] = ()
        self.attempts = 0
        self.place = None
        self.binding = None
        self.pinned_to: Backend | None = None
        self.reply: tuple[int, str] | None = None

    def pinned(self, pin: Pinned, backend: Backend) -> None:
        """See L{lemmytx.proxy.exchange.Exchange.pinned}."""
        self.pinned_to = backend

    def not_pinned(self, status: int, termination: str, why: str, fields: bytes) -> None:
        """See L{lemmytx.proxy.exchange.Exchange.not_pinned}."""
        self.reply = status, why


def ask(
    url: str,
    method: str = "GET",
    fields: Sequence[tuple[str, str]] = (),
    client: str = "127.0.0.1",
    limits: Limits | None = None,
) -> Question:
    """
    @param url: as a browser has it; what a request line cannot hold is escaped.
    @param fields: header fields; a C{Host} among them is taken in the place of the URL's.
    @param client: its address; empty: it came by a unix socket.
    @param limits: those of the proxy; L{None}: the usual ones.
    @raise BadQuestion: no client could send that, or it would be refused before anybody looks where it is to go.
    """
    limits = limits or Limits()
    host, target = _parse(url)
    if client:
        try:
            ip_address(client)
        except ValueError:
            raise BadQuestion(f"client: found {client!r}; write an IP address, as in 192.0.2.1") from None
    given = {name.lower() for name, _ in fields}
    lines = [f"{method} {target} HTTP/1.1", *([] if "host" in given else [f"Host: {host}"])]
    lines += [f"{name}: {value}" for name, value in fields]
    for line in lines:
        if not _LINE.match(line):
            raise BadQuestion(f"found {line!r}; there can be no control characters in it")
    raw = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape")
    try:
        head = codec.request(raw, False, limits.header_size, limits.headers)
    except ProtocolError as error:
        raise BadQuestion(f"such a request would be answered {error.status}: {error.reason}") from None
    if head is None:
        raise BadQuestion("that is no request")
    return Question(head, client)


def _parse(url: str) -> tuple[str, str]:
    """The authority and the target of a request for a URL."""
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadQuestion(f"url: found {url!r}; {error}") from None
    if parts.scheme not in ("http", "https") or not name or "@" in parts.netloc:
        raise BadQuestion(f"url: found {url!r}; write http://HOST/PATH, or https://HOST/PATH")
    try:
        host = parse_name(f"[{name}]" if ":" in name else name)
    except ValueError as error:
        raise BadQuestion(f"url: {error}") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    escaped = "".join(c if _PLAIN.match(c) else quote(c, errors="surrogateescape") for c in target)
    return host if port is None else f"{host}:{port}", escaped


@dataclass(slots=True)
class Stage:
    """
    What one cluster does with it.

    @ivar why: why it comes to this cluster.
    @ivar breaker: the state of its circuit breaker, and whether that lets the request in; L{None}: there is none.
    @ivar pin: what the client's own choice has to do with it; empty: nothing.
    @ivar bucket: the bucket that it is in; empty: it has none.
    @ivar waiting: how many requests wait before it, in its bucket or, where there are none, in all.
    @ivar explanation: what the choice would come to; L{None}: it does not come to that.
    @ivar attempts: whom it would go to, one after the other, were no connection to be had to each; L{None} where that
        is left to chance.
    @ivar then: what comes after these.
    """

    cluster: Cluster
    why: str
    breaker: tuple[str, bool] | None = None
    pin: str = ""
    bucket: str = ""
    waiting: int = 0
    explanation: Explanation | None = None
    attempts: list[Backend | None] = field(default_factory=list)
    then: str = ""

    def as_data(self, most: int) -> dict[str, Any]:
        """
        For JSON.

        @param most: so many backends are told one by one.
        """
        explanation = self.explanation or Explanation([], (), None)
        dropped, candidates = explanation.dropped, explanation.candidates
        return {
            "cluster": self.cluster.name,
            "why": self.why,
            "scheduler": type(self.cluster.scheduler).__name__,
            "breaker": None if self.breaker is None else {"state": self.breaker[0], "lets_in": self.breaker[1]},
            "pin": self.pin or None,
            "sticky": explanation.binding or None,
            "bucket": self.bucket or None,
            "waiting": self.waiting,
            "panicking": self.cluster.panicking,
            "dropped_count": len(dropped),
            "dropped": [
                {"backend": each.backend.name, "filter": each.filter, "reason": each.reason[:300]}
                for each in islice(dropped, most)
            ],
            "candidates_count": len(candidates),
            "candidates": [_candidate(backend) for backend in islice(candidates, most)],
            "pick": None if explanation.pick is None else explanation.pick.name,
            "attempts": [None if backend is None else backend.name for backend in self.attempts],
            "then": self.then or None,
        }


def _candidate(backend: Backend) -> dict[str, Any]:
    """What schedulers go by."""
    return {
        "name": backend.name,
        "weight": backend.weight,
        "active": backend.active,
        "elsewhere": backend.elsewhere,
        "capacity": backend.capacity,
        "room": backend.room,
    }


@dataclass(slots=True)
class Answer:
    """
    What would become of a request.

    @ivar question: the request.
    @ivar vhost: the name of the vhost that is for it, C{route}: the path of the route; empty: there is none.
    @ivar routing: how these were found, and why routes that come before do not take it: a sentence each.
    @ivar stages: the clusters that it comes to, in their order.
    @ivar kind: C{backend}: it goes to one; C{chance}: to one of several; C{waits}; C{reply}: we answer ourselves.
    @ivar backend: the one; L{None}: that is not known, or there is none.
    @ivar status: of our own answer; 0: there is none.
    @ivar why: all that in half a sentence.
    """

    question: Question
    vhost: str = ""
    route: str = ""
    routing: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    kind: str = ""
    backend: Backend | None = None
    status: int = 0
    why: str = ""

    def replied(self, status: int, why: str) -> Answer:
        """We would answer it ourselves."""
        self.kind, self.status, self.why = "reply", status, why
        return self

    def as_data(self, most: int = MOST) -> dict[str, Any]:
        """
        For JSON; what the members are, docs/explain.md says.

        @param most: so many backends of each cluster are told one by one.
        """
        head = self.question.head
        return {
            "request": {
                "method": head.method.decode("latin-1"),
                "host": head.host.decode("latin-1"),
                "target": head.target.decode("latin-1"),
                "path": head.path.decode("utf-8", "replace"),
                "client": self.question.client,
            },
            "vhost": self.vhost or None,
            "route": self.route or None,
            "routing": self.routing,
            "clusters": [stage.as_data(most) for stage in self.stages],
            "outcome": {
                "kind": self.kind,
                "backend": None if self.backend is None else self.backend.name,
                "status": self.status or None,
                "why": self.why,
            },
        }


def explain(resource: ReverseProxyResource, question: Question) -> Answer:
    """
    What would become of a request if it came now. Nothing changes by it, not even whose turn it is.
    """
    head = question.head
    route, routing = resource.router.explain(head, question.client)
    answer = Answer(question, routing=routing)
    if route.vhost is not None:
        answer.vhost = route.vhost.name
    if route.cluster is None:
        return answer.replied(404, "there is no route for it")
    answer.route = route.path
    if head.method in COUNTED and is_last_hop(head):
        return answer.replied(200 if head.method == b"OPTIONS" else 405, "Max-Forwards is 0")
    question.route = route
    question.cluster = cluster = route.cluster
    why = "the route leads there"
    anyone: Any = question
    if route.pin is not None and route.pin.take(anyone):
        return _pinned(answer, Stage(cluster, why))
    while True:
        question.cluster = cluster
        stage = Stage(cluster, why)
        answer.stages.append(stage)
        breaker = cluster.breaker
        if breaker is not None:
            stage.breaker = breaker.state, breaker.lets_in(cluster.now())
            if not stage.breaker[1]:
                if cluster.fallback is None:
                    return answer.replied(
                        breaker.rules.reply, f"the circuit breaker of cluster {cluster.name} is {breaker.state}"
                    )
                why = f"the fallback of {cluster.name}, whose circuit breaker is {breaker.state}"
                cluster = cluster.fallback
                continue
        stage.explanation = explanation = cluster.explain(question)
        if _may_go(stage, question):
            stage.attempts = _attempts(cluster, question, explanation)
            stage.then = _then(cluster, len(stage.attempts))
            return _chosen(answer, stage)
        if cluster.failover is None or cluster.up(question):
            return _waiting(answer, stage, question)
        why = f"the failover of {cluster.name}, of which no backend is up"
        cluster = cluster.failover


def _pinned(answer: Answer, stage: Stage) -> Answer:
    """The client has named its backend."""
    question = answer.question
    answer.stages.append(stage)
    backend = question.pinned_to
    if backend is None:
        assert question.reply is not None  # one or the other
        status, stage.pin = question.reply
        return answer.replied(status, stage.pin)
    stage.pin = f"the client has named {backend.name}: past the scheduler, the queue and the buckets"
    stage.attempts = [backend]
    stage.then = "502 or 504: nobody else is tried"
    answer.kind, answer.backend, answer.why = "backend", backend, stage.pin
    return answer


def _may_go(stage: Stage, question: Question) -> bool:
    """Whether it is its turn, and there is somebody for it."""
    cluster = stage.cluster
    assert stage.explanation is not None
    there = bool(stage.explanation.candidates)
    queue, gate = cluster.queue, cluster.gate
    if queue is None:
        return there
    bucket = queue.bucket_of(question)
    stage.waiting = bucket.queued
    if queue.counted:
        stage.bucket = bucket.name or "(the rest)"
    # Where there are labels, those before it may all wait for others.
    return there and (gate is None or ((not bucket.queued or cluster.labelled) and bucket.may_take()))


def _waiting(answer: Answer, stage: Stage, question: Question) -> Answer:
    """Nobody can take it now."""
    cluster = stage.cluster
    queue = cluster.queue
    if queue is None:
        return answer.replied(503, TURNED_AWAY["overloaded" if cluster.full(question) else "no_backend"])
    refusal = queue.refusal(queue.bucket_of(question), question)
    if refusal:
        return answer.replied(503, TURNED_AWAY[refusal])
    before = f", and {stage.waiting} before it" if stage.waiting else ""
    answer.kind, answer.why = "waits", f"it waits for up to {queue.rules.timeout:g} s{before}"
    return answer


def _chosen(answer: Answer, stage: Stage) -> Answer:
    explanation = stage.explanation
    assert explanation is not None
    answer.backend = backend = explanation.pick
    if backend is None:
        answer.kind = "chance"
        answer.why = f"one of {len(explanation.candidates)}: it is left to chance, or the scheduler does not say"
    else:
        answer.kind = "backend"
        lone = len(explanation.candidates) == 1
        others = "nobody else can take it" if lone else "the scheduler's choice"
        answer.why = explanation.binding if explanation.bound else others
    return answer


def _attempts(cluster: Cluster, question: Question, first: Explanation) -> list[Backend | None]:
    """See L{Stage.attempts}."""
    found = [first.pick]
    left = len(first.candidates)
    most = cluster.rules.attempts if cluster.has_budget() else 1
    try:
        while len(found) < most and (last := found[-1]) is not None:
            question.tried = (*question.tried, last)
            explanation = cluster.explain(question)
            left = len(explanation.candidates)
            if not left:
                return found
            found.append(explanation.pick)
    finally:
        question.tried = ()
    if found[-1] is None:
        found += [None] * (min(most - len(found), left - 1))
    return found


def _then(cluster: Cluster, attempts: int) -> str:
    """See L{Stage.then}."""
    rules = cluster.rules
    last = "502 or 504" if cluster.failover is None else f"cluster {cluster.failover.name}, the failover"
    if not cluster.has_budget():
        return f"{last}, for there are as many retries under way as the budget has room for"
    if attempts < rules.attempts and rules.backoff is not None:
        return f"after a pause of up to {rules.backoff[1]:g} s all of them anew, {rules.attempts - attempts} times more"
    return last
