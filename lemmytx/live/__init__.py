"""
The live table in a process: what a store knows, put to work.

L{lemmytx.live.keeper} has the newest table at hand, also while the store is away; L{lemmytx.live.mold} makes clusters
of its vhosts; L{lemmytx.live.live} has them serve; L{lemmytx.live.telling} says to the others what this process does.
"""
