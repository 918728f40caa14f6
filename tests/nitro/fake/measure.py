"""What nitro-cli reads off an EIF: measurements as it prints them, metadata, signature."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import Examination, examine
from enclavectl.eif.measure import Measurements
from enclavectl.eif.metadata import Metadata
from enclavectl.errors import EnclavectlError
from tests.nitro.fake.failure import Failure, os_error
from tests.nitro.fake.place import Place

# From 1.5.0 on the hasher is another crate's; its Debug text is what is printed.
_OLD_HASHER = "Sha384 { ... }"
_HASHER = "Sha512_48 { .. }"


def read_eif(path: str, doing: str, at: str, *, code: str = "E35") -> Examination:
    """Everything about the image.

    Raises:
        Failure: it cannot be read, or is no image.
    """
    try:
        with Path(path).open("rb") as file:
            found = examine(file, now=datetime.now(UTC))
    except OSError as exc:
        raise Failure(code, f'{doing}: "Failed to open the EIF file: {os_error(exc)}"', at) from exc
    except (EifError, EnclavectlError) as exc:
        raise Failure(code, f'{doing}: "{exc}"', at) from exc
    if found.measurements is None:
        raise Failure(code, f'{doing}: "Error while parsing EIF header: EifParsingError"', at)
    return found


def measurements_of(found: Examination, release: tuple[int, ...]) -> dict[str, str]:
    """The object under ``Measurements``, in its order."""
    assert found.measurements is not None
    return {"HashAlgorithm": hasher(release), **found.measurements.registers()}


def hasher(release: tuple[int, ...]) -> str:
    """``HashAlgorithm``: the Debug text of whatever crate hashed."""
    return _HASHER if release >= (1, 5, 0) else _OLD_HASHER


def registers(measured: Measurements, instance: str, *, debug: bool) -> dict[int, bytes]:
    """What the NSM attests: zeros for a debug enclave, and PCR4 for the instance in any case."""
    from hashlib import sha384

    from enclavectl.eif.measure import extend_once

    found = {int(name[3:]): bytes.fromhex(value) for name, value in measured.registers().items()}
    if debug:
        found = dict.fromkeys(found, bytes(48))
    found[4] = bytes.fromhex(extend_once(sha384(instance.encode()).digest()))
    return found


def metadata_of(metadata: Metadata) -> dict[str, Any]:
    """ImageName, ImageVersion and Metadata.

    Raises:
        Failure: E17, custom metadata that is no object cannot be laid flat.
    """
    if metadata.custom is not None and not isinstance(metadata.custom, dict):
        raise Failure(
            "E17",
            'Failed to display EIF describe data: Error("can only flatten structs and maps", line: 0, '
            "column: 0)",
            "src/lib.rs:286",
        )
    return {
        "ImageName": metadata.image_name,
        "ImageVersion": metadata.image_version,
        "Metadata": {
            "BuildTime": metadata.build_time,
            "BuildTool": metadata.build_tool,
            "BuildToolVersion": metadata.build_tool_version,
            "OperatingSystem": metadata.operating_system,
            "KernelVersion": metadata.kernel_version,
            "DockerInfo": metadata.docker_info,
            **(metadata.custom or {}),
        },
    }


def describe_eif(path: str, place: Place) -> dict[str, Any]:
    """The object that ``describe-eif`` prints.

    Raises:
        Failure: E35 or E17.
    """
    found = read_eif(path, "Failed to initialize EIF reader", "src/lib.rs:225")
    certificate = found.certificate
    value: dict[str, Any] = {
        "EifVersion": 4,
        "Measurements": measurements_of(found, place.settings.release),
        "IsSigned": certificate is not None,
    }
    if certificate is not None:
        value["SigningCertificate"] = _certificate(certificate)
    value["CheckCRC"] = found.crc_ok
    if certificate is not None:
        value["SignatureCheck"] = bool(found.signature_ok)
    return {**value, **(metadata_of(found.metadata) if found.metadata else {})}


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    names = {attribute.rfc4514_attribute_name: attribute.value for attribute in certificate.issuer}
    long_names = {"CN": "commonName", "O": "organizationName", "OU": "organizationalUnitName"}
    algorithm = certificate.signature_hash_algorithm
    return {
        "IssuerName": {long_names.get(name, name): value for name, value in names.items()},
        "Algorithm": f"ecdsa-with-{algorithm.name.upper() if algorithm else 'NONE'}",
        "NotBefore": _openssl_time(certificate.not_valid_before_utc),
        "NotAfter": _openssl_time(certificate.not_valid_after_utc),
        "Signature": certificate.signature.hex(":").upper(),
    }


def _openssl_time(time: datetime) -> str:
    return f"{time:%b} {time.day:2} {time:%H:%M:%S %Y} GMT"
