"""C{lemmytls:} in endpoint descriptions."""

from lemmytx.net.tls.parser import Parser

tls = Parser()
