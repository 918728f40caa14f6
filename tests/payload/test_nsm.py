import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload import nsm
from enclave_payload.nsm import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Nsm, NsmDevice, NsmError


def answering(response: object) -> Nsm:
    encoded = cbor2.dumps(response)
    return Nsm(lambda _: encoded)


def recording(log: list[bytes], response: object) -> Callable[[bytes], bytes]:
    def transact(request: bytes) -> bytes:
        log.append(request)
        return cbor2.dumps(response)

    return transact


def test_the_attestation_request_has_the_fields_of_nsm_api() -> None:
    # Sorted, where nsm-api has user_data first; the NSM reads the fields by name.
    log: list[bytes] = []
    attester = Nsm(recording(log, {"Attestation": {"document": b"doc"}}))
    assert attester.attest(nonce=b"\x01\x02", user_data=b"\x03", public_key=b"\x04\x05") == b"doc"
    assert log == [
        bytes.fromhex(
            "a16b4174746573746174696f6e a3"
            "656e6f6e6365 420102"
            "69757365725f64617461 4103"
            "6a7075626c69635f6b6579 420405"
        )
    ]


def test_the_random_request_is_the_one_of_nsm_api() -> None:
    log: list[bytes] = []
    assert Nsm(recording(log, {"GetRandom": {"random": b"ab"}})).get_random() == b"ab"
    assert log == [bytes.fromhex("69 47657452616e646f6d")]


def test_the_largest_attestation_request_fits() -> None:
    log: list[bytes] = []
    attester = Nsm(recording(log, {"Attestation": {"document": b"d"}}))
    attester.attest(nonce=bytes(512), user_data=bytes(512), public_key=bytes(1024))
    assert len(log[0]) <= MAX_REQUEST_BYTES


def test_an_answer_is_read_as_linux_reads_it_in_definite_lengths() -> None:
    # The bytes that drivers/misc/nsm.c compares the start of an answer with.
    head = bytes.fromhex("a1 6947657452616e646f6d a1 6672616e646f6d")
    assert Nsm(lambda _: head + b"\x42\x01\x02").get_random() == b"\x01\x02"
    indefinite = bytes.fromhex("bf 6b4174746573746174696f6e bf 68646f63756d656e74 4101 ff ff")
    with pytest.raises(NsmError, match="not CBOR"):
        Nsm(lambda _: indefinite).attest(nonce=b"", user_data=b"", public_key=b"")


def test_the_document_inside_an_answer_is_handed_on_unread() -> None:
    """Whatever form it has: AWS writes its payload in indefinite lengths since 2025."""
    document = b"\xbf\xff not even CBOR"
    assert (
        answering({"Attestation": {"document": document}}).attest(nonce=b"", user_data=b"", public_key=b"")
        == document
    )


@pytest.mark.parametrize("error", ["InvalidArgument", "InputTooLarge", "InternalError", "SomethingNew"])
def test_an_error_of_the_nsm_is_named(error: str) -> None:
    with pytest.raises(NsmError, match=f"^Attestation: the NSM says {error}$"):
        answering({"Error": error}).attest(nonce=b"", user_data=b"", public_key=b"")
    with pytest.raises(NsmError, match=f"^GetRandom: the NSM says {error}$"):
        answering({"Error": error}).get_random()


@pytest.mark.parametrize(
    "response",
    [
        None,
        7,
        "Attestation",
        [],
        {},
        {"Error": 5},
        {"GetRandom": {"random": b"ab"}},
        {"Attestation": None},
        {"Attestation": b"document"},
        {"Attestation": {}},
        {"Attestation": {"document": None}},
        {"Attestation": {"document": "text"}},
        {"Attestation": {"document": b""}},
    ],
)
def test_a_response_without_a_document_is_an_error(response: object) -> None:
    with pytest.raises(NsmError, match=r"^Attestation: "):
        answering(response).attest(nonce=b"", user_data=b"", public_key=b"")


@pytest.mark.parametrize("random", [b"", b"a", b"\0" * 256, b"\xff" * 256, "text", None])
def test_bytes_that_are_not_random_are_an_error(random: object) -> None:
    with pytest.raises(NsmError, match=r"^GetRandom: the response is not random$"):
        answering({"GetRandom": {"random": random}}).get_random()


@pytest.mark.parametrize(
    "response", [b"", b"\xff", b"\xa1", b"\xf6\xf6", b"\xf6" + bytes(MAX_RESPONSE_BYTES)]
)
def test_a_response_that_is_not_cbor_is_an_error(response: bytes) -> None:
    with pytest.raises(NsmError, match=r"^GetRandom: the response is not CBOR$"):
        Nsm(lambda _: response).get_random()


@given(st.binary(max_size=100))
def test_any_response_is_a_document_or_an_nsm_error(response: bytes) -> None:
    try:
        document = Nsm(lambda _: response).attest(nonce=b"", user_data=b"", public_key=b"")
    except NsmError:
        return
    assert document in response


def test_the_ioctl_is_the_one_of_the_kernel_header() -> None:
    # _IOC(read | write, 0x0A, 0, sizeof(struct nsm_raw)), include/uapi/linux/nsm.h
    raw = nsm._NsmRaw
    number = 3 << 30 | ctypes.sizeof(raw) << 16 | 0x0A << 8 | 0
    assert number == nsm._IOCTL_RAW
    assert [(raw.request.offset, raw.request.size), (raw.response.offset, raw.response.size)] == [
        (0, 16),
        (16, 16),
    ]
    assert (nsm._IoVec.addr.offset, nsm._IoVec.addr.size) == (0, 8)
    assert (nsm._IoVec.len.offset, nsm._IoVec.len.size) == (8, 8)


def test_without_the_device_the_error_names_it(tmp_path: Path) -> None:
    with pytest.raises(NsmError, match=f"nsm: {os.strerror(errno.ENOENT)}$"):
        NsmDevice(tmp_path / "nsm")


def test_a_device_that_is_no_nsm_refuses_the_request() -> None:
    with pytest.raises(NsmError, match=f"^ioctl: {os.strerror(errno.ENOTTY)}$"):
        NsmDevice(Path("/dev/null")).transact(b"request")


def test_a_request_over_the_limit_never_reaches_the_device() -> None:
    with pytest.raises(NsmError, match="at most 4096 bytes, not 4097"):
        NsmDevice(Path("/dev/null")).transact(bytes(MAX_REQUEST_BYTES + 1))
