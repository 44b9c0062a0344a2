"""
What the standard library's C{ssl} does not give access to: keys of session tickets, OCSP stapling, the order of key
exchange groups, and memory that idle connections do without.

B{How, and why it can be trusted.} CPython's C{_ssl} module is linked with an OpenSSL whose functions can be called
through L{ctypes}, if that is a shared library. They want the C{SSL_CTX} pointer, which CPython keeps as the first field
of an C{SSLContext} object, right behind the object's own head; that has been so in each version of L{KNOWN}. It is
tried out before anything is done with it: two contexts are given different options with the standard library's means,
and OpenSSL, asked by the pointers, has to name the same ones. Other interpreters, other versions, builds without the
interpreter's lock (where the head is larger) and builds that have OpenSSL inside of C{_ssl} are not touched:
L{available} is false then, L{why_not} says why, and whoever wants one of these things has to say that it cannot be had.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
import sysconfig
from collections.abc import Callable

#: The versions whose layout was looked at: from, up to without.
KNOWN = ((3, 11), (3, 15))

# include/openssl/ssl.h
_MODE = 33
_SESSION_CACHE_MODE = 44
_TICKET_KEYS = 59
_STATUS_CALLBACK = 63
_STATUS_RESPONSE = 71
_GROUPS = 92
_RELEASE_BUFFERS = 0x10
_CACHE_SERVER_BUT_NOT_INSIDE = 0x0002 | 0x0100 | 0x0200
_OK, _NO_ACKNOWLEDGEMENT = 0, 3

#: Size of the keys of tickets: name, HMAC key, AES key.
TICKET_KEYS = 80

_StatusCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Library:
    """The functions."""

    def __init__(self) -> None:
        """@raise OSError, AttributeError: they cannot be had."""
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
        self.options = library.SSL_CTX_get_options
        self.options.argtypes, self.options.restype = [pointer], ctypes.c_uint64
        self.control = library.SSL_CTX_ctrl
        self.control.argtypes, self.control.restype = [pointer, integer, long, pointer], long
        self.call_back = library.SSL_CTX_callback_ctrl
        self.call_back.argtypes, self.call_back.restype = [pointer, integer, pointer], long
        self.control_connection = library.SSL_ctrl
        self.control_connection.argtypes = [pointer, integer, long, pointer]
        self.control_connection.restype = long
        self.certificate_of_connection = library.SSL_get_certificate
        self.certificate_of_connection.argtypes, self.certificate_of_connection.restype = [pointer], pointer
        self.certificate = library.SSL_CTX_get0_certificate
        self.certificate.argtypes, self.certificate.restype = [pointer], pointer
        self.allocate = library.CRYPTO_malloc
        self.allocate.argtypes, self.allocate.restype = [ctypes.c_size_t, ctypes.c_char_p, integer], pointer


def _pointer(context: ssl.SSLContext) -> int:
    found = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if found is None:
        raise ValueError("there is no SSL_CTX")
    return found


def _load() -> tuple[_Library | None, str]:
    """@return: the functions, or why there are none."""
    if sys.implementation.name != "cpython" or not KNOWN[0] <= sys.version_info[:2] < KNOWN[1]:
        return None, f"Python is {sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
    if sysconfig.get_config_var("Py_GIL_DISABLED") or hasattr(sys, "gettotalrefcount"):
        return None, "Python is built in an unusual way"
    try:
        library = _Library()
    except (ImportError, OSError, AttributeError) as error:
        return None, f"its OpenSSL is not a shared library ({error})"
    first, second = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    second.options |= ssl.OP_NO_TICKET | ssl.OP_NO_TLSv1_2
    for context in (first, second):
        if library.options(_pointer(context)) & 0xFFFFFFFF != int(context.options) & 0xFFFFFFFF:
            return None, "its SSLContext objects are not as expected"
    return library, ""


_library, why_not = _load()

#: Whether the functions below can be used.
available = _library is not None


def set_ticket_keys(context: ssl.SSLContext, keys: bytes) -> None:
    """
    Make and accept session tickets with these keys, from now on and for connections that exist too.

    @param keys: of L{TICKET_KEYS} bytes, secret.
    """
    assert _library is not None
    assert len(keys) == TICKET_KEYS
    if _library.control(_pointer(context), _TICKET_KEYS, TICKET_KEYS, keys) != 1:
        raise ValueError("OpenSSL does not take the keys of tickets")


def set_groups(context: ssl.SSLContext, groups: str) -> None:
    """
    Which groups are there for the key exchange, the best first.

    @param groups: names with colons between them.
    """
    assert _library is not None
    if _library.control(_pointer(context), _GROUPS, 0, groups.encode()) != 1:
        raise ValueError(f"OpenSSL does not know all of the groups {groups!r}")


def save_memory(context: ssl.SSLContext) -> None:
    """Idle connections keep no buffers, and sessions are kept in tickets alone."""
    assert _library is not None
    _library.control(_pointer(context), _MODE, _RELEASE_BUFFERS, None)
    _library.control(_pointer(context), _SESSION_CACHE_MODE, _CACHE_SERVER_BUT_NOT_INSIDE, None)


def certificate(context: ssl.SSLContext) -> int:
    """The certificate that was loaded last into a context: a number that L{staple} asks for."""
    assert _library is not None
    return _library.certificate(_pointer(context)) or 0


def staple(context: ssl.SSLContext, find: Callable[[int], bytes | None]) -> object:
    """
    Answer clients that ask for the state of the certificate (RFC 6066 §8).

    @param find: called in each handshake in which the client asks, with the number of the certificate that it gets;
        gives an OCSP response in DER, or L{None}. It must not raise anything.
    @return: to be kept for as long as the context lives.
    """
    library = _library
    assert library is not None

    def called(connection: int, _: object) -> int:
        response = find(library.certificate_of_connection(connection) or 0)
        if response is None:
            return _NO_ACKNOWLEDGEMENT
        # It becomes OpenSSL's, which frees it.
        memory = library.allocate(len(response), b"", 0)
        if not memory:
            return _NO_ACKNOWLEDGEMENT
        ctypes.memmove(memory, response, len(response))
        library.control_connection(connection, _STATUS_RESPONSE, len(response), memory)
        return _OK

    callback = _StatusCallback(called)
    library.call_back(_pointer(context), _STATUS_CALLBACK, ctypes.cast(callback, ctypes.c_void_p))
    return callback
