"""The WebSocket codec."""
