"""The schedulers that come with lemmytx, found like anyone else's."""

from lemmytx.balance.least_connections import LeastConnections
from lemmytx.balance.lemmy import Lemmy
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.plugin import Scheduler

round_robin = Scheduler("round_robin", RoundRobin)
least_connections = Scheduler("least_connections", LeastConnections)
lemmy = Scheduler("lemmy", Lemmy)
