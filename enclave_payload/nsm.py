"""The Nitro Secure Module: its CBOR requests and responses, and the /dev/nsm device.

Requests, limits and error names: AWS's nsm-api
(https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/8785071/src/api/mod.rs) and the kernel driver
(https://github.com/torvalds/linux/blob/v6.8/drivers/misc/nsm.c).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from enclave_payload.cbor import CborError, Encodable, Value, decode, encode

DEVICE = Path("/dev/nsm")
# _IOWR(0x0A, 0, struct nsm_raw) of 32 bytes, include/uapi/linux/nsm.h.
_IOCTL_RAW = 0xC0200A00
# Both are the kernel driver's: NSM_REQUEST_MAX_SIZE and NSM_RESPONSE_MAX_SIZE, include/uapi/linux/nsm.h.
MAX_REQUEST_BYTES = 0x1000
# Always offer all of it: a smaller buffer gets a silently truncated response.
MAX_RESPONSE_BYTES = 0x3000
_PCRS = 32
_PCR_BYTES = 48  # SHA-384


class NsmError(Exception):
    """The NSM could not be asked, refused, or answered what its interface does not allow."""


class Attester(Protocol):
    """What can obtain an attestation document for this enclave."""

    def attest(self, *, nonce: bytes, user_data: bytes, public_key: bytes) -> bytes:
        """Obtain a fresh document over ``nonce`` and ``user_data`` (512 bytes), and ``public_key`` (1,024).

        Raises:
            NsmError: there is no document.
        """


class Nsm:
    """The NSM's requests over any ``transact``: the device, or a stand-in that speaks the same CBOR."""

    def __init__(self, transact: Callable[[bytes], bytes]) -> None:
        """``transact`` takes a request and returns the response, or raises ``NsmError``."""
        self._transact = transact

    def attest(self, *, nonce: bytes | None, user_data: bytes, public_key: bytes) -> bytes:
        """Obtain a fresh document. ``public_key`` is the receipt key; user_data commits to the other keys."""
        fields: dict[str, bytes | None] = {"user_data": user_data, "nonce": nonce, "public_key": public_key}
        document = self._ask({"Attestation": fields}, "Attestation", "document")
        if not isinstance(document, bytes) or not document:
            raise NsmError("Attestation: the response holds no document")
        return document

    def get_random(self) -> bytes:
        """Obtain up to 256 random bytes from the hypervisor.

        Raises:
            NsmError: no bytes, or all of them equal, which no working generator gives.
        """
        random = self._ask("GetRandom", "GetRandom", "random")
        if not isinstance(random, bytes) or len(set(random)) < 2:
            raise NsmError("GetRandom: the response is not random")
        return random

    def pin(self, index: int, data: bytes, expected: bytes) -> None:
        """Extend a register from zero to ``expected`` with ``data``, and lock all registers for good.

        Only locked registers stand in documents. None is unlocked before the enclave ends.

        Raises:
            NsmError: the register was not open and zero, or is not locked with ``expected`` now.
        """
        if self.describe(index) != (False, bytes(_PCR_BYTES)):
            raise NsmError(f"PCR{index}: expected it open and zero, but something has used it before")
        extended = self._ask({"ExtendPCR": {"index": index, "data": data}}, "ExtendPCR", "data")
        if extended != expected:
            raise NsmError(f"PCR{index}: the NSM extended it to another value than expected")
        if self._response({"LockPCRs": {"range": _PCRS}}, "LockPCRs") != "LockPCRs":
            raise NsmError("LockPCRs: the response does not say that they are locked")
        if self.describe(index) != (True, expected):
            raise NsmError(f"PCR{index}: expected it locked with the value that the NSM extended it to")

    def describe(self, index: int) -> tuple[bool, bytes]:
        """Return whether a register is locked, and its 48 bytes.

        Raises:
            NsmError: the NSM refused, or the response does not describe a register.
        """
        match self._response({"DescribePCR": {"index": index}}, "DescribePCR"):
            case {"DescribePCR": {"lock": bool(is_locked), "data": bytes(value)}} if len(value) == _PCR_BYTES:
                return is_locked, value
        raise NsmError("DescribePCR: the response does not describe a register")

    def _ask(self, request: Encodable, name: str, field: str) -> Value:
        response = self._response(request, name)
        if isinstance(response, dict) and isinstance(body := response.get(name), dict) and field in body:
            return body[field]
        raise NsmError(f"{name}: the response has no {field}")

    def _response(self, request: Encodable, name: str) -> Value:
        try:
            response = decode(self._transact(encode(request)), max_bytes=MAX_RESPONSE_BYTES)
        except CborError as exc:
            raise NsmError(f"{name}: the response is not CBOR") from exc
        if isinstance(response, dict) and isinstance(error := response.get("Error"), str):
            raise NsmError(f"{name}: the NSM says {error}")
        return response


class _IoVec(ctypes.Structure):
    _fields_ = (("addr", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _NsmRaw(ctypes.Structure):
    _fields_ = (("request", _IoVec), ("response", _IoVec))


class NsmDevice:
    """/dev/nsm, held open. Calls may come from any thread; the driver serializes them."""

    def __init__(self, path: Path = DEVICE) -> None:
        """Open the device.

        Raises:
            NsmError: it is absent or may not be opened: this is no enclave, or its kernel has no driver.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            raise NsmError(f"{path}: {exc.strerror}") from exc

    def transact(self, request: bytes) -> bytes:
        """Send one request to the NSM and return its response.

        Raises:
            NsmError: the request is too long or the driver reports an error.
        """
        if len(request) > MAX_REQUEST_BYTES:
            raise NsmError(f"a request has at most {MAX_REQUEST_BYTES} bytes, not {len(request)}")
        # Both buffers stay referenced until the ioctl is over: the struct holds bare addresses.
        source = ctypes.create_string_buffer(request, len(request))
        sink = ctypes.create_string_buffer(MAX_RESPONSE_BYTES)
        raw = _NsmRaw(
            _IoVec(ctypes.addressof(source), len(request)), _IoVec(ctypes.addressof(sink), MAX_RESPONSE_BYTES)
        )
        try:
            fcntl.ioctl(self._fd, _IOCTL_RAW, raw, True)
        except OSError as exc:
            raise NsmError(f"ioctl: {exc.strerror}") from exc
        return sink.raw[: raw.response.len]
