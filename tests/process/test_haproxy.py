"""A proxy and a real HAProxy before the same servers, with the same traffic: both have the same statistics."""

from __future__ import annotations

import csv
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import Lemmy, Process, answers, configuration, folder, program
from tests.wire.rig import free_port

Rows = dict[tuple[str, str], dict[str, str]]

#: What both are asked for, each over a connection of its own.
REQUESTS = ("GET /200", "GET /200", "POST /201", "GET /302", "GET /404", "GET /404", "GET /500")

#: Fields that have to be the same, for each kind of row. What is not among them depends on the moment (ages, rates,
#: times), or is counted otherwise, and docs/haproxy.md says how.
SAME = {
    "FRONTEND": "svname stot status pid type rate_lim hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other req_tot"
    " mode",
    "BACKEND": "pxname svname qcur scur stot econ eresp wretr wredis status weight act bck pid sid lbtot type hrsp_1xx"
    " hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other req_tot cli_abrt srv_abrt mode uweight",
    "a": "pxname svname qcur scur slim stot econ eresp status weight act bck pid sid throttle lbtot type check_status"
    " check_code chkfail chkdown check_desc hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other cli_abrt srv_abrt"
    " mode uweight tracked",
    "b": "pxname svname qcur scur slim stot econ eresp status weight act bck pid sid lbtot type check_status check_code"
    " check_desc hrsp_2xx cli_abrt srv_abrt mode uweight",
    "d": "pxname svname qcur scur slim stot status weight act bck pid sid lbtot type check_status check_code last_chk"
    " chkfail chkdown check_desc hrsp_2xx mode uweight",
    "m": "pxname svname qcur scur slim stot status weight act bck pid sid lbtot type check_status hrsp_2xx mode"
    " uweight",
}


class Serves(BaseHTTPRequestHandler):
    """Answers with the status that its path is, or not at all."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """GET."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/cut":
            self.close_connection = True
            return
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """A check may be over before its answer is."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called by socketserver. HAProxy resets the connection of a check once it has seen the status."""


class HAProxy(Process):
    """
    The real one.

    @ivar port: where it takes requests, C{stats}: where it tells of them.
    """

    def __init__(self, case: SynchronousTestCase, server: int, dead: int) -> None:
        where = folder(case)
        self.port, self.stats = free_port(), free_port()
        config = os.path.join(where, "haproxy.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                "global\n maxconn 100\n"
                "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
                " timeout check 5s\n"
                f"listen stats\n bind 127.0.0.1:{self.stats}\n stats enable\n stats uri /haproxy\n"
                f"frontend web\n bind 127.0.0.1:{self.port}\n default_backend c\n"
                "backend c\n balance roundrobin\n option httpchk GET /200\n"
                f" server a 127.0.0.1:{server} check inter 500ms rise 1 fall 1 weight 3\n"
                f" server b 127.0.0.1:{dead} check inter 500ms rise 1 fall 1\n"
                f" server d 127.0.0.1:{server} backup\n"
                f" server m 127.0.0.1:{server} disabled\n"
            )
        super().__init__(case, [program("haproxy"), "-db", "-f", config], where)
        self.wait(lambda: answers(self.stats), "listening")

    def ask(self, path: str) -> bytes:
        """Its statistics."""
        return fetch(http.client.HTTPConnection("127.0.0.1", self.stats, timeout=5), "GET", path)[1]


