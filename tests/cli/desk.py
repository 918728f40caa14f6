"""A desk with a session's evidence on it, its root and a policy: what the tests of ``verify`` share."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from pathlib import Path

from enclave_payload.contents import key_config_digest
from enclavectl.attestation.policy_file import render_policy
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.evidence import EvidenceFile, KeptReceipt
from tests.cli.command import Done, enclavectl
from tests.evidence import example
from tests.evidence.sessions import KEY_CONFIG, POLICY, base64_of, session_evidence
from tests.evidence.test_receipts_in_verification import receipt_for, statements
from tests.forge import EnclaveForge

FORGE = EnclaveForge()


def receipt_evidence() -> EvidenceFile:
    """What is kept of a session of FORGE with one answer."""
    document = FORGE.genuine(user_data=key_config_digest(KEY_CONFIG), public_key=example.PUBLIC_KEY)
    receipt = KeptReceipt(receipt=receipt_for(document), **statements())
    return replace(session_evidence(FORGE), document=document, receipts=(receipt,))


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with an evidence file, its root and a policy that fits."""

    folder: Path

    def verify(self, *arguments: object) -> Done:
        return enclavectl("verify", *arguments, home=self.folder)

    def archived(self, *arguments: object) -> Done:
        return self.verify(*arguments, "--root", "root.pem", "--at", "document")


def lay_desk(folder: Path) -> Desk:
    """Put the evidence there in each form, with its root and a policy that fits."""
    forge = EnclaveForge()
    evidence = session_evidence(forge)
    root: DevelopmentRoot = forge.development_root
    (folder / "root.pem").write_bytes(root.certificate_pem)
    (folder / "evidence.json").write_bytes(evidence.to_bytes())
    (folder / "document.bin").write_bytes(evidence.document)
    (folder / "document.hex").write_text(evidence.document.hex())
    (folder / "document.b64").write_text(base64_of(evidence.document))
    # As the editors and shells of Windows write them, and as programs spell bytes.
    text = evidence.to_bytes().decode()
    (folder / "bom.json").write_text(text, encoding="utf-8-sig")
    (folder / "utf16.json").write_text(text, encoding="utf-16")
    (folder / "utf16.hex").write_text(evidence.document.hex(), encoding="utf-16")
    (folder / "0x.hex").write_text(f"0x{evidence.document.hex()}\n")
    url = urlsafe_b64encode(evidence.document).decode()
    (folder / "url.b64").write_text(url)
    (folder / "bare.b64").write_text(f"{url[:1000]}\r\n{url[1000:].rstrip('=')}")
    (folder / "policy.yaml").write_text(render_policy(POLICY))
    return Desk(folder)
