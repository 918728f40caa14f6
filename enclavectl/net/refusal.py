"""Refusals on the wire. They are not encrypted, so a relay reads them as a client does."""

from __future__ import annotations

from dataclasses import dataclass

from enclave_payload.messages import NO_REQUEST, REFUSAL_BYTES, RefusalCode
from enclave_payload.wire import Buffer, WireError

__all__ = ["NO_REQUEST", "REFUSAL_BYTES", "Refusal", "RefusalCode", "parse_refusal"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An unauthenticated refusal: forging one denies service, which the parent can do anyway."""

    code: RefusalCode
    request_id: bytes = NO_REQUEST


def parse_refusal(body: Buffer) -> Refusal:
    """Read ``u16 code | 24 bytes request id``.

    Raises:
        WireError: another length, or an unknown code, which no version-1 enclave sends.
    """
    code = int.from_bytes(body[:2], "big")
    if len(body) != REFUSAL_BYTES or code not in set(RefusalCode):
        raise WireError(f"a refusal has {REFUSAL_BYTES} bytes and a known code")
    return Refusal(RefusalCode(code), bytes(body[2:]))
