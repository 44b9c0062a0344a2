"""Tests of lemmytx.net."""
