"""How lemmytx balances when backends are slow, fail, go away, come back or have too much to do."""
