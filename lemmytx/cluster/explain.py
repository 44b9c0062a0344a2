"""
Why a request would go to one backend and not to the others: for people, and without doing anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.health import printable
from lemmytx.cluster.subsets import outside, subset_of
from lemmytx.interfaces import IPreviewingScheduler

if TYPE_CHECKING:
    from lemmytx.cluster.cluster import Cluster


class Dropped(NamedTuple):
    """
    A backend that does not come into question.

    @ivar filter: what has dropped it: C{labels}, C{state}, C{address}, C{health}, C{tried}, C{capacity}, C{role} or
        C{sticky}.
    @ivar reason: in a few words.
    """

    filter: str
    backend: Backend
    reason: str


class Explanation(NamedTuple):
    """
    What a choice would come to.

    @ivar dropped: those that are not offered, in the order of the configuration; the first filter counts.
    @ivar candidates: those that are.
    @ivar pick: whom the scheduler would take of them; L{None} when that is left to chance, when the scheduler does not
        say, or when there is nobody.
    @ivar binding: what the client's binding has to do with it, in a sentence; empty: it has none, or it plays no part.
    @ivar bound: whether the pick is the backend that the client is bound to.
    """

    dropped: list[Dropped]
    candidates: tuple[Backend, ...]
    pick: Backend | None
    binding: str = ""
    bound: bool = False


#: What becomes of a client whose backend cannot take its request, by what L{Cluster.obstacle} says, or C{labels}.
_UNBOUND = {
    "state": ", which an operator has taken out: whoever answers binds it anew",
    "health": ", which is not well: whoever answers binds it anew",
    "labels": ", which the route does not want: whoever answers binds it anew",
    "full": ", which is full: this one request goes elsewhere",
}


def explain(cluster: Cluster, request: Any) -> Explanation:
    """
    @param request: an L{lemmytx.interfaces.IRequest}; where it has C{tried}, these are left out.
    """
    sticky = cluster.rules.sticky
    subset = subset_of(cluster, request)
    binding = ""
    if sticky is not None and not getattr(request, "tried", ()):
        bound, obstacle = sticky.preview(cluster, request)
        if bound is not None:
            binding = f"the client is bound to {bound.name}"
            if outside(bound, subset):
                obstacle = "labels"
            if not obstacle:
                rest = [Dropped("sticky", backend, binding) for backend in cluster.backends if backend is not bound]
                return Explanation(rest, (bound,), bound, binding, True)
            binding += _UNBOUND[obstacle]
    dropped = {}
    available = set()
    for backend in cluster.backends:
        other = outside(backend, subset)
        reason = ("labels", other) if other else _unavailable(cluster, backend)
        if not reason:
            available.add(backend)
            reason = _taken(cluster, backend, getattr(request, "tried", ()))
        if reason:
            dropped[backend] = Dropped(reason[0], backend, reason[1])
    left = [backend for backend in cluster.backends if backend not in dropped]
    roles = {backend.role for backend in left}
    role, others = "active", ""
    if "active" in roles:
        others = "an active one can take it"
    elif "standby" in roles:
        role, others = "standby", "a standby one can take it"
    elif any(backend.role == "active" for backend in available):
        others = "only when no active one is available, and one is"
    else:
        role = "backup"
    for backend in left:
        if backend.role != role:
            dropped[backend] = Dropped("role", backend, f"{backend.role}: {others}")
    candidates = tuple(backend for backend in left if backend.role == role)
    return Explanation(
        [dropped[backend] for backend in cluster.backends if backend in dropped],
        candidates,
        _pick(cluster, candidates, request),
        binding,
    )


def _unavailable(cluster: Cluster, backend: Backend) -> tuple[str, str] | None:
    """Why nobody gets to it."""
    if backend.state != "ready":
        return "state", told(backend)
    if not backend.located:
        return "address", f"{backend.location.host} has no address"
    if cluster.panicking:
        return None
    checked, passive = backend.checked, backend.passive
    if checked is not None and not checked.available:
        return "health", f"{checked.state}: {checked.reason}"
    if passive.ejected:
        left = passive.until - cluster.now()
        if left > 0:
            return "health", f"ejected for another {left:.1f} s: {backend.ejection[1]}"
        if passive.trying:
            return "health", "ejected, and another request is its trial"
    return None


def told(backend: Backend) -> str:
    """Who has taken it out, and why."""
    wanted = backend.wanted
    if wanted is None and backend.state == backend.configured:
        return f"the configuration sets it to {backend.state}"
    if wanted is None or not wanted.by:
        return f"an operator set it to {backend.state}"
    return printable(f"{wanted.by} set it to {backend.state}{': ' if wanted.why else ''}{wanted.why}")


def _taken(cluster: Cluster, backend: Backend, tried: tuple[Backend, ...]) -> tuple[str, str] | None:
    """Why this request does not get to it."""
    if backend in tried:
        return "tried", "this request was there before"
    if backend.capacity and backend.active >= backend.room:
        return "capacity", f"{backend.active} of {backend.room} requests are in flight"
    return None


def _pick(cluster: Cluster, candidates: tuple[Backend, ...], request: Any) -> Backend | None:
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    scheduler = cluster.scheduler
    if not IPreviewingScheduler.providedBy(scheduler):
        return None
    try:
        pick = scheduler.preview(candidates, request)
    except Exception:  # a plugin's; what it would do in earnest is told when it does it
        return None
    return pick if isinstance(pick, Backend) else None
