"""Tests of lemmytx.cluster."""
