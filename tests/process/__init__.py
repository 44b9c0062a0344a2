"""Tests with real processes: lemmytx as a user starts it, and what can go wrong around it."""
