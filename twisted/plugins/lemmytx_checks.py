"""The health checks that come with lemmytx, found like anyone else's."""

from lemmytx.checks.command import CommandCheck
from lemmytx.checks.fastcgi import FastCgiCheck
from lemmytx.checks.grpc import GrpcCheck
from lemmytx.checks.http import HttpCheck
from lemmytx.checks.tcp import TcpCheck
from lemmytx.plugin import HealthCheck

http = HealthCheck("http", HttpCheck)
tcp = HealthCheck("tcp", TcpCheck)
fastcgi = HealthCheck("fastcgi", FastCgiCheck)
grpc = HealthCheck("grpc", GrpcCheck)
command = HealthCheck("command", CommandCheck)
