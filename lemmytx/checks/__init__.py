"""Looking after backends without a request: what is done, and when."""
