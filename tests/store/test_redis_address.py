"""URLs of Redis."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.plugin import Store
from lemmytx.store.place import Place
from lemmytx.store.redis.address import Address, Login, TlsFiles, parse_address
from lemmytx.store.redis.store import RedisStore

SECRET = "s3cr3t"

TAKEN = {
    "redis://127.0.0.1": Address("tcp", (("127.0.0.1", 6379),)),
    "redis://Redis.Example:7000/3": Address("tcp", (("redis.example", 7000),), database=3),
    "redis://[::1]:6380/?db=2": Address("tcp", (("::1", 6380),), database=2),
    "redis://:p%40ss@h/0": Address("tcp", (("h", 6379),), login=Login("", "p@ss")),
    "redis://ops:a:b@h": Address("tcp", (("h", 6379),), login=Login("ops", "a:b")),
    "rediss://h/1": Address("tcp", (("h", 6379),), database=1, tls=TlsFiles()),
    "rediss://h?ssl_ca_certs=ca.pem&ssl_certfile=c.pem&ssl_keyfile=k.pem&ssl_check_hostname=false": Address(
        "tcp", (("h", 6379),), tls=TlsFiles("ca.pem", "c.pem", "k.pem", True, False)
    ),
    "rediss://h?ssl_cert_reqs=none": Address("tcp", (("h", 6379),), tls=TlsFiles(verify=False)),
    "redis+unix:///run/redis.sock?db=4": Address("unix", path="/run/redis.sock", database=4),
    "unix://u:p@/run/redis.sock": Address("unix", path="/run/redis.sock", login=Login("u", "p")),
    "redis+sentinel://a,b:1,[::1]/mymaster": Address(
        "sentinel", (("a", 26379), ("b", 1), ("::1", 26379)), master="mymaster"
    ),
    "redis+sentinel://u:p@a/m/5?sentinel_username=s&sentinel_password=q&ssl=true": Address(
        "sentinel",
        (("a", 26379),),
        master="m",
        database=5,
        login=Login("u", "p"),
        sentinel_login=Login("s", "q"),
        tls=TlsFiles(),
    ),
    "rediss+sentinel://a/m": Address("sentinel", (("a", 26379),), master="m", tls=TlsFiles()),
}

REFUSED = {
    f"http://:{SECRET}@h": "the scheme of the URL is 'http'; it is one of redis, rediss",
    f":{SECRET}@h": "no URL",
    f"redis://:{SECRET} @h": "no URL",
    f"redis://:{SECRET}@": "lacks a host",
    f"redis://:{SECRET}@h:70000": "a port in the URL is from 1 to 65535",
    f"redis://:{SECRET}@h:123456": "lacks a host",
    f"redis://:{SECRET}@a..b": "a host in the URL is neither a name nor an address",
    f"redis://:{SECRET}@h/x": "the database in the URL is a number",
    f"redis://:{SECRET}@h/1?db=1": "in its path and as 'db' as well",
    f"redis://:{SECRET}@h/1/2": "the database in the URL is a number",
    f"redis://:{SECRET}#@h": "a '#' in it; in a password it is written %23",
    f"redis://:{SECRET}/@h": "an '@' after a '/'",
    "redis://ops@h": "a user without a password",
    f"redis://:{SECRET}@h?dbb=1": "an option 'dbb'; did you mean 'db'?",
    f"redis://:{SECRET}@h?db": "not of the form NAME=VALUE",
    f"redis://:{SECRET}@h?db=1&db=2": "an option twice",
    f"redis://:{SECRET}@h?ssl_certfile=x": "'ssl_certfile', which is for TLS; its scheme would be rediss",
    f"redis+sentinel://:{SECRET}@h/m?ssl_certfile=x": "its scheme would be rediss+sentinel",
    f"rediss://:{SECRET}@h?ssl_keyfile=x": "'ssl_keyfile' without 'ssl_certfile'",
    f"rediss://:{SECRET}@h?ssl_cert_reqs=optional": "is 'required' or 'none'",
    f"rediss://:{SECRET}@h?ssl_check_hostname=maybe": "is true or false",
    f"redis+unix://:{SECRET}@h/run/x": "write three slashes and the path",
    f"redis+unix://:{SECRET}@/": "write three slashes and the path",
    f"redis+unix://:{SECRET}@/{'x' * 200}": "up to 107 bytes",
    f"redis+sentinel://:{SECRET}@h": "lacks the master's name",
    f"redis+sentinel://:{SECRET}@h,/m": "lacks a host",
    f"redis+sentinel://h/m?sentinel_username={SECRET}": "a user without a password",
}


class AddressTests(SynchronousTestCase):
    """What stands in the configuration."""

    def test_taken(self) -> None:
        """The forms of redis-py and of Sentinel's clients are taken."""
        self.assertEqual({url: parse_address(url) for url in TAKEN}, TAKEN)

    def test_refused(self) -> None:
        """What is wrong is named, and the password is not repeated."""
        for url, why in REFUSED.items():
            with self.assertRaises(ValueError, msg=url) as caught:
                parse_address(url)
            self.assertIn(why, str(caught.exception), url)
            self.assertNotIn(SECRET, str(caught.exception))

    def test_shown(self) -> None:
        """Neither the address nor the store shows a secret."""
        for url in (
            f"redis://ops:{SECRET}@h:1/2",
            f"redis+unix://:{SECRET}@/run/x",
            f"rediss+sentinel://:{SECRET}@a,b:7/m?sentinel_password={SECRET}",
        ):
            store = RedisStore(Place(None, "."), url)
            for text in (str(parse_address(url)), repr(parse_address(url)), repr(store), store.problem):
                self.assertNotIn(SECRET, text)
        self.assertEqual(
            str(parse_address(f"redis+sentinel://:{SECRET}@a,[::1]:7/m")), "m by Sentinel (a:26379,[::1]:7)"
        )

    def test_options(self) -> None:
        """Options that do not fit are told by their names."""
        plugin = Store("redis", RedisStore)
        for options, why in (
            ({"url": f"redis://:{SECRET}@h/x"}, "url: the database in the URL is a number"),
            ({"prefix": "a b"}, "prefix: found 'a b'"),
            ({"vhost_refresh_rate": 0}, "vhost_refresh_rate: found 0"),
            ({"urll": "redis://h"}, "did you mean 'url'?"),
        ):
            with self.assertRaises(ValueError) as caught:
                plugin.build(options, Place(None, "."))
            self.assertIn(why, str(caught.exception))
        store = plugin.build({"vhost_refresh_rate": "250ms"}, Place(None, "."))
        self.assertEqual((store.refresh, store.shared, store.problem), (0.25, True, "not open"))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.text(alphabet="redis+unixsentinel:/@?&=#[]%,.0123456789ab \x00é", max_size=60))
    def test_any(self, text: str) -> None:
        """No text raises anything but an error for the user."""
        for url in (text, "redis://" + text, "redis+sentinel://" + text, "unix://" + text):
            try:
                parse_address(url)
            except ValueError:
                continue
