"""
A client of the shared address, as a program: C{python -m benchmarks.ha.client URL SECONDS RATE}.

It asks at fixed times, whatever became of earlier requests (an open loop), each time over a new connection, and prints
one JSON line for each: when it should have been sent (seconds since the start), how long it took, and what was
answered; or why nothing was.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from urllib.parse import urlsplit

#: A request that takes longer is lost, in seconds.
PATIENCE = 1.0


def ask(host: str, port: int) -> tuple[str, str]:
    """
    @return: the answer, or nothing; and why not.
    """
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read().decode("latin-1")
        return (body, "") if response.status == 200 else ("", f"status {response.status}")
    except (OSError, http.client.HTTPException) as error:
        return "", repr(error)
    finally:
        connection.close()


def main() -> None:
    """See the module."""
    address, seconds, rate = urlsplit(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    host, port = address.hostname, address.port
    assert host is not None and port is not None
    lock = threading.Lock()
    begun = time.monotonic()

    def one(due: float) -> None:
        answer, why = ask(host, port)
        line = json.dumps(
            {"at": round(due, 4), "took": round(time.monotonic() - begun - due, 4), "answer": answer, "why": why}
        )
        with lock:
            print(line, flush=True)

    threads = []
    for number in range(int(seconds * rate)):
        due = number / rate
        time.sleep(max(0.0, begun + due - time.monotonic()))
        threads.append(threading.Thread(target=one, args=(due,)))
        threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
