"""pip, twine, git, wget and curl, used through lemmytx as anyone would use them, and what they got compared."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

from benchmarks.machine import Failed
from benchmarks.programs.common import Finding, command, contents, tree

_PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "{version}"
[tool.setuptools]
py-modules = ["lemmytx_parcel"]
"""


def packages(python: Path, folder: Path, host: str, port: int, number: int) -> list[Finding]:
    """
    Build a package, upload it with twine, install it with pip; then the same with its next version.

    @param python: of the environment that holds twine and setuptools.
    @param folder: an empty one.
    @param host: the vhost, an address: both ask the system for names.
    @param number: makes the package's name one that the index does not have yet.
    @raise Failed: a step failed.
    """
    index = f"http://{host}:{port}"
    name = f"lemmytx-parcel-{number}"
    found = []
    for version, payload in (("1.0", contents(2000, 1)), ("1.1", contents(3_000_000, 2))):
        source = folder / version
        source.mkdir()
        (source / "pyproject.toml").write_text(_PROJECT.format(name=name, version=version))
        (source / "lemmytx_parcel.py").write_text(f"version = {version!r}\npayload = {payload.hex()!r}\n")
        pip: list[str | Path] = [python, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input"]
        command([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheels", source], folder)
        wheel = next((folder / "wheels").glob(f"*-{version}-*.whl"))
        command(
            [python, "-m", "twine", "upload", "--non-interactive", "--disable-progress-bar", "--repository-url",
             f"{index}/", "--username", "anyone", "--password", "anything", wheel], folder,
        )  # fmt: skip
        found.append(
            Finding("twine", f"upload version {version} of a package to a pypiserver", f"accepted, {_size(wheel)}")
        )
        target = folder / f"installed-{version}"
        printed = command(
            [*pip, "install", "--no-cache-dir", "--index-url", f"{index}/simple/", "--trusted-host", host, "--target",
             target, name], folder,
        )  # fmt: skip
        same = (target / "lemmytx_parcel.py").read_bytes() == (source / "lemmytx_parcel.py").read_bytes()
        said = re.search(r"Successfully installed \S+", printed)
        if said is None:
            raise Failed(f"pip did not say that it installed anything: {printed[-500:]}")
        good = same and said[0].endswith(version)
        found.append(
            Finding(
                "pip", f"install version {version} of it", f"{said[0]}, files {'the same' if same else 'differ'}", good
            )
        )
    return found


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size > 500_000 else f"{size / 1e3:.1f} kB"


class Repository:
    """
    git, by way of a repository that is served over HTTP.

    @ivar served: the bare repository behind the server.
    """

    def __init__(self, folder: Path, served: Path, host: str, port: int) -> None:
        """
        @param folder: an empty one, for clones.
        @param served: where to make the repository that is served; its name becomes part of the URL.
        @param host: the vhost.
        """
        self._folder = folder
        self.served = served
        self._url = f"http://{host}:{port}/{served.name}"
        self._git = [
            "git", "-c", f"http.curloptResolve={host}:{port}:127.0.0.1", "-c", "user.name=n", "-c", "user.email=n@e",
            "-c", "init.defaultBranch=main",
        ]  # fmt: skip
        command([*self._git, "init", "--quiet", "--bare", served], folder)
        command([*self._git, "-C", served, "config", "http.receivepack", "true"], folder)

    def _run(self, clone: str, *arguments: str | Path) -> str:
        return command([*self._git, "-C", self._folder / clone, *arguments], self._folder)

    def _head(self, where: Path) -> str:
        return command([*self._git, "-C", where, "rev-parse", "main"], self._folder).strip()

    def work(self) -> list[Finding]:
        """
        Clone, commit, push a little and a lot, clone anew, fetch.

        @raise Failed: a step failed.
        """
        found = []
        command([*self._git, "clone", "--quiet", self._url, self._folder / "one"], self._folder)
        for number in range(50):
            (self._folder / "one" / f"file-{number}.txt").write_text(f"{number}\n" * 100)
        self._commit("one", "Small files")
        self._run("one", "push", "--quiet", "origin", "HEAD:main")
        found.append(Finding("git", "clone an empty repository, push 50 small files", "done"))

        (self._folder / "one" / "large.bin").write_bytes(contents(8_000_000, 3))
        self._commit("one", "A large file")
        # With a buffer smaller than the pack, git does not know the length beforehand and sends chunks.
        self._run("one", "-c", "http.postBuffer=65536", "push", "--quiet", "origin", "HEAD:main")
        same = self._head(self._folder / "one") == self._head(self.served)
        found.append(
            Finding(
                "git",
                "push 8 MB with `http.postBuffer=65536`",
                f"the server's branch is {'the same commit' if same else 'another commit'}",
                same,
            )
        )

        command([*self._git, "clone", "--quiet", self._url, self._folder / "two"], self._folder)
        self._run("two", "fsck", "--full", "--strict")
        same = self._files("one") == self._files("two")
        found.append(Finding("git", "clone it anew, `git fsck --full --strict`", f"files {_same(same)}", same))

        (self._folder / "two" / "file-0.txt").write_text("changed\n")
        self._commit("two", "A change from the other side")
        self._run("two", "push", "--quiet", "origin", "HEAD:main")
        self._run("one", "pull", "--quiet", "--ff-only", "origin", "main")
        same = self._files("one") == self._files("two")
        found.append(Finding("git", "push from the second clone, pull into the first", f"files {_same(same)}", same))
        return found

    def _commit(self, clone: str, message: str) -> None:
        self._run(clone, "add", "--all")
        self._run(clone, "commit", "--quiet", "--message", message)

    def _files(self, clone: str) -> dict[str, bytes]:
        return {name: digest for name, digest in tree(self._folder / clone).items() if not name.startswith(".git/")}


def _same(same: bool) -> str:
    return "the same" if same else "differ"


def mirror(folder: Path, served: Path, host: str, port: int) -> list[Finding]:
    """
    C{wget -r} of a whole folder.

    @param folder: an empty one.
    @param served: the folder that the server serves.
    @param host: the vhost, an address: wget asks the system for names.
    @raise Failed: wget failed, which it does also when a single file did not come.
    """
    command(
        ["wget", "--recursive", "--no-parent", "--no-host-directories", "--level=inf", "--no-verbose", "--waitretry=1",
         "--reject=index.html*", "--restrict-file-names=nocontrol", "--directory-prefix", folder / "mirror",
         f"http://{host}:{port}/files/"], folder,
    )  # fmt: skip
    there, here = tree(served / "files"), tree(folder / "mirror" / "files")
    same = there == here
    total = sum(path.stat().st_size for path in (served / "files").rglob("*") if path.is_file())
    saw = f"{len(here)} of {len(there)} files, {total / 1e6:.1f} MB, {_same(same)}"
    return [Finding("wget", "`wget -r` of a folder that nginx serves", saw, same)]


def ranges(folder: Path, file: Path, host: str, port: int) -> list[Finding]:
    """
    Parts of a file with C{curl -r}.

    @param folder: an empty one.
    @param file: one that the server serves below C{/ranges/}.
    @param host: the vhost.
    @raise Failed: curl failed.
    """
    whole = file.read_bytes()
    size = len(whole)
    url = f"http://{host}:{port}/ranges/{urllib.parse.quote(file.name)}"
    curl: list[str | Path] = [
        "curl",
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--resolve",
        f"{host}:{port}:127.0.0.1",
    ]

    def fetch(asked: str) -> tuple[int, bytes, bytes]:
        out, head = folder / "out", folder / "head"
        out.write_bytes(b"")
        written: list[str | Path] = ["--output", out, "--dump-header", head, "--write-out", "%{http_code}"]
        status = command([*curl, "--range", asked, *written, url], folder)
        return int(status), out.read_bytes(), head.read_bytes()

    right = []
    for asked, expected in (
        ("0-99", whole[:100]),
        ("1000-1000", whole[1000:1001]),
        (f"{size - 7}-", whole[-7:]),
        ("-4096", whole[-4096:]),
        (f"100000-{size - 2}", whole[100_000 : size - 1]),
    ):
        status, body, head = fetch(asked)
        right.append(status == 206 and body == expected and b"content-range: bytes " in head.lower())
    found = [Finding("curl", "`curl -r`: five ranges of a file", f"{sum(right)} of 5 right (206)", all(right))]

    status, body, head = fetch("0-99,5000-5999,-50")
    boundary = re.search(rb"(?i)multipart/byteranges; boundary=(\w+)", head)
    if boundary is None:
        raise Failed(f"no multipart/byteranges in the answer to three ranges: {head!r}")
    # Each part: a line end, fields, an empty line, the bytes, a line end. Before the first and after the last: nothing.
    between = body.split(b"--" + boundary[1])[1:-1]
    parts = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in between]
    same = status == 206 and parts == [whole[:100], whole[5000:6000], whole[-50:]]
    found.append(Finding("curl", "three ranges in one request", f"{status}, {len(parts)} parts, {_same(same)}", same))

    status, body, head = fetch(f"{size}-")
    found.append(Finding("curl", "a range beyond the end", f"{status}", status == 416))

    (folder / "out").write_bytes(whole[:70_000])
    command([*curl, "--continue-at", "-", "--output", folder / "out", url], folder)
    same = (folder / "out").read_bytes() == whole
    found.append(Finding("curl", "`curl -C -` of a file of which 70 kB are there", f"contents {_same(same)}", same))
    return found
