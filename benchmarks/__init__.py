"""The side-by-side run of lemmytx and its peers: C{python -m benchmarks.run}."""
