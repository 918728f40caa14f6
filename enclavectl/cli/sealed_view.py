"""A sealed model on the screen and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.files import open_regular, read_chunks, sha256_of
from enclavectl.weights.sealed_file import SealedFile, read_sealed

if TYPE_CHECKING:
    from enclavectl.cli.screen import Screen

SHOW_SCHEMA = "enclavectl.model-sealed/1"


def show_sealed(screen: Screen, path: Path) -> None:
    """Show a sealed file's header; no key is needed, and the chunks are not opened."""
    sealed = read_sealed(path)
    if screen.as_json:
        screen.result({"schema": SHOW_SCHEMA, **sealed_json(sealed)})
    else:
        screen.facts(sealed_facts(sealed))


def sealed_json(sealed: SealedFile) -> dict[str, object]:
    """Return the facts of a sealed file."""
    kms = sealed.header.release.get("kms")
    with open_regular(sealed.path, what="sealed model") as file:
        sha256 = sha256_of(read_chunks(file))
    return {
        "file": str(sealed.path),
        "file_id": sealed.header.file_id.hex(),
        "sha256": sha256,
        "model": {"id": sealed.card.model_id, "sha256": sealed.card.sha256},
        "labels": [{"code": label.code, "name": label.name} for label in sealed.card.labels],
        "notice": sealed.card.notice,
        "weights_bytes": sealed.header.size,
        "pcr16": sealed.register.hex(),
        "owner": sealed.owner,
        "kms": {"key": kms.get("key"), "context": kms.get("context")} if isinstance(kms, dict) else None,
        "lease_s": sealed.header.lease_s,
    }


def sealed_facts(sealed: SealedFile) -> list[tuple[str, str]]:
    """Return the facts of a sealed file as rows."""
    value = sealed_json(sealed)
    rows = [
        ("sealed", f"{sealed.path} ({sealed.header.size:,} bytes of weights)"),
        ("file", str(value["file_id"])),
        ("SHA-256", str(value["sha256"])),
        ("model", f"{sealed.card.model_id}, weights {sealed.card.sha256}"),
        ("PCR16", sealed.register.hex()),
    ]
    if sealed.owner is not None:
        rows.append(("owner", sealed.owner))
    if isinstance(kms := sealed.header.release.get("kms"), dict):
        rows.append(("KMS key", str(kms.get("key"))))
        if isinstance(context := kms.get("context"), dict):
            rows += [(f"context {name}", str(text)) for name, text in context.items()]
    if sealed.header.lease_s is not None:
        rows.append(("lease", f"{sealed.header.lease_s} s after a release by KMS"))
    return rows
