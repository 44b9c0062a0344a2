"""
Tokens for the admin side: made once, shown once, kept as a hash.

A token is 32 random bytes. Nobody can try 2^256 of them, however fast the hash, so that plain SHA-256 is right here: a
slow hash (bcrypt, scrypt) is for passwords that people choose, and would cost its time on every request of a scraper.
For the same reason there is no salt.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

#: What every token begins with, so that people and scanners for leaked secrets know what it is.
PREFIX = "lmy_"

#: What every hash begins with, so that another one can follow some day.
SCHEME = "sha256:"


def new_token() -> str:
    """A new token: L{PREFIX} and 43 characters that need no quoting in a header, a URL or a shell."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """
    What the configuration keeps of a token: C{sha256:} and 64 hexadecimal digits.

    @param token: any text; what a client sends is hashed as it came.
    """
    return SCHEME + hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def verify_token(token: str, hashed: str) -> bool:
    """
    Whether a hash is this token's. Takes the same time for every token, right or wrong.

    @param token: what a client sent.
    @param hashed: as in the configuration.
    """
    return hmac.compare_digest(hash_token(token).encode("ascii"), hashed.encode("utf-8", "surrogateescape"))
