"""The reader of the single claims of a signed receipt: their types and their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from enclavectl.evidence.codes import ReceiptCode, ReceiptError
from enclavectl.protocol.cbor import Value
from enclavectl.protocol.receipts import Claim, SecurityMode

NITRO = "nitro-pcr"
TDX = "tdx-mrtd-rtmr"

_REGISTER_BYTES = 48
_NONCE_BYTES = range(8, 65)
# The last second of the year 9999, and of Python's datetime.
_MAX_SECONDS = 253_402_300_799
# What the platforms' measurements must and may hold beside their type. A TDX module has no PCR8.
_MEASURED = {f"pcr{index}": index for index in (0, 1, 2)}
_ALSO_MEASURED = {
    NITRO: {f"pcr{index}": index for index in (3, 4, 8)},
    TDX: {f"pcr{index}": index for index in (3, 4)},
}
_SCHEMES = frozenset({"sha256-single", "sha256-concat", "sha256-manifest"})


class ClaimReader:
    """The claims of a map that has every one which it must have, each read with its type and its bounds."""

    def __init__(self, values: Mapping[int | str, Value]) -> None:
        self._values = values

    def text(self, claim: Claim, limit: int) -> str:
        """Return a text of at most ``limit`` bytes in UTF-8."""
        value = self._values[claim]
        if not isinstance(value, str) or len(value.encode()) > limit:
            raise _form(claim, f"text of at most {limit} bytes", value)
        return value

    def uint(self, claim: Claim) -> int:
        """Return a number from 0 up."""
        value = self._values[claim]
        # `type() is int`, because True is an int in Python and is not one in CBOR.
        if type(value) is not int or value < 0:
            raise _form(claim, "a number from 0 up", value)
        return value

    def seconds(self, claim: Claim) -> int:
        """Return a time in whole seconds since 1970, which is not 0."""
        value = self.uint(claim)
        if value == 0:
            raise _zero(claim)
        if value > _MAX_SECONDS:
            raise _form(claim, "a time before the year 10000", value)
        return value

    def byte_string(self, claim: Claim, size: int) -> bytes:
        """Return a byte string of exactly ``size`` bytes."""
        value = self._values[claim]
        if not isinstance(value, bytes) or len(value) != size:
            raise _form(claim, f"{size} bytes", value)
        return value

    def not_zero(self, claim: Claim, size: int) -> bytes:
        """Return a byte string of exactly ``size`` bytes that are not all zero."""
        value = self.byte_string(claim, size)
        if not any(value):
            raise _zero(claim)
        return value

    def nonce(self) -> bytes | None:
        """Return the verifier's challenge, 8 to 64 bytes; None if there is none."""
        value = self._values.get(Claim.EAT_NONCE)
        if Claim.EAT_NONCE not in self._values:
            return None
        if not isinstance(value, bytes) or len(value) not in _NONCE_BYTES:
            raise _form(Claim.EAT_NONCE, "8 to 64 bytes", value)
        return value

    def scheme(self) -> str | None:
        """Return how ``model_hash`` was computed; None if the receipt does not say."""
        if Claim.MODEL_HASH_SCHEME not in self._values:
            return None
        value = self.text(Claim.MODEL_HASH_SCHEME, 256)
        if value not in _SCHEMES:
            raise ReceiptError(
                ReceiptCode.HASH_SCHEME,
                f"model_hash_scheme: expected one of {', '.join(sorted(_SCHEMES))}, found {value!r:.40}",
            )
        return value

    def mode(self) -> SecurityMode:
        """Return the signer's word on where it runs."""
        value = self.text(Claim.SECURITY_MODE, 256)
        if value not in set(SecurityMode):
            raise ReceiptError(
                ReceiptCode.SECURITY_MODE,
                f"security_mode: expected {' or '.join(SecurityMode)}, found {value!r:.40}",
            )
        return SecurityMode(value)

    def measurements(self) -> tuple[str, Mapping[int, bytes]]:
        """Return the platform and its registers by index."""
        value = self._values[Claim.ENCLAVE_MEASUREMENTS]
        if not isinstance(value, dict):
            raise _form(Claim.ENCLAVE_MEASUREMENTS, "a map", value)
        kind = value.get("measurement_type")
        if not isinstance(kind, str) or kind not in _ALSO_MEASURED:
            raise _measurements(f"expected {NITRO} or {TDX} as measurement_type, found {kind!r:.40}")
        allowed = _MEASURED | _ALSO_MEASURED[kind]
        names = value.keys() - {"measurement_type"}
        if not _MEASURED.keys() <= names <= allowed.keys():
            raise _measurements(
                f"expected the registers {', '.join(allowed)}, found {sorted(names, key=str)!r:.80}"
            )
        pcrs: dict[int, bytes] = {}
        for name, index in allowed.items():
            if name in value:
                register = value[name]
                if not isinstance(register, bytes) or len(register) != _REGISTER_BYTES:
                    raise _measurements(
                        f"expected {_REGISTER_BYTES} bytes for {name}, found {_shown(register)}"
                    )
                pcrs[index] = register
        return kind, MappingProxyType(pcrs)


def _form(claim: Claim, expected: str, found: Value) -> ReceiptError:
    return ReceiptError(
        ReceiptCode.CLAIM_FORM, f"{claim.name.lower()}: expected {expected}, found {_shown(found)}"
    )


def _zero(claim: Claim) -> ReceiptError:
    return ReceiptError(ReceiptCode.CLAIM_ZERO, f"{claim.name.lower()}: expected a value, found zeros")


def _measurements(problem: str) -> ReceiptError:
    return ReceiptError(ReceiptCode.RECEIPT_MEASUREMENTS, f"enclave_measurements: {problem}")


def _shown(value: Value) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else f"{value!r:.40}"
