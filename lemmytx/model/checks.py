"""How backends are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from lemmytx.model.settings import LONG, WithOptions, or_short
from lemmytx.model.towards import BackendTls
from lemmytx.units import FLAG, SHARE, count, duration, or_none


class CheckTls(BackendTls):
    """TLS of a check, in the place of the cluster's `tls`. Can be written short: false, for a check without TLS."""

    enabled: Annotated[bool, FLAG] = Field(
        default=True, description="Whether the check speaks TLS; only where the backend does."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, found: object) -> object:
        """Called by pydantic first: the short form written out."""
        return {"enabled": found} if isinstance(found, bool) else found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Pydantic: the JSON Schema with the short form in it."""
        return or_short(handler.resolve_ref_schema(handler(schema)), {"type": "boolean"})


class HealthCheck(WithOptions):
    """
    Looking after backends without a request. The options of the type stand beside these settings: {type: http, path:
    /health, interval: 2}; docs/health.md has those of each type.
    """

    _empty_too: ClassVar[bool] = True

    type: str = Field(
        min_length=1,
        description="What is done: 'http', 'tcp', 'fastcgi', 'grpc', 'command', or the name of a plugin.",
    )
    interval: Annotated[float, duration(0.05, LONG)] = Field(
        default=2.0, description="From the beginning of one check to that of the next."
    )
    fast_interval: Annotated[float | None, or_none(duration(0.05, LONG))] = Field(
        default=None, description="The same while a backend is on its way up or down; as interval unless written."
    )
    jitter: Annotated[float, SHARE] = Field(
        default=0.1, description="How much of an interval it may be longer or shorter, by chance."
    )
    timeout: Annotated[float, duration(0.01, LONG)] = Field(
        default=1.0, description="How long a check may take from its beginning to its end."
    )
    rise: Annotated[int, count(1, 1000)] = Field(
        default=2, description="So many checks in a row have to pass before a backend that is down gets requests."
    )
    fall: Annotated[int, count(1, 1000)] = Field(
        default=3, description="So many checks in a row have to fail before a backend that is up gets no more requests."
    )
    initial: Literal["up", "down"] = Field(
        default="up",
        description="What a backend is taken for before its first check. One that begins as down is up when that one "
        "passes.",
    )
    mode: Literal["paranoid", "opportunistic", "lazy"] = Field(
        default="paranoid",
        description="When backends are checked. 'paranoid': always. 'opportunistic': those that are not up, and those "
        "that no request went to for 'idle' seconds; the check takes a place of the backend's capacity. 'lazy': only "
        "after a request has failed, which takes the backend down, until it is up again.",
    )
    idle: Annotated[float, duration(0, LONG)] = Field(
        default=10.0, description="For the mode 'opportunistic': how long a backend that is up has to be idle."
    )
    port: Annotated[int | None, or_none(count(1, 65535))] = Field(
        default=None,
        description="The port that is checked, where it is not that of the requests. No PROXY protocol header there.",
    )
    tls: CheckTls | None = Field(
        default=None,
        description="TLS towards https and h2 backends, where it is not to be as for requests: the same settings as "
        "in the cluster's 'tls', or false.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="The options of the type, written beside the other settings."
    )


class OwnHealthCheck(HealthCheck):
    """
    A backend's own: what is not written here is as in the cluster's, but for the options of another type.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Pydantic: the JSON Schema as the file has it: the cluster's settings are not in sight there."""
        found = super().__get_pydantic_json_schema__(schema, handler)
        found.pop("required", None)
        return found


def own_check(cluster: object, backend: object) -> object:
    """
    What a backend and its cluster say together.

    @param cluster: the cluster's C{health_check} as the file has it, as C{backend} is the backend's.
    @return: the same for the backend alone.
    """
    if not isinstance(backend, Mapping) or not isinstance(cluster, Mapping):
        return backend
    own = {name: value for name, value in backend.items() if value is not None}
    shared = dict(cluster)
    if own.get("type", shared.get("type")) != shared.get("type"):
        shared = {name: value for name, value in shared.items() if name in HealthCheck.model_fields}
    return {**shared, **own}
