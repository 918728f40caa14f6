"""Remotes: enclaves elsewhere by a name of the user's, each with what reaches and what verifies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.registry import load_policy
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.net.access import MAX_CA_BYTES, Access, parse_pin, parse_token, read_access
from enclavectl.net.address import parse_address
from enclavectl.targets.target import Target
from enclavectl.targets.verification import VerificationOptions, read_policy

if TYPE_CHECKING:
    from enclavectl.attestation import Policy, Root

REMOTE_SCHEMA = "enclavectl.remote/1"
SUFFIXES = {
    "policy": "yaml",
    "root": "pem",
    "ca": "pem",
    "token": "txt",
    "client_certificate": "pem",
    "client_key": "key",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteContent:
    """Everything that a remote is made of, as bytes. The token and the client's key are secrets.

    Raises:
        UsageError: a part cannot be used, or the address has no use for it.
    """

    address: str
    policy: bytes = field(repr=False)
    root: bytes | None = field(default=None, repr=False)
    ca: bytes | None = field(default=None, repr=False)
    token: bytes | None = field(default=None, repr=False)
    client_certificate: bytes | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)
    pin: str | None = None

    def __post_init__(self) -> None:
        """Check every part, and write the address in its one spelling."""
        address = parse_address(self.address)
        object.__setattr__(self, "address", str(address))
        self._check_root()
        if self.client_key is not None and self.client_certificate is None:
            raise UsageError("--client-key: expected --client-cert as well")
        Access(
            token=None if self.token is None else parse_token(self.token, source="token"),
            client_certificate=None if self.client_certificate is None else Path("client.pem"),
            ca_pem=self.ca,
            pin=None if self.pin is None else parse_pin(self.pin),
        ).require_use(address)

    def read_policy(self) -> Policy:
        """Parse the policy.

        Raises:
            UsageError: it is none.
        """
        # Imported here: `diagnose --help` and a completion of names need no PyYAML.
        from enclavectl.attestation.policy_file import MAX_POLICY_BYTES, parse_policy

        if len(self.policy) > MAX_POLICY_BYTES:
            raise UsageError(f"policy: expected at most {MAX_POLICY_BYTES} bytes, found more")
        return parse_policy(self.policy.decode(errors="replace"), source="policy")

    def read_root(self) -> Root:
        """Parse the root; without one, AWS's, or what the policy accepts in its place.

        Raises:
            UsageError: it is no certificate.
        """
        from enclavectl.attestation import TrustRoot, root_for

        given = None if self.root is None else TrustRoot.from_operator(self.root, file="root")
        return root_for(self.read_policy(), given)

    def _check_root(self) -> None:
        """Check policy and root, and that the policy accepts what the root signs.

        Raises:
            UsageError: one is none, or they do not fit together.
        """
        accepted, trust = self.read_policy().accept, self.read_root().trust
        if trust not in accepted:
            whose = "AWS's root" if self.root is None else "the root that is given"
            raise UsageError(
                f"policy: accepts {', '.join(sorted(accepted))}, but {whose} signs {trust}: "
                "no enclave could meet it",
                hint="--root FILE names a development root, whose holder can sign anything, for trials; "
                "without --root the policy must accept nitro",
                code="trust-not-accepted",
            )

    def replaced_by(self, other: RemoteContent) -> RemoteContent:
        """Return ``other``, with the parts of this one that it does not have.

        Raises:
            UsageError: the parts do not fit together.
        """
        parts = {**self.copies(), **other.copies()}
        return RemoteContent(address=other.address, pin=other.pin or self.pin, **parts)

    def copies(self) -> Mapping[str, bytes]:
        """Return what is kept in files, by its word."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name in SUFFIXES}
        return {name: data for name, data in found.items() if data is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A stored remote; ``files`` has the copies by their word."""

    name: str
    address: str
    pin: str | None
    files: Mapping[str, Path]
    changed: datetime
    is_default: bool

    def content(self) -> RemoteContent:
        """Read all of it.

        Raises:
            UsageError: a copy is gone or cannot be used.
        """
        # A CA bundle is the longest.
        parts = {word: read_bounded(path, MAX_CA_BYTES, what="copy") for word, path in self.files.items()}
        return RemoteContent(address=self.address, pin=self.pin, **parts)

    def access(self) -> Access:
        """Read what a gateway demands.

        Raises:
            UsageError: a copy is gone or cannot be used.
        """
        return read_access(
            token_file=self.files.get("token"),
            client_certificate=self.files.get("client_certificate"),
            client_key=self.files.get("client_key"),
            ca=self.files.get("ca"),
            pin=self.pin,
        )

    def root(self, policy: Policy) -> Root:
        """Read the root that is kept; without one, return AWS's, or what ``policy`` accepts in its place.

        Raises:
            UsageError: the copy is gone or is no certificate.
        """
        from enclavectl.attestation.trust import read_root, root_for

        return root_for(policy, read_root(self.files["root"]) if "root" in self.files else None)

    def to_json(self) -> dict[str, object]:
        """Return the object that ``remote show`` prints; it has no secret."""
        policy = load_policy(self.files["policy"], allow_debug=False)
        return {
            "schema": REMOTE_SCHEMA,
            "name": self.name,
            "address": self.address,
            "is_default": self.is_default,
            "changed": self.changed.isoformat(),
            "accept": sorted(policy.accept),
            "releases": [
                {"name": one.name, "pcrs": {f"PCR{index}": value.hex() for index, value in one.pcrs.items()}}
                for one in policy.releases
            ],
            "policy": str(self.files["policy"]),
            "root": None if "root" not in self.files else str(self.files["root"]),
            "ca": None if "ca" not in self.files else str(self.files["ca"]),
            "tls_pin": self.pin,
            "has_token": "token" in self.files,
            "has_client_certificate": "client_certificate" in self.files,
        }


def target_of_remote(remote: Remote, options: VerificationOptions) -> Target:
    """Make the target for a remote.

    Raises:
        UsageError: a copy is gone or cannot be used, or the host's profile refuses its policy.
    """
    # Imported late: a session's cryptography takes longer to import than a local enclave takes to launch.
    from enclavectl.client.exchange import Expectation

    policy = read_policy(remote.files["policy"], options)
    root = remote.root(policy)
    address = parse_address(remote.address)
    access = remote.access()
    access.require_use(address)
    expectation = Expectation(policy=policy, root=root)
    return Target(backend="remote", address=address, expectation=expectation, access=access)
