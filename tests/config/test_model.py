"""What a file that is right becomes."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from textwrap import dedent

from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.addresses import parse_host, parse_url
from lemmytx.model import Backend, Cluster, Configuration, Scheduler

ENVIRONMENT = {"PORT": "9001", "WEIGHT": "7", "TIME": "250ms", "SIZE": "1m", "SHARE": "25%", "FLAG": "False", "N": "3"}


def read(text: str) -> Configuration:
    """A configuration out of a file's text."""
    return config.read(dedent(text).encode(), "/etc/lemmy/x.yaml", environment=ENVIRONMENT)


class ValueTests(SynchronousTestCase):
    """How values are read."""

    def test_units(self) -> None:
        """Durations become seconds, sizes bytes, percentages fractions."""
        found = read("""\
        timeouts: {header: 250ms, keepalive: 2s, body: 1.5m, tunnel: 1h, drain: 0}
        limits: {header_size: 64k, body_size: 1G}
        defaults: {fail_window: 1d, backend_retry_interval: "7", max_ejected: 33.3%, retry: {buffer: 1000}}
        """)
        timeouts = found.timeouts
        self.assertEqual(
            (0.25, 2.0, 90.0, 3600.0, 0.0),
            (timeouts.header, timeouts.keepalive, timeouts.body, timeouts.tunnel, timeouts.drain),
        )
        self.assertEqual((65536, 1 << 30), (found.limits.header_size, found.limits.body_size))
        self.assertEqual((86400.0, 7.0), (found.defaults.fail_window, found.defaults.backend_retry_interval))
        self.assertAlmostEqual(0.333, found.defaults.max_ejected)
        self.assertEqual(1000, found.defaults.retry.buffer)

    def test_environment(self) -> None:
        """Where a number, a unit or a boolean is wanted, a variable's text is read as one."""
        found = read("""\
        clusters:
          web:
            scheduler: {name: lemmy, round_robin_after: "${N}", label: "${TIME}"}
            max_ejected: ${SHARE}
            backends: [{url: "http://a:${PORT}", weight: "${WEIGHT}"}]
        limits: {body_size: "${SIZE}", headers: "${HEADERS:-77}"}
        timeouts: {body: "${TIME}"}
        forwarding: {x_forwarded: "${FLAG}", via: "${VIA:-edge}"}
        workers: "${WORKERS:-1}"
        access_log: {format: "${FORMAT:-json}"}
        """)
        web = found.clusters["web"]
        self.assertEqual({"round_robin_after": 3, "label": "250ms"}, web.scheduler.options)
        self.assertEqual((0.25, "http://a:9001", 7), (web.max_ejected, web.backends[0].url, web.backends[0].weight))
        self.assertEqual((1 << 20, 77, 0.25), (found.limits.body_size, found.limits.headers, found.timeouts.body))
        self.assertEqual((False, "edge"), (found.forwarding.x_forwarded, found.forwarding.via))
        self.assertEqual((1, "json"), (found.workers, found.access_log.format))
        for text in (web.backends[0].url, web.backends[0].name, found.forwarding.via, found.access_log.format):
            self.assertIs(str, type(text), text)

    def test_process_environment(self) -> None:
        """Without another one, the process's own environment counts."""
        os.environ["LEMMYTX_TEST_HEADERS"] = "55"
        self.addCleanup(os.environ.pop, "LEMMYTX_TEST_HEADERS")
        self.assertEqual(55, config.read(b"limits: {headers: '${LEMMYTX_TEST_HEADERS}'}", "x").limits.headers)

    def test_hosts(self) -> None:
        """Hosts are kept as they are compared: A-labels, lower case, no trailing dot."""
        for written, kept in (
            ("Shop.Example.", "shop.example"),
            ("*.Shop.example", "*.shop.example"),
            ("*", "*"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
            ("faß.de", "xn--fa-hia.de"),
            ("日本。jp", "xn--wgv71a.jp"),
            ("my_app.internal", "my_app.internal"),
            ("10.0.0.1", "10.0.0.1"),
            ("[0:0::1]", "[::1]"),
            ("localhost", "localhost"),
        ):
            self.assertEqual(kept, parse_host(written))

    def test_no_hosts(self) -> None:
        """What no Host field can hold is no host."""
        for written in (
            "",
            ".",
            "*.",
            "**",
            "a..b",
            "*a.de",
            "a.*.de",
            "-a",
            "a" * 64,
            "a." * 130 + "a",
            "[10.0.0.1]",
            7,
            None,
        ):
            self.assertRaises(ValueError, parse_host, written)

    def test_urls(self) -> None:
        """A backend's URL is kept in one form, so that one backend has one name."""
        for written, kept, name in (
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080", "10.0.0.1:8080"),
            ("HTTP://App.Example/", "http://app.example:80", "app.example:80"),
            ("http://[::0:1]:81", "http://[::1]:81", "[::1]:81"),
            ("http://[fe80::1]", "http://[fe80::1]:80", "[fe80::1]:80"),
            ("http://bücher.example:9", "http://xn--bcher-kva.example:9", "xn--bcher-kva.example:9"),
            ("http+unix:///run/a/app.sock", "http+unix:///run/a/app.sock", "run-a-app.sock"),
        ):
            backend = Backend.model_validate(written)
            self.assertEqual((kept, name), (backend.url, backend.name))
            self.assertEqual(kept, Backend.model_validate(backend.url).url)

    def test_location(self) -> None:
        """A backend's URL can be had taken apart."""
        six = parse_url("http://[::1]:81")
        self.assertEqual(("::1", 81, "", "[::1]:81"), (six.host, six.port, six.path, six.authority))
        unix = Backend.model_validate("http+unix:///run/app.sock").location
        self.assertEqual(("", 0, "/run/app.sock", ""), (unix.host, unix.port, unix.path, unix.authority))

    def test_networks(self) -> None:
        """Networks and single addresses, of both kinds."""
        found = read("listeners: [{endpoint: 'tcp:1', trusted_proxies: [10.0.0.0/8, 192.0.2.1, 'fd00::/8', '::1']}]")
        self.assertEqual(
            tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "::1/128"))),
            found.listeners[0].trusted_proxies,
        )


