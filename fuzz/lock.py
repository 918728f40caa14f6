"""Any bytes are a lock that writes itself back to the same value, or a UsageError; nothing else happens."""

from __future__ import annotations

import json

from enclavectl.artifacts.lock import LOCK_SCHEMA, parse_lock
from enclavectl.errors import UsageError

_LOCK = {
    "schema": LOCK_SCHEMA,
    "eif": {"file": "a.eif", "sha256": "00", "size": 1},
    "pcrs": {"PCR0": "00"},
    "mode": "reproducible",
    "image": {"id": "sha256:00"},
    "model": {"id": "demo", "sha256": "00"},
    "wheels": [{"name": "x", "version": "1", "file": "x-1-py3-none-any.whl", "sha256": "00"}],
    "blobs": {"kernel": "00"},
    "tools": {"enclavectl": "0"},
    "findings": [{"rule": "memory"}],
    "allowed": {"memory": "test"},
}
SEEDS: list[bytes] = [b"", b"{}", json.dumps(_LOCK).encode(), json.dumps({**_LOCK, "model": None}).encode()]


def one(data: bytes) -> None:
    try:
        lock = parse_lock(data, "fuzz")
    except UsageError:
        return
    assert parse_lock(json.dumps(lock.to_json()).encode(), "fuzz") == lock
