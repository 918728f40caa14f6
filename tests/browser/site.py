"""What a patient's page talks to: an enclave of the local backend, a real gateway, and the written page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclavectl.attestation import Policy, TrustRoot, render_policy
from enclavectl.net.address import UnixAddress
from tests.browser.driving import Visit
from tests.browser.lane import built_page
from tests.gateway.process import GatewayProcess, gateway
from tests.local_enclave import LocalEnclave

SAMPLES = Path(__file__).parents[2] / "samples"
CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def sample(code: str) -> Path:
    return SAMPLES / f"{code}.png"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A written page with its gateway; ``folder`` also has its policy and its root."""

    folder: Path
    gateway: GatewayProcess

    @property
    def page(self) -> Path:
        return self.folder / "patient.html"

    def visit(self, *rounds: list[Path], **how: Any) -> dict[str, Any]:
        how = {"url": self.page.as_uri(), "folder": self.folder, **how}
        return Visit(rounds=rounds, **how).see()


def write_page(folder: Path, enclave: LocalEnclave, policy: Policy, remote: str, *words: str) -> None:
    """Write what `enclavectl page` needs, and have it write patient.html; skip where the page has no code."""
    built_page()
    (folder / "policy.yaml").write_text(render_policy(policy))
    signer = enclave.expectation.root
    assert isinstance(signer, TrustRoot)
    root = x509.load_der_x509_certificate(signer.certificate_der)
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    argv = [sys.executable, "-m", "enclavectl", "page", "--remote", remote, "--to", "patient.html"]
    argv += ["--policy", "policy.yaml", "--root", "root.pem", *words]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=60)


@contextmanager
def site(
    folder: Path,
    enclave: LocalEnclave,
    *,
    policy: Policy | None = None,
    behind: UnixAddress | None = None,
    contact: str = "",
) -> Iterator[Site]:
    """Open a site on loopback; ``behind`` takes the enclave's place behind the gateway."""
    to = f"skin-1@{behind or enclave.address}"
    with gateway(folder / "g", [to], "--origin", "null") as running:
        remote = f"ws://127.0.0.1:{running.port}/v1"
        write_page(folder, enclave, policy or enclave.expectation.policy, remote, "--contact", contact)
        yield Site(folder=folder, gateway=running)
