"""
The configuration file: YAML into the frozen types of L{lemmytx.model}, whole or not at all, with every error in one go.

The way of a file: L{reader} takes the YAML apart and remembers the line of every setting; L{later} refuses what this
version does not do yet; the model checks names, types and bounds; L{checks} looks at what one setting says about
another, and asks those above this layer about endpoints, plugins and schedulers. L{describe} makes the JSON Schema
and the reference out of the model.
"""

from lemmytx.config.describe import json_schema, reference
from lemmytx.config.loading import load, plugin_folders, read
from lemmytx.config.problems import ConfigurationError, Problem

__all__ = ["ConfigurationError", "Problem", "json_schema", "load", "plugin_folders", "read", "reference"]
