"""Any bytes examine without an exception, and read strictly if and only if nothing found is an error.

Memory stays small whatever sizes the bytes claim; reading raises ``EifError`` and nothing else.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from enclavectl.eif.describe import describe
from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import examine, read_image
from enclavectl.eif.findings import Severity
from enclavectl.eif.format import HEADER_SIZE, SectionKind
from enclavectl.eif.metadata import Metadata
from enclavectl.eif.sign import KeySigner
from enclavectl.eif.signature import Curve
from tests.eif import samples

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Found by verify only: they need the clock, or a signature that the strict reader does not check.
_VERIFY_ONLY = {
    "certificate-time",
    "certificate-key",
    "signature-payload",
    "signature-invalid",
    "signature-algorithm",
}


def one(data: bytes) -> None:
    _check(data)
    if len(data) >= HEADER_SIZE:  # with a right CRC, or the fuzzer would never get past it
        _check(samples.fix_crc(data))


def _check(data: bytes) -> None:
    file = io.BytesIO(data)
    try:
        found = examine(file, now=_NOW)
        errors = {one.code for one in found.findings if one.severity is Severity.ERROR} - _VERIFY_ONLY
        if found.scan.linear is not None:
            describe(found)
    except Exception as exc:  # the invariant is about every exception
        raise AssertionError(f"examining raised {exc!r}") from exc
    refusal = image = None
    try:
        image = read_image(file)
    except EifError as exc:
        refusal = exc.code
    except Exception as exc:
        raise AssertionError(f"reading raised {exc!r}") from exc
    if image is None:
        assert errors or refusal in _VERIFY_ONLY, f"strict reading alone found {refusal}"
        return
    assert not errors, f"strict reading missed {errors}"
    assert found.measurements == image.measurements


_METADATA = Metadata(
    image_name="seed",
    image_version="1",
    build_time="t",
    build_tool="b",
    build_tool_version="1",
    operating_system="Linux",
    kernel_version="6",
    custom={"a": [1, 2.5, None]},
).to_bytes()
_PARTS: samples.Sections = [
    (SectionKind.KERNEL, b"kernel"),
    (SectionKind.CMDLINE, b"console=ttyS0"),
    (SectionKind.METADATA, _METADATA),
    (SectionKind.RAMDISK, b"070701"),
    (SectionKind.RAMDISK, b"\x1f\x8b\x08"),
]


def _signature() -> bytes:
    key = ec.derive_private_key(7, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "seed")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, _NOW, _NOW)
    certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    signer = KeySigner(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM), curve=Curve.P256, key=key
    )
    return signer.sign(read_image(io.BytesIO(samples.image(_PARTS))).measurements.pcr0).to_bytes()


SEEDS: list[bytes] = [
    samples.image(_PARTS),
    samples.image(_PARTS[:4]),
    samples.image([*_PARTS, (SectionKind.SIGNATURE, _signature())]),
]
