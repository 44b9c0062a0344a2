"""C{twistd lemmy} and C{twistd --reactor=lemmy}."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

lemmy_service = ServiceMaker("lemmytx", "lemmytx.tap", "An HTTP reverse proxy and load balancer.", "lemmy")

lemmy_reactor = Reactor("lemmy", "lemmytx.net.reactor", "epoll with a short way for plain reads")
