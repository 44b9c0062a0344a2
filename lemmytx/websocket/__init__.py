"""WebSocket (RFC 6455) as far as a proxy needs it. Sans I/O."""
