"""One round of everything that the payload does, so that what it loads is loaded; run as a program.

Runs twice while the image is built: in the build stage, where ``assemble`` looks at what it loaded, and then
inside of the file system that was assembled. It is no part of that.
"""

from __future__ import annotations

import io
import sys

# What the image leaves out and the standard library does without.
for _name in ("_hashlib", "_ssl", "_bz2", "_lzma"):
    sys.modules[_name] = None  # type: ignore[assignment]


def main() -> None:
    """Seal and open in each suite, decode and classify a picture of each kind.

    Raises:
        RuntimeError: something came out that did not go in.
    """
    from PIL import Image

    import enclave_payload.__main__ as payload
    from enclave_payload.classifier import load_classifiers
    from enclave_payload.media import MediaType
    from enclave_payload.picture import decode_picture
    from enclave_payload.seal import SuiteId, generate_keys, seal_request

    keys = generate_keys()
    for suite in SuiteId:
        sealed = seal_request(suite, keys.public[suite], [b"picture"], b"info")
        if bytes(keys.open(suite, sealed, b"info")) != b"picture":
            raise RuntimeError(f"{suite!r} opened to something else")
    (classifier,) = load_classifiers(payload.MODEL_DIR, 1)
    card = classifier.card
    for kind in MediaType:
        encoded = io.BytesIO()
        Image.new("RGB", (300, 200), "gray").save(encoded, kind.name)
        picture = decode_picture(encoded.getvalue(), kind, width=card.width, height=card.height)
        if len(classifier.classify(picture)) != len(card.labels):
            raise RuntimeError(f"{kind} was not classified")


if __name__ == "__main__":
    main()
