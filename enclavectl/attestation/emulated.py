"""The documents of QEMU's NSM: real registers, nonce and user data, and zeros where others have a signature.

https://gitlab.com/qemu-project/qemu/-/blob/v10.0.0/hw/virtio/virtio-nsm.c. Nothing here proves anything to
anybody who does not run that QEMU. So the form is held to exactly: a document that could be signed, or has a
certificate of anybody's, is refused.
"""

from __future__ import annotations

from enclavectl.attestation.codes import AttestationCode, refused
from enclavectl.attestation.cose import parse_cose, parse_emulator_envelope
from enclavectl.attestation.document import Claims, parse_claims
from enclavectl.errors import AttestationError

_NO_CERTIFICATE = bytes(64)


def parse_emulated(document: bytes) -> Claims:
    """Read a document of QEMU's.

    Raises:
        AttestationError: ``emulator`` for what another wrote or signed; else as for every other document.
    """
    claims = parse_claims(parse_emulator_envelope(document))
    if claims.certificate != _NO_CERTIFICATE or claims.cabundle != (_NO_CERTIFICATE,):
        raise refused(
            AttestationCode.EMULATOR,
            f"certificates: expected the emulator's {len(_NO_CERTIFICATE)} zeros twice, found something else",
        )
    return claims


def unproven_claims(document: bytes) -> Claims:
    """Read what a document says, AWS's or QEMU's. Nothing is verified: for records of what was seen.

    Raises:
        AttestationError: it has neither form.
    """
    try:
        return parse_emulated(document)
    except AttestationError:
        return parse_claims(parse_cose(document).payload)
