"""What every section of the configuration has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from lemmytx.names import PSEUDONYM
from lemmytx.units import Substituted, resolve

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


class WithOptions(Settings):
    """
    A section about something of a type, whose options stand beside the other settings; C{options}, a setting that each
    of these sections has, gathers them.
    """

    #: Whether an option that is there but empty is passed on, as C{null}; else it is as good as left out.
    _empty_too: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, found: object) -> object:
        """Called by pydantic first: what is no setting of every type is an option of this one."""
        if not isinstance(found, Mapping) or isinstance(found.get("options"), Mapping):
            return found
        settings = {name: value for name, value in found.items() if name in cls.model_fields and name != "options"}
        settings["options"] = {
            # No rule waits for an option, so what comes from the environment is taken as it looks.
            name: resolve(value) if isinstance(value, Substituted) else value
            for name, value in found.items()
            if name not in settings and (cls._empty_too or value is not None)
        }
        return settings

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Pydantic: the JSON Schema as the file has it, options beside the settings."""
        found = handler.resolve_ref_schema(handler(schema))
        found.pop("additionalProperties", None)
        properties = dict(found["properties"])
        properties.pop("options", None)
        return {**found, "properties": properties}


def or_short(schema: dict[str, Any], short: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a section that can also be written short."""
    return {"anyOf": [short, schema]}
