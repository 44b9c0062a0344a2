"""A real php-fpm with scripts of its own, on TCP and on a unix socket."""

from __future__ import annotations

import os
import shutil

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import Process, answers, folder, read
from tests.wire.rig import free_port

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"))

_POOL = """
[{name}]
listen = {listen}
pm = static
pm.max_children = {children}
php_admin_value[memory_limit] = 32M
php_admin_value[post_max_size] = 0
php_admin_flag[enable_post_data_reading] = off
php_admin_flag[display_errors] = off
php_admin_flag[log_errors] = on
php_admin_flag[opcache.enable] = off
php_admin_flag[cgi.fix_pathinfo] = {fixing}
"""

#: By their names below the root. Each says in X-Pid which worker it runs in.
SCRIPTS = {
    "env.php": "echo json_encode($_SERVER);",
    "index.php": "echo 'front ' . $_SERVER['REQUEST_URI'];",
    "sub/index.php": "echo 'sub';",
    "upload/a.jpg": "echo 'an upload that was run';",
    "upload/b.php.jpg": "echo 'an upload that was run';",
    "sha.php": """
        $hash = hash_init('sha256');
        $size = 0;
        for ($in = fopen('php://input', 'rb'); !feof($in); $size += strlen($piece))
            hash_update($hash, $piece = fread($in, 65536));
        echo $size . ' ' . hash_final($hash);
    """,
    "output.php": """
        $piece = str_repeat('0123456789abcdef', 4096);
        if (isset($_GET['measured'])) header('Content-Length: ' . ($_GET['pieces'] * 65536));
        for ($i = 0; $i < $_GET['pieces']; $i++) echo $piece;
    """,
    "status.php": "header($_GET['header']); echo 'body';",
    "fatal.php": "if (isset($_GET['late'])) { echo 'begun'; flush(); } there_is_no_such_function();",
    "exit.php": "echo 'bye'; exit(3);",
    "errors.php": "error_log('first line'); error_log(\"second\\x1bline\\nforged\"); echo 'fine';",
    "flood.php": "for ($i = 0; $i < 2000; $i++) error_log(str_repeat('e', 900)); echo 'fine';",
    "stall.php": """
        if (isset($_GET['late'])) { echo 'begun'; flush(); }
        file_put_contents($_SERVER['DOCUMENT_ROOT'] . '/stalls', getmypid());
        sleep(60);
    """,
    "endless.php": """
        register_shutdown_function(function () {
            file_put_contents($_SERVER['DOCUMENT_ROOT'] . '/aborted', connection_aborted());
        });
        for (;;) { echo str_repeat('x', 8192); flush(); usleep(1000); }
    """,
}  # fmt: skip


def php_fpm() -> str | None:
    """Where a php-fpm is; Debian has its version in the name."""
    for where in _PATH.split(os.pathsep):
        if os.path.isdir(where):
            for name in sorted(os.listdir(where), reverse=True):
                if name.startswith("php-fpm") and (found := shutil.which(os.path.join(where, name))):
                    return found
    return None


class Php(Process):
    """
    @ivar root: the folder of its scripts.
    @ivar urls: where it listens, for a configuration: TCP and a unix socket, with a pool each.
    """

    def __init__(self, case: SynchronousTestCase, children: int = 3, fixing: bool = True) -> None:
        """
        @param fixing: whether it looks for scripts in every part of a path (C{cgi.fix_pathinfo}), its default.
        """
        program = php_fpm()
        assert program is not None
        where = folder(case)
        self.root = os.path.join(where, "www")
        for name, script in SCRIPTS.items():
            path = os.path.join(self.root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"<?php header('X-Pid: ' . getmypid()); {script}")
        port, socket = free_port(), os.path.join(where, "php.sock")
        self.urls = {"tcp": f"fcgi://127.0.0.1:{port}", "unix": f"fcgi+unix://{socket}"}
        root = os.geteuid() == 0
        config = os.path.join(where, "fpm.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"[global]\nerror_log = {where}/errors\npid = {where}/pid\ndaemonize = no\n")
            for name, listen in (("tcp", f"127.0.0.1:{port}"), ("unix", socket)):
                settings = {"name": name, "listen": listen, "children": children, "fixing": "on" if fixing else "off"}
                file.write(_POOL.format(**settings))
                if root:
                    file.write("user = root\ngroup = root\n")
        self._case, self._port, self._socket = case, port, socket
        self._command = [program, "-n", "-F", *(["-R"] if root else []), "-y", config]
        super().__init__(case, self._command, where)
        self.wait(lambda: answers(port) and os.path.exists(socket), "listening")

    def start(self) -> None:
        """Starts it again, after L{kill}."""
        super().__init__(self._case, self._command, self.folder)
        self.wait(lambda: answers(self._port) and os.path.exists(self._socket), "listening")

    def written(self, name: str) -> str:
        """What a script has written into a file of the root."""
        return read(os.path.join(self.root, name))

    def kill(self) -> None:
        """Ends it, and with it its workers."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
