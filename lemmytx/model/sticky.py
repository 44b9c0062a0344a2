"""Clients that stay with a backend, and clients that name one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lemmytx.addresses import NETWORK, Network
from lemmytx.model.settings import LONG, Settings
from lemmytx.names import COOKIE, COOKIE_DOMAIN, COOKIE_PATH, FIELD, PARAMETER, SECRET
from lemmytx.units import FLAG, duration, or_none

#: What belongs to a cookie and to nothing else.
_OF_COOKIES = ("path", "domain", "max_age", "same_site", "http_only", "secure")


class Sticky(Settings):
    """
    Clients that stay with the backend that has answered them first. A cookie or a header field says which one it is, so
    that nobody else can read or forge it; it is set when it is new or another one, and backends do not see it.
    """

    cookie: Annotated[str | None, or_none(COOKIE)] = Field(
        default=None, description="The cookie's name. Clusters that share a host and a path need different ones."
    )
    header: Annotated[str | None, or_none(FIELD)] = Field(
        default=None,
        description="In the place of a cookie, the header field, for clients that are programs: they find it in a "
        "response and send it with their next requests.",
    )
    secret: Annotated[str | None, or_none(SECRET)] = Field(
        default=None,
        repr=False,
        description="What bindings are signed with: at least 16 characters, the same in all instances, best out of the "
        "environment: '${STICKY_SECRET}'. Without one, clients are bound until the program ends.",
    )
    secrets: tuple[Annotated[str, SECRET], ...] = Field(
        default=(),
        repr=False,
        description="In the place of one secret several: the first signs, all are believed. To change it, put the new "
        "one first and leave the old one there for a while.",
    )
    path: Annotated[str, COOKIE_PATH] = Field(default="/", description="The cookie's Path.")
    domain: Annotated[str | None, or_none(COOKIE_DOMAIN)] = Field(
        default=None, description="The cookie's Domain; without it, it is for the very host that was asked."
    )
    max_age: Annotated[float, duration(0, LONG)] = Field(
        default=0.0, description="How long the client keeps the cookie, whole seconds. 0: until it is closed."
    )
    same_site: Literal["lax", "strict", "none"] = Field(
        default="lax",
        description="The cookie's SameSite. With 'none' it is always Secure, or browsers would not take it.",
    )
    http_only: Annotated[bool, FLAG] = Field(default=True, description="Whether scripts are kept from the cookie.")
    secure: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="The cookie's Secure; 'auto': if the client came by TLS, to us or to a trusted proxy that says so.",
    )
    nocache: Annotated[bool, FLAG] = Field(
        default=True,
        description="Whether a response that binds a client gets 'Cache-Control: private', so that no cache on its way "
        "binds others with it.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Sticky:
        """Called by pydantic when the settings themselves are right."""
        if (self.cookie is None) is (self.header is None):
            found = "neither 'cookie' nor" if self.cookie is None else "both 'cookie' and"
            raise ValueError(f"has {found} 'header'; write one of them")
        if self.secret is not None and self.secrets:
            raise ValueError("has 'secret' and 'secrets'; write all of them into 'secrets', the one that signs first")
        if self.header is not None:
            extra = [name for name in _OF_COOKIES if name in self.model_fields_set]
            if extra:
                raise ValueError(f"has 'header', and {extra[0]!r} belongs to a cookie")
        secured = self.secure == "always"
        if self.same_site == "none" and self.secure == "never":
            raise ValueError("has 'same_site: none', which browsers refuse with 'secure: never'")
        if self.cookie is not None and self.cookie.startswith("__Secure-") and not secured:
            raise ValueError("has a cookie with the prefix '__Secure-', which browsers refuse without 'secure: always'")
        if (
            self.cookie is not None
            and self.cookie.startswith("__Host-")
            and not (secured and self.path == "/" and self.domain is None)
        ):
            raise ValueError(
                "has a cookie with the prefix '__Host-', which browsers refuse without 'secure: always', with a domain,"
                " and with another path than '/'"
            )
        if self.max_age % 1:
            raise ValueError("has a 'max_age' that is no whole number of seconds")
        return self

    @property
    def all_secrets(self) -> tuple[str, ...]:
        """The one that signs first; empty where none is configured."""
        return self.secrets if self.secret is None else (self.secret,)


class Pin(Settings):
    """
    Clients that name the backend, to try one before it gets its share: one attempt, no queue, no retry. An unknown name
    gets 400, a backend that is not available 503; the answer names the backend in X-Backend. From whoever may not do
    that, the name is ignored.
    """

    cookie: Annotated[str | None, or_none(COOKIE)] = Field(default=None, description="The cookie that holds the name.")
    header: Annotated[str | None, or_none(FIELD)] = Field(
        default=None, description="Or the header field, as in X-Backend."
    )
    query: Annotated[str | None, or_none(PARAMETER)] = Field(default=None, description="Or the query parameter.")
    allow: tuple[Annotated[Network, NETWORK], ...] = Field(
        default=(),
        description="The networks whose clients may do that; behind trusted proxies it is the client they tell of.",
    )
    secret: Annotated[str | None, or_none(SECRET)] = Field(
        default=None,
        repr=False,
        description="Others may too who have a signed name: 'NAME.SIGNATURE', in which the signature is the "
        "HMAC-SHA256 of 'CLUSTER/NAME' with this secret (at least 16 characters), in hexadecimal.",
    )
    capacity: Annotated[bool, FLAG] = Field(
        default=False, description="Whether a backend that is at its capacity is not available."
    )

    @model_validator(mode="after")
    def _complete(self) -> Pin:
        """Called by pydantic when the settings themselves are right."""
        given = [name for name in ("cookie", "header", "query") if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(map(repr, given)) or "none of 'cookie', 'header', 'query'"
            raise ValueError(f"has {what}; write one of the three")
        if not self.allow and self.secret is None:
            raise ValueError("has neither 'allow' nor 'secret', so nobody could name a backend")
        return self
