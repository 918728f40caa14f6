"""What verifying kept evidence costs: in process against its bare signatures, and as a command."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA384

from benchmarks.common import PROJECT, Row, alternate, compare
from benchmarks.start import run_quietly
from enclavectl.attestation import TrustRoot, aws_nitro_root
from enclavectl.attestation.chain import walk_chain
from enclavectl.attestation.cose import SIGNATURE_BYTES, parse_cose
from enclavectl.attestation.document import parse_claims
from enclavectl.evidence import Case, Waiver, examine

# Documents that AWS signed are other people's test data: they stay beside the project.
_REAL = PROJECT.parent / "shared" / "vectors" / "attestation"
_NAME = "marlinprotocol-oyster-monorepo_2025-04-29_7b0ca130.bin"
_COMMAND = str(Path(sys.executable).with_name("enclavectl"))


@dataclass(frozen=True, slots=True)
class _Subject:
    what: str
    document: bytes
    root: TrustRoot
    root_pem: bytes


def main() -> list[Row]:
    """Two rows."""
    subject = _real() if (_REAL / _NAME).exists() else _simulated()
    case = Case(
        document=subject.document,
        root=subject.root,
        policy=Waiver.NO_POLICY,
        at=Waiver.DOCUMENT_TIME,
        nonce=Waiver.NO_NONCE,
    )
    signatures, bare = _bare_signatures(subject)
    warm = alternate(lambda: examine(case).require(), bare, rounds=101)
    what = f"verify {subject.what} in process, against its {signatures} bare ECDSA P-384 verifications"
    return [compare(what, *warm, limit=1.5), _cold(subject)]


def _cold(subject: _Subject) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        document, root = Path(folder, "document.bin"), Path(folder, "root.pem")
        document.write_bytes(subject.document)
        root.write_bytes(subject.root_pem)
        environment = {**os.environ, "HOME": folder}
        verify = [_COMMAND, "verify", str(document), "--root", str(root), "--no-policy", "--at", "document"]
        imports = [sys.executable, "-c", "import cryptography.x509"]
        times = alternate(
            lambda: run_quietly(verify, environment, may_fail=False),
            lambda: run_quietly(imports, environment, may_fail=False),
            rounds=21,
        )
    return compare("enclavectl verify, against import cryptography.x509", *times, limit=3.0)


def _real() -> _Subject:
    pem = (_REAL / "aws_nitro_root.pem").read_bytes()
    return _Subject("AWS's document", (_REAL / _NAME).read_bytes(), aws_nitro_root(), pem)


def _simulated() -> _Subject:
    from tests.forge import EnclaveForge

    forge = EnclaveForge()
    # With two intermediate certificates, as many as a local enclave's documents do not have.
    document = forge.forged(lambda plan: plan)
    return _Subject("a simulated document", document, forge.root, forge.development_root.certificate_pem)


def _bare_signatures(subject: _Subject) -> tuple[int, Callable[[], None]]:
    """Return the number of the document's signatures, and a call that verifies them and does nothing else."""
    envelope = parse_cose(subject.document)
    claims = parse_claims(envelope.payload)
    chain = walk_chain(claims.cabundle, claims.certificate, subject.root)
    algorithm = ec.ECDSA(SHA384())
    jobs = [
        (parent.key, child.certificate.signature, child.certificate.tbs_certificate_bytes)
        for parent, child in zip(chain.links, chain.links[1:], strict=False)
    ]
    half = SIGNATURE_BYTES // 2
    r, s = int.from_bytes(envelope.signature[:half]), int.from_bytes(envelope.signature[half:])
    jobs.append((chain.leaf.key, utils.encode_dss_signature(r, s), envelope.to_be_signed()))

    def bare() -> None:
        for key, signature, data in jobs:
            key.verify(signature, data, algorithm)

    return len(jobs), bare
