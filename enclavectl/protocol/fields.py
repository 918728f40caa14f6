"""The reader of the CBOR map in an answer or a key configuration."""

from __future__ import annotations

from enclave_payload.contents import ContentError
from enclavectl.protocol.cbor import CborError, Value, decode


def read_fields(data: bytes, names: frozenset[str], *, max_bytes: int) -> dict[int | str, Value]:
    """Decode the map with exactly these keys, in the one deterministic encoding (RFC 8949 section 4.2.1).

    Raises:
        ContentError: anything else.
    """
    try:
        value = decode(data, max_bytes=max_bytes)
    except CborError as exc:
        raise ContentError(f"not CBOR: {exc}") from exc
    if not isinstance(value, dict) or value.keys() != names:
        raise ContentError(f"expected a map of {', '.join(sorted(names))}")
    return value
