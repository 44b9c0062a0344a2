"""Where the live table is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from lemmytx.model.settings import Settings
from lemmytx.units import Substituted, duration, resolve


class Store(Settings):
    """
    Where the table of vhosts and backends lives. The options of the type stand beside these settings: {type: file,
    path: table.db}; docs/stores.md has those of each type.
    """

    type: str = Field(
        default="memory",
        min_length=1,
        description="'memory': what changes at run time is gone after a restart; 'file': it is kept in a file, for one "
        "machine; 'redis': any number of machines share it; or the name of a plugin.",
    )
    lease: Annotated[float, duration(1, 3600)] = Field(
        default=10.0,
        description="After how long without a sign of life an instance counts as dead to the others that share the "
        "table, and its requests are not counted any more.",
    )
    outage_copy: str = Field(
        default="",
        description="The file in which the last good table is kept, so that a restart while the store is away serves; "
        "a relative one begins at the folder of this file. 'off': none. Unless written it is in systemd's state "
        "directory (StateDirectory=), else in ~/.local/state/lemmytx; for 'memory' and 'file' there is none.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="The options of the type, written beside the other settings."
    )

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, found: object) -> object:
        """Called by pydantic first: what is no setting of every store is an option of this one."""
        if not isinstance(found, Mapping) or isinstance(found.get("options"), Mapping):
            return found
        settings = {name: value for name, value in found.items() if name in cls.model_fields and name != "options"}
        settings["options"] = {
            # No rule waits for an option, so what comes from the environment is taken as it looks.
            name: resolve(value) if isinstance(value, Substituted) else value
            for name, value in found.items()
            if name not in settings and value is not None
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
