"""``enclavectl history``: which of the enclaves that have ended it lists."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from enclavectl.backends.history import History
from tests.backends.test_history import ENTRY, START
from tests.cli.command import Done, enclavectl


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose history has five enclaves of two backends, the newest last."""
    for number, backend in enumerate(["nitro", "local", "nitro", "local", "local"]):
        entry = replace(
            ENTRY,
            enclave_id=f"enc{number}",
            name=f"{backend}-{number}",
            backend=backend,
            pcrs={"0": "ab" * 48},
            started=START + timedelta(hours=number),
        )
        History(tmp_path / "state").add(entry)
    return tmp_path


def run(home: Path, *words: str) -> Done:
    environ = {"ENCLAVECTL_STATE_DIR": str(home / "state")}
    return enclavectl("history", *words, home=home, environ=environ)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", "nitro-0 local-1 nitro-2 local-3 local-4"),
        ("--backend nitro", "nitro-0 nitro-2"),
        ("--backend local --limit 2", "local-3 local-4"),
        ("--backend qemu", ""),
    ],
)
def test_the_newest_enclaves_of_one_backend_or_of_all_are_listed(home: Path, words: str, names: str) -> None:
    value = run(home, *words.split(), "-o", "json").json()
    assert " ".join(one["name"] for one in value["enclaves"]) == names


def test_a_configured_backend_hides_no_history(home: Path) -> None:
    (home / "config.yaml").write_text("backend: local\n")
    done = run(home, "--config", str(home / "config.yaml"), "-o", "json")
    assert len(done.json()["enclaves"]) == 5


def test_an_empty_list_names_the_backend_that_was_asked_for(home: Path) -> None:
    done = run(home, "--backend", "qemu")
    assert (done.status, done.out) == (0, "")
    assert "no enclave that stayed has ended yet on backend qemu" in done.err
