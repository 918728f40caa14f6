"""Which CPUs are in use, from an executable that answers as nitro-cli does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enclavectl.host.cpu_usage import used_cpus


class Notes:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        self.said.append(f"{what} {elapsed_s} {bound_s}")


def enclave(slot: str, cpus: list[int]) -> dict[str, object]:
    return {
        "EnclaveName": slot,
        "EnclaveID": f"i-0-enc{slot}",
        "ProcessID": 7,
        "EnclaveCID": 16,
        "NumberOfCPUs": len(cpus),
        "CPUIDs": cpus,
        "MemoryMiB": 1024,
        "State": "RUNNING",
        "Flags": "NONE",
    }


def nitro_cli(folder: Path, answer: object, *, stderr: str = "", status: int = 0) -> dict[str, str]:
    (folder / "sockets").mkdir()
    (folder / "answer").write_text(json.dumps(answer))
    program = folder / "bin" / "nitro-cli"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat {folder}/answer\nprintf '{stderr}' >&2\nexit {status}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin", "NITRO_CLI_SOCKETS_PATH": str(folder / "sockets")}


def test_the_cpus_of_every_enclave_are_in_use(tmp_path: Path) -> None:
    environ = nitro_cli(tmp_path, [enclave("a", [1, 9]), enclave("b", [2, 10])])
    assert used_cpus(environ, Notes()) == frozenset({1, 2, 9, 10})


@pytest.mark.parametrize(
    ("stderr", "status", "words"),
    [("Failed connections: 1\\n[ E39 ] x", 39, "do not answer"), ("[ E07 ] x", 7, "not known")],
)
def test_an_enclave_that_does_not_answer_makes_it_unknown(
    stderr: str, status: int, words: str, tmp_path: Path
) -> None:
    notes = Notes()
    environ = nitro_cli(tmp_path, [enclave("a", [1, 9])], stderr=stderr, status=status)
    assert used_cpus(environ, notes) is None
    assert words in " ".join(notes.said)
