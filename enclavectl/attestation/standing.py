"""What an enclave had proven when a picture was sent to it; the answer, hours later, counts as much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from enclavectl.attestation.codes import AttestationCode, refused
from enclavectl.attestation.document import is_debug
from enclavectl.attestation.policy import Policy
from enclavectl.attestation.trust import Root
from enclavectl.attestation.verify import VerifiedDocument
from enclavectl.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The facts of a verified document that decide what an answer is worth.

    ``timestamp`` is the document's, in UTC. ``root`` is the root's name.
    """

    module_id: str
    timestamp: datetime
    trust: Trust
    release: str | None
    root: str
    root_fingerprint: str
    pcrs: Mapping[int, bytes]

    @classmethod
    def of(cls, document: VerifiedDocument) -> Standing:
        """Return what the document proved."""
        return cls(
            module_id=document.module_id,
            timestamp=document.timestamp,
            trust=document.trust,
            release=document.release,
            root=document.root,
            root_fingerprint=document.root_fingerprint,
            pcrs=dict(document.pcrs),
        )

    @property
    def is_debug(self) -> bool:
        """True if the enclave ran in debug mode."""
        return is_debug(self.pcrs)

    def check(self, policy: Policy, root: Root) -> None:
        """Hold what was proven to another policy and root than those that it was proven to.

        A release counts if it was valid when the enclave proved itself, just before it got the picture; what
        is revoked now does not count.

        Raises:
            AttestationError: ``chain-root``, or a rule of the policy that the enclave broke.
        """
        if self.root_fingerprint != root.fingerprint:
            raise refused(
                AttestationCode.CHAIN_ROOT,
                f"root: expected {root.name} ({root.fingerprint[:16]}...), "
                f"found evidence under {self.root} ({self.root_fingerprint[:16]}...)",
            )
        policy.check_signer(root.trust)
        policy.check_debug(self)
        if not self.is_debug:
            policy.match_release(self, at=self.timestamp)
