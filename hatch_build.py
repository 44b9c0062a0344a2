"""
The build hook: compiles L{MODULES}, for a wheel and for an editable install alike.

Where that cannot be done (no Cython, no C compiler), or is not wanted (C{LEMMYTX_PURE=1} in the environment of the
build), the build goes on without them and says so: each has a twin in pure Python, which does the same, slower. An
error in the Cython source itself is not such a case and ends the build.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What is compiled: the codec, header compression, the calls on sockets, and the lines of the access log.
MODULES = (
    "lemmytx.http1._compiled",
    "lemmytx.http2._hpack_compiled",
    "lemmytx.net._calls",
    "lemmytx.proxy._access_line",
)


def _path(module: str) -> str:
    """Where the source of C{module} is, and the compiled file goes, but for the end of the name."""
    return module.replace(".", "/")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # the name hatchling looks for
    """Called by hatchling once per wheel; L{initialize} before the files are collected, L{finalize} after."""

    _work: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """
        @param version: C{"standard"} or C{"editable"}.
        @param build_data: changed in place: the tags of the wheel and the compiled files to put into it.
        """
        built = self._compile()
        if version == "editable":
            # The tree itself is what gets imported: an earlier build's file must not outlive this one's decision.
            for module in MODULES:
                source = Path(self.root, _path(module))
                for old in source.parent.glob(f"{source.name}.*.so"):
                    old.unlink()
        for module, file in built.items():
            inside = str(Path(_path(module)).with_name(file.name))
            if version == "editable":
                shutil.copy2(file, Path(self.root, inside))
            else:
                build_data["force_include"][str(file)] = inside
        if built:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The compiled files are in the wheel: the folder they were made in can go."""
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)

    def _compile(self) -> dict[str, Path]:
        """
        @return: the extension modules, in a folder that L{finalize} deletes; none when the pure twins are to be used.
        """
        if os.environ.get("LEMMYTX_PURE"):
            self._notice("LEMMYTX_PURE is set")
            return {}
        try:
            from Cython.Build import cythonize
            from setuptools import Distribution, Extension
            from setuptools.errors import BaseError, CCompilerError
        except ImportError as error:
            self._notice(f"{error.name} is not installed")
            return {}
        self._work = work = tempfile.mkdtemp(prefix="lemmytx-build-")
        here = os.getcwd()
        os.chdir(self.root)  # the paths in the extension are relative, so that no build path gets into the module
        try:
            flags = ["-O3", "-g0"] if os.name == "posix" else []
            extensions = [Extension(name, [f"{_path(name)}.pyx"], extra_compile_args=flags) for name in MODULES]
            modules = cythonize(extensions, build_dir=work, quiet=True)
            distribution = Distribution({"name": "lemmytx", "ext_modules": modules})
            command = distribution.get_command_obj("build_ext")
            command.build_lib = f"{work}/lib"
            command.build_temp = f"{work}/objects"
            command.ensure_finalized()
            command.run()
            return {name: Path(command.get_ext_fullpath(name)) for name in MODULES}
        except (BaseError, CCompilerError, OSError) as error:
            self._notice(f"it could not be compiled: {error}")
            return {}
        finally:
            os.chdir(here)

    def _notice(self, why: str) -> None:
        """Say on standard error (pip shows it with C{-v}, C{python -m build} always) that the twins will be used."""
        print(
            f"lemmytx: the compiled modules are left out ({why}); their pure Python twins will be used.",
            file=sys.stderr,
        )
