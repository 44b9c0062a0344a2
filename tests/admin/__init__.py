"""Tests of lemmytx.admin."""
