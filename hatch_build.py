"""
The build hook: compiles C{lemmytx/http1/_compiled.pyx}, for a wheel and for an editable install alike.

Where that cannot be done (no Cython, no C compiler), or is not wanted (C{LEMMYTX_PURE=1} in the environment of the
build), the build goes on without it and says so: L{lemmytx.http1.codec} then takes the pure Python twin, which does the
same, slower. An error in the Cython source itself is not such a case and ends the build.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "lemmytx.http1._compiled"
FOLDER = "lemmytx/http1"
SOURCE = f"{FOLDER}/_compiled.pyx"


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # the name hatchling looks for
    """Called by hatchling once per wheel; L{initialize} before the files are collected, L{finalize} after."""

    _work: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """
        @param version: C{"standard"} or C{"editable"}.
        @param build_data: changed in place: the tags of the wheel and the compiled file to put into it.
        """
        built = self._compile()
        if version == "editable":
            # The tree itself is what gets imported: an earlier build's file must not outlive this one's decision.
            for old in Path(self.root, FOLDER).glob("_compiled*.so"):
                old.unlink()
            if built is not None:
                target = Path(self.root, FOLDER, built.name)
                shutil.copy2(built, target)
        elif built is not None:
            build_data["force_include"][str(built)] = f"{FOLDER}/{built.name}"
        if built is not None:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The compiled file is in the wheel: the folder it was made in can go."""
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)

    def _compile(self) -> Path | None:
        """
        @return: the extension module, in a folder that L{finalize} deletes; L{None} when the pure twin is to be used.
        """
        if os.environ.get("LEMMYTX_PURE"):
            self._notice("LEMMYTX_PURE is set")
            return None
        try:
            from Cython.Build import cythonize
            from setuptools import Distribution, Extension
            from setuptools.errors import BaseError, CCompilerError
        except ImportError as error:
            self._notice(f"{error.name} is not installed")
            return None
        self._work = work = tempfile.mkdtemp(prefix="lemmytx-build-")
        here = os.getcwd()
        os.chdir(self.root)  # the paths in the extension are relative, so that no build path gets into the module
        try:
            extension = Extension(MODULE, [SOURCE], extra_compile_args=["-O3", "-g0"] if os.name == "posix" else [])
            modules = cythonize([extension], build_dir=work, quiet=True)
            distribution = Distribution({"name": "lemmytx", "ext_modules": modules})
            command = distribution.get_command_obj("build_ext")
            command.build_lib = f"{work}/lib"
            command.build_temp = f"{work}/objects"
            command.ensure_finalized()
            command.run()
            return Path(command.get_ext_fullpath(MODULE))
        except (BaseError, CCompilerError, OSError) as error:
            self._notice(f"it could not be compiled: {error}")
            return None
        finally:
            os.chdir(here)

    def _notice(self, why: str) -> None:
        """Say on standard error (pip shows it with C{-v}, C{python -m build} always) that the twin will be used."""
        print(f"lemmytx: the compiled codec is left out ({why}); the pure Python one will be used.", file=sys.stderr)
