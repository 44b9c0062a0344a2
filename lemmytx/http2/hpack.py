"""
Header compression (RFC 7541): the compiled twin where there is one, else the one in pure Python. Both do exactly the
same.

Setting C{LEMMYTX_PURE} in the environment chooses the latter.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lemmytx.http2 import _hpack
from lemmytx.http2._hpack_tables import HpackError, TooLarge

__all__ = ["Decoder", "Encoder", "HpackError", "TooLarge", "compiled"]

#: Whether the compiled twin is at work.
compiled = False

if TYPE_CHECKING:
    from lemmytx.http2._hpack import Decoder, Encoder
else:
    Decoder = _hpack.Decoder
    Encoder = _hpack.Encoder
    if not os.environ.get("LEMMYTX_PURE"):
        try:
            from lemmytx.http2 import _hpack_compiled
        except ImportError:  # built without a compiler: said then, and visible here
            pass
        else:
            Decoder = _hpack_compiled.Decoder
            Encoder = _hpack_compiled.Encoder
            compiled = True
