"""The payload's start inside an enclave: ``python -m enclave_payload``. It takes no options."""

from __future__ import annotations

import gc
from pathlib import Path

from enclave_payload.card import SEALED_MARK
from enclave_payload.limits import Limits
from enclave_payload.zygote import start_zygote

MODEL_DIR = Path(__file__).parent / "model"


def main() -> None:
    """Fork the process that will load the measured model, then serve until SIGTERM."""
    limits = Limits()
    is_sealed = (MODEL_DIR / SEALED_MARK).exists()
    gc.disable()  # nothing that imports make is garbage, and looking for some is part of the boot
    # First: what is forked from here on has never seen a key, nor /dev/nsm. It imports its libraries while
    # this process imports its own.
    channel = start_zygote(MODEL_DIR, limits)
    from enclave_payload.decoder import Decoders  # noqa: PLC0415
    from enclave_payload.key_holder import serve  # noqa: PLC0415

    gc.enable()
    serve(Decoders(MODEL_DIR, limits, is_sealed=is_sealed, channel=channel), limits, is_sealed=is_sealed)


if __name__ == "__main__":
    main()
