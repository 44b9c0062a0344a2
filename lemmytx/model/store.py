"""Where the live table is kept."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from lemmytx.model.settings import WithOptions
from lemmytx.units import duration


class Store(WithOptions):
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