class OverUnix(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        """Called by http.client."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def fetch(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, bytes]:
    """One request, and the connection's end."""
    try:
        connection.request(method, path, b"1234567" if method == "POST" else None)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def rows(text: bytes) -> Rows:
    """CSV, read as its readers do: without the mark at its beginning; and that of a check that is under way."""
    found = csv.DictReader(text.decode("utf-8").removeprefix("# ").replace(",* L", ",L").splitlines())
    return {(row["pxname"], row["svname"]): row for row in found}


class HAProxyTests(SynchronousTestCase):
    """Side by side."""

    def setUp(self) -> None:
        server = Server(("127.0.0.1", 0), Serves)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        port, dead = server.server_port, free_port()
        url = f"http://127.0.0.1:{port}"
        check = {"type": "http", "path": "/200", "interval": "500ms", "timeout": "5s", "rise": 1, "fall": 1}
        cluster = {
            "scheduler": "round_robin",
            "backends": [
                {"name": "a", "url": url, "weight": 3, "health_check": {**check, "initial": "down"}},
                {"name": "b", "url": f"http://127.0.0.1:{dead}", "health_check": check},
                {"name": "d", "url": url, "role": "backup"},
                {"name": "m", "url": url},
            ],
        }
        # Both start at the same time.
        self.lemmy = Lemmy(self, configuration([], cluster=cluster))
        self.haproxy = HAProxy(self, port, dead)
        self.lemmy.ready()
        self.assertEqual(200, self.lemmy.post("/api/v1/clusters/c/backends/m/disable")[0])

    def ours(self, path: str) -> bytes:
        """What the proxy says."""
        status, body = fetch(OverUnix(self.lemmy.admin), "GET", path)
        self.assertEqual(200, status, body)
        return body

    def settled(self, ask: Callable[[str], bytes], done: Callable[[Rows], bool]) -> Rows:
        """The statistics, once they are as they must become."""
        found: Rows = {}

        def looks() -> bool:
            found.clear()
            found.update(rows(ask("/haproxy;csv;norefresh")))
            return done(found)

        self.lemmy.wait(looks, "statistics that have settled")
        return found

    def test_same(self) -> None:
        """The columns, their values and what JSON says of them are those of HAProxy."""
        sides = {self.lemmy.port: self.ours, self.haproxy.port: self.haproxy.ask}
        for port, ask in sides.items():
            self.settled(ask, lambda found: (found["c", "a"]["status"], found["c", "b"]["status"]) == ("UP", "DOWN"))
            for request in REQUESTS:
                method, path = request.split()
                status, _ = fetch(http.client.HTTPConnection("127.0.0.1", port, timeout=5), method, path)
                self.assertEqual(int(path[1:]), status)

        def served(found: Rows) -> bool:
            return all(found["c", name]["scur"] == "0" for name in ("a", "BACKEND")) and found["c", "a"]["stot"] == "7"

        ours, theirs = (self.settled(ask, served) for ask in sides.values())
        names, known = (list(side["c", "a"]) for side in (ours, theirs))
        end = known.index("-")
        self.assertEqual(known[:end], names[:end])
        self.assertEqual(["-", ""], names[-2:])
        ours["web", "FRONTEND"] = ours.pop(("*", "FRONTEND"))
        for name, fields in SAME.items():
            key = ("web" if name == "FRONTEND" else "c", name)
            wanted = {field: theirs[key][field] for field in fields.split()}
            self.assertEqual(wanted, {field: ours[key][field] for field in fields.split()}, name)
        # Both count bytes, they those of heads too.
        self.assertEqual(("7", "35"), (ours["c", "a"]["bin"], ours["c", "a"]["bout"]))
        # What has a number there has one here, or nothing.
        for key, row in theirs.items():
            for field in known[:end] if key in ours else ():
                if row[field].isdigit() and ours[key][field]:
                    self.assertTrue(ours[key][field].isdigit(), (key, field, ours[key][field]))
        self._same_json()
        for port in sides:
            status, _ = fetch(http.client.HTTPConnection("127.0.0.1", port, timeout=5), "POST", "/cut")
            self.assertEqual(502, status)

        def cut(found: Rows) -> bool:
            return found["c", "a"]["scur"] == "0" and found["c", "a"]["stot"] == "8"

        ours, theirs = (self.settled(ask, cut) for ask in sides.values())
        for name, fields in (("a", "econ eresp hrsp_2xx"), ("BACKEND", "econ eresp hrsp_2xx hrsp_5xx wretr wredis")):
            wanted = {field: theirs["c", name][field] for field in fields.split()}
            self.assertEqual(wanted, {field: ours["c", name][field] for field in fields.split()}, name)
        self.assertEqual("1", ours["c", "a"]["eresp"])
        # What a client saw for it counts here with the server, too.
        self.assertEqual(("2", "1"), (ours["c", "a"]["hrsp_5xx"], theirs["c", "a"]["hrsp_5xx"]))

    def _same_json(self) -> None:
        """Each field is described as it is there, but for its number of a process and of an object."""

        def described(text: bytes) -> dict[tuple[str, str], object]:
            found = {}
            for row in json.loads(text):
                for field in row:
                    value = field["value"]
                    told = (field["field"], field["tags"], value["type"], type(value["value"]), sorted(field))
                    found[field["objType"], field["field"]["name"]] = told
            return found

        ours, theirs = described(self.ours("/haproxy;json")), described(self.haproxy.ask("/haproxy;json"))
        # The only one that 2.6 calls otherwise than 3 (a gauge).
        both = (ours.keys() & theirs.keys()) - {("Backend", "rate")}
        self.assertGreater(len(both), 80)
        self.assertEqual({}, {key: (theirs[key], ours[key]) for key in both if theirs[key] != ours[key]})
