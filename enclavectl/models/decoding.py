"""Pictures classified by the enclave's own decoder processes, under a process of its own.

``python -m enclavectl.models.decoding FOLDER LIST DESCRIPTOR`` loads the model in the folder as an enclave
does: in a zygote that is forked first, with decoders that have given up all but one socket. The list has
pairs of a picture's file and media type. One line of JSON is written to the descriptor for each picture, or
one with an ``error`` if the model cannot be loaded. A model that crashes its parser costs that process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from enclave_payload.card import CardError
from enclave_payload.decoder import Decoder, DecoderLostError, Decoders
from enclave_payload.limits import Limits
from enclave_payload.media import MediaType


def main(arguments: list[str]) -> None:
    """Classify each picture of the list."""
    folder, names, descriptor = arguments
    pictures = json.loads(Path(names).read_text())
    try:
        decoders = Decoders(Path(folder), Limits())
    except (CardError, OSError) as exc:
        _write(descriptor, {"error": str(exc)})
        return
    try:
        (decoder,) = decoders.start(1, lambda _: None)
        for name, media_type in pictures:
            _write(descriptor, _classified(decoder, Path(name), MediaType(media_type)))
    except DecoderLostError as exc:
        _write(descriptor, {"error": str(exc)})
    finally:
        decoders.close()


def _classified(decoder: Decoder, path: Path, media_type: MediaType) -> dict[str, object]:
    verdict = decoder.classify(path.read_bytes(), media_type, lambda: True).verdict
    problem = None if verdict.problem is None else str(verdict.problem)
    return {"parts": verdict.probabilities_ppb, "problem": problem}


def _write(descriptor: str, value: dict[str, object]) -> None:
    os.write(int(descriptor), f"{json.dumps(value)}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1:])
