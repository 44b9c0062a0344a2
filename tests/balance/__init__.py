"""Tests of lemmytx.balance."""
