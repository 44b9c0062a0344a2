"""
The table of raw responses: what the backend sends, what the client must get of it, and what becomes of the upstream.

A malformed head is a 502. A body that turns out to be broken or cut, when its head is long gone to the client, can
only be shown by cutting the client's connection, so that a part is never taken for the whole. In both cases, and
whenever there is a byte too many, that upstream is not used again.
"""

from __future__ import annotations

from tests.wire import responses_faulty, responses_whole
from tests.wire.answers import Answer

ROWS: tuple[Answer, ...] = responses_whole.ROWS + responses_faulty.ROWS
