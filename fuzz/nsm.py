"""Any response of the NSM is a document or random bytes that stand in it, or an NsmError; none pins."""

from collections.abc import Callable

import cbor2

from enclave_payload.nsm import Nsm, NsmError

SEEDS: list[bytes] = [
    b"",
    cbor2.dumps({"Attestation": {"document": b"document"}}),
    cbor2.dumps({"GetRandom": {"random": bytes(range(256))}}),
    cbor2.dumps({"Error": "InvalidArgument"}),
    cbor2.dumps({"DescribePCR": {"lock": False, "data": bytes(48)}}),
    cbor2.dumps({"ExtendPCR": {"data": bytes(48)}}),
    cbor2.dumps("LockPCRs"),
    bytes.fromhex("bf 6947657452616e646f6d a1 6672616e646f6d 4161 ff"),
]


def one(data: bytes) -> None:
    nsm = Nsm(lambda _: data)
    asks: list[Callable[[], bytes]] = [
        lambda: nsm.attest(nonce=b"n", user_data=b"u", public_key=b"p"),
        nsm.get_random,
    ]
    for ask in asks:
        try:
            found = ask()
        except NsmError as exc:
            str(exc).encode()
            continue
        assert found
        assert found in data
    try:
        # One response cannot say open and locked of the same register.
        nsm.pin(16, b"commitment", b"value")
    except NsmError as exc:
        str(exc).encode()
    else:
        raise AssertionError("one response for every request pinned a register")
