"""Where the live table is kept: the stores that come with lemmytx, and what they have in common."""
