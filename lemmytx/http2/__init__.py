"""HTTP/2 as bytes: frames, header compression, streams and heads. No Twisted, no I/O (RFC 9113, RFC 7541)."""
