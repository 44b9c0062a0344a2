"""The tests of lemmytx; run them with trial."""
