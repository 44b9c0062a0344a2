"""Tests of lemmytx.proxy."""
