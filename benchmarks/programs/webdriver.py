"""
As much of a WebDriver client as the run needs (W3C WebDriver, chromedriver's dialect): one browser, one window.

The protocol is JSON over HTTP, one request per command, so this is shorter than what a library would have to be told.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.machine import Failed
from benchmarks.programs.common import until

#: The name under which an element travels (W3C WebDriver §12.1).
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

#: Keys that have no character (W3C WebDriver §17.4.2).
SHIFT = "\ue008"
ENTER = "\ue007"

#: Seconds for one command. A page that is busy with a large upload answers late.
_ANSWER = 120.0

#: Chromium asks its maker's servers for this and that unless told not to.
_FLAGS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server",
    "--window-size=1400,900",
)  # fmt: skip


class Browser:
    """A headless Chromium, by way of a running chromedriver."""

    def __init__(self, port: int, chromium: str, profile: Path, downloads: Path) -> None:
        """
        @param port: chromedriver's.
        @param chromium: the program.
        @param profile: an empty folder for what it keeps.
        @param downloads: a folder for what it downloads.
        """
        self._port = port
        self._session = ""
        # Chromium's sandbox refuses to run as root.
        flags = [*_FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        options = {
            "binary": chromium,
            "args": flags,
            "prefs": {"download.default_directory": str(downloads), "download.prompt_for_download": False},
        }
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self._session = f"/session/{made['sessionId']}"
        #: What it calls itself.
        self.version = f"{made['capabilities']['browserName']} {made['capabilities']['browserVersion']}"

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER)
        try:
            link.request(method, self._session + path, None if body is None else json.dumps(body))
            value = json.loads(link.getresponse().read())["value"]
        finally:
            link.close()
        if isinstance(value, dict) and "error" in value:
            raise Failed(f"browser: {path}: {value['error']}: {value['message'].partition(chr(10))[0]}")
        return value

    def go(self, url: str) -> None:
        """Open a page and wait until it has loaded."""
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a JavaScript function in the page; return what it returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, css: str) -> str | None:
        """The first element that is shown and fits, if there is any."""
        for found in self._ask("POST", "/elements", {"using": "css selector", "value": css}):
            element = str(found[_ELEMENT])
            if self.run("return arguments[0].checkVisibility()", found):
                return element
        return None

    def wait(self, css: str, seconds: float = 60) -> str:
        """
        The same once it is there.

        @raise Failed: it did not come.
        """
        return until(f"an element {css!r} in the page", seconds, lambda: self.find(css), pause=0.3)

    def click(self, css: str, seconds: float = 60) -> None:
        """
        Click on an element as soon as it is there and nothing is in its way.

        @raise Failed: it never was.
        """
        refused: list[Failed] = []

        def clicked() -> bool:
            element = self.find(css)
            if element is None:
                return False
            try:
                self._ask("POST", f"/element/{element}/click", {})
            except Failed as why:  # it moved, or something is above it: the page is still at work
                refused.append(why)
                return False
            return True

        until(f"an element {css!r} to click on; {refused[-1:]}", seconds, clicked, pause=0.3)

    def type(self, css: str, text: str) -> None:
        """Type into an element, or tell a file input a file's path."""
        self.type_into(self.wait(css), text)

    def type_into(self, element: str, text: str) -> None:
        """The same, for an element that is known already."""
        self._ask("POST", f"/element/{element}/value", {"text": text})

    def hidden(self, css: str) -> str:
        """
        An element that need not be shown.

        @raise Failed: there is none.
        """
        return str(self._ask("POST", "/element", {"using": "css selector", "value": css})[_ELEMENT])

    def text(self, css: str) -> str:
        """The text of all elements that fit, one line each."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')"
        return str(self.run(script, css))

    def picture(self, path: Path) -> None:
        """Write what the window shows as a PNG file."""
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def close(self) -> None:
        """End the browser."""
        self._ask("DELETE", "")
