"""The provenance of an enclave image: an unsigned in-toto statement that others sign and check.

The envelope is https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and the predicate is
https://slsa.dev/spec/v1.0/provenance, so that tools which know these read it. What neither has a field for,
the PCRs and the state of the checkout, stands in annotations of the artifact that it describes. Neither time
nor machine is named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from enclavectl.artifacts.lock import Lock
from enclavectl.eif.file_range import whole_file

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:enclavectl:build:v1"
BUILDER_ID = "urn:enclavectl:builder:native"
NITRO_BUILDER_ID = "urn:enclavectl:builder:nitro-cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """The git commit of a folder in hex, and whether files there differ from it or are unknown to it."""

    commit: str
    is_dirty: bool


def statement(lock: Lock, image: BinaryIO, *, lock_name: str, checkout: Checkout | None) -> bytes:
    """Write the statement about ``image``, the file that ``lock`` describes.

    ``lock_name`` is the lock's file name. ``checkout`` is None where the inputs are in no git repository.

    Raises:
        EifError: ``short-read``; the image changed while it was read.
    """
    sha256, sha384 = hashlib.sha256(), hashlib.sha384()
    for chunk in whole_file(image).chunks():
        sha256.update(chunk)
        sha384.update(chunk)
    digest = {"sha256": sha256.hexdigest(), "sha384": sha384.hexdigest()}
    is_native = lock.tools.get("builder") != "nitro-cli"
    value = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": lock.eif["file"], "digest": digest, "annotations": {"pcrs": dict(lock.pcrs)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"mode": lock.mode, "allowed": dict(lock.allowed)},
                "internalParameters": {"cmdline": lock.blobs.get("cmdline")},
                "resolvedDependencies": list(_dependencies(lock, checkout)),
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER_ID if is_native else NITRO_BUILDER_ID,
                    "version": dict(lock.tools),
                },
                "byproducts": [_artifact(lock_name, "sha256", hashlib.sha256(lock.to_bytes()).hexdigest())],
            },
        },
    }
    return (json.dumps(value, indent=2) + "\n").encode()


def _dependencies(lock: Lock, checkout: Checkout | None) -> Iterator[dict[str, object]]:
    if checkout is not None:
        annotations = {"annotations": {"dirty": checkout.is_dirty}}
        yield {**_artifact("checkout", "gitCommit", checkout.commit), **annotations}
    yield _artifact("docker-image", "sha256", str(lock.image["id"]).removeprefix("sha256:"))
    base = lock.image.get("base")
    if isinstance(base, Mapping) and base.get("id"):
        name = f"base-image {base.get('reference')}"
        yield _artifact(name, "sha256", str(base["id"]).removeprefix("sha256:"))
    if lock.model is not None:
        yield _artifact(f"model {lock.model['id']}", "sha256", lock.model["sha256"])
    for name, sha256 in lock.blobs.items():
        if name != "cmdline":
            yield _artifact(name, "sha256", sha256)
    for wheel in lock.wheels:
        yield _artifact(wheel.file, "sha256", wheel.sha256)


def _artifact(name: str, algorithm: str, digest: str) -> dict[str, object]:
    return {"name": name, "digest": {algorithm: digest}}
