"""What a build calls its files where nobody says otherwise; ``run`` and the doctor look for them."""

from __future__ import annotations

EIF_NAME = "enclave.eif"
LOCK_NAME = "enclavectl.lock.json"
