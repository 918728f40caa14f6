"""The default names of a build's files; ``run`` and ``doctor`` look for them."""

from __future__ import annotations

EIF_NAME = "enclave.eif"
LOCK_NAME = "enclavectl.lock.json"
