"""
What the two backends of L{benchmarks.programs.https} serve: the scripts for PHP, and the Python backend itself,
C{python -m benchmarks.programs.https_pages PORT}, which needs the C{websockets} package.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import zlib
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

#: Images on the page, from each backend.
IMAGES = 24

#: How often the Python backend speaks on its own, and how often it is spoken to.
TICKS, WORDS = 5, 20

_INDEX = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>One page, two backends</title>
<link rel="icon" href="data:,">
<style>
 body { font: 15px sans-serif; margin: 1.5em; } img { width: 40px; height: 40px; margin: 2px; border-radius: 6px; }
 table { border-collapse: collapse; margin: .6em 0; } td { padding: .15em .8em .15em 0; } .bad { color: #b00; }
</style></head><body>
<h1>One page, two backends</h1>
<h2>PHP <?= htmlspecialchars(PHP_VERSION) ?>, <?= htmlspecialchars(php_sapi_name()) ?></h2>
<table id="server"><?php
foreach (['HTTPS', 'SERVER_PROTOCOL', 'SERVER_NAME', 'SERVER_PORT', 'REMOTE_ADDR', 'REQUEST_URI', 'SCRIPT_FILENAME',
          'PATH_INFO', 'HTTP_VIA', 'HTTP_X_FORWARDED_PROTO', 'HTTP_PROXY'] as $name)
    printf('<tr><td>%s<td>%s', $name, htmlspecialchars($_SERVER[$name] ?? '–'));
?></table>
<div id="php"><?php for ($n = 0; $n < IMAGES; $n++) echo "<img src='/picture.php/$n.png?of=php' alt='$n'>"; ?></div>
<h2>Python</h2>
<div id="python"><?php for ($n = 0; $n < IMAGES; $n++) echo "<img src='/app/$n.png' alt='$n'>"; ?></div>
<table><tr><td>fetch<td id="fetched"><tr><td>upload<td id="uploaded"><tr><td>WebSocket<td id="socket"></table>
<h2>As the browser has it</h2><table id="protocols"></table>
<script>
const say = (id, text) => document.getElementById(id).textContent = text;
const seen = window.seen = {ticks: 0, echoes: 0, socket: '', fetched: null, uploaded: null, done: false};
const socket = new WebSocket(`wss://${location.host}/socket`);
socket.onopen = () => { for (let n = 0; n < WORDS; n++) socket.send('word ' + n + ' ' + 'ü'.repeat(n * 100)); };
socket.onmessage = event => {
  if (event.data.startsWith('tick')) seen.ticks++; else if (event.data.startsWith('word')) seen.echoes++;
  say('socket', `${seen.echoes} words back, ${seen.ticks} ticks`);
};
socket.onerror = () => seen.socket = 'error';
socket.onclose = event => seen.socket = `closed with ${event.code} ${event.reason}`;
async function work() {
  seen.fetched = await (await fetch('/app/facts.json')).json();
  say('fetched', JSON.stringify(seen.fetched));
  const bytes = new Uint8Array(SIZE).map((_, at) => at * 7 + (at >> 8));
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const own = [...digest].map(byte => byte.toString(16).padStart(2, '0')).join('');
  const answer = await (await fetch('/upload.php', {method: 'POST', body: bytes})).json();
  seen.uploaded = answer.size === SIZE && answer.sha256 === own;
  say('uploaded', `${answer.size} bytes, SHA-256 ${seen.uploaded ? 'the same' : 'differs'}`);
  while (seen.echoes < WORDS || seen.ticks < TICKS) await new Promise(later => setTimeout(later, 50));
  socket.close(1000, 'enough');
  while (!seen.socket) await new Promise(later => setTimeout(later, 50));
  say('socket', `${seen.echoes} words back, ${seen.ticks} ticks, ${seen.socket}`);
}
function protocols() {
  const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  const rows = {};
  for (const one of all) {
    const kind = `${one.initiatorType}, ${one.nextHopProtocol}`;
    rows[kind] = (rows[kind] || 0) + 1;
  }
  seen.protocols = rows;
  document.getElementById('protocols').innerHTML =
    Object.entries(rows).map(([kind, count]) => `<tr><td>${kind}<td>${count}`).join('');
}
window.addEventListener('load', () => work().catch(why => seen.failed = String(why)).finally(() => {
  protocols();
  seen.images = [...document.images].filter(image => image.complete && image.naturalWidth === 40).length;
  seen.done = true;
}));
</script></body></html>
"""

