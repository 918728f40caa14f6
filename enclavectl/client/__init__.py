"""The data owner's side, and the library's front door: challenge, verify, seal, ask, open.

    with Client.connect(parse_address("vsock:16:5005"), expectation, timeout_s=30) as client:
        for reply in classify(client, pictures, timeout_s=30):
            print(reply.error or reply.outcome)

docs/library.md has a whole example. Names are imported when they are first used: commands need some modules
of this room before its cryptography, which takes longer to import than a local enclave takes to launch.
"""

from typing import TYPE_CHECKING

from enclavectl.lazy_names import lazy_names

if TYPE_CHECKING:
    from enclavectl.client.batch import Losses, Reply, classify
    from enclavectl.client.collection import CollectedEvidence, collect_evidence
    from enclavectl.client.exchange import Expectation, VerifiedEnclave
    from enclavectl.client.pictures import Picture, parse_picture, read_picture, read_pictures
    from enclavectl.client.pool import AsyncClient, ClientPool, PoolReply
    from enclavectl.client.session import Client
    from enclavectl.net.access import Access, read_access
    from enclavectl.net.address import Address, parse_address

__all__ = [
    "Access",
    "Address",
    "AsyncClient",
    "Client",
    "ClientPool",
    "CollectedEvidence",
    "Expectation",
    "Losses",
    "Picture",
    "PoolReply",
    "Reply",
    "VerifiedEnclave",
    "classify",
    "collect_evidence",
    "parse_address",
    "parse_picture",
    "read_access",
    "read_picture",
    "read_pictures",
]
_PLACES = {
    "Access": "net.access",
    "Address": "net.address",
    "AsyncClient": "client.pool",
    "Client": "client.session",
    "ClientPool": "client.pool",
    "CollectedEvidence": "client.collection",
    "Expectation": "client.exchange",
    "Losses": "client.batch",
    "Picture": "client.pictures",
    "PoolReply": "client.pool",
    "Reply": "client.batch",
    "VerifiedEnclave": "client.exchange",
    "classify": "client.batch",
    "collect_evidence": "client.collection",
    "parse_address": "net.address",
    "parse_picture": "client.pictures",
    "read_access": "net.access",
    "read_picture": "client.pictures",
    "read_pictures": "client.pictures",
}

if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _PLACES)
