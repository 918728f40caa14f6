"""The client's reader of the CBOR (RFC 8949) that enclaves write: one encoding of each value.

The library ``cbor2`` decodes, in a quarter of the time that ``enclave_payload.cbor`` takes; the payload does
without the library, so that there is less to audit. Both take the same values, but for an empty array or map
one level deeper. Here they are taken only in the deterministic encoding (section 4.2.1), so that nobody can
change a byte that no signature covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import cbor2

from enclave_payload.cbor import MAX_DEPTH, CborError, Value, encode

__all__ = ["CborEncodingError", "CborError", "Value", "decode", "encode"]

_KEYS = frozenset({int, str})
_SCALARS = frozenset({int, bytes, str, bool, type(None)})


class CborEncodingError(CborError):
    """The value is one that is taken, and its encoding is not the deterministic one."""


def decode(data: bytes, *, max_bytes: int) -> Value:
    """Decode the one value that ``data`` holds; for any bytes, in memory bounded by their length.

    Raises:
        CborEncodingError: longer heads than there need be, or unsorted keys; bytes may follow as well.
        CborError: too long or too deep, cut short, followed by something, or a kind of CBOR that
            ``enclave_payload.cbor`` does not know: floats, tags, indefinite lengths, other map keys.
    """
    if len(data) > max_bytes:
        raise CborError(f"expected at most {max_bytes} bytes, found {len(data)}")
    try:
        value: Value = cbor2.loads(
            data,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            tag_hook=_refuse_tag,
            semantic_decoders=_EVERY_TAG,
        )
    except (cbor2.CBORDecodeError, TypeError, OverflowError) as exc:
        # Cut: it may have a peer's text in it, of any length.
        raise CborError(f"not the CBOR of this protocol: {exc!s:.100}") from exc
    is_sorted = _check(value)
    encoded = cbor2.dumps(value)
    if encoded == data and is_sorted:
        return value
    if is_sorted and data.startswith(encoded):
        raise CborError(f"{len(data) - len(encoded)} bytes follow the value")
    raise CborEncodingError("expected shortest heads and sorted keys (RFC 8949 section 4.2.1), found others")


def _check(value: object) -> bool:
    """Return whether the keys of every map are in the order of their encodings.

    Raises:
        CborError: a kind of value or key that the payload does not know, of which cbor2 takes some.
    """
    is_sorted = True
    items: Iterable[object] = [value]
    if isinstance(value, list):
        items = value
    elif isinstance(value, dict):
        # By type: to Python True and 1.0 are 1.
        if not _KEYS.issuperset(map(type, value)):
            raise CborError("not the CBOR of this protocol: a map key that is neither an integer nor text")
        ranks = [_rank(key) for key in value]
        is_sorted = ranks == sorted(ranks)
        items = value.values()
    for item in items:
        kind = type(item)
        if kind is list or kind is dict:
            is_sorted &= _check(item)
        elif kind not in _SCALARS:
            raise CborError(f"not the CBOR of this protocol: {kind.__name__} is not encoded")
    return is_sorted


def _rank(key: int | str) -> tuple[int, int, bytes]:
    """Return what sorts keys as their shortest encodings are sorted."""
    if isinstance(key, str):
        text = key.encode()
        return 2, len(text), text
    return (0, key, b"") if key >= 0 else (1, -1 - key, b"")


def _refuse_tag(*_: object) -> NoReturn:
    raise cbor2.CBORDecodeError("a tag")


class _EveryTag(Mapping[int, Any]):
    """Refuses the tags that cbor2 knows: it would compile a stranger's regular expression."""

    def __getitem__(self, tag: int) -> Any:
        return _refuse_tag

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return 1 << 64


_EVERY_TAG = _EveryTag()
