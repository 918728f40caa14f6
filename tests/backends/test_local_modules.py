"""What the payload's process loads is what was measured: sources, and nothing of the user's own."""

from __future__ import annotations

import importlib.util
import marshal
import subprocess
import sys
from pathlib import Path

import pytest

from enclavectl.backends.local.modules import MeasuredSources, import_path

RUN = (
    "import sys; sys.path.insert(0, {folder!r}); {finder}import enclave_payload; print(enclave_payload.WORD)"
)
FINDER = (
    "from enclavectl.backends.local.modules import MeasuredSources; "
    "sys.meta_path.insert(0, MeasuredSources); "
)


@pytest.fixture
def tampered(tmp_path: Path) -> Path:
    """A payload whose source is honest, with a ``.pyc`` beside it that Python takes for its own."""
    source = tmp_path / "enclave_payload" / "__init__.py"
    source.parent.mkdir()
    source.write_text("WORD = 'measured'\n")
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir()
    found = source.stat()
    head = importlib.util.MAGIC_NUMBER + bytes(4)
    head += int(found.st_mtime).to_bytes(4, "little") + found.st_size.to_bytes(4, "little")
    cached.write_bytes(head + marshal.dumps(compile("WORD = 'tampered'", str(source), "exec")))
    return tmp_path


@pytest.mark.parametrize(("finder", "word"), [("", "tampered"), (FINDER, "measured")])
def test_a_compiled_file_beside_the_source_is_not_loaded(tampered: Path, finder: str, word: str) -> None:
    code = RUN.format(folder=str(tampered), finder=finder)
    ran = subprocess.run([sys.executable, "-IB", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{word}\n"


def test_other_packages_are_not_its_business() -> None:
    assert MeasuredSources.find_spec("json") is None
    assert MeasuredSources.find_spec("enclave_payload_of_others") is None


def test_the_users_own_packages_are_not_on_the_path() -> None:
    code = (
        "import site, sys; from enclavectl.backends.local.modules import import_path; "
        "sys.path.append(site.getusersitepackages()); before = list(sys.path); "
        "print(set(before) - set(import_path()) == {site.getusersitepackages()})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
    assert set(import_path()) <= set(sys.path)
