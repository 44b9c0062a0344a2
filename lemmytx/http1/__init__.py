"""HTTP/1.1 as bytes: heads, chunked bodies and targets. No Twisted, no I/O (RFC 9112)."""