class ShapeTests(SynchronousTestCase):
    """Short forms, empty sections, defaults."""

    def test_vhost_short(self) -> None:
        """A vhost with a cluster has one route, for everything; its first host is its name."""
        found = read("vhosts: [{hosts: [a.example, b.example], cluster: web}]\nclusters: {web: {backends: []}}")
        (route,) = found.vhosts[0].all_routes
        self.assertEqual(("a.example", "/*", "web"), (found.vhosts[0].name, route.path, route.cluster))

    def test_routes(self) -> None:
        """Routes keep their order and all that they ask for."""
        found = read("""\
        vhosts:
          - hosts: ["*"]
            routes:
              - {path: /a, methods: [GET], headers: {X-Team: ops}, query: {q: "~^1"}, cookies: {c: true}, cluster: web}
              - {client: [10.0.0.0/8], cluster: web}
        clusters: {web: {backends: []}}
        """)
        first, second = found.vhosts[0].all_routes
        self.assertEqual(
            ("/a", ("GET",), {"X-Team": "ops"}, {"q": "~^1"}, {"c": True}),
            (first.path, first.methods, first.headers, first.query, first.cookies),
        )
        self.assertEqual(((ip_network("10.0.0.0/8"),), "/*"), (second.client, second.path))

    def test_backends_short(self) -> None:
        """A backend may be its URL alone."""
        self.assertEqual(
            Backend(url="http://a:80", name="a:80"), Cluster.model_validate({"backends": ["http://a"]}).backends[0]
        )

    def test_scheduler_short(self) -> None:
        """A scheduler may be its name alone; the options stand beside the name."""
        self.assertEqual(Scheduler(name="lemmy"), Scheduler.model_validate("lemmy"))
        self.assertEqual(Scheduler(name="lemmy", options={"a": 1}), Scheduler.model_validate({"name": "lemmy", "a": 1}))

    def test_empty_sections(self) -> None:
        """A section or list whose lines are all commented out is as good as left out."""
        self.assertEqual(
            Configuration(), read("plugins:\nlisteners:\nclusters:\nadmin:\nlimits:\n  headers:\nworkers:")
        )

    def test_off(self) -> None:
        """A feature of a later version that is switched off asks for nothing, and is no error."""
        found = read("""\
        listeners: [{endpoint: "tcp:1", tls: null, http2: false, proxy_protocol: false}]
        clusters: {web: {backends: [], sticky_offline: false, queue: }}
        """)
        self.assertEqual("tcp:1", found.listeners[0].endpoint)

    def test_via_null(self) -> None:
        """The one setting in which null says something: no Via."""
        self.assertIsNone(read("forwarding: {via: null}").forwarding.via)
        self.assertEqual("lemmytx", read("forwarding: {}").forwarding.via)

    def test_admin_default(self) -> None:
        """Without a word about it the admin side listens on loopback."""
        self.assertEqual("tcp:8081:interface=127.0.0.1", Configuration().admin.endpoint)

    def test_frozen(self) -> None:
        """Nothing in a configuration can be changed."""
        found = read("limits: {headers: 50}")
        for section, name in ((found, "limits"), (found.limits, "headers"), (found.defaults.pool, "idle")):
            self.assertRaises(ValidationError, setattr, section, name, 3)

    def test_again(self) -> None:
        """A configuration written out as JSON and read again is the same one."""
        found = config.load(Path(__file__).parents[2] / "conf" / "lemmy.yaml")
        self.assertEqual(found, Configuration.model_validate(found.model_dump(mode="json")))

    def test_plugin_folders(self) -> None:
        """A relative plugin folder starts at the folder of the file, not where the program was started."""
        found = read("plugins: [mine, /opt/lemmy, ../shared]")
        self.assertEqual(
            ("/etc/lemmy/mine", "/opt/lemmy", "/etc/shared"), config.plugin_folders(found, "/etc/lemmy/x.yaml")
        )
