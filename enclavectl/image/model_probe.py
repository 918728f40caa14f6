"""The probe of the model in the build stage of an image, with the image's own runtime.

This is the main module of a script (``enclavectl.image.bundle``) that the Dockerfile runs before anything
else loads the model.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

BEGINS = "enclavectl-probe-begins"
_SITE = "/build/site"
# What a RUN step writes to its standard output is a line of the build.
_BUILD_LOG = 1
# A line of a thousand outputs would be cut by the engine; the warm-up asks for a sound answer anyway.
_MAX_VALUES = 64


def main() -> None:
    """Write what the runtime says of the model, as one line.

    Raises:
        RuntimeError: it cannot load or run the model; the line says why.
    """
    sys.path.insert(0, _SITE)
    from enclave_payload.card import load_card
    from enclavectl.models.observation import confine_this_process, observe_here

    os.write(_BUILD_LOG, f"{BEGINS}\n".encode())
    folder = Path(_SITE, "enclave_payload", "model")
    confine_this_process()
    found = observe_here(folder / "model.tflite", load_card(folder))
    values = tuple(one for one in found.values if len(one) <= _MAX_VALUES)
    os.write(_BUILD_LOG, f"{replace(found, values=values).to_line()}\n".encode())
    if found.failed is not None:
        raise RuntimeError("the model cannot serve in this runtime")


if __name__ == "__main__":
    main()
