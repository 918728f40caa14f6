"""``sign-eif``: in place, with this project's own signer."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.eif.errors import EifError
from enclavectl.eif.sign import load_signer, sign_image
from enclavectl.errors import EnclavectlError
from tests.nitro.fake.failure import Failure, os_error
from tests.nitro.fake.place import Place


def sign(path: str, key: str | None, certificate: str | None, place: Place) -> dict[str, str]:
    """The object under ``Measurements`` of the image, signed now.

    Raises:
        Failure: E60.
    """
    if key is None or certificate is None:
        raise Failure("E60", "Failed to create EifSigner", "src/lib.rs:311")
    try:
        certificate_pem = Path(certificate).read_bytes()
    except OSError as exc:
        told = f"Could not open the certificate file: {os_error(exc)}".replace('"', '\\"')
        print(f'Could not read signing info: "{told}"', file=sys.stderr)
        raise Failure("E60", "Failed to create EifSigner", "src/lib.rs:311") from exc
    try:
        source = Path(path)
        loaded = load_signer(Path(key).read_bytes(), certificate_pem, now=datetime.now(UTC))
        signer = replace(loaded, certificate_pem=certificate_pem)  # the file as it is, whatever is in it
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "signed.eif"
            measurements = sign_image(source, output, signer)
            source.write_bytes(output.read_bytes())
    except OSError as exc:
        raise Failure("E60", f"Failed to sign image: {os_error(exc)}", "src/lib.rs:318") from exc
    except (EifError, EnclavectlError) as exc:
        raise Failure("E60", f"Failed to sign image: {exc}", "src/lib.rs:318") from exc
    from tests.nitro.fake.measure import hasher

    return {"HashAlgorithm": hasher(place.settings.release), **measurements.registers()}
