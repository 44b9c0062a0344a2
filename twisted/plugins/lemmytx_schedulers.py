"""The schedulers that come with lemmytx, found like anyone else's."""

from lemmytx.balance.chance import Random, TwoChoices
from lemmytx.balance.first import First
from lemmytx.balance.hashing import Hash, IpHash
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.balance.least_load import LeastLoad
from lemmytx.balance.lemmy import Lemmy
from lemmytx.balance.reported_load import ReportedLoad
from lemmytx.balance.response_time import ResponseTime
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.plugin import Scheduler

round_robin = Scheduler("round_robin", RoundRobin)
least_connections = Scheduler("least_connections", LeastConnections)
least_load = Scheduler("least_load", LeastLoad)
first = Scheduler("first", First)
chance = Scheduler("chance", First)
random = Scheduler("random", Random)
two_choices = Scheduler("two_choices", TwoChoices)
ip_hash = Scheduler("ip_hash", IpHash)
hash = Scheduler("hash", Hash)
response_time = Scheduler("response_time", ResponseTime)
reported_load = Scheduler("reported_load", ReportedLoad)
lemmy = Scheduler("lemmy", Lemmy)
