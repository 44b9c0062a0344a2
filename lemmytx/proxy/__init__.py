"""The way of a request: downstream, router, exchange, upstream."""
