"""Schedulers: who gets the next request. Pure, without Twisted and without I/O."""
