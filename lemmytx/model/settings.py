"""What every section of the configuration has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from lemmytx.names import PSEUDONYM

#: A year. A bound rather than none, so that a slip of the unit is seen.
LONG = 31536000


class Settings(BaseModel):
    """
    What every section of the file has in common: it is frozen, it knows all of its settings, and one that is there
    but empty (C{plugins:} with every line below commented out) is as good as left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty(cls, found: object) -> object:
        """Called by pydantic before it looks at the settings. L{None} stays where it means something."""
        if not isinstance(found, Mapping):
            return found
        fields = cls.model_fields
        return {
            name: value
            for name, value in found.items()
            if value is not None or name not in fields or fields[name].metadata == [PSEUDONYM]
        }


def or_short(schema: dict[str, Any], short: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a section that can also be written short."""
    return {"anyOf": [short, schema]}
