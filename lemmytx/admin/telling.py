"""
What C{GET /api/v1/explain} says, for people at a terminal. Without Twisted, as all that a command needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: How many of a kind are told one by one.
_MOST = 40

_CHANCE = "(left to chance)"


def lines(told: dict[str, Any]) -> Iterator[str]:
    """
    @param told: the answer.
    """
    request, outcome = told["request"], told["outcome"]
    whose = f"from {request['client']}" if request["client"] else "over a unix socket"
    by = f", says worker {told['worker']}" if "worker" in told else ""
    yield f"{request['method']} {request['target']} of {request['host'] or '(no host)'}, {whose}{by}"
    if request["path"] != request["target"].partition("?")[0]:
        yield f"  its path is {request['path']}"
    for step in told["routing"]:
        yield f"  {step}"
    for stage in told["clusters"]:
        yield f"cluster {stage['cluster']} ({stage['scheduler']}): {stage['why']}"
        for line in _stage(stage):
            yield f"  {line}"
    yield f"→ {_outcome(outcome)}"


def _outcome(outcome: dict[str, Any]) -> str:
    why = f": {outcome['why']}" if outcome["why"] else ""
    if outcome["kind"] == "reply":
        return f"we answer {outcome['status']}{why}"
    if outcome["kind"] == "waits":
        return str(outcome["why"])
    return f"{outcome['backend'] or _CHANCE}{why}"


def _stage(stage: dict[str, Any]) -> Iterator[str]:
    breaker = stage["breaker"]
    if breaker is not None and (breaker["state"] != "closed" or not breaker["lets_in"]):
        yield f"the circuit breaker is {breaker['state']}" + (" and lets it in" if breaker["lets_in"] else "")
    if stage["panicking"]:
        yield "so few backends are up that health is ignored"
    for text in (stage["pin"], stage["sticky"]):
        if text:
            yield text
    if stage["bucket"]:
        yield f"bucket {stage['bucket']}"
    if stage["waiting"]:
        yield f"{stage['waiting']} wait before it"
    for each in stage["dropped"][:_MOST]:
        yield f"- {each['backend']}: {each['filter']}: {each['reason']}"
    more = stage["dropped_count"] - min(len(stage["dropped"]), _MOST)
    if more:
        yield f"- and {more} more that cannot take it"
    for each in stage["candidates"][:_MOST]:
        yield f"{'*' if each['name'] == stage['pick'] else '+'} {each['name']}: {_load(each)}"
    more = stage["candidates_count"] - min(len(stage["candidates"]), _MOST)
    if more:
        yield f"+ and {more} more that can"
    attempts = stage["attempts"]
    if attempts:
        yield f"in this order, if they cannot be reached: {', '.join(name or _CHANCE for name in attempts)}"
        yield f"and then: {stage['then']}"


def _load(candidate: dict[str, Any]) -> str:
    """What it has to do."""
    room = f" of {candidate['room']}" if candidate["capacity"] else ""
    elsewhere = f", {candidate['elsewhere']} from other processes" if candidate["elsewhere"] else ""
    weight = candidate["weight"]
    weighs = "" if weight == 1 else f", weight {weight:g}"
    return f"{candidate['active']}{room} in flight{elsewhere}{weighs}"
