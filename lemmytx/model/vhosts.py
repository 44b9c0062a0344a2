"""
Which requests go where: host names and their routes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from lemmytx.addresses import HOST, NETWORK, Network
from lemmytx.model.settings import Settings
from lemmytx.model.sticky import Pin
from lemmytx.names import CONDITION, LABELS, METHOD

Condition = Annotated[str | Literal[True], CONDITION]


class Route(Settings):
    """
    Which requests of a vhost go to which cluster. The most specific path wins: exact, then the longest literal
    prefix, then regular expressions in the order of the file; a route whose other conditions do not hold lets the
    next one try.
    """

    path: str = Field(
        default="/*",
        description="'/exact' matches that path alone, '/api/*' matches '/api' and everything below, a '*' elsewhere "
        "matches within one segment, '~^/v[12]/' is a regular expression. Matched is the decoded, normalised path.",
    )
    methods: tuple[Annotated[str, METHOD], ...] = Field(
        default=(), description="Only these methods, as in [GET, HEAD]. Empty: all."
    )
    headers: dict[str, Condition] = Field(
        default_factory=dict,
        description="Only requests with these header fields: name to value, '~' and a regular expression, or true for "
        "any value.",
    )
    query: dict[str, Condition] = Field(
        default_factory=dict, description="Only requests with these query parameters; written like headers."
    )
    cookies: dict[str, Condition] = Field(
        default_factory=dict, description="Only requests with these cookies; written like headers."
    )
    client: tuple[Annotated[Network, NETWORK], ...] = Field(
        default=(),
        description="Only clients out of these networks; behind trusted proxies it is the client they tell of. "
        "Empty: all.",
    )
    pin: Pin | None = Field(default=None, description="Whether clients may name the backend, and how.")
    cluster: str = Field(description="The cluster that gets the requests.")
    subset: Annotated[dict[str, str], LABELS] = Field(
        default_factory=dict,
        description='Only the backends of the cluster that have all of these labels, as in {version: "2"}. When none '
        "of them is up no other one stands in. Empty: all of its backends.",
    )
    bucket: str | None = Field(
        default=None, description="The bucket of the cluster that they are in; as the vhost says unless written."
    )


class Vhost(Settings):
    """One or more host names with their routes. Either routes or cluster must be given."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["routes"]}, {"required": ["cluster"]}]})

    hosts: tuple[Annotated[str, HOST], ...] = Field(
        min_length=1,
        description="Names as in the Host field, without port; international ones as they are read. An exact name "
        "beats the longest wildcard ('*.shop.example': any name below shop.example) beats '*'.",
    )
    routes: tuple[Route, ...] = Field(default=(), description="Where the requests go. None that fits: 404.")
    cluster: str | None = Field(default=None, description="Short for one route that sends everything to this cluster.")
    bucket: str | None = Field(
        default=None, description="The bucket of the requests whose route names none; in clusters that have it."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Vhost:
        """Called by pydantic when the settings themselves are right."""
        if self.cluster is not None and self.routes:
            raise ValueError("has both 'routes' and 'cluster'; write the cluster as the last route: {cluster: NAME}")
        if self.cluster is None and not self.routes:
            raise ValueError("has neither 'routes' nor 'cluster'; write one of them")
        return self

    @property
    def name(self) -> str:
        """What it is called in logs and statistics: its first host."""
        return self.hosts[0]

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """The routes, the short form written out."""
        return self.routes if self.cluster is None else (Route(cluster=self.cluster),)
