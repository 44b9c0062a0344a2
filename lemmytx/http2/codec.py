"""
The HTTP/2 codec: everything that the layers above need, and all that they see of it. Sans I/O.

Which implementation it is, is decided here, and in L{lemmytx.http2.hpack} for header compression.
"""

from __future__ import annotations

from lemmytx.http2.bounds import Bounds
from lemmytx.http2.connection import Connection
from lemmytx.http2.errors import (
    CANCEL,
    COMPRESSION_ERROR,
    CONNECT_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HTTP_1_1_REQUIRED,
    INADEQUATE_SECURITY,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    StreamGone,
)
from lemmytx.http2.events import (
    Data,
    Event,
    GoneAway,
    Oversized,
    Ponged,
    Request,
    Reset,
    Response,
    Room,
    Settings,
    Terminated,
    Trailers,
)
from lemmytx.http2.frames import PREFACE

__all__ = [
    "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "FLOW_CONTROL_ERROR", "FRAME_SIZE_ERROR",
    "HTTP_1_1_REQUIRED", "INADEQUATE_SECURITY", "INTERNAL_ERROR", "NO_ERROR", "PREFACE", "PROTOCOL_ERROR",
    "REFUSED_STREAM", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "Bounds", "Connection", "Data", "Event", "GoneAway",
    "Oversized", "Ponged", "Request", "Reset", "Response", "Room", "Settings", "StreamGone", "Terminated", "Trailers",
]  # fmt: skip
