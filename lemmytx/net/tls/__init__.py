"""
TLS with the standard library's C{ssl}: connections in memory, certificates by name, tickets, stapling.

L{lemmytx.net.tls.connection} is the record layer between a transport and a protocol, for both sides.
L{lemmytx.net.tls.server} chooses certificates. L{lemmytx.net.tls.endpoint} makes endpoint descriptions of it.
"""
