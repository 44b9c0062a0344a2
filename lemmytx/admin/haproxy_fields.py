"""
The fields of HAProxy's statistics, and how a row of them is written: as CSV, and as C{show stat json} has it.

Names, order, types and tags are those of HAProxy 3.4 (management.txt §9.1 and 9.2, src/stats-proxy.c,
src/stats-json.c). 3.0 to 3.3 have the same, up to C{proto} or further; 2.6 up to C{agg_check_status}: fields have only
ever been added at the end, since there are tools that count columns.

A row is a dictionary with those fields that have a value. The others are empty in CSV and absent in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

Row = Mapping[str, int | str]

_NAMES = """
pxname svname qcur qmax scur smax slim stot bin bout dreq dresp ereq econ eresp wretr wredis status weight act bck
chkfail chkdown lastchg downtime qlimit pid iid sid throttle lbtot tracked type rate rate_lim rate_max check_status
check_code check_duration hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other hanafail req_rate req_rate_max
req_tot cli_abrt srv_abrt comp_in comp_out comp_byp comp_rsp lastsess last_chk last_agt qtime ctime rtime ttime
agent_status agent_code agent_duration check_desc agent_desc check_rise check_fall check_health agent_rise
agent_fall agent_health addr cookie mode algo conn_rate conn_rate_max conn_tot intercepted dcon dses wrew connect
reuse cache_lookups cache_hits srv_icur src_ilim qtime_max ctime_max rtime_max ttime_max eint idle_conn_cur
safe_conn_cur used_conn_cur need_conn_est uweight agg_server_status agg_server_check_status agg_check_status srid
sess_other h1sess h2sess h3sess req_other h1req h2req h3req proto priv_idle_cur reqbin reqbout resbin resbout
"""

#: In their order.
FIELDS = tuple(_NAMES.split())

#: What C{type} says of a row, and what JSON calls that.
FRONTEND, BACKEND, SERVER = 0, 1, 2
_KINDS = ("Frontend", "Backend", "Server")

#: The first line. The column C{-} marks the end of the fields that have a fixed place; HAProxy ends each line with a
#: comma, and so the number of columns is one more than that of names.
HEADER = f"# {','.join(FIELDS)},-,\n"

#: Type, origin and nature of what is no counter, and its scope where that is no process.
_COUNTER = ("u64", "Metric", "Counter", "Process")
_OTHERS: Mapping[str, tuple[str, str, str, str]] = {
    **dict.fromkeys(("pxname", "svname"), ("str", "Key", "Name", "Service")),
    **dict.fromkeys(("qcur", "scur", "srv_icur"), ("u32", "Metric", "Gauge", "Process")),
    **dict.fromkeys(("act", "bck"), ("u32", "Metric", "Gauge", "Process")),
    **dict.fromkeys(("slim", "rate_lim"), ("u32", "Config", "Limit", "Process")),
    **dict.fromkeys(("weight", "uweight", "throttle", "rtime", "ttime"), ("u32", "Metric", "Avg", "Process")),
    **dict.fromkeys(("rate", "req_rate"), ("u32", "Metric", "Rate", "Process")),
    **dict.fromkeys(("iid", "sid"), ("u32", "Key", "Gauge", "Service")),
    **dict.fromkeys(("check_status", "last_chk", "check_desc"), ("str", "Metric", "Output", "Process")),
    **dict.fromkeys(("mode", "addr"), ("str", "Config", "Gauge", "Service")),
    "status": ("str", "Status", "Gauge", "Process"),
    "check_code": ("u32", "Metric", "Output", "Process"),
    "lastchg": ("u32", "Metric", "Age", "Process"),
    "downtime": ("u32", "Metric", "Counter", "Process"),
    "srid": ("u32", "Metric", "Counter", "Process"),
    "pid": ("u32", "Key", "Gauge", "Process"),
    "type": ("u32", "Config", "Gauge", "Service"),
}

#: Of a server it is no number of servers, but what it is.
_OF_SERVERS: Mapping[str, tuple[str, str, str, str]] = dict.fromkeys(
    ("act", "bck"), ("u32", "Status", "Gauge", "Process")
)


def _middle(number: int, name: str, kind: int) -> tuple[str, str]:
    """What stands before and behind C{processNum} of a field, up to its value."""
    type_, origin, nature, scope = (_OF_SERVERS if kind == SERVER else {}).get(name) or _OTHERS.get(name, _COUNTER)
    return (
        f'"field":{{"pos":{number},"name":"{name}"}},"processNum":',
        f',"tags":{{"origin":"{origin}","nature":"{nature}","scope":"{scope}"}},"value":{{"type":"{type_}","value":',
    )


_MIDDLES = tuple([(name, *_middle(number, name, kind)) for number, name in enumerate(FIELDS)] for kind in range(3))


def quoted(text: str) -> str:
    """Text as HAProxy writes it in CSV: on one line, in quotes where it has a comma or a quote."""
    if '"' not in text and "," not in text and "\n" not in text and "\r" not in text:
        return text.rstrip(" ")
    line = text.replace("\r", "").replace("\n", " ").replace('"', '""').rstrip(" ")
    return f'"{line}"'


def to_csv(row: Row) -> str:
    """One line, with its end."""
    found = {name: quoted(value) if isinstance(value, str) else str(value) for name, value in row.items()}
    return f"{','.join([found.get(name, '') for name in FIELDS])},-,\n"


def to_json(row: Row) -> str:
    """One row: a list with an object for each field that has a value."""
    kind = int(row["type"])
    head = f'{{"objType":"{_KINDS[kind]}","proxyId":{row["iid"]},"id":{row["sid"]},'
    process = row["pid"]
    return (
        "["
        + ",".join(
            [
                f"{head}{before}{process}{behind}{json.dumps(row[name])}}}}}"
                for name, before, behind in _MIDDLES[kind]
                if name in row
            ]
        )
        + "]"
    )
