"""What a request gets beside its first attempt: another one, one at the same time, another cluster, or an end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lemmytx.model.settings import LONG, Settings
from lemmytx.units import FLAG, SHARE, Rule, count, duration, or_none, size

STATUS = count(400, 599)

#: What C{retry.on} calls a new connection that ends before any byte of a response. Envoy has this name for it.
RESET = "reset"


def _parse_failure(value: object) -> int | str:
    """A status, or the word."""
    if value == RESET:
        return RESET
    try:
        status: int = STATUS.parse(value)
    except ValueError as error:
        raise ValueError(f"{error}, or {RESET}") from None
    return status


#: What is tried again beside connections that could not be made.
FAILURE = Rule(
    f"{STATUS.label}, or {RESET}", _parse_failure, {"anyOf": [*STATUS.schema["anyOf"], {"const": RESET}]}
)  # fmt: skip


class Backoff(Settings):
    """The pauses before all backends are tried anew, where none is left that was not."""

    first: Annotated[float, duration(0.001, 60)] = Field(
        default=0.025,
        description="The longest first pause; it is a random part of this, and then of twice as much each.",
    )
    most: Annotated[float, duration(0.001, 60)] = Field(
        default=1.0,
        description="The longest pause. A backend's Retry-After is waited for up to this; beyond, its answer stands.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Backoff:
        """Called by pydantic when the settings themselves are right."""
        if self.first > self.most:
            raise ValueError("has a first pause that is longer than 'most'; write a shorter one")
        return self


class Retry(Settings):
    """
    When a request is tried again on another backend: only while nothing of a response has reached the client, and
    within a budget. docs/retries.md has the whole.
    """

    attempts: Annotated[int, count(1, 10)] = Field(
        default=2, description="How often a request is sent at most, the first time included. 1: no retry."
    )
    buffer: Annotated[int, size(0, 16 << 20)] = Field(
        default=64 << 10, description="How much of a body is held for another attempt; a longer one is not retried."
    )
    non_idempotent: Annotated[bool, FLAG] = Field(
        default=False,
        description="Whether POST, PATCH and the like are retried too, at the risk that one is carried out twice.",
    )
    on: tuple[Annotated[int | str, FAILURE], ...] = Field(
        default=(),
        description="Statuses of a backend's answer that are retried, as in [502, 503, 504]; and the word reset: a new "
        "connection that ends before any byte of an answer is retried too.",
    )
    budget: Annotated[float, SHARE] = Field(
        default=0.2,
        description="How much of the cluster's active requests may be retries, so that they do not become a flood.",
    )
    budget_at_least: Annotated[int, count(0, 1_000_000)] = Field(
        default=3,
        description="So many retries may run at one time in any case. Raise it where a burst of refused connections "
        "is to get through to other backends whole.",
    )
    try_timeout: Annotated[float | None, or_none(duration(0.001, LONG))] = Field(
        default=None,
        description="After how long without an answer another backend is tried; where none may be, it is waited for. "
        "null: as long as timeouts say.",
    )
    backoff: Backoff | None = Field(
        default=None,
        description="Whether, when all backends were tried and attempts are left, they are tried anew, and after what "
        "pause. null: none is tried twice.",
    )


class SlowAnswers(Settings):
    """When answers take too long."""

    quantile: Annotated[float, SHARE] = Field(
        default=0.99, description="So many of the answers are to take no longer …"
    )
    above: Annotated[float, duration(0.001, LONG)] = Field(default=2.0, description="… than this.")


class CircuitBreaker(Settings):
    """
    When the whole cluster is left alone for a while. It looks at what comes of requests after all retries; each serving
    process by itself.
    """

    errors: Annotated[float, SHARE] = Field(
        default=0.5,
        description="When so many of the requests fail: connection failures, timeouts, and the statuses of fail_on. "
        "0%: that does not matter.",
    )
    latency: SlowAnswers | None = Field(
        default=None, description="Whether it also counts how long answers take, as in {quantile: 99%, above: 2s}."
    )
    volume: Annotated[int, count(1, 1_000_000)] = Field(
        default=20, description="How many requests there must have been in the window."
    )
    window: Annotated[float, duration(0.1, 3600)] = Field(default=10.0, description="How long each of them counts.")
    open_for: Annotated[float, duration(0.1, 3600)] = Field(
        default=5.0, description="How long the cluster is left alone before a few requests try whether it is over."
    )
    half_open: Annotated[int, count(1, 1000)] = Field(
        default=3, description="How many of these must go well, one failure being enough to leave it alone again."
    )
    reply: Literal[429, 500, 502, 503, 504] = Field(default=503, description="What clients are answered meanwhile.")
    fallback: str | None = Field(default=None, description="The cluster that gets the requests meanwhile, instead.")

    @model_validator(mode="after")
    def _some_limit(self) -> CircuitBreaker:
        """Called by pydantic when the settings themselves are right."""
        if not self.errors and self.latency is None:
            raise ValueError("has no limit: errors are 0% and there is no latency; write one of them")
        return self


class Hedge(Settings):
    """
    When a GET, HEAD or OPTIONS without a body that takes long is sent to another backend as well, within the retry
    budget. The first answer wins.
    """

    quantile: Annotated[float, SHARE] = Field(
        default=0.95, description="After a time that so many of the cluster's requests do not need. 0%: at_least."
    )
    at_least: Annotated[float, duration(0.001, LONG)] = Field(
        default=0.05, description="No earlier than this, however quick the others are."
    )
    most: Annotated[int, count(1, 3)] = Field(default=1, description="How many more times each is sent at most.")
