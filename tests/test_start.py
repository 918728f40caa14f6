"""What must not be loaded yet where somebody waits: benchmarks/start.py and nitro_list.py have the times."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("begins", "not_yet"),
    [
        pytest.param(
            "import enclavectl.backends.local.supervisor",
            "dataclasses cryptography",
            id="a local enclave, before its payload is started",
        ),
        pytest.param(
            "from enclavectl.cli.app import build_app; build_app(['list']); "
            "import enclavectl.backends.registry, enclavectl.backends.nitro.backend",
            "cryptography rich yaml enclavectl.backends.base enclavectl.nitro_cli.failure",
            id="list, before nitro-cli is started",
        ),
        pytest.param(
            "from enclavectl.cli.app import build_app; build_app(['diagnose']); "
            "import enclavectl.backends.registry, enclavectl.backends.local.backend; "
            "from enclavectl.models.find import *; "
            "find_model(PACKAGED_ID, data_dir=Path('/nonexistent'))",
            "cryptography numpy rich yaml",
            id="diagnose, before a local enclave is started",
        ),
    ],
)
def test_what_takes_long_to_load_is_not_loaded_yet(begins: str, not_yet: str) -> None:
    code = f"import sys; {begins}; print(*(set(sys.modules) & set({not_yet.split()})))"
    loaded = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert loaded.stdout.split() == []
