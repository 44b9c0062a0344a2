"""How requests wait for a backend, and who comes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from lemmytx.model.settings import LONG, Settings
from lemmytx.names import NAME
from lemmytx.units import FLAG, SHARE, count, duration


class Queue(Settings):
    """Waiting for a backend that has room: where all are at capacity, or a bucket has used what it may."""

    limit: Annotated[int, count(0, 1_000_000)] = Field(
        default=1000, description="How many requests may wait, in each bucket. Beyond: 503. 0: none waits."
    )
    timeout: Annotated[float, duration(0.001, LONG)] = Field(
        default=30.0, description="How long each may wait. After that: 504."
    )
    retry_after: Annotated[float, duration(0, LONG)] = Field(
        default=30.0, description="What Retry-After says in the 503, in whole seconds."
    )
    on_unavailable: Annotated[bool, FLAG] = Field(
        default=True,
        description="Whether requests wait also when no backend is up, until one comes back. false: 503 at once.",
    )


class Bucket(Settings):
    """
    A class of requests, and its share of the cluster: of the requests that the backends together take at one time. The
    shares are percentages of the bucket's parent, the cluster being the first; docs/classes.md has the whole.
    """

    rate: Annotated[float, SHARE] = Field(
        default=0.0, description="What it is ensured. Beside each other, rates add up to 100% at the most."
    )
    ceil: Annotated[float, SHARE] = Field(default=1.0, description="The most that it may have.")
    lending: Annotated[bool, FLAG] = Field(
        default=True,
        description="Whether others may have what it is ensured and does not use. false: that stays free for it.",
    )
    buckets: dict[Annotated[str, NAME], Bucket] = Field(
        default_factory=dict, description="Buckets in it, that share what it has; written like these."
    )

    @model_validator(mode="after")
    def _possible(self) -> Bucket:
        """Called by pydantic when the settings themselves are right."""
        if not self.ceil:
            raise ValueError("has the ceil 0%, so that its requests would wait for nothing; write more")
        if self.rate > self.ceil:
            raise ValueError(
                f"is ensured more than it may have: rate {SHARE.write(self.rate)}, ceil {SHARE.write(self.ceil)}; "
                "write a rate that is not above the ceil"
            )
        check_rates(self.buckets)
        return self


class BucketsBy(Settings):
    """What names the bucket of a request for which neither route nor vhost does. One of these."""

    header: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="A header field with the bucket's name. Clients can send what they like: use it where something "
        "in front of this proxy sets or removes it.",
    )
    cookie: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A cookie with the bucket's name; the same goes for it."
    )
    plugin: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A classifier plugin's name; docs/classes.md shows one."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="The plugin's options.")

    @model_validator(mode="after")
    def _one(self) -> BucketsBy:
        """Called by pydantic when the settings themselves are right."""
        named = [name for name in ("header", "cookie", "plugin") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"has {' and '.join(named) or 'nothing'}; write one of header, cookie and plugin")
        if self.options and self.plugin is None:
            raise ValueError("has options and no plugin that takes them")
        return self


def check_rates(buckets: Mapping[str, Bucket]) -> None:
    """
    @raise ValueError: when the buckets of one level are ensured more than there is.
    """
    together = sum(bucket.rate for bucket in buckets.values())
    if together > 1 + 1e-9:
        listed = ", ".join(f"{name} {SHARE.write(bucket.rate)}" for name, bucket in buckets.items() if bucket.rate)
        raise ValueError(
            f"the rates of buckets beside each other add up to {SHARE.write(together)}: {listed}; 100% is all there is"
        )


def bucket_names(buckets: Mapping[str, Bucket]) -> Iterator[str]:
    """The names of all buckets, those within others too; a name twice if it is there twice."""
    for name, bucket in buckets.items():
        yield name
        yield from bucket_names(bucket.buckets)


def check_buckets(buckets: Mapping[str, Bucket], usual: str | None) -> None:
    """
    What the buckets of a cluster say together.

    @param usual: the one for requests that name none, if that is said.
    @raise ValueError: with a text for the user.
    """
    check_rates(buckets)
    names: set[str] = set()
    for name in bucket_names(buckets):
        if name in names:
            raise ValueError(f"two buckets are called {name!r}; give each a name of its own, wherever it is")
        names.add(name)
    if usual is not None and usual not in names:
        there = f"there are {', '.join(sorted(names))}" if names else "there are no buckets"
        raise ValueError(f"bucket: there is no bucket {usual!r}; {there}")
