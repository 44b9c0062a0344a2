"""
What a user is told about a file that cannot be used: a table of files, each with the exact lines.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.config import Problem
from lemmytx.model import Token

ENVIRONMENT = {"PORT": "9001", "WEIGHT": "heavy", "EMPTY": "", "FLAG": "true", "LATIN": "\udce9"}

#: Name of the case, the file, the lines without the file's name.
CASES: tuple[tuple[str, str, list[str]], ...] = (
    ("empty", "", [" the file is empty; conf/minimal.yaml shows the least that is useful"]),
    ("only_comments", "# nothing\n", [" the file is empty; conf/minimal.yaml shows the least that is useful"]),
    ("list", "- a\n", ["1: found a list; a configuration is a mapping: settings with their values"]),
    ("text", "a b\n", ["1: found 'a b'; a configuration is a mapping: settings with their values"]),
    (
        "syntax",
        "limits: {headers: 100\ntimeouts: {}\n",
        ["2: not YAML: column 9: while parsing a flow mapping, did not find expected ',' or '}'"],
    ),
    (
        "tab",
        "limits:\n\theaders: 1\n",
        ["2: not YAML: column 1: while scanning for the next token, found character that cannot start any token"],
    ),
    ("control", "a: \x07\n", ["1: not YAML: control characters are not allowed"]),
    (
        "two_documents",
        "workers: 1\n---\nworkers: 1\n",
        ["2: a second document begins here; a configuration is one document"],
    ),
    ("no_anchor", "limits: *x\n", ["1: the alias 'x' names no anchor above it"]),
    ("own_anchor", "plugins: &x [*x]\n", ["1: the alias 'x' stands inside of its own anchor"]),
    ("deep", "plugins: " + "[" * 40 + "]" * 40 + "\n", ["1: nested deeper than 32 levels; no setting is"]),
    (
        "tags",
        "access_log: {path: !!binary aGFsbG8=}\nlimits: {headers: !!int many}\nplugins: [!!python/name:os.system x]\n",
        [
            "1: access_log.path: the tag 'tag:yaml.org,2002:binary' means nothing here; write the value without it",
            "2: limits.headers: found 'many'; the tag says 'int'",
            "3: plugins[0]: the tag 'tag:yaml.org,2002:python/name:os.system' means nothing here; write the value "
            "without it",
        ],
    ),
    (
        "key_is_no_text",
        "limits:\n  ? [a, b]\n  : 1\n",
        ["2: limits: the name of a setting is text, not a list or a mapping"],
    ),
    (
        "merge_of_nothing",
        "limits: {<<: 3}\n",
        ["1: limits: '<<' takes a mapping, or a list of mappings"],
    ),
    (
        "twice",
        """\
        limits: {headers: 50}
        timeouts:
          body: 10
          body: 20
        limits: {headers: 60}
        """,
        ["4: timeouts.body: given twice; the first is in line 3", "5: limits: given twice; the first is in line 1"],
    ),
    (
        "typos_at_every_level",
        """\
        listner: []
        clusters:
          api:
            shceduler: lemmy
            backends:
              - http://10.0.0.1:8080
              - url: http://10.0.0.2:8080
                wieght: 2
            timeouts: {conect: 4}
            zzz: 1
        defaults: {max_fail: 3}
        """,
        [
            "1: listner: no such setting; did you mean 'listeners'?",
            "4: clusters.api.shceduler: no such setting; did you mean 'scheduler'?",
            "8: clusters.api.backends[1].wieght: no such setting; did you mean 'weight'?",
            "9: clusters.api.timeouts.conect: no such setting; did you mean 'connect'?",
            "10: clusters.api.zzz: no such setting",
            "11: defaults.max_fail: no such setting; did you mean 'max_fails'?",
        ],
    ),
    (
        "missing",
        """\
        listeners:
          - trusted_proxies: []
        vhosts:
          - cluster: web
          - hosts: [a.example]
            routes:
              - path: /
        clusters:
          web: {}
        admin: {tokens: [{name: ops}]}
        """,
        [
            "2: listeners[0].endpoint: is missing: where to listen: a Twisted server endpoint description, as in "
            "'tcp:8080', 'tcp:8080:interface=127.0.0.1', 'tcp6:8080' or 'unix:/run/lemmy.sock'",
            "4: vhosts[0].hosts: is missing: names as in the Host field, without port; international ones as they "
            "are read",
            "7: vhosts[1].routes[0].cluster: is missing: the cluster that gets the requests",
            "9: clusters.web.backends: is missing: the servers: URLs, or {url, name, weight, capacity, role}",
            "10: admin.tokens[0].hash: is missing: 'sha256:' and the token's SHA-256; never the token itself",
            "10: admin.tokens[0].role: is missing: 'read' looks, 'operate' also changes what runs, 'admin' also "
            "changes "
            "the configuration",
        ],
    ),
    (
        "wrong_types",
        """\
        listeners: tcp:8080
        vhosts: {hosts: x}
        clusters: [web]
        limits: none
        timeouts: []
        plugins: [1, true]
        access_log: {path: 7, format: yes}
        forwarding: {x_forwarded: yes, forwarded: "true", request_id: 1, via: a b}
        """,
        [
            "1: listeners: found 'tcp:8080'; write a list",
            "2: vhosts: found a mapping; write a list",
            "3: clusters: found a list; write a mapping: names with their values",
            "4: limits: found 'none'; write a mapping: settings with their values",
            "5: timeouts: found an empty list; write a mapping: settings with their values",
            "6: plugins[0]: found 1; write text; put it in quotes",
            "6: plugins[1]: found true; write text; put it in quotes",
            "7: access_log.path: found 7; write text; put it in quotes",
            "7: access_log.format: found 'yes'; write 'combined', 'json' or 'off'",
            "8: forwarding.x_forwarded: found 'yes'; write true or false",
            "8: forwarding.forwarded: found 'true'; write true or false",
            "8: forwarding.via: found 'a b'; write a name without spaces (RFC 9110 §7.6.3), or null for no Via",
            "8: forwarding.request_id: found 1; write true or false",
        ],
    ),
    (
        "numbers",
        """\
        workers: 65
        limits: {header_size: 64kb, headers: 1.5, body_size: -1, connections: true}
        timeouts: {header: 0, keepalive: 1 minute, body: .inf, tunnel: 500d, drain: "x"}
        clusters:
          web:
            backends: [{url: "http://a", weight: -1, capacity: 1e3}]
            max_ejected: 0.5
            retry: {attempts: 0, buffer: 1t, on: [200, "503", reset, empty-response]}
        defaults: {max_ejected: 120%, max_fails: "3"}
        """,
        [
            "1: workers: found 65; write a whole number from 1 to 64, or auto: one per core",
            "2: limits.header_size: found '64kb'; write a size: bytes as a whole number, or as in 64k, 1m, 1g",
            "2: limits.headers: found 1.5; write a whole number from 1 to 10000",
            "2: limits.body_size: found -1; write from 0 to 1125899906842624 bytes",
            "2: limits.connections: found true; write a whole number from 1 to 10000000",
            "3: timeouts.header: found 0; write from 0.001 to 31536000 seconds",
            "3: timeouts.keepalive: found '1 minute'; write a duration: seconds as a number, or as in 250ms, 2s, 1m, "
            "1h",
            "3: timeouts.body: found '.inf'; write a duration: seconds as a number, or as in 250ms, 2s, 1m, 1h",
            "3: timeouts.tunnel: found '500d'; write from 0.001 to 31536000 seconds",
            "3: timeouts.drain: found 'x'; write a duration: seconds as a number, or as in 250ms, 2s, 1m, 1h",
            "6: clusters.web.backends[0].weight: found -1; write from 0 to 1000",
            "6: clusters.web.backends[0].capacity: found 1000.0; write a whole number from 0 to 1000000",
            "7: clusters.web.max_ejected: found 0.5; write a percentage, as in 50%",
            "8: clusters.web.retry.attempts: found 0; write from 1 to 10",
            "8: clusters.web.retry.buffer: found '1t'; write a size: bytes as a whole number, or as in 64k, 1m, 1g",
            "8: clusters.web.retry.on[0]: found 200; write from 400 to 599, or reset",
            "8: clusters.web.retry.on[1]: found '503'; write a whole number from 400 to 599, or reset",
            "8: clusters.web.retry.on[3]: found 'empty-response'; write a whole number from 400 to 599, or reset",
            "9: defaults.max_fails: found '3'; write a whole number from 0 to 1000",
            "9: defaults.max_ejected: found '120%'; write from 0 to 100%",
        ],
    ),
    (
        "vhosts",
        """\
        vhosts:
          - hosts: []
            cluster: web
          - {hosts: [a.example]}
          - {hosts: [b.example], cluster: web, routes: [{cluster: web}]}
          - hosts: [Shop.example, "*.shop.example", "http://x", "y:80", "a.*", "x y", 7, bücher.example, "[::1", -a.de]
            cluster: web
          - hosts: [shop.example., xn--bcher-kva.EXAMPLE]
            cluster: web
        clusters: {web: {backends: []}}
        """,
        [
            "2: vhosts[0].hosts: found an empty list; write at least one",
            "4: vhosts[1]: has neither 'routes' nor 'cluster'; write one of them",
            "5: vhosts[2]: has both 'routes' and 'cluster'; write the cluster as the last route: {cluster: NAME}",
            "6: vhosts[3].hosts[2]: found 'http://x'; that is not a host name; write it without scheme, port and path",
            "6: vhosts[3].hosts[3]: found 'y:80'; that is not a host name; write it without scheme, port and path",
            "6: vhosts[3].hosts[4]: found 'a.*'; '*' stands alone or as the first label, as in '*.shop.example'",
            "6: vhosts[3].hosts[5]: found 'x y'; that is not a host name, as in shop.example",
            "6: vhosts[3].hosts[6]: found 7; write a host name in quotes, as in 'shop.example'",
            "6: vhosts[3].hosts[8]: found '[::1'; that is not a host name; write it without scheme, port and path",
            "6: vhosts[3].hosts[9]: found '-a.de'; that is not a host name, as in shop.example",
            "8: vhosts[4].hosts[0]: 'shop.example.' is listed twice; the first is in line 6",
            "8: vhosts[4].hosts[1]: 'xn--bcher-kva.EXAMPLE' is listed twice; the first is in line 6",
        ],
    ),
    (
        "routes",
        """\
        vhosts:
          - hosts: ["*"]
            routes:
              - {path: api, cluster: web}
              - {path: "~^/(", cluster: wbe}
              - {path: "/a", cluster: web, methods: [get, "G T"], headers: {"a b": x, c: 1, d: "~["}}
              - {path: 7, cluster: 8, query: {a: null}, cookies: [x], client: [10.0.0.1/8, x, 7]}
          - {hosts: [x.example], cluster: missing}
        clusters: {web: {backends: []}}
        """,
        [
            "4: vhosts[0].routes[0].path: 'api' does not begin with '/'; write '/api', or '~' before a regular "
            "expression",
            "5: vhosts[0].routes[1].cluster: there is no cluster 'wbe'; did you mean 'web'?",
            "5: vhosts[0].routes[1].path: '~^/(' is not a regular expression: missing ), unterminated subpattern at "
            "position 2",
            "6: vhosts[0].routes[2].headers['a b']: 'a b' is not the name of a header field",
            "6: vhosts[0].routes[2].headers.d: '~[' is not a regular expression: unterminated character set at "
            "position 0",
            "6: vhosts[0].routes[2].methods[0]: found 'get'; case matters (RFC 9110 §9.1): did you mean GET?",
            "6: vhosts[0].routes[2].methods[1]: found 'G T'; write the name of a method, as in GET",
            "6: vhosts[0].routes[2].headers.c: found 1; write the value in quotes, '~' and a regular expression, or "
            "true",
            "7: vhosts[0].routes[3].path: found 7; write text; put it in quotes",
            "7: vhosts[0].routes[3].query.a: found nothing; write the value in quotes, '~' and a regular expression, "
            "or true",
            "7: vhosts[0].routes[3].cookies: found a list; write a mapping: names with their values",
            "7: vhosts[0].routes[3].client[0]: found '10.0.0.1/8'; did you mean '10.0.0.0/8'?",
            "7: vhosts[0].routes[3].client[1]: found 'x'; write an address or a network, as in '10.0.0.0/8' or "
            "'fd00::/8'",
            "7: vhosts[0].routes[3].client[2]: found 7; write an address or a network in quotes, as in '10.0.0.0/8' or "
            "'fd00::/8'",
            "7: vhosts[0].routes[3].cluster: found 8; write text; put it in quotes",
            "8: vhosts[1].cluster: there is no cluster 'missing'",
        ],
    ),
    (
        "backends",
        """\
        clusters:
          web:
            backends:
              - 10.0.0.1:8080
              - http://10.0.0.1
              - http://10.0.0.1:80/
              - {url: "http://b", name: "10.0.0.1:80"}
              - {url: "http://user:geheim@c"}
              - {url: "http://d:0", role: spare}
              - {url: "http://d:123456"}
              - http://e/path
              - http+unix://run/app.sock
              - ftp://f
              - {url: "http://[::1", name: "a/b"}
              - {url: [], name: 7}
              - 7
              - {weight: 2}
          "a/b": {backends: []}
          x: {backends: [], host: server, scheduler: [], timeouts: 4}
          y: {backends: [], scheduler: {round_robin_after: 1}}
        """,
        [
            "4: clusters.web.backends[0].url: found '10.0.0.1:8080'; write a URL with its scheme, as in "
            "'http://10.0.0.1:8080'",
            "6: clusters.web.backends[2]: '10.0.0.1:80' is also the backend in line 5; give it a name of its own",
            "7: clusters.web.backends[3]: '10.0.0.1:80' is also the backend in line 5; give it a name of its own",
            "8: clusters.web.backends[4].url: a backend's URL has no user name and no password: requests are passed "
            "on as "
            "they came",
            "9: clusters.web.backends[5].url: found 'http://d:0'; a port is from 1 to 65535",
            "9: clusters.web.backends[5].role: found 'spare'; write 'active', 'backup' or 'standby'",
            "10: clusters.web.backends[6].url: found 'http://d:123456'; write host and port after the slashes, as in "
            "'http://10.0.0.1:8080'",
            "11: clusters.web.backends[7].url: found 'http://e/path'; it ends with host and port, for paths are "
            "passed on "
            "as they came",
            "12: clusters.web.backends[8].url: found 'http+unix://run/app.sock'; write three slashes and a path, as in "
            "'http+unix:///run/app.sock'",
            "13: clusters.web.backends[9].url: found 'ftp://f'; the scheme is one of http, https, h2, h2c, fcgi, "
            "http+unix, https+unix, fcgi+unix",
            "14: clusters.web.backends[10].url: found 'http://[::1'; write host and port after the slashes, as in "
            "'http://10.0.0.1:8080'",
            "14: clusters.web.backends[10].name: found 'a/b'; write a name of up to 100 letters, digits and _ . : @ "
            "[ ] -",
            "15: clusters.web.backends[11].url: found an empty list; write a URL, as in 'http://10.0.0.1:8080'",
            "15: clusters.web.backends[11].name: found 7; write a name of up to 100 letters, digits and _ . : @ [ ] -",
            "16: clusters.web.backends[12]: found 7; write a mapping: settings with their values",
            "17: clusters.web.backends[13].url: is missing: 'SCHEME://HOST[:PORT]' (a name, an IPv4 or a bracketed "
            "IPv6 address) or 'SCHEME+unix:///PATH'",
            "18: clusters.a/b: found 'a/b'; write a name of up to 100 letters, digits and _ . : @ [ ] -",
            "19: clusters.x.scheduler: found an empty list; write a mapping: settings with their values",
            "19: clusters.x.timeouts: found 4; write a mapping: settings with their values",
            "19: clusters.x.host: found 'server'; write 'client' or 'backend'",
            "20: clusters.y.scheduler.name: is missing: the scheduler plugin's name",
        ],
    ),
    (
        "tokens",
        """\
        admin:
          tokens:
            - {name: ops, hash: lmy_geheim, role: admin}
            - lmy_geheim
            - {name: ops, hash: 17, role: root, token: lmy_geheim}
        """,
        [
            "3: admin.tokens[0].hash: found something that is not a token's hash (not shown, it may be the token "
            "itself); "
            "make both with 'lemmy token new' and write the hash, as in 'sha256:…'",
            "4: admin.tokens[1]: found text (not shown, it may be a token); write a mapping: settings with their "
            "values",
            "5: admin.tokens[2].hash: found something that is not a token's hash (not shown, it may be the token "
            "itself); "
            "make both with 'lemmy token new' and write the hash, as in 'sha256:…'",
            "5: admin.tokens[2].role: found 'root'; write 'read', 'operate' or 'admin'",
            "5: admin.tokens[2].token: no such setting",
        ],
    ),
    (
        "not_yet",
        """\
        workers: all
        listeners:
          - endpoint: tcp:1
        vhosts:
          - hosts: ["*"]
            routes:
              - {cluster: web}
        clusters:
          web:
            fail_on: []
            backend_retry_interval: 1
            max_fails: 1
            fail_window: 1
            backends: []
        store: {type: redis}
        access_log: {format: haproxy}
        """,
        [
            "1: workers: found 'all'; write a whole number from 1 to 64, or auto: one per core",
            "16: access_log.format: 'haproxy' is not available in this version of lemmytx",
        ],
    ),
    (
        "sticky",
        """\
        vhosts:
          - hosts: ["*"]
            routes:
              - {path: /a, cluster: a, pin: {cookie: x, query: y, allow: [10.0.0.0/8]}}
              - {path: /b, cluster: a, pin: {header: X-Backend}}
              - {path: /c, cluster: a, pin: {allow: [10.0.0.0/8]}}
              - {path: /d, cluster: a, pin: {header: Host, allow: [10.0.0.1/8], secret: short}}
              - {path: /e, cluster: a, pin: {query: "", secret: 1234567890123456}}
        clusters:
          a: {backends: [], sticky: {cookie: "a b", path: shop, domain: "a b", max_age: -1, same_site: Lax}}
          b: {backends: [], sticky: {}}
          c: {backends: [], sticky: {cookie: a, header: b}}
          d: {backends: [], sticky: {header: Set-Cookie, secrets: [0123456789abcde]}}
          e: {backends: [], sticky: {header: X-Bound, path: /}}
          f: {backends: [], sticky: {cookie: a, secret: 0123456789abcdef, secrets: [0123456789abcdef]}}
          g: {backends: [], sticky: {cookie: a, same_site: none, secure: never}}
          h: {backends: [], sticky: {cookie: __Secure-a}}
          i: {backends: [], sticky: {cookie: __Host-a, secure: always, path: /a}}
          j: {backends: [], sticky: {cookie: a, max_age: 1.5, path: "/;x"}}
          k: {backends: [], sticky: {cookie: a, max_age: 1.5}}
          l: {backends: [], sticky: true}
        """,
        [
            "4: vhosts[0].routes[0].pin: has 'cookie' and 'query'; write one of the three",
            "5: vhosts[0].routes[1].pin: has neither 'allow' nor 'secret', so nobody could name a backend",
            "6: vhosts[0].routes[2].pin: has none of 'cookie', 'header', 'query'; write one of the three",
            "7: vhosts[0].routes[3].pin.header: found 'Host'; that field means something else, choose another name",
            "7: vhosts[0].routes[3].pin.allow[0]: found '10.0.0.1/8'; did you mean '10.0.0.0/8'?",
            "7: vhosts[0].routes[3].pin.secret: found something else (not shown) than text of at least 16 "
            "characters; 'openssl rand -hex 32' makes a secret",
            "8: vhosts[0].routes[4].pin.query: found ''; write the name of a query parameter, as in backend",
            "8: vhosts[0].routes[4].pin.secret: found something else (not shown) than text of at least 16 "
            "characters; 'openssl rand -hex 32' makes a secret",
            "10: clusters.a.sticky.cookie: found 'a b'; write the name of a cookie, as in lemmy",
            "10: clusters.a.sticky.path: found 'shop'; write a path, as in /shop",
            "10: clusters.a.sticky.domain: found 'a b'; that is not a host name, as in shop.example",
            "10: clusters.a.sticky.max_age: found -1; write from 0 to 31536000 seconds",
            "10: clusters.a.sticky.same_site: found 'Lax'; write 'lax', 'strict' or 'none'",
            "11: clusters.b.sticky: has neither 'cookie' nor 'header'; write one of them",
            "12: clusters.c.sticky: has both 'cookie' and 'header'; write one of them",
            "13: clusters.d.sticky.header: found 'Set-Cookie'; that field means something else, choose another name",
            "13: clusters.d.sticky.secrets[0]: found something else (not shown) than text of at least 16 "
            "characters; 'openssl rand -hex 32' makes a secret",
            "14: clusters.e.sticky: has 'header', and 'path' belongs to a cookie",
            "15: clusters.f.sticky: has 'secret' and 'secrets'; write all of them into 'secrets', the one "
            "that signs first",
            "16: clusters.g.sticky: has 'same_site: none', which browsers refuse with 'secure: never'",
            "17: clusters.h.sticky: has a cookie with the prefix '__Secure-', which browsers refuse without "
            "'secure: always'",
            "18: clusters.i.sticky: has a cookie with the prefix '__Host-', which browsers refuse without "
            "'secure: always', with a domain, and with another path than '/'",
            "19: clusters.j.sticky.path: found '/;x'; write a path, as in /shop",
            "20: clusters.k.sticky: has a 'max_age' that is no whole number of seconds",
            "21: clusters.l.sticky: found true; write a mapping: settings with their values",
        ],
    ),
    (
        "classes",
        """\
        vhosts:
          - hosts: [a.example]
            bucket: gold
            routes:
              - {cluster: web, bucket: vipp}
              - {cluster: api, bucket: vip}
        clusters:
          web:
            backends: [{url: "http://10.0.0.1", capacity: 10}, "http://10.0.0.2"]
            buckets: {vip: {rate: 20%}, main: {rate: 80%}}
          api:
            backends: []
            buckets: {a: {rate: 60%}, b: {rate: 50%}}
          deep:
            backends: []
            buckets: {a: {buckets: {b: {}, c: {buckets: {a: {}}}}}}
          odd:
            backends: []
            buckets: {a: {rate: 50%, ceil: 20%}, b: {ceil: 0%}, c: {rate: 0.2}}
          queued:
            backends: []
            queue: {limit: -1, timeout: 0, retry_after: soon, on_unavailable: 1}
            buckets_by: {header: X-Class, cookie: class}
          usual:
            backends: []
            buckets: {vip: {}}
            bucket: main
          named:
            backends: []
            buckets_by: {header: X-Class, options: {a: 1}}
        """,
        [
            "3: vhosts[0].bucket: there is no bucket 'gold' in cluster 'web' or 'api'",
            "5: vhosts[0].routes[0].bucket: there is no bucket 'vipp' in cluster 'web'; did you mean 'vip'?",
            "6: vhosts[0].routes[1].bucket: there is no bucket 'vip' in cluster 'api'",
            "8: clusters.web: has buckets, shares of capacities, and active backends without one: 10.0.0.2:80",
            "11: clusters.api: the rates of buckets beside each other add up to 110%: a 60%, b 50%; 100% is "
            "all there is",
            "14: clusters.deep: two buckets are called 'a'; give each a name of its own, wherever it is",
            "19: clusters.odd.buckets.a: is ensured more than it may have: rate 50%, ceil 20%; write a rate "
            "that is not above the ceil",
            "19: clusters.odd.buckets.b: has the ceil 0%, so that its requests would wait for nothing; write more",
            "19: clusters.odd.buckets.c.rate: found 0.2; write a percentage, as in 50%",
            "22: clusters.queued.queue.limit: found -1; write from 0 to 1000000",
            "22: clusters.queued.queue.timeout: found 0; write from 0.001 to 31536000 seconds",
            "22: clusters.queued.queue.retry_after: found 'soon'; write a duration: seconds as a number, or "
            "as in 250ms, 2s, 1m, 1h",
            "22: clusters.queued.queue.on_unavailable: found 1; write true or false",
            "23: clusters.queued.buckets_by: has header and cookie; write one of header, cookie and plugin",
            "24: clusters.usual: bucket: there is no bucket 'main'; there are vip",
            "30: clusters.named.buckets_by: has options and no plugin that takes them",
        ],
    ),
    (
        "labels",
        """\
        vhosts:
          - hosts: [a.example]
            routes:
              - {path: /a, cluster: web, subset: {version: "2", zone: a}}
              - {path: /b, cluster: web, subset: {version: "2", zone: b}}
              - {path: /c, cluster: old, subset: {version: "2"}}
              - {path: /d, cluster: web, subset: {version: 2}}
              - {path: /e, cluster: web, subset: version}
              - {path: /f, cluster: old, subset: {}}
        clusters:
          web:
            backends:
              - {url: "http://10.0.0.1", labels: {version: "2", zone: a}}
              - {url: "http://10.0.0.2", labels: {version: "1", zone: b}, state: away}
              - {url: "http://10.0.0.3", labels: {a b: x}}
              - {url: "http://10.0.0.4", labels: {version: ""}}
          old: {backends: ["http://10.0.0.5"]}
        """,
        [
            "5: vhosts[0].routes[1].subset: no backend of cluster 'web' has all of these labels: version=2, zone=b; "
            "the route could reach nobody",
            "6: vhosts[0].routes[2].subset: no backend of cluster 'old' has labels; the route could reach nobody",
            "7: vhosts[0].routes[3].subset: version: found 2; write a text of up to 100 characters, a number in quotes",
            "8: vhosts[0].routes[4].subset: found 'version'; write a mapping: names with their values, as in "
            '{version: "2"}',
            "14: clusters.web.backends[1].state: found 'away'; write 'ready', 'drain' or 'disabled'",
            "15: clusters.web.backends[2].labels: found the label 'a b'; write up to 100 letters, digits and "
            "_ . : @ [ ] -",
            "16: clusters.web.backends[3].labels: version: found ''; write a text of up to 100 characters, a number in "
            "quotes",
        ],
    ),
    (
        "many_labels",
        'clusters: {a: {backends: [{url: "http://a", labels: {'
        + ", ".join(f"l{number}: x" for number in range(17))
        + "}}]}}\n",
        ["1: clusters.a.backends[0].labels: found 17 labels; write up to 16"],
    ),
    (
        "second_chances",
        """\
        clusters:
          web:
            backends: []
            retry: {attempts: 11, budget: 0.2, budget_at_least: -1, try_timeout: 0, backoff: {first: 2, most: 1}}
            hedge: {quantile: 101%, at_least: 0, most: 9}
            circuit_breaker: {errors: 0%}
            failover: wep
          api:
            backends: []
            circuit_breaker: {reply: 200, volume: 0, half_open: 0, latency: {above: 0}, fallback: apis}
            failover: api
          one: {backends: [], failover: two}
          two: {backends: [], circuit_breaker: {fallback: three}}
          three: {backends: [], failover: one}
          four: {backends: [], failover: three}
        defaults:
          failover: none
        """,
        [
            "4: clusters.web.retry.attempts: found 11; write from 1 to 10",
            "4: clusters.web.retry.budget: found 0.2; write a percentage, as in 50%",
            "4: clusters.web.retry.budget_at_least: found -1; write from 0 to 1000000",
            "4: clusters.web.retry.try_timeout: found 0; write from 0.001 to 31536000 seconds",
            "4: clusters.web.retry.backoff: has a first pause that is longer than 'most'; write a shorter one",
            "5: clusters.web.hedge.quantile: found '101%'; write from 0 to 100%",
            "5: clusters.web.hedge.at_least: found 0; write from 0.001 to 31536000 seconds",
            "5: clusters.web.hedge.most: found 9; write from 1 to 3",
            "6: clusters.web.circuit_breaker: has no limit: errors are 0% and there is no latency; write one of them",
            "7: clusters.web.failover: there is no cluster 'wep'; did you mean 'web'?",
            "10: clusters.api.circuit_breaker.fallback: there is no cluster 'apis'; did you mean 'api'?",
            "10: clusters.api.circuit_breaker.latency.above: found 0; write from 0.001 to 31536000 seconds",
            "10: clusters.api.circuit_breaker.volume: found 0; write from 1 to 1000000",
            "10: clusters.api.circuit_breaker.half_open: found 0; write from 1 to 1000",
            "10: clusters.api.circuit_breaker.reply: found 200; write 429, 500, 502, 503 or 504",
            "11: clusters.api.failover: the requests would go in a circle: 'api' → 'api'; end it in some cluster",
            "12: clusters.one.failover: the requests would go in a circle: "
            "'one' → 'two' → 'three' → 'one'; end it in some cluster",
            "13: clusters.two.circuit_breaker.fallback: the requests would go in a circle: "
            "'two' → 'three' → 'one' → 'two'; end it in some cluster",
            "14: clusters.three.failover: the requests would go in a circle: "
            "'three' → 'one' → 'two' → 'three'; end it in some cluster",
            "17: defaults.failover: there is no cluster 'none'; did you mean 'one'?",
        ],
    ),
    (
        "doors_in",
        """\
        listeners:
          - endpoint: tcp:1
            tls: {}
            http2: maybe
          - endpoint: tcp:2
            proxy_protocol: true
          - endpoint: tcp:3
            tls:
              certificates: []
              minimum_version: 1.2
              preset: old
              client_auth: never
              ticket_rotation: 1
              handshakes: 0
              hsts: {}
          - endpoint: tcp:4
            tls: {certificates: [a.pem], client_crl: crl.pem}
          - endpoint: tcp:5
            tls: {certificates: [a.pem]}
            redirect_https: true
          - {endpoint: "tcp:6", redirect_https: 70000}
        """,
        [
            "3: listeners[0].tls.certificates: is missing: PEM files with chain and key, in one file or in two side by "
            "side, or folders of them",
            "4: listeners[0].http2: found 'maybe'; write true or false",
            "5: listeners[1]: has 'proxy_protocol' without 'trusted_proxies'; write whose headers are believed",
            "9: listeners[2].tls.certificates: found an empty list; write at least one",
            "10: listeners[2].tls.minimum_version: found 1.2; write '1.2' or '1.3'",
            "11: listeners[2].tls.preset: found 'old'; write 'intermediate' or 'modern'",
            "12: listeners[2].tls.client_auth: found 'never'; write 'required' or 'optional'",
            "13: listeners[2].tls.ticket_rotation: found 1; write from 60 to 604800 seconds",
            "14: listeners[2].tls.handshakes: found 0; write from 1 to 1000000",
            "15: listeners[2].tls.hsts.max_age: is missing: for how long, as in 365d",
            "17: listeners[3].tls: has 'client_crl' without 'client_ca'; write the file of the authorities too",
            "18: listeners[4]: has both 'redirect_https' and 'tls'; who comes to this listener is on HTTPS already",
            "21: listeners[5].redirect_https: found 70000; write true, false, or the port of HTTPS",
        ],
    ),
    (
        "doors_out",
        """\
        clusters:
          web:
            backends: ["fcgi://a", "h2+unix:///a", "https://b"]
            tls: {key: a.key}
            http2: {streams: 0}
            proxy_protocol: v3
          php:
            backends: ["fcgi://a"]
          other:
            backends: []
            tls: {pin: [abc], name: "a b", minimum_version: "1.1"}
            fastcgi: {root: srv, index: a/b, split: php, params: {HTTP_PROXY: x, "a-b": y}}
        """,
        [
            "3: clusters.web.backends[1].url: found 'h2+unix:///a'; the scheme is one of http, https, h2, h2c, fcgi, "
            "http+unix, https+unix, fcgi+unix",
            "4: clusters.web.tls: has 'key' without 'certificate'",
            "5: clusters.web.http2.streams: found 0; write from 1 to 10000",
            "6: clusters.web.proxy_protocol: found 'v3'; write 'v1' or 'v2'",
            "7: clusters.php: has fcgi backends and no 'fastcgi: {root: …}'; write the folder of the scripts there",
            "11: clusters.other.tls.name: found 'a b'; that is not a host name, as in shop.example",
            "11: clusters.other.tls.pin[0]: found 'abc'; write the SHA-256 of the public key (its DER form) in base64",
            "11: clusters.other.tls.minimum_version: found '1.1'; write '1.2' or '1.3'",
            "12: clusters.other.fastcgi.root: found 'srv'; write an absolute path, as in /srv/app",
            "12: clusters.other.fastcgi.index: found 'a/b'; write the name of a file, as in index.php, or /index.php "
            "for all paths",
            "12: clusters.other.fastcgi.split: found 'php'; write the end of a file's name, as in .php",
            "12: clusters.other.fastcgi.params.HTTP_PROXY: found 'HTTP_PROXY'; write the name of a variable, as in "
            "APP_ENV",
            "12: clusters.other.fastcgi.params.a-b: found 'a-b'; write the name of a variable, as in APP_ENV",
        ],
    ),
    (
        "store",
        "store: {type: 7, lease: 0.5}\n",
        [
            "1: store.type: found 7; write text; put it in quotes",
            "1: store.lease: found 0.5; write from 1 to 3600 seconds",
        ],
    ),
    (
        "environment",
        """\
        listeners:
          - endpoint: "tcp:${MISSING}"
        clusters:
          web:
            backends:
              - url: "http://a:${PORT}"
                weight: "${WEIGHT}"
                capacity: "${1X}"
                name: "${NAME"
              - "http://${EMPTY}"
        limits: {headers: "${EMPTY}"}
        forwarding: {forwarded: "${WEIGHT}"}
        access_log: {path: "${LATIN}"}
        """,
        [
            "2: listeners[0].endpoint: MISSING is not in the environment; set it, or write ${MISSING:-default}",
            "7: clusters.web.backends[0].weight: found 'heavy'; write a whole number from 0 to 1000",
            "8: clusters.web.backends[0].capacity: found '${1X}'; write ${NAME} or ${NAME:-default}",
            "9: clusters.web.backends[0].name: '${' without '}'; write '$${' for the characters themselves",
            "10: clusters.web.backends[1].url: found 'http://'; write host and port after the slashes, as in "
            "'http://10.0.0.1:8080'",
            "11: limits.headers: found ''; write a whole number from 1 to 10000",
            "12: forwarding.forwarded: found 'heavy'; write true or false",
            "13: access_log.path: LATIN in the environment is not UTF-8; set it to text that is",
        ],
    ),
    (
        "endpoints",
        """\
        listeners:
          - endpoint: tcp:8080
          - endpoint: udp:1
          - endpoint: tcp:8080
          - endpoint: tcp:0
          - endpoint: tcp:0
        admin: {endpoint: tcp:8080}
        """,
        [
            "3: listeners[1].endpoint: no endpoint: 'udp:1'",
            "4: listeners[2].endpoint: 'tcp:8080' is listed twice; the first is in line 2",
            "7: admin.endpoint: 'tcp:8080' is listed twice; the first is in line 2",
            "7: admin.endpoint: no token for 'tcp:8080'",
        ],
    ),
    ("admin", "\nadmin: {endpoint: tcp:80}\n", ["2: admin.endpoint: no token for 'tcp:80'"]),
    (
        "schedulers",
        """\
        clusters:
          a: {backends: [], scheduler: fastest}
          b:
            backends: []
            scheduler:
              name: first
              pace: 7
        defaults: {scheduler: fastest}
        """,
        [
            "2: clusters.a.scheduler: no scheduler: 'fastest' {}",
            "5: clusters.b.scheduler: no scheduler: 'first' {'pace': 7}",
            "8: defaults.scheduler: no scheduler: 'fastest' {}",
        ],
    ),
    (
        "plugins",
        "plugins: [broken, fine, /opt/broken]\nclusters: {a: {backends: [], scheduler: fastest}}\n",
        ["1: plugins: broken plugins in /etc/lemmy/broken", "1: plugins: broken plugins in /opt/broken"],
    ),
    (
        "through_aliases",
        """\
        clusters:
          a: &base
            backends: []
            max_fail: 1
          b:
            <<: *base
            pool: {idle: x}
        """,
        [
            "4: clusters.a.max_fail: no such setting; did you mean 'max_fails'?",
            "4: clusters.b.max_fail: no such setting; did you mean 'max_fails'?",
            "7: clusters.b.pool.idle: found 'x'; write a whole number from 0 to 100000",
        ],
    ),
    (
        "unprintable",
        'clusters: {"a\\nb": {backends: ["http://a\\u0007"]}}\n',
        [
            "1: clusters['a\\nb']: found 'a\\nb'; write a name of up to 100 letters, digits and _ . : @ [ ] -",
            "1: clusters['a\\nb'].backends[0].url: found 'http://a\\x07'; write host and port after the slashes, as in "
            "'http://10.0.0.1:8080'",
        ],
    ),
)


def check_endpoint(description: str) -> str | None:
    """Knows TCP alone."""
    return None if description.startswith("tcp:") else f"no endpoint: {description!r}"


def check_scheduler(name: str, options: Mapping[str, object]) -> str | None:
    """Knows two names and no options."""
    return None if name in ("lemmy", "round_robin") and not options else f"no scheduler: {name!r} {options!r}"


def check_plugins(folders: Sequence[str]) -> list[str]:
    """Finds fault with some folders."""
    return [f"broken plugins in {folder}" for folder in folders if folder.endswith("broken")]


def check_admin(endpoint: str, tokens: tuple[Token, ...]) -> str | None:
    """Wants a token for an endpoint that is not on loopback."""
    return None if tokens or endpoint.endswith("127.0.0.1") else f"no token for {endpoint!r}"


class ErrorTests(SynchronousTestCase):
    """The table above, each row as a test."""

    maxDiff = None

    def lines(self, text: str) -> list[str]:
        """What a user is told about a file, without the file's name."""
        with self.assertRaises(config.ConfigurationError) as caught:
            config.read(
                dedent(text).encode(),
                "/etc/lemmy/x.yaml",
                check_endpoint,
                check_scheduler,
                check_plugins,
                check_admin,
                ENVIRONMENT,
            )
        lines = str(caught.exception).split("\n")
        self.assertEqual([str(problem) for problem in caught.exception.errors], lines)
        for line in lines:
            self.assertTrue(line.startswith("/etc/lemmy/x.yaml:"), line)
        return [line.removeprefix("/etc/lemmy/x.yaml:") for line in lines]

    def test_no_secret_is_repeated(self) -> None:
        """No message repeats a token or a password that stands in the wrong place."""
        for name, text, _ in CASES:
            if "geheim" in text:
                self.assertNotIn("geheim", "\n".join(self.lines(text)), name)

    def test_not_utf8(self) -> None:
        """A file in another encoding is refused with the line of the first odd byte."""
        with self.assertRaises(config.ConfigurationError) as caught:
            config.read(b"workers: 1\naccess_log: {path: \xe4}\n", "x.yaml")
        self.assertEqual("x.yaml:2: byte 0xe4 is not UTF-8; save the file in that encoding", str(caught.exception))

    def test_too_large(self) -> None:
        """A file of more than one mebibyte is not even parsed."""
        with self.assertRaises(config.ConfigurationError) as caught:
            config.read(b"#" * ((1 << 20) + 1), "x.yaml")
        self.assertEqual("x.yaml: the file is larger than 1048576 bytes", str(caught.exception))

    def test_not_there(self) -> None:
        """A file that is not there is an error like any other."""
        with self.assertRaises(config.ConfigurationError) as caught:
            config.load("nowhere/x.yaml")
        self.assertEqual("nowhere/x.yaml: cannot be read: No such file or directory", str(caught.exception))

    def test_folder(self) -> None:
        """A folder in place of a file is an error like any other."""
        folder = self.mktemp()
        os.mkdir(folder)
        with self.assertRaises(config.ConfigurationError) as caught:
            config.load(folder)
        self.assertEqual(f"{folder}: cannot be read: Is a directory", str(caught.exception))

    def test_attributes(self) -> None:
        """A program finds file, line, setting and text apart."""
        with self.assertRaises(config.ConfigurationError) as caught:
            config.read(b"limits:\n  haeders: 1\n", "x.yaml")
        (problem,) = caught.exception.errors
        self.assertEqual(
            ("x.yaml", 2, "limits.haeders", "no such setting; did you mean 'headers'?"),
            (problem.file, problem.line, problem.setting, problem.text),
        )

    def test_one_line(self) -> None:
        """A problem is one line of printable characters, whatever the file is called and whatever stands in it."""
        self.assertEqual("a\\nb.yaml: \\x07\\ud800é", str(Problem("a\nb.yaml", 0, "", "\x07\ud800é")))

    def test_billion_laughs(self) -> None:
        """Aliases that would grow into millions of values end the reading, in lists and in merges."""
        names = "abcdefghijkl"
        lists = "a: &a [x]\n" + "".join(
            f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in pairwise(names)
        )
        merges = "a: &a {x: 1}\n" + "".join(
            f"{name}: &{name} {{<<: [{','.join(['*' + before] * 9)}]}}\n" for before, name in pairwise(names)
        )
        for text in (lists, merges):
            with self.assertRaises(config.ConfigurationError) as caught:
                config.read(text.encode(), "x.yaml")
            self.assertEqual("x.yaml: more than 500000 values or 32 levels, aliases written out", str(caught.exception))


def _case(name: str, text: str, expected: list[str]) -> None:
    """Makes a row of the table a test."""

    def test(self: ErrorTests) -> None:
        self.assertEqual(expected, self.lines(text))

    test.__doc__ = f"The file {name!r} is refused with the lines in the table."
    setattr(ErrorTests, f"test_table_{name}", test)


for _row in CASES:
    _case(*_row)
