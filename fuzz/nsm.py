"""Any response of the NSM is a document that stands in it, random bytes that stand in it, or an NsmError."""

from collections.abc import Callable

import cbor2

from enclave_payload.nsm import Nsm, NsmError

SEEDS: list[bytes] = [
    b"",
    cbor2.dumps({"Attestation": {"document": b"document"}}),
    cbor2.dumps({"GetRandom": {"random": bytes(range(256))}}),
    cbor2.dumps({"Error": "InvalidArgument"}),
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
