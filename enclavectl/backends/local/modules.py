"""Where the payload's process finds its modules: what is loaded is what ``measure`` looks at."""

from __future__ import annotations

import site
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

_PAYLOAD = "enclave_payload"


def import_path() -> list[str]:
    """Return the path for modules: the interpreter's, without the user's own site-packages.

    That stays only where this project is installed there.
    """
    user_site = site.getusersitepackages()
    is_users = Path(__file__).is_relative_to(user_site)
    return [entry for entry in sys.path if entry != user_site or is_users]


class MeasuredSources(PathFinder):
    """Finds the payload's modules, and compiles them from their sources: those are what is measured.

    A ``.pyc`` file beside a source can hold any code: Python compares no more than time and size.
    """

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of a module of the payload; None for any other."""
        if fullname.partition(".")[0] != _PAYLOAD:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _SourceLoader(fullname, spec.origin)
        return spec


class _SourceLoader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return compile(self.get_data(path), path, "exec", dont_inherit=True)
