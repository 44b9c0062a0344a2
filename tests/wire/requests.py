"""
The table of raw requests: what each must come to in the client's eyes, and what the backend may see of it.

A row says what RFC 9110 and RFC 9112 ask for (C{rfc}: number and section); where they leave a choice, all that is
sound is allowed. What two readers could read in two ways must be refused, and nothing of it may reach a backend as a
complete request.
"""

from __future__ import annotations

from tests.wire import requests_forwarding, requests_framing, requests_heads
from tests.wire.rows import Row

ROWS: tuple[Row, ...] = requests_framing.ROWS + requests_heads.ROWS + requests_forwarding.ROWS
