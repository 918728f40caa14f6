"""Several modules as one script, for an interpreter that cannot see their files.

The warm-up runs inside a file system that must not contain it. So the script arrives over standard input,
together with every module that it imports from outside that file system.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType


class SourceFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """An importer of modules from sources in memory. A name with other names below it is a package."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module if ``sources`` has it."""
        del path, target
        return importlib.util.spec_from_loader(fullname, self) if fullname in self._sources else None

    def get_source(self, fullname: str) -> str:
        """Return the module's source."""
        return self._sources[fullname]

    def get_code(self, fullname: str) -> CodeType:
        """Compile the module under its name, so that a traceback finds its lines."""
        return compile(self.get_source(fullname), f"{fullname}.py", "exec")

    def is_package(self, fullname: str) -> bool:
        """Return whether other modules are below this one."""
        return any(name.startswith(f"{fullname}.") for name in self._sources)


def bundle(sources: Mapping[str, str], main: str) -> str:
    """Write a script that holds ``sources`` by module name, and calls ``main()`` of the module ``main``."""
    return f"""\
from __future__ import annotations

import importlib.abc
import importlib.util
import sys

{inspect.getsource(SourceFinder)}

SOURCES = {dict(sorted(sources.items()))!r}
sys.meta_path.insert(0, SourceFinder(SOURCES))

import {main}

{main}.main()
"""
