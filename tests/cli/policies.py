"""A folder with locks and a policy, and the commands below ``policy`` run in it."""

from __future__ import annotations

from pathlib import Path

from enclavectl.artifacts.lock import Lock
from enclavectl.attestation import Policy, parse_policy
from tests.cli.command import Done, enclavectl
from tests.forge import PCRS

REGISTERS = {f"PCR{index}": value.hex() for index, value in PCRS.items()}
ROLE = "arn:aws:iam::123456789012:role/Webserver"
COMMENT = "# Reviewed on 4 May."


def lock_of(pcrs: dict[str, str]) -> Lock:
    """Return a lock of an image with these registers, and nothing else."""
    return Lock(
        eif={"file": "app.eif", "sha256": "00" * 32, "size": 1},
        pcrs=pcrs,
        mode="reproducible",
        image={"id": f"sha256:{'00' * 32}"},
        model=None,
        wheels=(),
        blobs={},
        tools={},
        findings=(),
        allowed={},
    )


def run(folder: Path, *words: object) -> Done:
    return enclavectl("policy", *words, home=folder)


def ok(folder: Path, *words: object) -> Done:
    done = run(folder, *words)
    assert done.status == 0, done.err
    return done


def policy_of(folder: Path, name: str = "p.yaml") -> Policy:
    return parse_policy((folder / name).read_text(), source=name)


def refused(folder: Path, status: int, code: str, *words: object) -> str:
    """Run a command that must fail and leave every file as it is; return its message."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = run(folder, *words, "--output", "json")
    assert (done.status, done.error()["code"]) == (status, code), done.err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert done.error()["hint"]
    return str(done.error()["message"])
