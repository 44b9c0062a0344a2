"""Queues and classes out of a configuration, and out of the next one."""

from __future__ import annotations

import os
import time
from textwrap import dedent
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import checking, config
from lemmytx.assemble import CannotStart, Plan
from lemmytx.balance.buckets import Share
from lemmytx.cluster.queue import Queue
from lemmytx.cluster.traffic import Traffic
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.testing import Request

PLUGIN = """\
from zope.interface import implementer

from lemmytx.interfaces import IClassifier
from lemmytx.plugin import Classifier


@implementer(IClassifier)
class ByClient:
    def __init__(self, client: str) -> None:
        self._client = client

    def classify(self, request):
        return "vip" if request.client == self._client else None


by_client = Classifier("by_client", ByClient)
"""

CLUSTER = """\
    vhosts:
      - {hosts: [a.example], cluster: web, bucket: vip}
      - {hosts: [b.example], bucket: vip, routes: [{path: /x, cluster: web, bucket: main}, {cluster: web}]}
      - {hosts: [c.example], cluster: web}
    clusters:
      web:
        backends: [{url: "http://10.0.0.1", capacity: 30}, {url: "http://10.0.0.2", capacity: 10}]
"""

BUCKETS = """\
        buckets: {vip: {rate: 25%, ceil: 50%, lending: false, buckets: {gold: {rate: 50%}}}, main: {rate: 75%}}
"""


class ClassesTests(SynchronousTestCase):
    """A configuration, and what becomes of it."""

    def plan(self, text: str, before: Any = None, portion: Any = None, folders: tuple[str, ...] = ()) -> Plan:
        """The next one."""
        self.configuration = config.read(dedent(text).encode(), "x.yaml")
        network: Any = None
        return Plan(self.configuration, folders, network, before, portion)

    def commit(self, text: str, **more: Any) -> ReverseProxyResource:
        """At work: the first one, with its backends where they are."""
        plan = self.plan(text, **more)
        resource = plan.resource(Ticker(Clock(), time.monotonic))
        plan.commit(resource, Traffic())
        for backend in resource.clusters["web"].backends:
            backend.moved((backend.location.host,))
        return resource

    def queue(self, resource: ReverseProxyResource) -> Queue:
        """Of the one cluster."""
        queue = resource.clusters["web"].queue
        assert queue is not None
        return queue

    def test_usual(self) -> None:
        """Where nothing is said there is a queue, and no buckets; so nobody is asked while nobody waits."""
        resource = self.commit(
            CLUSTER.replace("bucket: vip, ", "").replace(", bucket: vip", "").replace(", bucket: main", "")
        )
        rules = self.queue(resource).rules
        self.assertEqual((rules.limit, rules.timeout, rules.retry_after, rules.on_unavailable), (1000, 30.0, 30, True))
        self.assertIsNone(resource.clusters["web"].gate)

    def test_none(self) -> None:
        """A queue without places and without buckets is none."""
        text = CLUSTER.replace("bucket: vip, ", "").replace(", bucket: vip", "").replace(", bucket: main", "")
        self.assertIsNone(self.commit(text + "        queue: {limit: 0}\n").clusters["web"].queue)

    def test_buckets(self) -> None:
        """Buckets are as configured, and as large as the backends together."""
        queue = self.queue(self.commit(CLUSTER + BUCKETS))
        gold = Share("gold", 0.5)
        self.assertEqual(queue.rules.buckets, (Share("vip", 0.25, 0.5, False, (gold,)), Share("main", 0.75)))
        self.assertEqual({name: bucket.rate for name, bucket in queue.buckets.items()},
                         {"": 40, "vip": 10, "gold": 5, "main": 30})  # fmt: skip

    def test_portion(self) -> None:
        """A process that has a part of the capacities has shares of that."""
        queue = self.queue(self.commit(CLUSTER + BUCKETS, portion=lambda capacity: capacity // 2))
        self.assertEqual((queue.root.size, queue.buckets["vip"].rate), (20, 5))

    def test_routes(self) -> None:
        """A route has its own bucket, or its vhost's, or none."""
        resource = self.commit(CLUSTER + BUCKETS)
        named = [[route.bucket for route in vhost.routes] for vhost in resource.router.vhosts]
        self.assertEqual(named, [["vip"], ["main", "vip"], [None]])

    def test_reload(self) -> None:
        """The next configuration keeps queue and buckets, with what they have, and gives them other shares."""
        resource = self.commit(CLUSTER + BUCKETS)
        queue = self.queue(resource)
        main = queue.buckets["main"]
        main.take()
        text = (CLUSTER + BUCKETS).replace("capacity: 30", "capacity: 10").replace("rate: 75%", "rate: 50%")
        self.plan(text, (self.configuration, resource)).commit(resource, Traffic())
        self.assertIs(self.queue(resource), queue)
        self.assertIs(queue.buckets["main"], main)
        self.assertEqual((queue.root.size, main.rate, main.used), (20, 10, 1))
        main.release()

    def test_by(self) -> None:
        """A header field, a cookie or a plugin names the bucket."""
        folder = self.mktemp()
        os.mkdir(folder)
        with open(os.path.join(folder, "by_client.py"), "w", encoding="utf-8") as file:
            file.write(PLUGIN)
        request = Request(fields=[("X-Class", "vip"), ("Cookie", "class=vip")])
        for by in ("header: X-Class", "cookie: class", "plugin: by_client, options: {client: 192.0.2.1}"):
            text = CLUSTER + BUCKETS + f"        buckets_by: {{{by}}}\n"
            classify = self.queue(self.commit(text, folders=(os.path.abspath(folder),))).rules.classify
            assert classify is not None
            self.assertEqual(classify(request), "vip", by)
            self.assertIsNone(classify(Request(client="192.0.2.9")), by)

    def test_noPlugin(self) -> None:
        """A classifier that there is not is told, at the start and before."""
        text = CLUSTER + BUCKETS + "        buckets_by: {plugin: by_clent, options: {client: 192.0.2.1}}\n"
        with self.assertRaises(CannotStart) as caught:
            self.plan(text)
        self.assertEqual(str(caught.exception), "no classifier 'by_clent'; there are none")
        found = list(checking.check_files(self.configuration))
        self.assertEqual(found, [(("clusters", "web", "buckets_by"), "no classifier 'by_clent'; there are none")])

    def test_options(self) -> None:
        """Options that do not fit are told as with any plugin."""
        folder = self.mktemp()
        os.mkdir(folder)
        with open(os.path.join(folder, "by_client.py"), "w", encoding="utf-8") as file:
            file.write(PLUGIN)
        text = CLUSTER + BUCKETS + "        buckets_by: {plugin: by_client, options: {clint: 192.0.2.1}}\n"
        with self.assertRaises(CannotStart) as caught:
            self.plan(text, folders=(os.path.abspath(folder),))
        self.assertEqual(
            str(caught.exception),
            "'clint': no such option of classifier 'by_client'; did you mean 'client'?; client: must be given",
        )
