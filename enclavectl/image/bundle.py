"""Several modules as one script, for an interpreter that sees no file of theirs.

The warm-up runs inside of a file system that must not hold it: it comes over standard input, and all that it
imports from outside of that file system has to come with it.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType


class SourceFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules whose sources it holds by name. A name with others below it is a package."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module, if it is one of ours."""
        del path, target
        return importlib.util.spec_from_loader(fullname, self) if fullname in self._sources else None

    def get_source(self, fullname: str) -> str:
        """Return the module's source."""
        return self._sources[fullname]

    def get_code(self, fullname: str) -> CodeType:
        """Compile the module under a name by which a traceback finds its lines."""
        return compile(self.get_source(fullname), f"{fullname}.py", "exec")

    def is_package(self, fullname: str) -> bool:
        """Tell whether other modules are below it."""
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
