# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""
C{recv} and C{send} of a non-blocking socket with less around them than the standard library's.

Those give the interpreter's lock away for each call, parse their arguments, allocate for the most that may come and
shrink that again. A call for a few hundred bytes that never waits is over before another thread could make use of the
lock, and the lock's way forth and back is what an access log's thread collides with.

Without the extension, L{socket.socket.recv} and L{socket.socket.send} do the same.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno

cdef extern from "Python.h":
    int PyObject_AsFileDescriptor(object) except -1

cdef extern from "<sys/socket.h>":
    enum:
        MSG_NOSIGNAL
    ssize_t c_recv "recv"(int, void*, size_t, int) nogil
    ssize_t c_send "send"(int, const void*, size_t, int) nogil

cdef extern from "<errno.h>":
    int errno
    enum:
        EINTR

cdef enum:
    # From here on the copying takes longer than the lock's way.
    LONG = 16 * 1024
    SHORT = 64 * 1024

# Where short reads come in: the same memory each time, which the caches hold.
cdef char _short[SHORT]


def recv(sock, Py_ssize_t size):
    """See L{socket.socket.recv}."""
    cdef int fd
    cdef ssize_t count
    if not 0 <= size <= SHORT:
        return sock.recv(size)
    fd = PyObject_AsFileDescriptor(sock)
    while True:
        count = c_recv(fd, _short, size, 0)
        if count >= 0:
            return PyBytes_FromStringAndSize(_short, count)
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)


def send(sock, data):
    """See L{socket.socket.send}."""
    cdef int fd
    cdef ssize_t count
    if type(data) is not bytes or PyBytes_GET_SIZE(data) > LONG:
        return sock.send(data)
    fd = PyObject_AsFileDescriptor(sock)
    while True:
        count = c_send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_NOSIGNAL)
        if count >= 0:
            return count
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
