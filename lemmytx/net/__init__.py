"""Sockets, time and names: what talks to the operating system through Twisted."""
