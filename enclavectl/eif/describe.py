"""The keys that ``nitro-cli describe-eif`` prints of a file, with our own facts beside them.

Custom metadata is flattened into ``Metadata``, as nitro-cli does it, except for keys of the builder: in
nitro-cli's output, ``{"BuildTime": ...}`` in the custom part replaces the build time.
https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.4.2/src/common/json_output.rs
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509

from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import Examination
from enclavectl.eif.format import Header
from enclavectl.eif.layout import Layout
from enclavectl.eif.metadata import Metadata
from enclavectl.eif.names import algorithm_name, attribute_name
from enclavectl.eif.signature import issuer_names

# nitro-cli up to 1.4 prints this; 1.5 prints `Sha512_48 { .. }`, its library's new name of the same hash.
_HASH_ALGORITHM = "Sha384 { ... }"


def describe(examination: Examination) -> dict[str, object]:
    """Return the JSON object of ``eif show``.

    Raises:
        EifError: the file is too short for a header.
    """
    layout = examination.scan.linear
    if layout is None:
        raise examination.findings[0].to_error()
    value: dict[str, object] = {
        "EifVersion": layout.header.version,
        "Measurements": _measurements(examination),
    }
    value["IsSigned"] = examination.is_signed
    if examination.certificate is not None:
        value["SigningCertificate"] = _certificate(examination.certificate)
    value["CheckCRC"] = examination.crc_ok
    if examination.signature_ok is not None:
        value["SignatureCheck"] = examination.signature_ok
    if examination.metadata is not None:
        value["ImageName"] = examination.metadata.image_name
        value["ImageVersion"] = examination.metadata.image_version
        value["Metadata"] = _metadata(examination.metadata)
    value["enclavectl"] = _facts(examination, layout)
    return value


def _measurements(examination: Examination) -> dict[str, str]:
    if examination.measurements is None:
        return {}
    return {"HashAlgorithm": _HASH_ALGORITHM, **examination.measurements.registers()}


def _metadata(metadata: Metadata) -> dict[str, object]:
    value: dict[str, object] = {**metadata.build_fields(), "DockerInfo": metadata.docker_info}
    if isinstance(metadata.custom, Mapping):
        for key, item in metadata.custom.items():
            value.setdefault(key, item)
    return value


def _facts(examination: Examination, layout: Layout) -> dict[str, object]:
    header: Header = layout.header
    facts: dict[str, object] = {
        "schema": "enclavectl.eif/1",
        "sound": examination.sound,
        "size": layout.size,
        "architecture": header.arch.value,
        "flags": header.flags,
        "crc32": f"{header.crc32:08x}",
        "sections": [
            {"kind": section.name, "offset": section.offset, "size": section.size}
            for section in layout.sections
        ],
        "custom_metadata": examination.metadata.custom if examination.metadata else None,
        "findings": [finding.to_json() for finding in examination.findings],
    }
    if examination.scan.views_differ:
        table = examination.table_measurements
        facts["table_measurements"] = table.registers() if table else None
    return facts


def _certificate(certificate: x509.Certificate) -> dict[str, object]:
    try:
        issuer = issuer_names(certificate)
    except EifError:
        issuer = []  # a finding reports it
    names = {attribute_name(oid): _rust_debug(text) for oid, text in issuer}
    return {
        "IssuerName": dict(sorted(names.items())),
        "Algorithm": algorithm_name(certificate.signature_algorithm_oid),
        "NotBefore": f"{certificate.not_valid_before_utc:%b %e %H:%M:%S %Y} GMT",
        "NotAfter": f"{certificate.not_valid_after_utc:%b %e %H:%M:%S %Y} GMT",
        "Signature": ":".join(f"{byte:02X}" for byte in certificate.signature),
    }


def _rust_debug(text: str) -> str:
    r"""Write text as nitro-cli prints it: as Rust's ``{:?}`` does, without the quotes."""
    known = {"\\": "\\\\", '"': "\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    return "".join(
        known.get(char) or (char if char.isprintable() else f"\\u{{{ord(char):x}}}") for char in text
    )