# The path behind the script's name is PATH_INFO: /picture.php/7.png.
_PICTURE = """\
<?php
$number = (int) substr($_SERVER['PATH_INFO'] ?? '/0', 1);
$row = "\\0";
for ($at = 0; $at < 40; $at++) $row .= pack('C3', 40 + 8 * $number, 90 + 3 * $at, 160);
$chunk = fn($kind, $data) => pack('N', strlen($data)) . $kind . $data . pack('N', crc32($kind . $data));
header('Content-Type: image/png');
echo "\\x89PNG\\r\\n\\x1a\\n", $chunk('IHDR', pack('NNC5', 40, 40, 8, 2, 0, 0, 0)),
    $chunk('IDAT', gzcompress(str_repeat($row, 40))), $chunk('IEND', '');
"""

_UPLOAD = """\
<?php
$hash = hash_init('sha256');
$size = 0;
for ($body = fopen('php://input', 'rb'); !feof($body); hash_update($hash, $piece), $size += strlen($piece))
    $piece = fread($body, 65536);
header('Content-Type: application/json');
echo json_encode(['size' => $size, 'sha256' => hash_final($hash)]);
"""


def write_scripts(folder: Path, size: int) -> None:
    """
    The document root of PHP.

    @param size: of the upload, in bytes.
    """
    folder.mkdir()
    page = _INDEX
    for name, value in (("IMAGES", IMAGES), ("WORDS", WORDS), ("TICKS", TICKS), ("SIZE", size)):
        page = page.replace(name, str(value))
    for script, text in (("index.php", page), ("picture.php", _PICTURE), ("upload.php", _UPLOAD)):
        (folder / script).write_text(text)


def picture(number: int) -> bytes:
    """A square of 40 pixels, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    row = b"\0" + b"".join(bytes((200 - 3 * at, 40 + 8 * number, 90)) for at in range(40))
    head = struct.pack("!IIBBBBB", 40, 40, 8, 2, 0, 0, 0)
    body = zlib.compress(row * 40)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


async def _serve(port: int) -> None:
    from websockets.asyncio.server import serve
    from websockets.datastructures import Headers
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Response

    def answer(request: Request) -> Response | None:
        if request.path == "/socket":
            return None
        kind, body = "text/plain", b"not here"
        if request.path == "/app/facts.json":
            kind = "application/json"
            names = ("X-Forwarded-Proto", "X-Forwarded-For", "Via", "Host")
            facts = {name: request.headers.get(name) for name in names}
            body = json.dumps({"python": sys.version.split()[0], **facts}).encode()
        elif request.path.startswith("/app/") and request.path.endswith(".png"):
            kind, body = "image/png", picture(int(request.path[5:-4]))
        status = HTTPStatus.NOT_FOUND if kind == "text/plain" else HTTPStatus.OK
        fields = Headers([("Content-Type", kind), ("Content-Length", str(len(body)))])
        return Response(status.value, status.phrase, fields, body)

    async def talk(connection: ServerConnection) -> None:
        async def tick() -> None:
            for number in range(TICKS):
                await connection.send(f"tick {number}")
                await asyncio.sleep(0.1)

        ticking = asyncio.create_task(tick())
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            return
        finally:
            ticking.cancel()

    async with serve(talk, "127.0.0.1", port, process_request=lambda _, request: answer(request)) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
