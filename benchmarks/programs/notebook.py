"""
JupyterLab in a browser, through lemmytx: a cell is run over the kernel's WebSocket, and a large file goes up and down.

The upload is the browser's own: JupyterLab cuts the file into chunks of 1 MiB and sends each as JSON with base64
inside. The download is the browser's as well: one response of the whole length.
"""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path

from benchmarks.machine import Failed
from benchmarks.programs.common import Finding, sha256, until, write_large
from benchmarks.programs.webdriver import ENTER, SHIFT, Browser

#: What the cell computes, and what must then be on the page. The answer is not in the question.
CELL = "print('answer', sum(range(10**6)))"
ANSWER = "answer 499999500000"

#: Seconds for a gigabyte, in either direction.
_LARGE = 900.0

_NAME = "large.bin"
_STATUS = "#jp-main-statusbar"


class Notebook:
    """
    What is done with JupyterLab.

    @ivar findings: what was seen so far.
    """

    def __init__(self, browser: Browser, port: int, host: str, token: str, folder: Path, pictures: Path) -> None:
        """
        @param port: lemmytx's.
        @param host: the vhost.
        @param token: JupyterLab's.
        @param folder: for files; C{served} in it is JupyterLab's own folder, C{downloads} where the browser puts files.
        @param pictures: where screenshots go.
        """
        self._browser = browser
        self._port = port
        self._host = host
        self._token = token
        self._served = folder / "served"
        self._downloads = folder / "downloads"
        self._large = folder / _NAME
        self._pictures = pictures
        self.findings: list[Finding] = []

    def run_cell(self) -> None:
        """
        Open JupyterLab, make a notebook, run a cell.

        @raise Failed: its output did not appear.
        """
        browser = self._browser
        began = time.monotonic()
        browser.go(f"http://{self._host}:{self._port}/lab?token={self._token}")
        browser.click(".jp-LauncherCard[data-category=Notebook]", 90)
        # A cell that is run before JupyterLab knows its kernel is not run at all, without a word.
        until("the status bar to say that the kernel is idle", 90, lambda: "| Idle" in browser.text(_STATUS))
        browser.click(".jp-Notebook .jp-CodeCell .cm-content")
        browser.type(".jp-Notebook .jp-CodeCell .cm-content", CELL + SHIFT + ENTER)
        shown = until(
            f"{ANSWER!r} as the cell's output",
            60,
            lambda: next((line for line in browser.text(".jp-OutputArea-output").splitlines() if ANSWER in line), None),
        )
        browser.picture(self._pictures / "jupyterlab.png")
        self.findings.append(
            Finding(
                f"JupyterLab in {browser.version}",
                "open the page, make a notebook, run a cell",
                f"`{shown.strip()}` on the page after {time.monotonic() - began:.0f} s",
            )
        )

    def upload(self, size: int) -> str:
        """
        Upload a file with JupyterLab's own button.

        @param size: its length in bytes.
        @return: its SHA-256.
        @raise Failed: it did not arrive.
        """
        browser = self._browser
        digest = write_large(self._large, size)
        # The button opens the system's file dialog by clicking on an input that is in no page. A headless browser has
        # no such dialog, so the input is put where the driver can fill it in.
        browser.run(
            "const click = HTMLInputElement.prototype.click;"
            "HTMLInputElement.prototype.click = function () {"
            "  if (this.type !== 'file') { return click.call(this); }"
            "  this.id = 'upload'; document.body.append(this); };"
        )
        began = time.monotonic()
        browser.click("[data-jp-item-name=uploader] jp-button, [data-jp-item-name=uploader] button, .jp-id-upload")
        browser.type_into(browser.hidden("#upload"), str(self._large))
        browser.click(".jp-Dialog .jp-mod-accept")  # "The file size is 954 MB. Do you still want to upload it?"
        until(f"{size} bytes of the upload in JupyterLab's folder", _LARGE, lambda: self._size() == size, pause=1.0)
        took = time.monotonic() - began
        arrived = sha256(self._served / _NAME)
        self.findings.append(
            Finding(
                f"JupyterLab in {browser.version}",
                f"upload {size / 1e9:g} GB with the page's upload button",
                f"{took:.0f} s, SHA-256 {'the same' if arrived == digest else 'differs'}",
                arrived == digest,
            )
        )
        return digest

    def _size(self) -> int:
        """How long JupyterLab says that the uploaded file is by now; -1 before it is there."""
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            fields = {"Host": f"{self._host}:{self._port}", "Authorization": f"token {self._token}"}
            link.request("GET", f"/api/contents/{_NAME}?content=0", headers=fields)
            answer = link.getresponse()
            body = answer.read()
        finally:
            link.close()
        if answer.status == 404:
            return -1
        if answer.status != 200:
            raise Failed(f"JupyterLab answered {answer.status} when asked for a file: {body[:300]!r}")
        return int(json.loads(body)["size"])

    def download(self, digest: str) -> None:
        """
        Download that file with the browser.

        @param digest: the SHA-256 it must have.
        @raise Failed: it did not arrive.
        """
        browser = self._browser
        target = self._downloads / _NAME
        began = time.monotonic()
        browser.run(
            "const link = document.createElement('a'); link.href = arguments[0]; link.download = '';"
            "document.body.append(link); link.click(); link.remove();",
            f"/files/{_NAME}?download=1",
        )
        # While it is under way the file has another name.
        until("the download", _LARGE, target.exists, pause=0.5)
        took = time.monotonic() - began
        arrived = sha256(target)
        self.findings.append(
            Finding(
                f"JupyterLab in {browser.version}",
                f"download {target.stat().st_size / 1e9:g} GB",
                f"{took:.0f} s, SHA-256 {'the same' if arrived == digest else 'differs'}",
                arrived == digest,
            )
        )

    def kernel_lives(self) -> None:
        """The same notebook runs another cell, on the WebSocket it has had all the time."""
        browser = self._browser
        browser.type(".jp-Notebook .jp-CodeCell:last-child .cm-content", "print('still', 6 * 7)" + SHIFT + ENTER)
        until("'still 42' as the cell's output", 60, lambda: "still 42" in browser.text(".jp-OutputArea-output"))
        browser.picture(self._pictures / "jupyterlab-after.png")
        self.findings.append(
            Finding(f"JupyterLab in {browser.version}", "run another cell on the same WebSocket", "`still 42`")
        )
